"""A drill's result for people, as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lastcall.tools.drill.judge import thousands
from lastcall.tools.drill.results import Drill, Run, Strength

TITLES = ("target", "strategy", "path", "times", "requests", "lost", "half done", "longest gap", "verdict")
WIDTH = 100


def summary(drill: Drill) -> str:
    """The table of runs, why requests were lost, what to do, and the verdict of all of it."""
    parts = []
    if drill.runs:
        parts.append(table([TITLES, *map(_row, drill.runs)]))
    parts += [explained(run) for run in drill.runs if run.reasons or run.failed or _notes(run)]
    if drill.skipped:
        parts.append("\n".join(f"skipped: {_skipped(one.target, one.strategy)}: {one.why}" for one in drill.skipped))
    interrupted = "Interrupted; so far: " if drill.interrupted else ""
    parts.append(f"{interrupted}{drill.verdict.sentence}")
    return "\n\n".join(parts)


def _row(run: Run) -> tuple[str, ...]:
    half = "-" if run.ledgers is None else thousands(run.ledgers.half_done)
    return (
        run.target, run.strategy_title, str(run.path), str(len(run.restarts)), thousands(run.requests),
        thousands(run.verdict.lost), half, f"{run.gap * 1000:,.0f} ms", _short(run),
    )  # fmt: skip


def _short(run: Run) -> str:
    match run.verdict.strength:
        case Strength.PROVED:
            return "LOSES REQUESTS"
        case Strength.ENUMERATED:
            return "none, at any step"
        case Strength.BOUNDED:
            return f"below {run.verdict.below:.2%}"
        case Strength.NONE:
            return "says nothing"


def explained(run: Run) -> str:
    """Why a run lost requests, and what to do."""
    lines = [f"{run.title}: {run.strategy_title}, {run.path}"]
    if run.failed:
        lines += [f"  it could not be done: {line}" if not index else f"    {line}"
                  for index, line in enumerate(run.failed.splitlines())]  # fmt: skip
    for reason in run.reasons:
        lines += _wrapped(f"{thousands(reason.count)} {reason.what}: {reason.why.rstrip('.')}.", "  ", "      ")
    lines += [line for note in _notes(run) for line in _wrapped(note, "  ", "      ")]
    if run.recommendation:
        lines += _wrapped(run.recommendation, "  -> ", "     ")
    return "\n".join(lines)


def _notes(run: Run) -> list[str]:
    notes = dict.fromkeys(one.note for one in run.restarts if one.note)
    return [f"note: {note}" for note in notes]


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False)


def _skipped(target: str, strategy: str) -> str:
    return f"{target}, {strategy}" if strategy else target


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, numbers to the right; the first line is its titles."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [all(cell[:1].isdigit() or cell == "-" for cell in column[1:]) for column in columns]
    shapes = list(zip(widths, numbers, strict=True))
    text = []
    for line in lines:
        cells = zip(line, shapes, strict=True)
        padded = [cell.rjust(width) if number else cell.ljust(width) for cell, (width, number) in cells]
        text.append("  ".join(padded).rstrip())
    return "\n".join(text)
