"""The command line: names the commands, and imports one only when it is used.

`lastcall --version` and `lastcall --help` import click and nothing of ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeVar

import click

from lastcall import __version__
from lastcall.core import exits

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("lastcall.tools.start", "Serve an application."),
    "check": ("lastcall.tools.start", "Say whether `serve` could start with this configuration."),
    "status": ("lastcall.tools.control", "Show the instance, its workers and their requests."),
    "reload": ("lastcall.tools.control", "Bring new workers into service, then retire the old ones."),
    "restart": ("lastcall.tools.control", "Reload, with a new master as well."),
    "stop": ("lastcall.tools.control", "Finish what has begun, then stop."),
    "reopen": ("lastcall.tools.control", "Reopen the logs, after they were rotated."),
    "scale": ("lastcall.tools.control", "Add workers, or take some away."),
    "journal": ("lastcall.tools.journal", "List durable requests, and decide about those that are parked."),
    "cuts": ("lastcall.tools.cuts", "List the requests that were cut before their answer."),
    "doctor": ("lastcall.tools.doctor.command", "Find what will cut requests one day, on this host or in a folder."),
    "drill": ("lastcall.tools.drill.command", "Restart a server under load, and say what was lost."),
    "explain": ("lastcall.tools.explain.command", "Say which restart cut which request, and who ordered it."),
    "reconcile": ("lastcall.tools.reconcile.command", "Compare two ledgers, and name what does not agree."),
}
"""Each command, the module whose attribute of the same name it is, and its line in `--help`."""

_T = TypeVar("_T")


class Commands(click.Group):
    """A group that imports a command when it is used, and whose usage errors exit with EX_USAGE, as php-fpm's do."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's interface)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        return _with_our_exit_code(lambda: click.Group.make_context(self, info_name, args, parent, **extra))

    def invoke(self, ctx: click.Context) -> object:
        return _with_our_exit_code(lambda: click.Group.invoke(self, ctx))


def _with_our_exit_code(run: Callable[[], _T]) -> _T:
    try:
        return run()
    except click.UsageError as error:
        # an instance attribute hides the class's: usage errors raised elsewhere are not ours to change
        error.exit_code = exits.USAGE  # type: ignore[misc]
        raise


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  lastcall serve gift.app:app --http 127.0.0.1:8000 --workers 4
  lastcall check -c lastcall.toml --show
  lastcall reload --wait

Every command has its own --help, with examples.
""",
)
@click.version_option(__version__, prog_name="lastcall")
def main() -> None:
    """An application server that finishes every request it has begun, and names the one it cannot."""
