"""Who came first, of requests that broke together: three signs, each of which may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from lastcall.tools.explain.order import Order, Sign, order


def came(waits: Sequence[float | None], numbers: Sequence[int], running: int) -> Order:
    """Breaks in the order of the log's lines."""
    signs = [
        Sign(waited, str(number) if number else "", later=True) for waited, number in zip(waits, numbers, strict=True)
    ]
    return order(signs, running)


def test_connections_tell_where_waits_agree_with_them_as_far_as_these_are_sure() -> None:
    """The fourth has waited a little longer than the third, and came after it: its break was seen later."""
    found = came([2.5, 2.1, 0.87, 0.88, 0.5, 0.1], [1, 3, 5, 7, 9, 11], 3)
    assert (found.places, found.agreed, found.torn) == ([0, 1, 2, 3, 4, 5], True, frozenset())


def test_kept_connections_tell_nothing() -> None:
    """Their numbers are those of the clients, and the waits contradict them."""
    found = came([2.5, 2.1, 0.9, 0.5, 0.3, 0.1], [11, 9, 3, 7, 5, 1], 3)
    assert (found.places, found.agreed) == ([0, 1, 2, 3, 4, 5], True)  # but the lines agree with the waits


def test_where_waits_and_lines_differ_both_are_in_doubt() -> None:
    """One process of the front was late to log the break of one that was running."""
    found = came([3.0, 2.0, 0.70, 0.72], [9, 7, 5, 5], 3)
    assert found.torn == {2, 3}
    assert not found.agreed


def test_without_waits_the_lines_tell_and_connections_may_confirm_it() -> None:
    """Workers die first, the queue is reset last."""
    assert came([None] * 4, [3, 1, 5, 7], 2) == Order([0, 1, 2, 3], agreed=True)
    assert came([None] * 4, [7, 1, 5, 3], 2) == Order([0, 1, 2, 3], agreed=False)
    assert came([None] * 4, [0, 0, 0, 0], 2) == Order([0, 1, 2, 3], agreed=False)


def test_a_connection_that_was_closed_and_not_reset_was_served() -> None:
    """Whatever its place: its request had been read."""
    signs = [Sign(None, "", later=True), Sign(None, "", later=False)]
    assert order(signs, 1).places == [1, 0]
