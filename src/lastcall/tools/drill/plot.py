"""A run as lines for a terminal: latency over time, losses as the letters of their kinds, restarts as columns.

The dots of answered requests are braille, eight places in a cell; where a terminal has no Unicode, points and colons.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Final, TextIO

from lastcall.tools.drill import kinds
from lastcall.tools.drill.kinds import Kind
from lastcall.tools.drill.results import Run
from lastcall.tools.page import Scale, linear, logarithmic
from lastcall.tools.report import printable

HEIGHT: Final = 12
MARGIN: Final = 9
"""Columns for the latencies, and the axis."""
NARROWEST: Final = 40
"""Below this many columns a plot says nothing: it is drawn so wide all the same."""
WIDEST: Final = 160

_BITS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_COLOURS: Final = {
    Kind.HARM: "1;31",
    Kind.UNTOLD: "1;35",
    Kind.BROKEN: "31",
    Kind.STATUS: "33",
    Kind.TIMEOUT: "1",
    Kind.REFUSED: "34",
    Kind.ANSWERED: "36",
}
_DIM: Final = "2"


@dataclass(frozen=True, slots=True)
class Look:
    """What a terminal can show."""

    width: int = 80
    unicode: bool = True
    colour: bool = False


def look(stream: TextIO = sys.stdout) -> Look:
    """Of this stream. NO_COLOR and TERM=dumb are respected; what is no terminal gets 80 columns without colour."""
    terminal = stream.isatty()
    encoding = (stream.encoding or "ascii").lower().replace("-", "")
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "dumb") == "dumb"
    width = shutil.get_terminal_size().columns if terminal else 80
    return Look(min(max(width, NARROWEST), WIDEST), encoding.startswith("utf"), terminal and not plain)


def plot(run: Run, look: Look) -> list[str]:
    """The run's lines, its title first; none is wider than the terminal."""
    columns = look.width - MARGIN
    across, up = linear(0.0, kinds.extent(run)), logarithmic(run.records.took)
    grid = _Grid(columns, look)
    _restarts(run, grid, across)
    counted = _requests(run, grid, across, up)
    separator = " · " if look.unicode else ", "
    title = separator.join((run.strategy_title, run.title, str(run.path)))
    said = [printable(title), printable(run.verdict.sentence)]
    return [
        *(line if len(line) <= look.width else line[: look.width - 3] + "..." for line in said),
        _numbers(run, across, columns),
        *_framed(grid, up, look),
        *_axis(across, columns, look),
        *_legend(counted, look),
    ]


class _Grid:
    """Cells: the dots of answered requests, over them what stands for a restart or a loss."""

    def __init__(self, columns: int, look: Look) -> None:
        self.columns = columns
        self.look = look
        self.dots = [[0] * columns for _ in range(HEIGHT)]
        self.marks: dict[tuple[int, int], Kind] = {}
        self.lines: set[int] = set()

    def dot(self, x: float, y: float) -> None:
        """An answered request, at these shares of width and height."""
        across = min(int(x * self.columns * 2), self.columns * 2 - 1)
        down = min(int((1 - y) * HEIGHT * 4), HEIGHT * 4 - 1)
        self.dots[down // 4][across // 2] |= _BITS[down % 4][across % 2]

    def mark(self, x: float, y: float, kind: Kind) -> None:
        """A loss. Of several in a cell the worst is shown."""
        cell = min(int((1 - y) * HEIGHT), HEIGHT - 1), min(int(x * self.columns), self.columns - 1)
        order = list(Kind)
        self.marks[cell] = min(kind, self.marks.get(cell, kind), key=order.index)

    def row(self, at: int) -> str:
        return "".join(self._cell(at, column) for column in range(self.columns)).rstrip()

    def _cell(self, row: int, column: int) -> str:
        kind, dots = self.marks.get((row, column)), self.dots[row][column]
        if kind is not None:
            return painted(kinds.GLYPHS[kind][0 if self.look.unicode else 1], _COLOURS[kind], self.look)
        if dots:
            point = chr(0x2800 + dots) if self.look.unicode else ":" if dots.bit_count() > 2 else "."
            return painted(point, _COLOURS[Kind.ANSWERED], self.look)
        if column in self.lines:
            return painted("│" if self.look.unicode else "|", _DIM, self.look)
        return " "


def painted(text: str, code: str, look: Look) -> str:
    """In a colour, where there are colours."""
    return f"\x1b[{code}m{text}\x1b[0m" if look.colour else text


def _restarts(run: Run, grid: _Grid, across: Scale) -> None:
    for restart in run.restarts:
        grid.lines.add(min(int(across(restart.began) * grid.columns), grid.columns - 1))


def _requests(run: Run, grid: _Grid, across: Scale, up: Scale) -> dict[Kind, int]:
    records, found = run.records, kinds.kinds(run.records)
    for began, took, kind in zip(records.began, records.took, found, strict=True):
        if kind is Kind.ANSWERED:
            grid.dot(across(began + took), up(took))
        else:
            grid.mark(across(began + took), up(took), kind)
    return kinds.tally(found)


def _numbers(run: Run, across: Scale, columns: int) -> str:
    """The restarts' numbers, above their columns, as far as there is room."""
    line = ""
    for at, restart in enumerate(run.restarts):
        place = MARGIN + min(int(across(restart.began) * columns), columns - 1)
        number = str(at + 1)
        if (not line or place > len(line)) and place + len(number) <= MARGIN + columns:
            line = line.ljust(place) + number
    return line


def _framed(grid: _Grid, up: Scale, look: Look) -> list[str]:
    """The rows behind their latencies."""
    labels = {min(int((1 - up(value)) * HEIGHT), HEIGHT - 1): _decade(value) for value in up.ticks()}
    plain, ticked = ("│", "┤") if look.unicode else ("|", "+")
    return [
        f"{labels.get(at, ''):>{MARGIN - 2}} {ticked if at in labels else plain}{grid.row(at)}" for at in range(HEIGHT)
    ]


def _decade(value: float) -> str:
    """A decade: `1 ms`, `10 s`."""
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def _axis(across: Scale, columns: int, look: Look) -> list[str]:
    corner, dash, tick = ("└", "─", "┬") if look.unicode else ("+", "-", "+")
    line, labels = list(dash * columns), ""
    for value in across.ticks(max(2, columns // 10)):
        place = min(int(across(value) * columns), columns - 1)
        label = f"{round(value, 3):g} s"
        begin = MARGIN + place
        if begin >= len(labels) and begin + len(label) <= MARGIN + columns:
            line[place] = tick
            labels = labels.ljust(begin) + label + " "
    return [f"{'':{MARGIN - 1}}{corner}{''.join(line)}", labels.rstrip()]


def _legend(counted: dict[Kind, int], look: Look) -> list[str]:
    """What the marks are, and how many, in as many lines as it takes."""
    lines: list[str] = []
    room = 0
    for kind, many in counted.items():
        glyph, words = kinds.GLYPHS[kind][0 if look.unicode else 1], f" {many:,} {kinds.WORDS[kind]}"
        length = len(glyph) + len(words) + 3
        if length > room:
            lines.append(" " * MARGIN)
            room = look.width - MARGIN
        lines[-1] += painted(glyph, _COLOURS[kind], look) + words + "   "
        room -= length
    return [line.rstrip() for line in lines]
