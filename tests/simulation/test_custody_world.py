"""A small world, exhaustively: one connection, its client, a worker that may die at any point, and whoever judges then.

Every order is tried in which the client sends, the worker takes its steps, and workers die. What a dead worker has left is
judged by the product's own `core/rescue.py`. The worker is a model: `mortal.py` kills the real one. In exchange there is
everything here that is hard to bring about there: an answer that leaves in pieces, a client that asks for more at any
moment, several deaths in a row.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from lastcall.core import rescue
from lastcall.core.replay import Replay
from lastcall.core.rescue import Counts, Verdict
from lastcall.core.slot import Lane, State

ASKED = 3
"""Bytes of a request."""
ANSWER = 2
"""Bytes of an answer: it can leave in two pieces."""
SAFELY = Replay("safe")
FRESH = Lane(0, 1.0, 1, "r", "GET", "/", "c", fd=3)


@dataclass(frozen=True, slots=True)
class World:
    """All that there is."""

    methods: tuple[str, ...]
    """Of the requests that the client will send."""
    unix: bool
    deaths: int
    """That may still come; so with `pieces` and `early`."""
    large: bool
    """Answers may be larger than what a UNIX socket takes as one."""
    pieces: int
    """Answers that leave in two pieces."""
    early: int
    """Requests that the client may send before it has had the answer to the one before."""
    kept: bool = False
    """A front that is refused keeps its connection, and asks again on it (FastCGI)."""
    gifts: int = 0
    """Times that an idle connection may still go to another worker, which may die before it knows what it has."""
    sent: int = 0
    """Requests that the client has sent."""
    read: int = 0
    """Bytes that were taken from the kernel."""
    out: tuple[int, ...] = ()
    """Each byte that the client has got: the number of the request that it is for, or -1 for a refusal."""
    at: str = "wait"
    """The worker's next step; "dead"."""
    lane: Lane | None = None
    state: State = State.UNKNOWN
    attempt: int = 1
    refuse: bool = False
    """The worker has been told to refuse what was asked."""
    keep: bool = False
    """The same refusal leaves the connection open."""
    owed: int | None = None
    """Bytes written when it was: what the master remembers."""
    owed_keep: bool = False
    promised: bool = False
    """The mark on a connection of which nobody counts the bytes."""
    closed: bool = False
    runs: tuple[int, ...] = (0, 0)
    again: tuple[int, ...] = (0, 0)
    listed: tuple[str, ...] = ()

    @property
    def unread(self) -> int:
        return self.sent * ASKED - self.read

    @property
    def answers(self) -> int:
        """How many the client has got as a whole."""
        return len(self.out) // ANSWER

    @property
    def number(self) -> int:
        """Of the request that is the next to be read."""
        return self.read // ASKED


def add(counts: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(count + (each == number) for each, count in enumerate(counts))


# --- The worker: one step, one system call or one note ------------------------------------


def wait(world: World) -> World:
    if world.refuse:
        return replace(world, at="taken")
    if world.unread < ASKED:
        return replace(world, state=State.WHOLE)
    lane = replace(FRESH, method=world.methods[world.number], attempt=world.attempt, uri=str(world.number), kept=True)
    return replace(world, lane=lane, state=State.WHOLE, at="run")


def run(world: World) -> World:
    assert world.lane is not None
    return replace(world, runs=add(world.runs, int(world.lane.uri)), at="note")


def note(world: World) -> World:
    assert world.lane is not None
    length = 0 if world.unix and world.large else ANSWER
    lane = replace(
        world.lane, written=len(world.out), length=length, taken=world.read, due=ASKED, unread=world.unread
    )  # fmt: skip
    return replace(world, lane=lane, at="mark taking" if world.unix else "mark")


def mark_taking(world: World) -> World:
    return replace(world, state=State.TAKING, at="take first")


def take_first(world: World) -> World:
    return replace(world, read=world.read + ASKED, at="mark")


def mark(world: World) -> World:
    return replace(world, state=State.ANSWERING, at="send")


def send(world: World) -> World:
    assert world.lane is not None
    return replace(world, out=world.out + (int(world.lane.uri),) * ANSWER, at="done" if world.unix else "take")


def send_a_piece(world: World) -> World:
    assert world.lane is not None
    world = replace(world, out=(*world.out, int(world.lane.uri)), pieces=world.pieces - 1)
    return replace(world, at="mark open" if world.unix else "take, a piece is left")


def send_nothing(world: World) -> World:
    return replace(world, pieces=world.pieces - 1, at="take, a piece is left")


def mark_open(world: World) -> World:
    return replace(world, state=State.OPEN_ENDED, at="end, a piece is left")


def take(world: World) -> World:
    return replace(world, read=world.read + ASKED, at="done")


def take_a_piece_is_left(world: World) -> World:
    return replace(world, read=world.read + ASKED, at="end, a piece is left")


def end_a_piece_is_left(world: World) -> World:
    return replace(world, lane=None, at="flush")


def flush(world: World) -> World:
    number = world.number - 1
    return replace(world, out=world.out + (number,) * (ANSWER - world.out.count(number)), at="settle")


def done(world: World) -> World:
    assert world.lane is not None
    return replace(world, lane=replace(world.lane, done=True), at="whole")


def whole(world: World) -> World:
    return replace(world, state=State.WHOLE, at="end")


def end(world: World) -> World:
    return replace(world, lane=None, attempt=1, at="wait")


def settle(world: World) -> World:
    return replace(world, state=State.WHOLE, attempt=1, at="wait")


def taken(world: World) -> World:
    return replace(world, state=State.TAKEN, at="mark refusal")


def mark_refusal(world: World) -> World:
    return replace(world, state=State.ANSWERING, at="send refusal")


def send_refusal(world: World) -> World:
    return replace(world, out=world.out + (-1,) * ANSWER, at="said")


def said(world: World) -> World:
    return replace(world, promised=False, refuse=False, at="settle" if world.keep else "close")


def close(world: World) -> World:
    return replace(world, closed=True, state=State.UNKNOWN, at="wait")


STEPS: dict[str, Callable[[World], World]] = {
    step.__name__.replace("_", " ").replace("take a piece", "take, a piece").replace("end a piece", "end, a piece"): step
    for step in (
        wait, run, note, mark_taking, take_first, mark, send, mark_open, take, take_a_piece_is_left,
        end_a_piece_is_left, flush, done, whole, end, settle, taken, mark_refusal, send_refusal, said, close,
    )
}  # fmt: skip


# --- The master, as `runtime/rescue.py` does it --------------------------------------------


class Judges(SimpleNamespace):
    """`examine`, `judge`, `is_owed`: the product's, or with a bug."""


def bury(world: World, by: Judges) -> World:
    """What the dead worker has left is judged; another worker is there."""
    counts = Counts(None if world.unix else len(world.out), world.read, world.unread)
    found = by.examine(world.lane, world.state, counts)
    fresh = replace(world, at="wait", lane=None, state=State.UNKNOWN, attempt=1, refuse=False, owed=None)
    if world.lane is None and world.owed is not None:
        if by.is_owed(world.state, world.owed, counts.written, promised=world.promised):
            return refusing(fresh, counts, keep=world.owed_keep)
        if not world.owed_keep or world.state is State.ANSWERING:
            return replace(fresh, closed=True)
    verdict = by.judge(found.lane, found.state, rule=SAFELY)
    if found.lane is not None:
        answered = world.out.count(int(found.lane.uri)) == ANSWER
        assert not answered or (world.unix and world.large), f"answered, and taken for unanswered: {world}"
        fresh = replace(fresh, listed=(*fresh.listed, f"{verdict.value} {found.lane.uri}"))
    match verdict:
        case Verdict.PASS_ON:
            return replace(fresh, read=fresh.read + found.due)
        case Verdict.AGAIN:
            number = int(found.lane.uri)
            return replace(fresh, attempt=found.lane.attempt + 1, again=add(fresh.again, number))
        case Verdict.CUT:
            return replace(fresh, closed=True)
        case _:
            return refusing(fresh, counts, keep=world.kept and found.clean)


def refusing(world: World, counts: Counts, *, keep: bool) -> World:
    """The master has it refused by another worker: what has come until now is taken off."""
    return replace(
        world, read=world.sent * ASKED, refuse=True, keep=keep, owed=len(world.out), owed_keep=keep,
        promised=counts.written is None,
    )  # fmt: skip


def following(world: World, by: Judges) -> Iterator[World]:
    """Everything that can happen next."""
    if world.closed:
        return
    waits = world.sent < len(world.methods)
    if waits and (world.answers >= world.sent or world.early):
        early = world.early - (world.answers < world.sent)
        yield replace(world, sent=world.sent + 1, early=early)
    if world.at == "dead":
        yield bury(world, by)
        return
    # Between the last note and sending there is nothing that a UNIX socket would tell: docs/CUSTODY.md.
    if world.deaths and not (world.unix and world.at in ("send", "send refusal")):
        yield replace(world, deaths=world.deaths - 1, at="dead")
    after = STEPS[world.at](world)
    if after != world:
        yield after
    if world.gifts and world.at == "wait" and world.state is State.WHOLE and not world.refuse:
        yield replace(world, gifts=world.gifts - 1, state=State.UNKNOWN)
    if world.at == "send" and world.pieces:
        yield send_a_piece(world)
        if not world.unix:
            yield send_nothing(world)


# --- What must hold ------------------------------------------------------------------------


def assert_possible(world: World) -> None:
    """At every moment: each answer is the one that is due, given once, and run as often as the list says."""
    answers = world.out[::ANSWER]
    refused = answers.index(-1) if -1 in answers else len(answers)
    right = all(answer in (number, -1) for number, answer in enumerate(answers))
    assert right, f"who asked gets another's answer, or one twice: {world}"
    assert len(answers) <= (world.sent if world.kept else refused + 1), f"something follows a refusal: {world}"
    for number, method in enumerate(world.methods):
        assert world.runs[number] <= 1 + world.again[number], f"run twice: {world}"
        assert method == "GET" or not world.again[number], f"run again: {world}"


def assert_over(world: World) -> None:
    """When nothing more can happen: answered, refused or cut, each once."""
    answers = world.out[::ANSWER]
    cut = sum(word.startswith("cut") for word in world.listed)
    refused = sum(word.startswith("answered 503") for word in world.listed)
    assert answers.count(-1) == refused, f"refused as often as it is listed: {world}"
    if not world.closed:
        assert world.answers == world.sent == len(world.methods), f"forgotten: {world}"
        assert not cut
        assert world.kept or not refused
    elif not refused:
        assert cut or (world.large and world.pieces == 0), f"closed, and nobody knows why: {world}"
    if not world.unix:
        assert world.large or not cut, f"an answer in one piece is never cut: {world}"
        safe = [number for number, method in enumerate(world.methods) if method == "GET"]
        gone = [f"answered 503 {number}" for number in safe]
        assert world.large or not set(gone) & set(world.listed), f"it could have been run again: {world}"


def explore(world: World, by: Judges) -> int:
    """All that can come of it; the number of states."""
    seen = {world}
    ahead = deque([world])
    while ahead:
        now = ahead.popleft()
        assert_possible(now)
        after = list(following(now, by))
        if not after:
            assert_over(now)
        for each in after:
            if each not in seen:
                seen.add(each)
                ahead.append(each)
    return len(seen)


REAL = Judges(examine=rescue.examine, judge=rescue.judge, is_owed=rescue.is_owed)
WORLDS = [
    # Of more in a UNIX socket nobody knows when it came: there the client waits for its answer.
    World(methods, unix, deaths=2, large=large, pieces=large, early=not unix)
    for methods in (("GET", "GET"), ("POST", "GET"), ("GET", "POST"))
    for unix in (False, True)
    for large in (False, True)
]
WORLDS += [
    World(("POST", "POST"), unix, deaths=2, large=False, pieces=0, early=0, kept=True, gifts=1)
    for unix in (False, True)
]


@pytest.mark.parametrize(
    "world",
    WORLDS,
    ids=lambda w: " ".join((*w.methods, "UNIX" if w.unix else "TCP", *["large"] * w.large, *["kept"] * w.kept)),
)
def test_nothing_is_answered_twice_and_nothing_is_forgotten(world: World) -> None:
    """Two requests, two deaths, an answer in pieces, a client that does not wait."""
    assert explore(world, REAL) > 300


# --- Would it find a bug? --------------------------------------------------------------------

SOURCE = Path(rescue.__file__).read_text()
BUGS = {
    "nothing was sent, and it is called answered": ("    if progress == 0:\n", "    if progress < 0:\n"),
    "what was not taken is called taken": ("State.WHOLE if due else State.TAKEN", "State.TAKEN"),
    "what was taken is called whole": ("State.WHOLE if due else State.TAKEN", "State.WHOLE"),
    "an answered request is left in the socket": ("return Found(None, State.WHOLE, due)", "return Found(None, State.WHOLE)"),
    "an answered request is taken off twice": (
        "    due = 0 if (taken - lane.taken) % WRAP >= lane.due else lane.due\n", "    due = lane.due\n",
    ),
    "an answer that is whole is cut": ("if lane.length and progress == lane.length:", "if False:"),
    "an answer that is not whole passes": ("if lane.length and progress == lane.length:", "if True:"),
    "what is done is not": ("    if lane.done:\n", "    if False:\n"),
    "taking is taken": ("counts is not None and counts.unread >= lane.unread:", "True:"),
    "on a UNIX socket everybody is answered": (
        "sent = lane.length and state is State.ANSWERING and lane.unread == lane.due", "sent = True",
    ),
    "a cut answer is begun again": ("    if state >= State.OVER:\n", "    if state > State.OPEN_ENDED:\n"),
    "an order is run again": ('and rule.allows(lane.method, lane.uri, whole="uri" not in lane.shortened)', "and True"),
    "a refusal is given twice": ("return now == before", "return True"),
    "a refusal is forgotten": ("return now == before", "return False"),
    "a refusal that was given is given again": ("promised and state in", "state in"),
    "a refusal that nobody counts is forgotten": ("return promised and state in", "return False and state in"),
}  # fmt: skip


def planted(old: str, new: str) -> Judges:
    assert SOURCE.count(old) == 1, f"not one place, but {SOURCE.count(old)}: {old}"
    tree = ast.parse(SOURCE.replace(old, new))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = dict(vars(rescue))
    exec(compile(tree, "planted", "exec", dont_inherit=True), names)  # noqa: S102 (our own source, changed in one place)
    return Judges(examine=names["examine"], judge=names["judge"], is_owed=names["is_owed"])


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    """In one of the worlds."""
    by = planted(*BUGS[bug])
    with pytest.raises(AssertionError):  # noqa: PT012
        for world in WORLDS:
            explore(world, by)
