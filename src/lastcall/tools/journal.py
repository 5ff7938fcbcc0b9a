"""`lastcall journal`: the durable requests, and what is to become of those that are parked (docs/DURABLE.md)."""

from __future__ import annotations

import collections
import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

import click
import msgspec

from lastcall.durable import orders, place
from lastcall.durable.journal import SCHEMES, JournalError
from lastcall.durable.record import Record, State, Step
from lastcall.runtime import rundir
from lastcall.tools import client
from lastcall.tools.report import age, printable

PATIENCE: Final = 10.0
"""Seconds for a worker to obey an order: they look every two."""
_LOOK_AGAIN: Final = 0.05
_LIMIT: Final = 1000

F = TypeVar("F", bound=Callable[..., object])


class Shelf(Protocol):
    """A journal, to look at."""

    def listing(self, state: State | None = None, limit: int = 1000) -> collections.abc.Sequence[Record]: ...
    def show(self, identity: str) -> Record | None: ...
    def close(self) -> None: ...


# --- Finding -----------------------------------------------------------------


def _where(journal: str | None, run_dir: Path | None) -> str:
    """The journal that is meant. Raises client.Failed."""
    if journal:
        return journal
    found = client.status_of(client.find(run_dir, None, rundir.instances)).journal
    if not found:
        raise client.Failed("this instance has no journal (the setting journal)", client.FAILED)
    return found


def look(where: str) -> Shelf:
    """Open a journal to look at it. Raises JournalError."""
    if where.startswith(SCHEMES):
        return place.open_journal(where)
    from lastcall.durable.sqlite import Reader  # noqa: PLC0415 - it may be another store

    _become_owner(Path(where))
    return Reader(Path(where))


def _become_owner(folder: Path) -> None:
    """What root writes into the journal of a service must not be root's."""
    with contextlib.suppress(FileNotFoundError):
        status = folder.stat()
        if os.geteuid() == 0 and status.st_uid != 0:
            os.setegid(status.st_gid)
            os.seteuid(status.st_uid)


def summary(where: str) -> str:
    """One line for `lastcall status`."""
    shown = where.partition(":")[0] if where.startswith(SCHEMES) else where
    try:
        shelf = look(where)
        parked = len(shelf.listing(State.PARKED, _LIMIT))
        shelf.close()
    except JournalError as error:
        return f"{shown}: {error}"
    if not parked:
        return f"{shown}, nothing is parked"
    many = "1 request is" if parked == 1 else f"{parked}{' and more' if parked == _LIMIT else ''} requests are"
    return f"{shown}, {many} PARKED (lastcall journal ls)"


@contextlib.contextmanager
def _opened(journal: str | None, run_dir: Path | None) -> Iterator[tuple[str, Shelf]]:
    """The journal that is meant; errors become exit codes."""
    try:
        where = _where(journal, run_dir)
        shelf = look(where)
        try:
            yield where, shelf
        finally:
            shelf.close()
    except JournalError as error:
        click.echo(f"lastcall: {error}", err=True)
        raise click.exceptions.Exit(client.FAILED) from None
    except client.Failed as failed:
        click.echo(f"lastcall: {failed.text}", err=True)
        raise click.exceptions.Exit(failed.code) from None


def _found(shelf: Shelf, identity: str) -> Record:
    record = shelf.show(identity)
    if record is None:
        raise JournalError(f"{identity}: there is no such request in the journal")
    return record


# --- Words -------------------------------------------------------------------


def _when(at: float) -> str:
    return time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(at))


def _line(record: Record) -> str:
    scope, _, key = record.key.rpartition("\n")
    why = f": {record.why}" if record.why else ""
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    what = f"{record.method} {record.target}"
    if scope not in record.target:  # two paths that were joined by `scope`
        key = f"{scope} {key}"
    return printable(f"{record.id}  {_when(record.begun)}  {record.state.name:<9}  {what}  {key}{attempt}{why}")


def _step(step: Step) -> str:
    result = step.result.decode("utf-8", "replace")
    shown = result if len(result) <= 200 else result[:200] + "..."
    return printable(f"    {step.seq + 1}  {step.name:<20} {step.state.name.lower():<8} {_when(step.at)}  {shown}")


def _document(record: Record) -> dict[str, object]:
    scope, _, key = record.key.rpartition("\n")
    document: dict[str, object] = {
        "id": record.id, "scope": scope, "key": key, "state": record.state.name.lower(), "method": record.method,
        "target": record.target, "begun": record.begun, "changed": record.changed, "attempt": record.attempt,
        "owner": record.owner, "why": record.why,
    }  # fmt: skip
    if record.steps:
        document["steps"] = [
            {"name": step.name, "state": step.state.name.lower(), "at": step.at, "attempt": step.attempt}
            | ({"result": msgspec.json.decode(step.result)} if step.result else {})
            for step in record.steps
        ]
    if record.response is not None:
        body = record.response.body.decode("utf-8", "replace")
        document["response"] = {"status": record.response.status, "headers": record.response.headers, "body": body}
    return document


def _json(document: object) -> None:
    click.echo(msgspec.json.encode(document))


# --- Commands ----------------------------------------------------------------


def _on_journal(command: F) -> F:
    command = click.option(
        "--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="Of the instance whose journal is meant."
    )(command)
    return click.option(
        "--journal", metavar="WHERE", envvar=place.VARIABLE, help="The journal itself: a directory, or a URL."
    )(command)


@click.group(
    epilog="""\b
Examples:
  lastcall journal ls
  lastcall journal show 3f2a
  lastcall journal retry 3f2a
  lastcall journal retry 3f2a --result '{"receipt": 17}'
  lastcall journal abandon 3f2a --journal /var/lib/gift/journal

\b
Without --journal and --run-dir, the journal of the only instance that is running is meant.
"""
)
def journal() -> None:
    """List durable requests, and decide about those that are parked."""


_STATES: Final = {**{state.name.lower(): state for state in State}, "all": None}


@journal.command(
    epilog="""\b
Examples:
  lastcall journal ls
  lastcall journal ls --state all --limit 20
  lastcall journal ls --json | jq -r .id
"""
)
@click.option("--state", type=click.Choice(list(_STATES)), default="parked", show_default=True, help="Which of them.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=_LIMIT, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_on_journal
def ls(state: str, limit: int, as_json: bool, journal: str | None, run_dir: Path | None) -> None:
    """List requests, the newest first."""
    with _opened(journal, run_dir) as (_, shelf):
        found = shelf.listing(_STATES[state], limit)
        for record in found:
            if as_json:
                _json(_document(record))
            else:
                click.echo(_line(record))
        if not found and not as_json:
            click.echo("there is none" if state == "all" else f"none is {state}")


@journal.command(
    epilog="\b\nExamples:\n  lastcall journal show 3f2a\n  lastcall journal show 3f2a --json | jq .steps\n"
)
@click.argument("identity", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_on_journal
def show(identity: str, as_json: bool, journal: str | None, run_dir: Path | None) -> None:
    """Show one request with its steps. ID: its first letters are enough."""
    with _opened(journal, run_dir) as (_, shelf):
        record = _found(shelf, identity)
    if as_json:
        _json(_document(record))
        return
    click.echo(_line(record))
    click.echo(printable(f"    by {record.owner}, last changed {_when(record.changed)}"))
    for step in record.steps:
        click.echo(_step(step))
    if record.response is not None:
        click.echo(printable(f"    answered {record.response.status}, {len(record.response.body)} bytes"))


@journal.command(
    epilog="""\b
Examples:
  lastcall journal retry 3f2a
      The step that was in doubt, or has failed, is run again.
  lastcall journal retry 3f2a --result '{"receipt": 17}'
      It has happened, and this is what it returned: it is not run again.
"""
)
@click.argument("identity", metavar="ID")
@click.option("--result", metavar="JSON", help="What the step that is in doubt has returned.")
@_on_journal
def retry(identity: str, result: str | None, journal: str | None, run_dir: Path | None) -> None:
    """Have a parked request run again, from the first step that is not done."""
    written: bytes | None = None
    if result is not None:
        try:
            written = msgspec.json.encode(msgspec.json.decode(result))
        except msgspec.DecodeError as error:
            raise click.BadParameter(f"{result!r} is no JSON: {error}", param_hint="--result") from None
    _give(orders.Order("retry", identity, written), journal, run_dir)


@journal.command(epilog="\b\nExamples:\n  lastcall journal abandon 3f2a\n")
@click.argument("identity", metavar="ID")
@_on_journal
def abandon(identity: str, journal: str | None, run_dir: Path | None) -> None:
    """Never run a parked request again: it has been seen to by hand."""
    _give(orders.Order("abandon", identity), journal, run_dir)


def _give(order: orders.Order, journal: str | None, run_dir: Path | None) -> None:
    """Find the request, say what the order means, and have it obeyed."""
    with _opened(journal, run_dir) as (where, shelf):
        record = _found(shelf, order.id)
        means = orders.check(order, record)
        if where.startswith(SCHEMES):
            store = place.open_journal(where)
            store.order(order.verb, record.id, order.result)
            store.close()
        else:
            _obeyed(Path(where), msgspec.structs.replace(order, id=record.id))
    click.echo(means)


def _obeyed(folder: Path, order: orders.Order) -> None:
    """Leave the order for the worker that has the request's file; where none has it, do it here. Raises JournalError."""
    from lastcall.durable.sqlite import Sqlite  # noqa: PLC0415 - it may be another store

    orders.give(folder, order.verb, order.id, order.result)
    store = Sqlite(folder)
    store.tidy()
    store.close()
    deadline = time.monotonic() + PATIENCE
    while orders.waits(folder, order.id):
        if time.monotonic() > deadline:
            raise JournalError(f"{order.id}: no worker has obeyed yet; the order stays")
        select.select([], [], [], _LOOK_AGAIN)


@journal.command(epilog="\b\nExamples:\n  lastcall journal stats\n  lastcall journal stats --json | jq .parked\n")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_on_journal
def stats(as_json: bool, journal: str | None, run_dir: Path | None) -> None:
    """Count requests by their state, and say how old the oldest of each is."""
    with _opened(journal, run_dir) as (_, shelf):
        found = {state: shelf.listing(state, 10_000_000) for state in State}
    counts: dict[str, int] = {state.name.lower(): len(records) for state, records in found.items()}
    if as_json:
        _json(counts)
        return
    for state, records in found.items():
        oldest = f", the oldest {age(time.time() - records[-1].begun)} old" if records else ""
        click.echo(f"{state.name.lower():<10}{len(records):>8}{oldest}")
