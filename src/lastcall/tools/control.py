"""The commands that talk to a running instance: status, reload, restart, stop, reopen, scale."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

import click
import msgspec

from lastcall.protocol.control import Command, Do
from lastcall.runtime import holder, orphanage, rundir, testament
from lastcall.tools import client, report

_P = ParamSpec("_P")
_PATH = click.Path(path_type=Path)
_DELTA = re.compile(r"[+-][0-9]{1,4}")


def _on_instance(command: Callable[Concatenate[Path, _P], None]) -> Callable[..., None]:
    """Hand the command the run directory of the instance that is meant; end with words and a code where it cannot."""

    @click.option("--run-dir", type=_PATH, metavar="DIR", help="The instance's run directory.")
    @click.option("--pid", "pid_file", type=_PATH, metavar="FILE", help="The instance's pid file.")
    @functools.wraps(command)
    def found(run_dir: Path | None, pid_file: Path | None, *args: _P.args, **kwargs: _P.kwargs) -> None:
        where: Path | None = None
        try:
            where = client.find(run_dir, pid_file, _instances)
            command(where, *args, **kwargs)
        except client.Failed as refused:
            failed = refused if where is None else _instead(where, refused)
            click.echo(f"lastcall: {failed.text}", err=True)
            raise click.exceptions.Exit(failed.code) from None

    return found


def _instances() -> list[rundir.Instance]:
    """Those that live; where there are none, those whose master has died, and those whose listeners are held."""
    found = rundir.instances()
    for path in rundir.left(testament.NAME) if not found else ():
        orphaned = orphanage.look(path)
        if orphaned is not None:
            found.append(rundir.Instance(path, orphaned.master))
    for path in rundir.left(holder.NAME) if not found else ():
        held = holder.held(path)
        if held is not None:
            found.append(rundir.Instance(path, held.pid))
    return found


def _instead(run_dir: Path, failed: client.Failed) -> client.Failed:
    """Why nothing answers: perhaps the master has died, or the listeners are held for the next start."""
    if failed.code != client.UNAVAILABLE:
        return failed
    orphaned = orphanage.look(run_dir)
    if orphaned is not None:
        return client.Failed("\n".join(report.orphaned(orphaned)), client.UNAVAILABLE)
    held = holder.held(run_dir)
    return failed if held is None else client.Failed("\n".join(report.held(held)), client.UNAVAILABLE)


_wait = click.option("--wait", is_flag=True, help="Return when it is done, not when it has begun.")
_timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86400),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="With --wait: give up waiting after this. What was asked for goes on.",
)


def _order(run_dir: Path, command: Command, done: str, timeout: float = client.PATIENCE) -> None:
    reply = client.ask(run_dir, command, timeout, click.echo)
    if not reply.ok:
        raise client.Failed(reply.text or "the instance has refused, without a reason", client.FAILED)
    click.echo(reply.text or done)


@click.command(
    epilog="""\b
Examples:
  lastcall status
  lastcall status --run-dir /run/lastcall/gift
  lastcall status --json | jq .workers
"""
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_on_instance
def status(run_dir: Path, as_json: bool) -> None:
    """Show the instance, its workers and the requests that they are running.

    Without --run-dir and --pid, the only instance that is running is meant.
    """
    found = client.status_of(run_dir)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo("\n".join(report.lines(found, _journal(found.journal))))


def _journal(where: str) -> str:
    """What somebody should know of the journal: how many requests wait for a decision."""
    if not where:
        return ""
    from lastcall.tools import journal  # noqa: PLC0415 - most services have none

    return journal.summary(where)


@click.command(
    epilog="""\b
Examples:
  lastcall reload
  lastcall reload --wait && echo "the new code serves"
  lastcall reload --wait --timeout 30 --pid /run/gift.pid

\b
With --wait, exits 0 when the new generation is in service, 1 with the reason when it could not be
brought up (the old one serves on), 75 when neither is known in time.
"""
)
@_wait
@_timeout
@_on_instance
def reload(run_dir: Path, wait: bool, timeout: float) -> None:
    """Read the configuration and the code again; bring new workers into service, then retire the old ones.

    A configuration with a mistake, or code that does not load, changes nothing.
    """
    _order(run_dir, Command(Do.RELOAD, wait=wait), "reloading", timeout if wait else client.PATIENCE)


@click.command(
    epilog="""\b
Examples:
  lastcall restart
  lastcall restart --wait --timeout 60

\b
With --wait, exits 0 when the new master's generation is in service, 1 with the reason when the new
program cannot start, or its generation cannot be brought up (the old one serves on).
"""
)
@_wait
@_timeout
@_on_instance
def restart(run_dir: Path, wait: bool, timeout: float) -> None:
    """Reload, with a new master as well: after an upgrade of Python or of lastcall itself.

    The master becomes the program that it was started as, under the same pid; links are followed anew.
    """
    _order(run_dir, Command(Do.RESTART, wait=wait), "restarting", timeout if wait else client.PATIENCE)


@click.command(
    epilog="""\b
Examples:
  lastcall stop
  lastcall stop --wait --timeout 60
  lastcall stop --final

\b
A second stop cuts what still runs. Where listeners are held after a stop (--hold), it ends the holding.
"""
)
@_wait
@_timeout
@click.option("--final", is_flag=True, help="Hold no listeners for the next start, whatever --hold says.")
@_on_instance
def stop(run_dir: Path, wait: bool, timeout: float, final: bool) -> None:
    """Take no more requests, finish those that have begun, and stop."""
    try:
        if wait:
            client.stop(run_dir, timeout, click.echo, final=final)
            click.echo("stopped")
        else:
            _order(run_dir, Command(Do.STOP, final=final), "stopping")
    except client.Failed as failed:
        if failed.code != client.UNAVAILABLE:
            raise
        click.echo(_stopped_without_a_master(run_dir, timeout, failed))


def _stopped_without_a_master(run_dir: Path, timeout: float, failed: client.Failed) -> str:
    """End what there is; what to say of it. Raises Failed where there is nothing."""
    try:
        if orphanage.stop(run_dir):
            return "there was no master; its workers finish what they have, and end"
    except (OSError, rundir.RunDirError) as error:
        raise client.Failed(str(error), client.FAILED) from None
    if not holder.stop(run_dir, timeout):
        raise failed
    return "nothing was serving; what was held is closed"


@click.command(
    epilog="""\b
Examples:
  lastcall reopen
  mv access.log access.log.1 && lastcall reopen
"""
)
@_on_instance
def reopen(run_dir: Path) -> None:
    """Open the error log and the access log again, after they were moved away."""
    _order(run_dir, Command(Do.REOPEN), "reopened")


def _signed(ctx: click.Context, param: click.Parameter, text: str) -> str:
    if not _DELTA.fullmatch(text) or int(text) == 0:
        raise click.BadParameter(f"{text!r} does not say how many to add or to take away (write +2 or -1)", ctx, param)
    return text


@click.command(
    # so that -1 is not taken for an option; what is neither is refused below
    context_settings={"ignore_unknown_options": True},
    epilog="""\b
Examples:
  lastcall scale +2
  lastcall scale -1
""",
)
@click.argument("delta", metavar="+N|-N", callback=_signed)
@_on_instance
def scale(run_dir: Path, delta: str) -> None:
    """Add N workers, or take N away once they have finished their requests. Until the next reload."""
    _order(run_dir, Command(Do.SCALE, delta=int(delta)), "scaled")
