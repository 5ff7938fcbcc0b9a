"""`lastcall cuts`: the requests that were cut, from the cut list of an instance that runs or has run."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import click
import msgspec

from lastcall.core import cuts as core
from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import parse_duration
from lastcall.runtime import cutlist, rundir
from lastcall.tools import client
from lastcall.tools.report import age, printable

_PATH = click.Path(path_type=Path)


def since(text: str, now: float) -> float:
    """Unix time of `10m`, `2h` (ago) or an ISO time; one without a zone is local. Raises Mistake."""
    try:
        return now - parse_duration(text)
    except Mistake:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise Mistake(f"{text!r} is no time", "write how long ago, 10m or 2h, or when: 2017-06-25T05:28:01") from None


def lines(cut: core.Cut) -> list[str]:
    """A record for people: what, then how far, then why."""
    when = time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(cut.time))
    shown = {name: getattr(cut, name) + ("..." if name in cut.shortened else "") for name in ("uri", "client")}
    attempt = f", attempt {cut.attempt}" if cut.attempt > 1 else ""
    step = f", at step {cut.step}" if cut.step else ""
    critical = {"inside": ", past a point of no return", "passed": ", a point of no return behind it"}
    step += critical.get(cut.critical, "")
    where = f", {cut.where}" if cut.where else ""
    trace = f", trace {cut.trace_id}" if cut.trace_id else ""
    said = [
        f"{when}  {cut.method} {shown['uri']} ({cut.request_id}) from {shown['client'] or 'unix'}{trace}",
        f"    cut after {age(cut.elapsed)}{attempt}{step}{where}",
        *([f"    steps: {_steps(cut)}"] if cut.steps else []),
        f"    {cut.cause} (pid {cut.pid}, generation {cut.generation}, pool {cut.pool})",
        *([f"    {cut.asked_by}"] if cut.asked_by else []),
        *([f"    {cut.done}{_completed(cut)}"] if cut.done else []),
    ]
    return [printable(line) for line in said]


def _completed(cut: core.Cut) -> str:
    if not cut.on_cut:
        return ""
    return f"; {cut.on_cut} has completed it" if cut.completed_at else f"; {cut.on_cut} has not completed it yet"


def _steps(cut: core.Cut) -> str:
    """`3 earlier ones, checkStock at 0.002s, sendPresent (order-17) at 0.01s`."""
    before = [f"{cut.steps_before} earlier"] if cut.steps_before else []
    more = "..." if "steps" in cut.shortened else ""
    told = [f"{step.name}{f' ({step.about})' if step.about else ''} at {step.at:.3f}s" for step in cut.steps]
    return ", ".join([*before, *told]) + more


def _file(run_dir: Path | None, file: Path | None) -> Path:
    """The cut list that is meant. Raises client.Failed."""
    if file is not None:
        if not file.exists():
            raise client.Failed(f"{file}: there is no such file", client.FAILED)
        return file
    if run_dir is not None:
        if not run_dir.is_dir():
            raise client.Failed(f"{run_dir}: there is no such directory", client.UNAVAILABLE)
        return run_dir / cutlist.NAME
    running = rundir.instances()
    if running:
        return client.find(None, None, lambda: running) / cutlist.NAME
    left = [path for base in rundir.bases() for path in (base / cutlist.NAME, *base.glob(f"*/{cutlist.NAME}"))]
    found = sorted({path for path in left if path.exists()})
    if len(found) > 1:
        listed = "\n".join(f"  --file {path}" for path in found)
        raise client.Failed(f"no instance is running, and there are {len(found)} cut lists:\n{listed}", client.USAGE)
    if not found:
        text = "no instance is running, and none has left a cut list (or name its directory: --run-dir DIR)"
        raise client.Failed(text, client.UNAVAILABLE)
    return found[0]


def _since(ctx: click.Context, param: click.Parameter, text: str | None) -> float:
    try:
        return 0.0 if text is None else since(text, time.time())
    except Mistake as mistake:
        raise click.BadParameter(str(mistake), ctx, param) from None


@click.command(
    epilog="""\b
Examples:
  lastcall cuts
  lastcall cuts --since 2h
  lastcall cuts --since 2017-06-25T05:28 --run-dir /run/lastcall/gift
  lastcall cuts --json --file /var/backups/cuts.jsonl | jq .request_id
  lastcall cuts --json | jq 'select(.on_cut and .completed_at == null)'

\b
The list is kept when the instance stops: it is a file in its run directory.
"""
)
@click.option(
    "--since", "begin", metavar="TIME", callback=_since, help="Only what was cut since: 10m, 2h, or an ISO time."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--run-dir", type=_PATH, metavar="DIR", help="The instance's run directory.")
@click.option("--file", type=_PATH, metavar="FILE", help="A cut list, wherever it is.")
def cuts(begin: float, as_json: bool, run_dir: Path | None, file: Path | None) -> None:
    """List the requests that were cut before their answer, the newest last.

    Each with how long it had run, how far it had got, and why it was cut.
    """
    try:
        found = _read(_file(run_dir, file))
    except client.Failed as failed:
        click.echo(f"lastcall: {failed.text}", err=True)
        raise click.exceptions.Exit(failed.code) from None
    told = sorted((cut for cut in found if cut.time >= begin), key=lambda cut: cut.time)
    for cut in told:
        click.echo(core.encode(cut).rstrip() if as_json else "\n".join(lines(cut)))
    if not told and not as_json:
        click.echo("no request was cut")


def _completions(file: Path) -> dict[str, core.Completion]:
    try:
        return cutlist.completions(file)
    except OSError as error:
        raise client.Failed(f"{error.filename}: {error.strerror}", client.FAILED) from None


def _read(file: Path) -> list[core.Cut]:
    """All records; lines that are none are told on stderr. Raises client.Failed."""
    found: list[core.Cut] = []
    torn = 0
    completed = _completions(file)
    for path in cutlist.files(file):
        try:
            good, bad = core.decode(path.read_bytes().split(b"\n"))
        except OSError as error:
            raise client.Failed(f"{path}: {error.strerror}", client.FAILED) from None
        found += [
            msgspec.structs.replace(cut, completed_at=completed[cut.id].at) if cut.id in completed else cut
            for cut in good
        ]
        for line in bad:
            click.echo(f"lastcall: {path}:{line.number}: no record of a cut: {line.why}", err=True)
        torn += len(bad)
    if torn:
        told = "1 line is no record" if torn == 1 else f"{torn} lines are no records"
        click.echo(f"lastcall: {told}, and may have been; {len(found)} are", err=True)
    return found
