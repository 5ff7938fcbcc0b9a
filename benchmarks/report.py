"""What a benchmark has found: samples in a table, and what was to be shown with them."""

from __future__ import annotations

import enum
import statistics
from dataclasses import dataclass, field
from typing import Final

NAME_WIDTH: Final = 62


class Verdict(enum.StrEnum):
    """How a target ended."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class Target:
    """`subject` is at most `at_most` times `against`; at most `at_most` where there is nobody to compare with.

    Beside a peer the two were sampled in turns, and the ratio is the median of the ratios of each turn: what else the
    machine did meanwhile, it did to both.
    """

    subject: str
    at_most: float
    against: str = ""
    columns: tuple[str, ...] = ()
    """The columns that it is about; all when empty."""

    @property
    def words(self) -> str:
        return f"{self.subject} / {self.against}" if self.against else self.subject


@dataclass(frozen=True)
class Table:
    """Samples by row (who) and column (in which case). Samples of one column were taken in turns."""

    title: str
    unit: str
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()

    def add(self, row: str, column: str, value: float) -> None:
        """One more sample."""
        self.samples.setdefault(row, {}).setdefault(column, []).append(value)

    @property
    def columns(self) -> list[str]:
        """In the order in which they were first seen."""
        return list(dict.fromkeys(column for row in self.samples.values() for column in row))

    def median(self, row: str, column: str) -> float | None:
        """Of a cell, or None where nothing was sampled."""
        values = self.samples.get(row, {}).get(column)
        return statistics.median(values) if values else None

    def reached(self, target: Target, column: str) -> float | None:
        """What is to be at most `target.at_most`; None where one side was not sampled."""
        if not target.against:
            return self.median(target.subject, column)
        ours = self.samples.get(target.subject, {}).get(column, [])
        theirs = self.samples.get(target.against, {}).get(column, [])
        turns = [one / other for one, other in zip(ours, theirs, strict=False)]
        return statistics.median(turns) if turns else None

    def relevant(self, target: Target) -> list[str]:
        """The columns that a target is about."""
        return [column for column in self.columns if not target.columns or column in target.columns]

    def verdict(self, target: Target) -> Verdict:
        """Met when it is met in every column."""
        values = [self.reached(target, column) for column in self.relevant(target)]
        if not values or None in values:
            return Verdict.UNKNOWN
        return Verdict.MET if all(value is not None and value <= target.at_most for value in values) else Verdict.MISSED

    def text(self) -> str:
        """For people."""
        rounds = max((len(values) for row in self.samples.values() for values in row.values()), default=0)
        width = max([9, *(len(column) + 2 for column in self.columns)])
        lines = [f"{self.title} ({self.unit}, median of {rounds})"]
        lines.append(" " * NAME_WIDTH + "".join(column.rjust(width) for column in self.columns))
        lines += [
            row.ljust(NAME_WIDTH) + "".join(_cell(self.median(row, column), width, 1) for column in self.columns)
            for row in self.samples
        ]
        for target in self.targets:
            name = f"{target.words} <= {target.at_most:g}"
            relevant = self.relevant(target)
            digits = 2 if target.against else 1
            cells = (self.reached(target, c) if c in relevant else None for c in self.columns)
            lines.append(
                name.ljust(NAME_WIDTH)
                + "".join(_cell(value, width, digits) for value in cells)
                + f"  {self.verdict(target)}"
            )
        return "\n".join(lines)

    def document(self) -> dict[str, object]:
        """For programs: every sample, and what was made of them."""
        return {
            "title": self.title,
            "unit": self.unit,
            "samples": self.samples,
            "targets": [
                {
                    "target": target.words,
                    "at_most": target.at_most,
                    "reached": {column: self.reached(target, column) for column in self.relevant(target)},
                    "verdict": self.verdict(target),
                }
                for target in self.targets
            ],
        }


def _cell(value: float | None, width: int, digits: int) -> str:
    return ("-" if value is None else f"{value:.{digits}f}").rjust(width)
