"""What is to be done: about a request whose key is known, about a step that was begun before, at a request's end.

Pure: it sees records, and knows no store, no clock and no application.

    a key that nobody knows                     begin
    the same key, another request               mismatch (422)
    done, parked, abandoned                     say so, with the stored response where there is one
    running, and nobody runs it                 adopt: run it again; park it after ATTEMPTS_MAX times

    a step that is not recorded                 run it
    recorded under another name                 diverged: park, never guess
    done, failed                                the recorded result, or the recorded failure
    started, and no more is known               in doubt: retry, check or hold, as the step says

    the application has answered below 500      done
    it has raised, or answered 500 and more:    forget it if no step is recorded, for nothing was done; else park it
    recorded steps were left out                diverged: park
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

from lastcall.durable.record import Record, State, Step, StepState

ATTEMPTS_MAX: Final = 5
"""A request is run this often at most. SIGKILL says nothing about the request, so it may be unlucky more than once; five
times was not luck."""


class Meeting(enum.Enum):
    """What becomes of a request that has come in."""

    BEGIN = enum.auto()
    ADOPT = enum.auto()
    ANSWER = enum.auto()
    MISMATCH = enum.auto()
    PARKED = enum.auto()
    ABANDONED = enum.auto()
    EXHAUSTED = enum.auto()


def meet(found: Record | None, fingerprint: str) -> Meeting:
    """`found` is what the journal has under the key, which nobody else is running."""
    if found is None:
        return Meeting.BEGIN
    if found.fingerprint != fingerprint:
        return Meeting.MISMATCH
    match found.state:
        case State.DONE:
            return Meeting.ANSWER
        case State.PARKED:
            return Meeting.PARKED
        case State.ABANDONED:
            return Meeting.ABANDONED
        case State.RUNNING:
            return Meeting.ADOPT if found.attempt % ATTEMPTS_MAX else Meeting.EXHAUSTED


class InDoubt(enum.Enum):
    """What a step's author has declared for the case that nobody knows whether it has happened."""

    HOLD = "hold"
    RETRY = "retry"
    CHECK = "check"


class Replay(enum.Enum):
    """What becomes of a step."""

    RUN = enum.auto()
    RETURN = enum.auto()
    RAISE = enum.auto()
    DIVERGED = enum.auto()
    HOLD = enum.auto()
    CHECK = enum.auto()


_DOUBT: Final = {InDoubt.HOLD: Replay.HOLD, InDoubt.RETRY: Replay.RUN, InDoubt.CHECK: Replay.CHECK}


def replay(recorded: Step | None, name: str, in_doubt: InDoubt) -> Replay:
    """`recorded` is what an earlier attempt has written about the step of this sequence number."""
    if recorded is None:
        return Replay.RUN
    if recorded.name != name:
        return Replay.DIVERGED
    match recorded.state:
        case StepState.DONE:
            return Replay.RETURN
        case StepState.FAILED:
            return Replay.RAISE
        case StepState.STARTED:
            return _DOUBT[in_doubt]


class Ending(enum.Enum):
    """What becomes of a request whose application has come to an end."""

    DONE = enum.auto()
    FORGET = enum.auto()
    PARK = enum.auto()


def conclude(*, status: int, recorded: int, passed: int) -> Ending:
    """`status` is the response's, 500 for one that has raised; `recorded` counts the steps in the journal, `passed` those
    that this attempt has come through.
    """
    if recorded > passed:
        return Ending.PARK
    if status < 500:
        return Ending.DONE
    return Ending.PARK if recorded else Ending.FORGET


def latest(found: Sequence[Record]) -> Record | None:
    """Of several records of one request, left where it was adopted by others, the one that counts."""
    return max(found, key=lambda record: (record.attempt, record.state is not State.RUNNING), default=None)


def kept(steps: Sequence[Step], result: bytes | None) -> list[Step]:
    """What stays of a parked request's steps when somebody orders that it run again: all that are done, up to the first
    that is not. `result`: that one has happened all the same, and this is what it returned.
    """
    stay: list[Step] = []
    for step in sorted(steps, key=lambda step: step.seq):
        if step.state is not StepState.DONE:
            if result is not None:
                stay.append(Step(step.seq, step.name, StepState.DONE, step.attempt, step.at, result))
            break
        stay.append(step)
    return stay


def doubtful(steps: Sequence[Step]) -> Step | None:
    """The first step that is not done."""
    return next((step for step in sorted(steps, key=lambda step: step.seq) if step.state is not StepState.DONE), None)


def revived(record: Record, steps: Sequence[Step], now: float) -> Record:
    """A parked request that is to run again. The numbers of its attempts only grow, for the highest counts; a multiple of
    ATTEMPTS_MAX is the last one.
    """
    spent = -(-record.attempt // ATTEMPTS_MAX) * ATTEMPTS_MAX
    return msgspec.structs.replace(
        record, state=State.RUNNING, why="", attempt=spent + 1, changed=now, steps=tuple(steps)
    )
