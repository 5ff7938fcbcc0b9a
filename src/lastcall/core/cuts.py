"""The cut list: what is known about a request that was ended before its answer, one JSON object a line.

Decides what stands in a record, and why a request counts as cut. Where the file is, and when it is written, is not known
here. A record's names are an interface: a later version adds some, and removes none.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from lastcall.core import exits
from lastcall.core.quantities import format_duration

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context, section 3.2."""


class Kind(enum.Enum):
    """What ended the request, for programs. The record's `cause` says it to people."""

    DIED = "died"
    """Its worker ended by itself, or was killed by somebody else."""
    REQUEST_TIMEOUT = "request_timeout"
    """It, or another request of its worker, had run for too long."""
    DRAIN_TIMEOUT = "drain_timeout"
    """Its worker was told to finish, and has not in time."""
    OOM = "oom"
    """The kernel has killed its worker for want of memory."""
    STOP = "stop"
    """Somebody has asked for a second time to stop."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the request has said that it was (`lastcall.step`)."""

    name: str
    at: float
    """Seconds since it had begun."""
    about: str = ""
    """What it was about: the key of an order."""


class Cut(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request that was cut."""

    at: str
    """When, in words: ISO 8601, UTC."""
    time: float
    """When, as Unix time."""
    request_id: str
    method: str
    uri: str
    client: str
    elapsed: float
    """Seconds for which it had run."""
    pid: int
    serial: int
    """Of its worker, and never reused, unlike the pid."""
    generation: int
    kind: Kind
    cause: str
    """In words: how its worker ended, and why."""
    id: str = ""
    """Of this record: no other in the list has it. A request that was cut and run again may have several."""
    asked_by: str = ""
    """Who has asked for the stop, reload or scaling that it did not survive: a signal or command, its sender's command line,
    and its ancestors'. Empty where nobody has asked, or nobody can know."""
    pool: str = ""
    step: str = ""
    """How far it says that it had got, the last one of `steps`; empty if it has not said."""
    steps: tuple[Step, ...] = ()
    """The latest of them, with their times."""
    steps_before: int = 0
    """Earlier ones, of which there was no room to keep more than the number."""
    critical: str = ""
    """`inside`: it was past a point of no return (`lastcall.critical`); `passed`: it had left it; empty: it never was."""
    where: str = ""
    """The line of code that it was in; empty where nobody has seen it."""
    trace_id: str = ""
    """Of the trace that its `traceparent` names, or what another header has (`trace_header`)."""
    attempt: int = 1
    done: str = ""
    """What was done about it: `run again`, `answered 503`, `answered 500`, `cut` inside its answer, or nothing, for want
    of anybody to answer."""
    on_cut: str = ""
    """The application's function that is to complete it; empty where there is none, or nothing to complete."""
    completed_at: str = ""
    """When that had returned. In no record of the list, which is never changed; whoever shows it fills it in."""
    shortened: tuple[str, ...] = ()
    """The texts of this record that were longer than the place that they were kept in."""


def kind(*, by_us: bool, overdue: bool, hurry: bool, oom: bool = False) -> Kind:
    """Why a worker's requests were cut: `by_us` says that it was we who killed it."""
    if not by_us:
        return Kind.OOM if oom else Kind.DIED
    if overdue:
        return Kind.REQUEST_TIMEOUT
    return Kind.STOP if hurry else Kind.DRAIN_TIMEOUT


def cause(why: Kind, status: int, patience: float, *, other: bool = False, because: str = "") -> str:
    """The cause in words. `patience` is the limit that was exceeded, `other` that another request has exceeded it.

    `because` is what the worker was told to finish for.
    """
    ended = f"its worker exited {exits.words(status)}"
    limit = format_duration(patience)
    match why:
        case Kind.DIED if exits.killed(status):
            return f"{ended}, sent from outside; the kernel tells nobody by whom"
        case Kind.DIED:
            return ended
        case Kind.OOM:
            return f"{ended}, by the kernel, for want of memory"
        case Kind.REQUEST_TIMEOUT if other:
            reason = f"another request of it had run for longer than request_timeout ({limit})"
        case Kind.REQUEST_TIMEOUT:
            reason = f"it had run for longer than request_timeout ({limit})"
        case Kind.DRAIN_TIMEOUT:
            wanted = f"it was to finish for {because}, and had" if because else "it had"
            reason = f"{wanted} not finished within drain_timeout ({limit})"
        case Kind.STOP:
            reason = "asked to stop again"
    return f"{ended}, by order of lastcall: {reason}"


def trace_id(header: str) -> str:
    """The trace's id in a `traceparent`; what is none is taken for an id as it is."""
    found = _TRACEPARENT.fullmatch(header)
    return found[1] if found else header


class Completion(msgspec.Struct, frozen=True):
    """A line of the list of those that are completed: `on_cut` has returned for this record."""

    id: str
    at: str
    """When, as in a record."""
    tries: int


# --- Lines -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a cut list that is none of ours."""

    number: int
    """From 1."""
    why: str


_Line = TypeVar("_Line", Cut, Completion)


def encode(line: Cut | Completion) -> bytes:
    """One line, its end included."""
    return msgspec.json.encode(line) + b"\n"


def decode(lines: Iterable[bytes]) -> tuple[list[Cut], list[BadLine]]:
    """The records of these lines in their order, and the lines that are none, empty ones excepted."""
    return _decode(lines, Cut)


def decode_completions(lines: Iterable[bytes]) -> list[Completion]:
    """Those that can be read. What cannot be is done once more, which is what `at least once` allows."""
    return _decode(lines, Completion)[0]


def _decode(lines: Iterable[bytes], kind: type[_Line]) -> tuple[list[_Line], list[BadLine]]:
    found: list[_Line] = []
    bad: list[BadLine] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            bad.append(BadLine(number, str(error)))
    return found, bad
