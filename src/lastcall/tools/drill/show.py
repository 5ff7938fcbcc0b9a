"""What a drill ends in: its plots on a terminal, its page in a file; also of a result that was kept as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TextIO

import click

from lastcall.core.mistakes import Mistake
from lastcall.tools.drill import results
from lastcall.tools.drill.plot import look, plot
from lastcall.tools.drill.report import report
from lastcall.tools.drill.results import Drill, NotAResult

PLOTS_MAX: Final = 6
"""Runs that are drawn on a terminal: more of them nobody scrolls back to. The page has all."""


def plots(drill: Drill, stream: TextIO) -> list[str]:
    """The runs as lines, for a terminal; none where it is no terminal. Where there are many, those that lost come first."""
    if not stream.isatty():
        return []
    terminal = look(stream)
    chosen = sorted(range(len(drill.runs)), key=lambda at: drill.runs[at].verdict.lost == 0)[:PLOTS_MAX]
    lines: list[str] = []
    for at in sorted(chosen):
        lines += ["", *plot(drill.runs[at], terminal)]
    left = len(drill.runs) - len(chosen)
    more = ["", f"{left} more runs are not drawn here; --report FILE draws all"] if left else []
    return [*lines, *more, ""] if lines else []


def write(drill: Drill, file: Path) -> None:
    """Write the page. Raises Mistake."""
    try:
        file.write_text(report(drill), encoding="utf-8")
    except OSError as error:
        raise Mistake(f"{file}: {error.strerror}", "name a file that can be written: --report FILE") from None


def read(file: Path) -> Drill:
    """A result that was kept. Raises Mistake."""
    try:
        return results.decode(file.read_bytes())
    except OSError as error:
        raise Mistake(f"{file}: {error.strerror}", "name a file that can be read") from None
    except NotAResult as error:
        raise Mistake(f"{file}: {error}", "name what lastcall drill --json has printed") from None


def place(ctx: click.Context, param: click.Parameter, file: Path | None) -> Path | None:
    """Where a page is to be: said to be impossible before a drill of minutes, not after it."""
    if file is not None and not file.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {file.absolute().parent}", ctx, param)
    return file
