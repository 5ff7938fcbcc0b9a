"""When `on_cut` runs for which cut."""

from __future__ import annotations

from lastcall.core.completion import BACKOFF, BACKOFF_MAX, CONCURRENT, QUEUE_MAX, Queue


def test_each_is_taken_once_and_run_in_turn() -> None:
    """As many at one time as may be; the next when one has ended."""
    queue = Queue()
    assert queue.add(["a", "b", "c"], 0.0) == ["a", "b", "c"]
    assert queue.add(["b", "d"], 0.0) == ["d"]
    assert queue.begin(0.0) == [("a", 1), ("b", 1)]
    assert queue.next_due() is None
    assert queue.begin(1.0) == []
    assert queue.add(["a"], 1.0) == []
    queue.succeeded("b")
    assert queue.next_due() == 0.0
    assert queue.begin(1.0) == [("c", 1)]
    assert len(queue) == 3
    assert CONCURRENT == 2


def test_what_fails_waits_and_lets_others_pass() -> None:
    """Each time twice as long, up to a bound, and for ever."""
    queue = Queue()
    queue.add(["a"], 0.0)
    now, pauses = 0.0, []
    for tries in range(1, 30):
        assert queue.begin(now) == [("a", tries)]
        pauses.append(queue.failed("a", now))
        assert queue.next_due() == now + pauses[-1]
        assert queue.begin(now) == []
        now += pauses[-1]
    assert pauses[:3] == [BACKOFF, 2 * BACKOFF, 4 * BACKOFF]
    assert pauses[-1] == BACKOFF_MAX
    queue.add(["b"], now - 1)
    assert queue.begin(now - 0.5) == [("b", 1)]


def test_of_too_many_it_knows_that_there_are_more() -> None:
    """Whoever has the list is asked again when there is room."""
    queue = Queue()
    cuts = [str(number) for number in range(QUEUE_MAX + 1)]
    assert queue.add(cuts, 0.0) == cuts[:-1]
    assert queue.overflowed
    assert not queue.wants_more
    while len(queue) > QUEUE_MAX // 2:
        assert not queue.wants_more
        for cut, _ in queue.begin(0.0):
            queue.succeeded(cut)
    assert queue.wants_more
