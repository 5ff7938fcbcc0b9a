"""Orders of an operator about parked requests: what they do, and how they reach whoever owns a request's file.

A file of SQLite has one writer, a worker that lives; so an order is a small file in the journal's directory, which the
owner of the request finds when it tidies up.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from lastcall.durable import judge
from lastcall.durable.journal import Journal, JournalError
from lastcall.durable.record import Record, State, Step, StepState

if TYPE_CHECKING:
    from lastcall.durable.sqlite import Sqlite

FOLDER: Final = "orders"


class Order(msgspec.Struct, frozen=True):
    """`retry` or `abandon`."""

    verb: str
    id: str
    result: bytes | None = None


def check(order: Order, record: Record) -> str:
    """What an order means for a request, in words. Raises JournalError where it means nothing."""
    if record.state is not State.PARKED:
        raise JournalError(f"{record.id} is not parked, but {record.state.name.lower()}")
    doubtful = judge.doubtful(record.steps)
    match order.verb, doubtful:
        case "abandon", _:
            return f"{record.id} is abandoned"
        case "retry", None if order.result is not None:
            raise JournalError(f"{record.id} has no step whose result could be given")
        case "retry", None:
            return f"{record.id} is run again; all of its recorded steps are done"
        case "retry", Step() as step if order.result is not None:
            return f"{record.id} is run again, with this result of step {step.name}"
        case "retry", Step() as step:
            was = "had failed" if step.state is StepState.FAILED else "was in doubt"
            return f"{record.id} is run again, with step {step.name}, which {was}"
        case _:
            raise JournalError(f"{order.verb} is no order")


def apply(journal: Journal, order: Order, record: Record) -> str:
    """Do it to a parked request, whose key is claimed by the caller; what it means, in words. Raises JournalError."""
    means = check(order, record)
    if order.verb == "retry":
        journal.revive(record, judge.kept(record.steps, order.result))
    else:
        journal.end(record, State.ABANDONED, why=f"abandoned; it was parked: {record.why}")
    return means


def at_once(journal: Journal, order: Order) -> str:
    """For journals that anybody may write to. Raises JournalError."""
    record = journal.show(order.id)
    if record is None:
        raise JournalError(f"{order.id}: there is no such request in the journal")
    if not journal.claim(record.key, 1.0):
        raise JournalError(f"{record.id} is running")
    try:
        return apply(journal, order, journal.show(record.id) or record)
    finally:
        journal.release(record.key)


# --- Through files -----------------------------------------------------------------


def give(folder: Path, verb: str, identity: str, result: bytes | None) -> str:
    """Leave an order for the owner of the request. Raises JournalError."""
    order = msgspec.json.encode(Order(verb, identity, result))
    try:
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
        fresh = folder / FOLDER / f".{identity}.{os.getpid()}"
        fresh.write_bytes(order)
        fresh.rename(folder / FOLDER / identity)
    except OSError as error:
        raise JournalError(f"{folder}: {error.strerror}") from error
    return f"{identity}: ordered to {verb}"


def waits(folder: Path, identity: str) -> bool:
    """Whether an order has not been obeyed yet."""
    return (folder / FOLDER / identity).exists()


def obey(journal: Sqlite) -> list[str]:
    """Carry out the orders about requests in our own file; what was done, in words."""
    done: list[str] = []
    try:
        given = sorted((journal.folder / FOLDER).iterdir())
    except OSError:
        return done  # nobody has ever given any
    for path in given:
        record = journal.mine(path.name)
        if record is None or not journal.claim(record.key, 0.0):
            continue
        try:
            order = msgspec.json.decode(path.read_bytes(), type=Order)
            done.append(apply(journal, order, record))
        except (JournalError, msgspec.MsgspecError, OSError) as error:
            done.append(f"{record.id}: {error}")
        finally:
            journal.release(record.key)
        with contextlib.suppress(OSError):
            path.unlink()
    return done
