"""Repairs: a function of the application puts an order right that is off, and is journalled as a durable request.

So one that is cut is finished by the next run, with the rows that it began with and without repeating a step, and none is
done twice: an order's key is its request's. Decides what becomes of each order; knows neither how ledgers are read nor how
what has become of them is shown.
"""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from lastcall.durable.engine import Engine, Manner
from lastcall.durable.journal import JournalError, Terms
from lastcall.durable.record import Asked, Record, Response, State, full_key
from lastcall.durable.run import Halt, Run
from lastcall.durable.sqlite import Reader, Sqlite
from lastcall.gateway import loading
from lastcall.tools.reconcile.question import NoVerdict
from lastcall.tools.reconcile.result import Explanation, Finding, Repair, key_text

METHOD: Final = "REPAIR"
"""How `lastcall journal` shows these requests."""
MARK: Final = "repairs"
"""A file that a journal of repairs has: neither a worker's requests nor ours are to be run by the other."""
READABLE: Final = 180
"""Characters of a key that stay as they are; of a longer one its digest is taken."""
LISTED: Final = 1_000_000


class Outcome(enum.Enum):
    """What becomes of an order that is off. The order is that of a report's counts."""

    WOULD = "would be repaired"
    """In a dry run."""
    REPAIRED = "repaired"
    ALONE = "left alone"
    """The function has returned None, and done nothing."""
    FAILED = "failed"
    """It has raised before its first step: nothing was done, and the next run tries again."""
    UNFINISHED = "unfinished"
    """Begun, and to be finished by the next run; or somebody else is at it."""
    PARKED = "parked"
    """Begun, and somebody has to decide: `lastcall journal`."""
    BEFORE = "repaired before"
    """And off all the same. It is not repaired again."""
    ABANDONED = "abandoned"
    """By somebody, with `lastcall journal abandon`."""
    NOT = "not repairable"
    """It is more than once in a ledger: nobody can say which row is right."""


class Off(msgspec.Struct, frozen=True):
    """An order that is off, as the function gets it. Values are texts, as they were compared: exact, times in UTC."""

    key: dict[str, str]
    wrong: str = ""
    """`only_left`, `only_right` or `different`."""
    left: dict[str, str | None] | None = None
    """The compared columns of its row; None where it has none."""
    right: dict[str, str | None] | None = None
    columns: tuple[str, ...] = ()
    """Those in which the rows differ."""
    at: str = ""
    """When it was made, in UTC; empty where nobody says."""
    explained: Explanation | None = None


Function = Callable[[Off], object]


def off(finding: Finding) -> Off:
    """A finding without what varies from run to run."""
    return Off(
        finding.key, finding.verdict, finding.left, finding.right, finding.columns, finding.at, finding.explained
    )


def function(spec: str, app_dir: str) -> Function:
    """The function that a command line names. Raises NoVerdict."""
    if ":" not in spec:
        raise NoVerdict(f"--repair {spec}: name the function, module:function")
    try:
        return loading.function(spec, app_dir)
    except loading.LoadError as error:
        raise NoVerdict(f"--repair {spec}: {error}") from None


def journal_key(key: Mapping[str, str], exact: Collection[str]) -> str:
    """What an order's repair is known by, for ever. `exact`: the columns that are numbers, whose last zeros mean nothing."""
    values = [_shortest(value) if name in exact else value for name, value in key.items()]
    text = " ".join(values) if len(values) == 1 else key_text(values)
    if len(text) > READABLE or not text.isprintable():
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        text = f"{''.join(char for char in text if char.isprintable())[:40]}...{digest}"
    return full_key("", text)


def _shortest(number: str) -> str:
    return number.rstrip("0").removesuffix(".") if "." in number else number


# --- Doing ---------------------------------------------------------------------


class Mender:
    """Repairs orders, and finishes what was cut. Close it after use."""

    def __init__(self, folder: Path, repair: Function) -> None:
        """Raises NoVerdict where there can be no journal."""
        self._repair = repair
        with _translated():
            self.journal = open_journal(folder)
        self._engine = Engine(self.journal, Manner(wait=0.0))

    def close(self) -> None:
        """Let go of the journal."""
        self.journal.close()

    def finish(self) -> list[Repair]:
        """Finish what earlier runs have begun and not finished. Raises NoVerdict."""
        with _translated():
            self.journal.tidy()
            found = [self.journal.find(key) for key in self.journal.orphans()]
            return [self._perform(one.key, one.asked, True) for one in found if one is not None and one.asked]

    def mend(self, finding: Finding, key: str) -> Repair:
        """Repair an order, unless that was done or begun before. Raises NoVerdict."""
        order = off(finding)
        if max(finding.left_times, finding.right_times) > 1:
            return _twice(order)
        with _translated():
            known = self.journal.find(key)
            if known is None:
                return self._perform(key, _asked(order, key), False)
            if known.state is State.RUNNING and known.asked is not None:
                return self._perform(key, known.asked, True)
            return became(known, order)

    def _perform(self, key: str, asked: Asked, again: bool) -> Repair:
        """Run a request, with the rows that it began with."""
        order = msgspec.json.decode(asked.body, type=Off)
        entered = self._engine.enter(asked, "", _shown(key))
        if isinstance(entered, Run):
            return self._run(entered, order, again)
        known = self.journal.find(key)
        if known is not None and known.state is not State.RUNNING:
            return became(known, order)
        text = msgspec.json.decode(entered.body, type=dict[str, object]).get("detail", "")
        return _made(order, Outcome.UNFINISHED, known, str(text))

    def _run(self, run: Run, order: Off, again: bool) -> Repair:
        """Call the function; whatever it does, the journal says afterwards what has become of the order."""
        said: object = None
        failed: Exception | None = None
        try:
            with run.entered():
                said = self._repair(order)
        except Halt:
            pass
        except Exception as error:
            failed = error
        except BaseException:  # as if we had died here
            self._engine.drop(run)
            raise
        nothing = said is None and not run.recorded
        body = msgspec.json.encode("" if said is None else str(said))
        response = None if failed else Response("500 left alone" if nothing else "200 OK", [], body)
        self._engine.leave(run, response, failed)
        record = self.journal.find(run.record.key)
        if record is not None:
            return msgspec.structs.replace(became(record, order, now=True), touched=True, resumed=again)
        if failed is not None:
            return _made(order, Outcome.FAILED, None, f"{type(failed).__name__}: {failed}")
        return _made(order, Outcome.ALONE)


def _asked(order: Off, key: str) -> Asked:
    return Asked(METHOD, _shown(key), {}, msgspec.json.encode(order))


def _shown(key: str) -> str:
    """A key in the journal, as it is shown."""
    return key.removeprefix("\n")


# --- Looking ---------------------------------------------------------------------


def became(record: Record, order: Off | None = None, *, now: bool = False) -> Repair:
    """What a journal says about an order, in the order's words if it is known. `now`: this run has done it."""
    if order is None:
        key = {"key": _shown(record.key)}
        order = Off(key) if record.asked is None else msgspec.json.decode(record.asked.body, type=Off)
    match record.state:
        case State.DONE:
            said = record.response and msgspec.json.decode(record.response.body, type=str)
            return _made(order, Outcome.REPAIRED if now else Outcome.BEFORE, record, said or "")
        case State.PARKED:
            return _made(order, Outcome.PARKED, record, record.why)
        case State.ABANDONED:
            return _made(order, Outcome.ABANDONED, record, record.why)
        case State.RUNNING:
            return _made(order, Outcome.UNFINISHED, record, "it was begun, and not finished")


def planned(findings: Iterable[Finding], key: Callable[[Finding], str], folder: Path) -> list[Repair]:
    """What a repair would do, without doing anything. Raises NoVerdict."""
    known = {record.key: record for record in look(folder)}
    repairs = []
    for finding in findings:
        order, record = off(finding), known.get(key(finding))
        if max(finding.left_times, finding.right_times) > 1:
            repairs.append(_twice(order))
        else:
            repairs.append(_made(order, Outcome.WOULD) if record is None else became(record, order))
    return repairs


def waiting(folder: Path, but: Iterable[Repair]) -> list[Repair]:
    """What is parked or unfinished in a journal, but for what has been told already. Raises NoVerdict."""
    told = {repair.journal for repair in but}
    open_ones = (record for record in look(folder) if record.state in (State.PARKED, State.RUNNING))
    return [became(record) for record in open_ones if record.id not in told]


def look(folder: Path) -> list[Record]:
    """All of a journal, read only; nothing where there is none. Raises NoVerdict."""
    if not folder.is_dir():
        return []
    with _translated():
        reader = Reader(folder)
        try:
            found = (reader.show(brief.id) for brief in reader.listing(None, LISTED))
            return [record for record in found if record is not None]
        finally:
            reader.close()


def _twice(order: Off) -> Repair:
    return _made(order, Outcome.NOT, None, "it is more than once in a ledger")


def _made(order: Off, outcome: Outcome, record: Record | None = None, text: str = "") -> Repair:
    changed = datetime.fromtimestamp(record.changed, UTC).isoformat(timespec="seconds") if record else ""
    identity = record.id if record else ""
    return Repair(order.key, order.wrong, outcome.value, text, identity, changed, explained=order.explained)


# --- The journal -----------------------------------------------------------------


def open_journal(folder: Path) -> Sqlite:
    """A journal for repairs and nothing else; what is in it is never forgotten. Raises JournalError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = folder / MARK
        if not mark.exists():
            if any(folder.iterdir()):
                raise JournalError(f"{folder} is not empty, and no journal of repairs: they need a folder of their own")
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise JournalError(f"{folder}: {error.strerror}") from None
    return Sqlite(folder, Terms(durability="power", size=0, keep=float("inf")))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        raise NoVerdict(f"the journal of the repairs: {error}") from None
