"""Who is asked what it is busy with, who waits for the answer, and what is said when none comes."""

from __future__ import annotations

import msgspec
import pytest

from lastcall.core.slot import Lane
from lastcall.protocol.link import TEXT_MAX, Report, Where, Whereabouts, pack_where, read_where, unpack_report
from lastcall.runtime.whereabouts import ANSWER_WITHIN, EXPLAIN, FRESH, NO_ANSWER, Account, Desk, Turn, waiting_in_words

LANE = Lane(0, 1.0, 1, "r-1", "GET", "/", "10.0.0.9")
ANSWER = msgspec.json.encode(Whereabouts((Where(0, "r-1", "app.py:12 in send"),), arriving=1)).decode()


def desk() -> tuple[Desk, list[int]]:
    """A desk, and the workers that it has asked."""
    asked: list[int] = []
    return Desk(asked.append), asked


def test_a_status_is_answered_when_all_have_spoken() -> None:
    """Each client when those that it waits for have; one question serves all of them."""
    here, asked = desk()
    here.listen(1, [7, 8], 10.0)
    here.listen(2, [8], 10.0)
    assert asked == [7, 8]
    here.hear(8, ANSWER, 10.01)
    assert here.due(10.01) == [2]
    here.hear(7, ANSWER, 10.02)
    assert here.due(10.02) == [1]
    assert here.due(99.0) == []
    assert here.next_due() is None


def test_a_status_does_not_wait_for_who_does_not_answer_or_is_gone() -> None:
    """The deadline is one; a death is an answer."""
    here, _ = desk()
    here.listen(1, [7], 10.0)
    here.listen(2, [8], 10.0)
    here.forget(8)
    assert here.due(10.0) == [2]
    assert here.next_due() == 10.0 + ANSWER_WITHIN
    assert here.line(7, LANE, 10.1) == ""
    assert here.due(10.0 + ANSWER_WITHIN) == [1]
    assert here.line(7, LANE, 10.0 + ANSWER_WITHIN) == NO_ANSWER


def test_who_has_nobody_to_ask_is_answered_at_once() -> None:
    """An idle pool."""
    here, asked = desk()
    here.listen(1, [], 10.0)
    assert (here.due(10.0), asked) == ([1], [])


def test_a_stuck_worker_is_not_asked_again_and_again() -> None:
    """One open question: its queue does not fill."""
    here, asked = desk()
    here.ask([7], 10.0)
    here.ask([7], 20.0)
    assert asked == [7]
    here.hear(7, ANSWER, 21.0)
    here.ask([7], 22.0)
    assert asked == [7, 7]


def test_an_answer_counts_for_its_own_request_only() -> None:
    """The lane has another request by now: nothing is known of that."""
    here, _ = desk()
    here.hear(7, ANSWER, 10.0)
    assert here.line(7, LANE, 10.0) == "app.py:12 in send"
    assert here.line(7, Lane(0, 2.0, 1, "r-2", "GET", "/", ""), 10.0) == ""
    assert here.last_line(7, LANE, 10.0 + FRESH) == "app.py:12 in send"
    assert here.last_line(7, LANE, 10.1 + FRESH) == ""


def test_who_does_not_say_where_it_is_before_it_is_cut_is_listed_so() -> None:
    """An answer from a moment before counts more."""
    here, asked = desk()
    here.expect(7, 10.0)
    here.expect(7, 10.9)
    assert here.last_line(7, LANE, 10.1) == ""
    assert here.last_line(7, LANE, 11.0) == NO_ANSWER
    here.hear(7, ANSWER, 11.0)
    here.expect(7, 11.0)
    assert here.last_line(7, LANE, 12.0) == "app.py:12 in send"
    assert asked == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"requests": [[1, 2, 3]]}', '{"arriving": "x"}'])
def test_an_answer_that_is_none_is_refused(text: str) -> None:
    """A worker that speaks nonsense cannot harm the master."""
    here, _ = desk()
    with pytest.raises(ValueError):
        here.hear(7, text, 10.0)


def test_an_answer_fits_into_a_packet_whatever_stands_in_it() -> None:
    """64 lanes with the longest texts; those that do not fit are left out, and what is left can be read."""
    few = tuple(Where(lane, "i" * 37, "w" * 200) for lane in range(64))
    many = tuple(Where(lane, "\0" * 37, "\U0001f3b8" * 200) for lane in range(64))
    assert read_where(unpack_report(pack_where(Whereabouts(few)))[1]).requests == few
    packet = pack_where(Whereabouts(many, unsent=3))
    report, text = unpack_report(packet)
    assert report is Report.WHERE
    assert len(packet) <= TEXT_MAX + 1
    said = read_where(text)
    assert said == Whereabouts(many[: len(said.requests)], unsent=3)
    assert len(said.requests) >= 16


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Whereabouts(), ""),
        (
            Whereabouts(connections=2, arriving=1, unsent=1),
            "2 connections: 1 request still arriving, 1 response not yet taken",
        ),
        (Whereabouts(connections=1, unsent=1), "1 connection: 1 response not yet taken"),
        (
            Whereabouts(connections=9, arriving=2, queued=3, unsent=2),
            "9 connections: 2 requests still arriving, 3 requests waiting for a thread, 2 responses not yet taken, 2 idle",
        ),
    ],
)
def test_what_is_waited_for_in_words(said: Whereabouts, words: str) -> None:
    """With numbers."""
    assert waiting_in_words(said) == words


def test_an_account_asks_first_and_tells_a_moment_later() -> None:
    """Every EXPLAIN seconds while anything drains, and from the start for the next drain."""
    account = Account()
    account.plan(0.0, draining=False)
    assert account.turn(0.0) is Turn.NOTHING
    turns: list[tuple[float, Turn]] = []
    for _ in range(4):
        account.plan(100.0, draining=True)
        assert account.due is not None
        now = account.due
        assert account.turn(now - 0.01) is Turn.NOTHING
        turns.append((round(now - 100.0, 6), account.turn(now)))
    early = EXPLAIN - ANSWER_WITHIN
    assert turns == [(early, Turn.ASK), (EXPLAIN, Turn.TELL), (EXPLAIN + early, Turn.ASK), (2 * EXPLAIN, Turn.TELL)]
    account.plan(now, draining=False)
    account.plan(200.0, draining=True)
    assert account.due == 200.0 + early
    assert account.turn(200.0 + early) is Turn.ASK
