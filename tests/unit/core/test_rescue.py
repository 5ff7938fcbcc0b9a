"""What is done about the connections of a dead worker: every case, as a table."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from lastcall.core.replay import METHODS, Replay
from lastcall.core.rescue import (
    ATTEMPTS_MAX,
    BLAMED_MAX,
    WRAP,
    Counts,
    Found,
    Verdict,
    examine,
    fingerprint,
    judge,
)
from lastcall.core.slot import Lane, State


def lane(method: str = "POST", attempt: int = 1, critical: float = 0.0, *, durable: bool = False) -> Lane:
    return Lane(0, 1.0, attempt, "r-1", method, "/x", "10.0.0.9", critical=critical, fd=9, durable=durable)


CASES = [
    (None, State.WHOLE, Verdict.PASS_ON),
    (None, State.TAKEN, Verdict.REFUSE),
    (None, State.OVER, Verdict.CUT),
    (None, State.GIVEN, Verdict.CUT),
    (None, State.ANSWERING, Verdict.CUT),
    (None, State.OPEN_ENDED, Verdict.CUT),
    (lane("GET"), State.WHOLE, Verdict.AGAIN),
    (lane("HEAD"), State.WHOLE, Verdict.AGAIN),
    (lane("OPTIONS"), State.WHOLE, Verdict.AGAIN),
    (lane("GET"), State.TAKEN, Verdict.REFUSE),
    (lane("GET"), State.ANSWERING, Verdict.CUT),
    (lane("GET"), State.OPEN_ENDED, Verdict.CUT),
    (lane("GET", critical=2.0), State.WHOLE, Verdict.REFUSE),
    (lane("POST", durable=True), State.WHOLE, Verdict.AGAIN),
    (lane("POST", durable=True), State.TAKEN, Verdict.REFUSE),
    (lane("POST", durable=True), State.ANSWERING, Verdict.CUT),
    (lane("POST", ATTEMPTS_MAX, durable=True), State.WHOLE, Verdict.REFUSE),
    (lane("GET", critical=-2.0), State.WHOLE, Verdict.REFUSE),
    (lane("POST"), State.WHOLE, Verdict.REFUSE),
    (lane("PUT"), State.WHOLE, Verdict.REFUSE),
    (lane("TRACE"), State.WHOLE, Verdict.REFUSE),
    (lane("get"), State.WHOLE, Verdict.REFUSE),
    (lane("POST"), State.TAKEN, Verdict.REFUSE),
    (lane("POST"), State.ANSWERING, Verdict.CUT),
    (lane("GET", ATTEMPTS_MAX - 1), State.WHOLE, Verdict.AGAIN),
    (lane("GET", ATTEMPTS_MAX), State.WHOLE, Verdict.POISON),
]


@pytest.mark.parametrize(("running", "state", "verdict"), CASES)
def test_by_default(running: Lane | None, state: State, verdict: Verdict) -> None:
    """`replay = "safe"`, and nobody blames the request."""
    assert judge(running, state, rule=Replay("safe")) is verdict


@pytest.mark.parametrize(
    ("rule", "method", "verdict"),
    [
        ("none", "GET", Verdict.REFUSE),
        ("idempotent", "GET", Verdict.AGAIN),
        ("idempotent", "PUT", Verdict.AGAIN),
        ("idempotent", "DELETE", Verdict.AGAIN),
        ("idempotent", "POST", Verdict.REFUSE),
        ("idempotent", "PATCH", Verdict.REFUSE),
    ],
)
def test_by_another_rule(rule: str, method: str, verdict: Verdict) -> None:
    """RFC 9110 section 9.2: what may be repeated."""
    assert judge(lane(method), State.WHOLE, rule=Replay(rule)) is verdict


def test_a_request_that_has_taken_too_many_workers_is_poison() -> None:
    """Whatever its method; but never once its answer has begun."""
    assert judge(lane("GET"), State.WHOLE, rule=Replay("safe"), taken_by=BLAMED_MAX - 1) is Verdict.AGAIN
    assert judge(lane("GET"), State.WHOLE, rule=Replay("safe"), taken_by=BLAMED_MAX) is Verdict.POISON
    assert judge(lane("POST"), State.TAKEN, rule=Replay("safe"), taken_by=BLAMED_MAX) is Verdict.POISON
    assert judge(lane("GET"), State.ANSWERING, rule=Replay("safe"), taken_by=BLAMED_MAX) is Verdict.CUT


def test_nothing_is_answered_twice_and_nothing_is_run_again_that_was_taken() -> None:
    """Over all cases: only a whole request is run again, and only one that is not being answered gets an answer."""
    methods = ("GET", "POST", "PUT")
    for rule, state, method, attempt, taken in itertools.product(METHODS, State, methods, range(1, 7), range(4)):
        verdict = judge(lane(method, attempt), state, rule=Replay(rule), taken_by=taken)
        if verdict in (Verdict.AGAIN, Verdict.PASS_ON):
            assert state is State.WHOLE
            assert method in METHODS[rule]
            assert attempt < ATTEMPTS_MAX
        if state >= State.ANSWERING:
            assert verdict is Verdict.CUT


def test_likeness_is_of_method_and_uri() -> None:
    """And fits into sixteen bytes, whatever they are made of."""
    assert fingerprint("GET", "/a") == fingerprint("GET", "/a")
    assert len({fingerprint(m, u) for m in ("GET", "POST") for u in ("/a", "/b", "/\xe9", "/\u20ac")}) == 8
    assert len(bytes.fromhex(fingerprint("GET", "/a" * 1000))) == 16


# --- What is true, by what the kernel counts ------------------------------------------

NOTED = replace(lane("GET"), written=1000, length=70, taken=500, due=40, unread=40, kept=True)
"""The answer has 70 bytes, and the request 40, which were there when it was noted and nothing behind them."""
BEHIND = replace(NOTED, unread=55)
LANDED = replace(NOTED, landed=b"x" * 40)
ANSWERING, OPEN_ENDED, TAKING = State.ANSWERING, State.OPEN_ENDED, State.TAKING

EXAMPLES = [
    ("nothing was sent", NOTED, ANSWERING, Counts(1000, 500, 40), Found(NOTED, State.WHOLE, clean=True)),
    ("nothing was sent, though it was taken", NOTED, ANSWERING, Counts(1000, 540, 0), Found(NOTED, State.TAKEN, clean=True)),
    ("a part was sent", NOTED, ANSWERING, Counts(1069, 500, 40), Found(NOTED, ANSWERING)),
    ("all was sent", NOTED, ANSWERING, Counts(1070, 500, 40), Found(None, State.WHOLE, due=40)),
    ("and taken", NOTED, ANSWERING, Counts(1070, 540, 0), Found(None, State.WHOLE)),
    ("and the client asks for more", NOTED, ANSWERING, Counts(1070, 500, 90), Found(None, State.WHOLE, due=40)),
    ("and has asked for more", NOTED, ANSWERING, Counts(1070, 540, 50), Found(None, State.WHOLE)),
    ("and the client has ended its side", NOTED, ANSWERING, Counts(1070, 501, 40), Found(None, State.WHOLE, due=40)),
    ("and it was taken as well", NOTED, ANSWERING, Counts(1070, 541, 0), Found(None, State.WHOLE)),
    ("the counts have gone round", replace(NOTED, written=WRAP - 1, taken=WRAP - 1), ANSWERING, Counts(69, 39, 0),
     Found(None, State.WHOLE)),
    ("it had been taken before", replace(NOTED, due=0), ANSWERING, Counts(1000, 500, 0),
     Found(replace(NOTED, due=0), State.TAKEN)),
    ("nobody knows how long it is", replace(NOTED, length=0), OPEN_ENDED, Counts(1070, 540, 0),
     Found(replace(NOTED, length=0), OPEN_ENDED)),
    ("the kernel says nothing", NOTED, ANSWERING, None, Found(NOTED, ANSWERING)),
    ("the kernel says nothing of what was taken", NOTED, TAKING, None, Found(NOTED, State.TAKEN, clean=True)),
    ("UNIX, not taken", NOTED, TAKING, Counts(None, 0, 40), Found(NOTED, State.WHOLE, clean=True)),
    ("UNIX, taken", NOTED, TAKING, Counts(None, 0, 0), Found(NOTED, State.TAKEN, clean=True)),
    ("UNIX, taken, more behind", BEHIND, TAKING, Counts(None, 0, 15), Found(BEHIND, State.TAKEN)),
    ("UNIX, taken, and kept", LANDED, TAKING, Counts(None, 0, 0),
     Found(LANDED, State.WHOLE, carried=b"x" * 40, clean=True)),
    ("UNIX, kept, and something has come since", LANDED, TAKING, Counts(None, 0, 5), Found(LANDED, State.TAKEN, clean=True)),
    ("UNIX, kept, and not taken", LANDED, TAKING, Counts(None, 0, 40), Found(LANDED, State.WHOLE, clean=True)),
    ("UNIX, sent", NOTED, ANSWERING, Counts(None, 0, 0), Found(None, State.WHOLE)),
    ("UNIX, sent, more behind", BEHIND, ANSWERING, Counts(None, 0, 15), Found(BEHIND, ANSWERING)),
    ("UNIX, in parts", NOTED, OPEN_ENDED, Counts(None, 0, 0), Found(NOTED, OPEN_ENDED)),
    ("done", replace(NOTED, done=True), ANSWERING, None, Found(None, State.WHOLE)),
    ("done, and nothing follows", replace(NOTED, done=True), State.OVER, None, Found(None, State.OVER)),
    ("done, and more was taken", replace(NOTED, done=True), State.TAKEN, None, Found(None, State.TAKEN)),
    ("not begun", None, State.TAKEN, None, Found(None, State.TAKEN)),
    ("just accepted", None, State.UNKNOWN, None, Found(None, State.WHOLE)),
    ("running", NOTED, State.WHOLE, None, Found(NOTED, State.WHOLE, clean=True)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("noted", "state", "counts", "found"), [each[1:] for each in EXAMPLES], ids=[each[0] for each in EXAMPLES]
)
def test_where_a_worker_has_died(noted: Lane | None, state: State, counts: Counts | None, found: Found) -> None:
    """The note says what was about to be done, the counts what was done."""
    assert examine(noted, state, counts) == found
