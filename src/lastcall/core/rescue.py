"""What is done about a connection whose worker has died. It knows no sockets: only a lane of the slot and a byte of state.

    nothing of a request was taken            passed on: another worker reads it from the kernel
    the application had not begun             the same, if the request is still whole; else 503
    it had begun, the request is whole        run again where the rule allows; else 503
    it had begun, and bytes of it were taken  503
    a byte of the answer may have left        cut: the connection is closed in a way that shows that it is not the whole

Nothing is answered twice: a request is run again only while not a byte of an answer has left. One that has passed a point
of no return (`lastcall.critical`) is not run again, whatever the rule: its application has said that there is no way back.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import Final

from lastcall.core.replay import Replay
from lastcall.core.slot import Lane, State

ATTEMPTS_MAX: Final = 5
"""A request is run this often at most. SIGKILL comes from outside and says nothing about the request, so a request may be
unlucky more than once; five times in a row it was not luck."""
BLAMED_MAX: Final = 2
"""Workers that a request may take with it by a fault of its own (a crash, an exit, the memory) before it is poison."""
WRAP: Final = 1 << 32
"""What a slot has room for: counts are kept modulo this."""


class Verdict(enum.Enum):
    """What becomes of a connection. The value is the word that the cut list uses."""

    PASS_ON = "passed on"  # noqa: S105 - no password
    AGAIN = "run again"
    REFUSE = "answered 503"
    LATE = "answered 504"
    POISON = "answered 500"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Counts:
    """What the kernel says of a connection. The first two only ever grow, modulo WRAP; a UNIX socket has none."""

    written: int | None
    """Bytes that were ever written to it, sent or not; None where the kernel keeps no account."""
    taken: int
    """Bytes that were ever read from it. A client that has ended its side counts as one more."""
    unread: int
    """Bytes that have arrived and wait to be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is true of a connection."""

    lane: Lane | None
    """The request that the application had begun, and that has not been answered as a whole."""
    state: State
    due: int = 0
    """Bytes of a request that has been answered, which are to be taken off before anybody else reads."""
    carried: bytes = b""
    """The request, where it is whole and no longer in the kernel."""
    clean: bool = False
    """Nothing else of the request will come, and nothing has come behind it."""


def examine(lane: Lane | None, state: State, counts: Counts | None) -> Found:
    """What is true, given what a dead worker has written down and what the kernel says (None: it says nothing).

    A worker writes down what it is about to do before it does it. Where two things are done, the kernel's counts tell which
    of them has been: how much was written since the note, and how much was read.
    """
    if state in (State.GIVEN, State.PARTED):
        return Found(lane, state)
    if state is State.UNKNOWN:
        state = State.WHOLE
    if lane is None:
        return Found(None, state)
    if lane.done:
        return Found(None, state if state in (State.TAKEN, State.OVER) else State.WHOLE)
    if state in (State.WHOLE, State.TAKEN):
        return Found(lane, state, clean=state is State.WHOLE)
    if state is State.TAKING:
        clean = lane.due == lane.unread
        if counts is not None and counts.unread >= lane.unread:
            return Found(lane, State.WHOLE, clean=clean)
        if counts is not None and counts.unread == lane.unread - lane.due and lane.landed:
            return Found(lane, State.WHOLE, carried=lane.landed, clean=clean)
        return Found(lane, State.TAKEN, clean=clean)
    if counts is None:
        return Found(lane, state)
    if counts.written is None:
        # A UNIX socket. Its request was taken, and its answer sent as a whole, in two system calls that follow each other
        # at once; or the worker died between the two, which is a thousand times less likely. Whoever has asked for more
        # before he was answered would take the next answer for this one: there it is not for us to guess.
        sent = lane.length and state is State.ANSWERING and lane.unread == lane.due
        return Found(None, State.WHOLE) if sent else Found(lane, state)
    return _answering(lane, state, written=counts.written, taken=counts.taken)


def _answering(lane: Lane, state: State, *, written: int, taken: int) -> Found:
    """The answer is written first, then the request is taken off: nothing can be missing from both."""
    progress = (written - lane.written) % WRAP
    due = 0 if (taken - lane.taken) % WRAP >= lane.due else lane.due
    if progress == 0:
        return Found(lane, State.WHOLE if due else State.TAKEN, clean=lane.due == lane.unread)
    if lane.length and progress == lane.length:
        return Found(None, State.WHOLE, due)
    return Found(lane, state)


def judge(lane: Lane | None, state: State, *, rule: Replay, taken_by: int = 0) -> Verdict:
    """`lane` is the request that the application had begun on this connection; `taken_by` counts the workers that requests
    like it have taken with them, this one included; 0: nobody blames the request.
    """
    if state >= State.OVER:
        return Verdict.CUT
    if lane is None:
        return Verdict.PASS_ON if state is State.WHOLE else Verdict.REFUSE
    if taken_by >= BLAMED_MAX:
        return Verdict.POISON
    if state is State.WHOLE and lane.durable:
        # It is in the journal, which knows what was done. Being unlucky is not poison: it is completed without its client.
        return Verdict.AGAIN if lane.attempt < ATTEMPTS_MAX else Verdict.REFUSE
    if (
        state is State.WHOLE
        and not lane.critical
        and rule.allows(lane.method, lane.uri, whole="uri" not in lane.shortened)
    ):
        return Verdict.AGAIN if lane.attempt < ATTEMPTS_MAX else Verdict.POISON
    return Verdict.REFUSE


def is_owed(state: State, before: int | None, now: int | None, *, promised: bool = False) -> bool:
    """Whether a refusal has not been given that a worker was to give; `before` and `now`: bytes written, when it was told to
    and now. `promised`: where nobody counts, the connection is marked until the refusal has been given. A state alone does
    not tell: a worker that has had it and is done may have given the connection to the one that has died.
    """
    if now is None:
        return promised and state in (State.UNKNOWN, State.TAKEN)
    return now == before


def fingerprint(method: str, uri: str) -> str:
    """What requests that are alike have in common. The slot's texts are cut: so is the likeness."""
    return hashlib.blake2b(f"{method} {uri}".encode("latin-1", "replace"), digest_size=16).hexdigest()
