"""What workers say they are busy with, and who waits to hear it: a drain's account in the log, and `lastcall status`.

A worker is asked over its link and answers from a thread of its own (`worker/where.py`). Nobody waits for the answer: one
that does not come within ANSWER_WITHIN is said to be missing, and what was to be told is told without it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastcall.core import notes
from lastcall.core.slot import Lane
from lastcall.protocol.control import InFlight, StepStatus
from lastcall.protocol.link import Whereabouts, read_where

if TYPE_CHECKING:
    from lastcall.runtime.board import Board
    from lastcall.runtime.surroundings import Link

ANSWER_WITHIN: Final = 0.25
"""Seconds that a worker has to answer: a thousand times what it takes, and no longer than a person at a terminal minds."""
FRESH: Final = 10.0
"""Seconds for which an answer may stand in the cut list as where a request was."""
EXPLAIN: Final = 5.0
"""Seconds between two accounts of what a drain is waiting for."""
LINES_MAX: Final = 100
"""Requests that one account names; the rest are counted. 200 workers with 64 threads each would drown the log."""
NO_ANSWER: Final = "does not answer: busy in C code?"
"""An extension module that keeps the GIL for this long keeps every other thread of its process from running."""


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float
    whereabouts: Whereabouts


@dataclass(slots=True)
class _Listener:
    """A status command that is to be answered when these workers have spoken, or at the deadline."""

    ticket: int
    deadline: float
    missing: set[int]


class Desk:
    """Questions and answers, by the workers' serials. `ask` sends one question; it may fail, and nobody hears of that."""

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._asked: dict[
            int, float
        ] = {}  # not answered yet: one question at a time, or a stuck worker's queue would fill
        self._answers: dict[int, _Answer] = {}
        self._listeners: list[_Listener] = []

    def ask(self, serials: Iterable[int], now: float) -> None:
        for serial in serials:
            if serial not in self._asked:
                self.expect(serial, now)
                self._ask(serial)

    def expect(self, serial: int, now: float) -> None:
        """The worker was told something that it answers by saying where it is, too."""
        self._asked.setdefault(serial, now)

    def hear(self, serial: int, text: str, now: float) -> None:
        """A worker has answered, or has said it unasked. Raises ValueError for a text that is no answer."""
        self._answers[serial] = _Answer(now, read_where(text))
        self._settle(serial)

    def forget(self, serial: int) -> None:
        """The worker is gone."""
        self._answers.pop(serial, None)
        self._settle(serial)

    def _settle(self, serial: int) -> None:
        self._asked.pop(serial, None)
        for listener in self._listeners:
            listener.missing.discard(serial)

    # --- Those who wait ----------------------------------------------------------------------

    def listen(self, ticket: int, serials: Iterable[int], now: float) -> None:
        """Ask these workers; `due` names the ticket when all have answered, or none is waited for any longer."""
        missing = set(serials)
        self.ask(sorted(missing), now)
        self._listeners.append(_Listener(ticket, now + ANSWER_WITHIN, missing))

    def due(self, now: float) -> list[int]:
        """The tickets that are to be answered now, each once."""
        done = [listener for listener in self._listeners if not listener.missing or listener.deadline <= now]
        self._listeners = [listener for listener in self._listeners if listener not in done]
        return [listener.ticket for listener in done]

    def next_due(self) -> float | None:
        return min((listener.deadline for listener in self._listeners), default=None)

    # --- What is known -----------------------------------------------------------------------

    def line(self, serial: int, lane: Lane, now: float) -> str:
        """Where this request was when its worker was last asked; says so when the worker does not answer."""
        return NO_ANSWER if self._is_stuck(serial, now) else self._known(serial, lane)

    def last_line(self, serial: int, lane: Lane, now: float) -> str:
        """Where this request was a moment ago, for whoever has to say it after its worker's end."""
        answer = self._answers.get(serial)
        if answer is None or now - answer.at > FRESH:
            return NO_ANSWER if self._is_stuck(serial, now) else ""
        return self._known(serial, lane)

    def _is_stuck(self, serial: int, now: float) -> bool:
        asked = self._asked.get(serial)
        return asked is not None and asked + ANSWER_WITHIN <= now

    def _known(self, serial: int, lane: Lane) -> str:
        answer = self._answers.get(serial)
        for where in answer.whereabouts.requests if answer is not None else ():
            if where.lane == lane.number and where.request_id == lane.request_id:
                return where.line
        return ""

    def connections(self, serial: int) -> Whereabouts | None:
        """The worker's last answer, unless a newer question is open."""
        answer = self._answers.get(serial)
        return answer.whereabouts if answer is not None and serial not in self._asked else None


# --- Words -------------------------------------------------------------------


def in_flight(lane: Lane, where: str, now: float) -> InFlight:
    """A request for a status."""
    steps = [StepStatus(step.name, round(max(0.0, step.at - lane.begun), 6), step.about) for step in lane.steps]
    return InFlight(
        id=lane.request_id, method=lane.method, uri=lane.uri, client=lane.client, elapsed=max(0.0, now - lane.begun),
        step=steps[-1].name if steps else "", where=where, steps=steps, steps_before=lane.forgotten,
        critical=max(0.0, now - lane.critical) if lane.critical > 0 else 0.0,
    )  # fmt: skip


def waiting_for(pool: str, pid: int, lane: Lane, where: str, now: float) -> notes.Waiting:
    """A request for a drain's account."""
    step, since = ("", 0.0) if lane.step is None else (lane.step.words, max(0.0, now - lane.step.at))
    critical = now - lane.critical if lane.critical > 0 else 0.0
    return notes.Waiting(pool, pid, lane.request, lane.request_id, now - lane.begun, step, where, since, critical)


def waiting(whereabouts: Whereabouts) -> list[str]:
    """What holds a worker up besides requests that run: `1 request still arriving`."""
    counted = (
        (whereabouts.arriving, "request still arriving", "requests still arriving"),
        (whereabouts.queued, "request waiting for a thread", "requests waiting for a thread"),
        (whereabouts.unsent, "response not yet taken", "responses not yet taken"),
    )
    return [f"{number} {one if number == 1 else many}" for number, one, many in counted if number]


def waiting_in_words(whereabouts: Whereabouts) -> str:
    """`2 connections: 1 request still arriving, 1 response not yet taken`; empty where there is no connection."""
    parts = waiting(whereabouts)
    number = whereabouts.connections
    idle = number - whereabouts.arriving - whereabouts.queued - whereabouts.unsent
    if idle > 0:
        parts.append(f"{idle} idle")
    return f"{number} connection{'' if number == 1 else 's'}: {', '.join(parts)}" if number > 0 else ""


# --- When --------------------------------------------------------------------


class Turn(enum.Enum):
    """What an account has come to."""

    NOTHING = enum.auto()
    ASK = enum.auto()
    TELL = enum.auto()


class Account:
    """When a drain is to be explained: first the workers are asked, and ANSWER_WITHIN later the lines are written."""

    def __init__(self) -> None:
        self.due: float | None = None
        """When `turn` has something to do; None while nothing drains."""
        self._asked = False

    def plan(self, now: float, *, draining: bool) -> None:
        """Begin when a drain does, and end with it."""
        if not draining:
            self.due, self._asked = None, False
        elif self.due is None:
            self.due = now + EXPLAIN - ANSWER_WITHIN

    def turn(self, now: float) -> Turn:
        """What is to be done now."""
        if self.due is None or now < self.due:
            return Turn.NOTHING
        self._asked = not self._asked
        self.due = now + (ANSWER_WITHIN if self._asked else EXPLAIN - ANSWER_WITHIN)
        return Turn.ASK if self._asked else Turn.TELL


def account(pool: str, links: Sequence[Link], board: Board, desk: Desk, now: float) -> list[notes.Note]:
    """What these workers, which drain, are waiting for: LINES_MAX of their requests, the oldest first, and what else."""
    told: list[notes.Note] = []
    lanes = [(link, lane) for link in links for lane in board.read(link.slot).lanes]
    lanes.sort(key=lambda one: one[1].begun)
    for link, lane in lanes[:LINES_MAX]:
        told.append(waiting_for(pool, link.pid, lane, desk.line(link.serial, lane, now), now))
    if len(lanes) > LINES_MAX:
        told.append(notes.WaitingForMore(pool, len(lanes) - LINES_MAX))
    for link in links:
        said = desk.connections(link.serial)
        what = "" if said is None else waiting_in_words(said)
        if what:
            told.append(notes.WaitingConnections(pool, link.pid, what))
    return told
