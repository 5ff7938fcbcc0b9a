"""One run of a durable request: its steps, each written down before and after, or answered from the journal.

Knows no protocol and no server: `wsgi.py` calls an application inside a run, and an ASGI adapter will. A run belongs to a
context (contextvars), so that it is found from wherever the application calls `step`, in a thread or in a task.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import msgspec

from lastcall.durable import judge
from lastcall.durable.journal import Journal, JournalError
from lastcall.durable.judge import InDoubt, Replay
from lastcall.durable.record import RESULT_MAX, Record, Step, StepState, step_key

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class StepFailed(Exception):
    """A step has raised. Also when the request is run again: a failure is a result, and the same way is taken."""

    def __init__(self, step: str, kind: str, text: str) -> None:
        super().__init__(f"step {step} has failed: {kind}: {text}" if text else f"step {step} has failed: {kind}")
        self.step = step
        self.kind = kind
        """The name of what was raised."""
        self.text = text


class NotDone(Exception):
    """Raised in a step, or in its `check`: what the step does has certainly not happened. Nothing is written down."""


class Halt(BaseException):
    """A run cannot go on. No Exception, so that an application that catches those does not go on without its journal."""


class Parked(Halt):
    """Somebody has to decide; the text says what about."""


class Broken(Halt):
    """The journal has failed in the middle; the request stays in it as one whose worker has died."""


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("lastcall_durable_run")


def current() -> Run:
    """The run that we are in. Raises LookupError."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("this is not called inside a durable request (durable.request)") from None


class Entered:
    """See `Run.entered`."""

    __slots__ = ("_run", "_token")

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._token = _current.set(self._run)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


class Run:
    """See the module's docstring."""

    def __init__(
        self, journal: Journal, record: Record, *, at_step: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.record = record
        self._journal = journal
        self._at_step = at_step
        self._now = now
        self._steps = {step.seq: step for step in record.steps}
        self._seq = 0
        self._inside: tuple[str, int] | None = None
        self.halted: Halt | None = None

    @property
    def passed(self) -> int:
        """Steps that this run has come through."""
        return self._seq

    @property
    def recorded(self) -> int:
        """Steps that the journal has."""
        return len(self._steps)

    def entered(self) -> Entered:
        """For the time in which the application runs: `with run.entered():`."""
        return Entered(self)

    def key(self) -> str:
        """See `durable.key`."""
        if self._inside is None:
            raise LookupError("durable.key() is called inside a step")
        return step_key(self.record.key, *self._inside)

    def step(
        self, name: str, fn: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object], *, in_doubt: InDoubt,
        check: Callable[..., T] | None,
    ) -> T:  # fmt: skip
        """See `durable.step`."""
        if self.halted is not None:
            raise self.halted
        if self._inside is not None:
            raise RuntimeError(f"step {name} is called inside step {self._inside[0]}")
        self._at_step(name)
        recorded = self._steps.get(self._seq)
        if recorded is None:
            return self._first(name, fn, args, kwargs)
        return self._again(recorded, name, fn, args, kwargs, in_doubt=in_doubt, check=check)

    def _again(
        self, recorded: Step, name: str, fn: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object], *,
        in_doubt: InDoubt, check: Callable[..., T] | None,
    ) -> T:  # fmt: skip
        """A step of which an earlier attempt has written something down."""
        match judge.replay(recorded, name, in_doubt):
            case Replay.RETURN:
                self._seq += 1
                return _decode(recorded.result)  # type: ignore[no-any-return]
            case Replay.RAISE:
                self._seq += 1
                raise StepFailed(name, *msgspec.json.decode(recorded.result, type=tuple[str, str]))
            case Replay.DIVERGED:
                self.halt(
                    Parked(f"step {self._seq + 1} is {name} now, and was {recorded.name} when this request began")
                )
            case Replay.HOLD:
                self.halt(Parked(f"step {name} was begun, and nobody knows whether it has happened"))
            case Replay.CHECK:
                assert check is not None
                with contextlib.suppress(NotDone):
                    return self._checked(name, check, args, kwargs)
        return self._first(name, fn, args, kwargs)

    def _first(self, name: str, fn: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Run a step that has no result yet."""
        started = Step(self._seq, name, StepState.STARTED, self.record.attempt, self._now())
        if started.seq not in self._steps:
            self._write(started)
        self._inside = (name, self._seq)
        try:
            result = fn(*args, **kwargs)
        except NotDone:
            self._erase(started)
            raise
        except Exception as error:
            said = (type(error).__name__, str(error))
            self._write(msgspec.structs.replace(started, state=StepState.FAILED, result=msgspec.json.encode(said)))
            self._seq += 1
            raise StepFailed(name, *said) from error
        finally:
            self._inside = None
        return self._done(started, result)

    def _checked(self, name: str, check: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        """Ask the remote. Raises NotDone where the step has not happened."""
        self._inside = (name, self._seq)
        try:
            result = check(*args, **kwargs)
        except NotDone:
            raise
        except Exception as error:
            # Later it may be there to be asked: the request stays as it is, and is tried again.
            self.halt(
                Broken(f"step {name} is in doubt, and could not be checked: {type(error).__name__}: {error}"), error
            )
        finally:
            self._inside = None
        return self._done(Step(self._seq, name, StepState.DONE, self.record.attempt, self._now()), result)

    def _done(self, step: Step, result: T) -> T:
        """What is returned is what was written, so that it is the same when it is read."""
        try:
            written = _encode(result)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self.halt(
                Parked(f"step {step.name} has happened, and its result cannot be written as JSON: {error}"), error
            )
        if len(written) > RESULT_MAX:
            self.halt(Parked(f"step {step.name} has happened, and its result is too large: {len(written)} bytes"))
        self._write(Step(step.seq, step.name, StepState.DONE, step.attempt, self._now(), written))
        self._seq += 1
        return _decode(written)  # type: ignore[no-any-return]

    def _write(self, step: Step) -> None:
        try:
            self._journal.note(self.record, step)
        except JournalError as error:
            has = "is about to begin" if step.state is StepState.STARTED else "has been run"
            self.halt(Broken(f"step {step.name} {has}, and that cannot be written down: {error}"), error)
        self._steps[step.seq] = step

    def _erase(self, step: Step) -> None:
        try:
            self._journal.erase(self.record, step)
        except JournalError as error:
            self.halt(Broken(f"step {step.name} was not done, and that cannot be written down: {error}"), error)
        self._steps.pop(step.seq, None)

    def halt(self, why: Halt, cause: BaseException | None = None) -> NoReturn:
        """End the run, whatever the application does with it."""
        self.halted = why
        raise why from cause
