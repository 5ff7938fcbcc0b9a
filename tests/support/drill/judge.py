"""The judgement: what clients lost, what the ledgers say, how long nobody was served, and how sure one may be.

Knows what was seen and when the operator did what; knows no process and no socket.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from examples.gift import load as gift
from examples.gift.reconcile import Findings, reconcile

from lastcall.tools.drill.judge import Mark, bound, gap, percentile
from lastcall.tools.drill.outcomes import Outcome, Seen

HALF_DONE: Final = ("half_done", "unsent", "sent_twice", "told_but_missing", "done_not_told")
"""What a ledger may find that is worse than an error: something was done that somebody does not know of."""


class Row(msgspec.Struct, frozen=True):
    """What is known of one front under one operation. Times in milliseconds."""

    operation: str
    front: str
    operations: int
    requests: int
    errors: dict[str, int]
    """By what the client saw; empty is what one hopes for."""
    half_done: int
    """Orders of which the ledgers and the client do not agree."""
    left: int
    """Kept connections that ended without a request to blame: closed while idle, or announced in an answer."""
    gap: float
    """The longest time without a success."""
    median: float
    steady: float
    """The 99th percentile far from any operation."""
    near: float
    """The 99th percentile within half a second of one."""
    logged: int = 0
    """Errors in nginx's log."""

    @property
    def lost(self) -> int:
        return sum(self.errors.values())

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.half_done or self.logged)

    @property
    def bound(self) -> float:
        """The share of requests that may still be lost, at a confidence of 95 %: the rule of three."""
        return bound(self.lost, self.requests)


@dataclass(frozen=True, slots=True)
class Ledgers:
    """Both sides' order ids."""

    presents: Sequence[str] = ()
    orders: Sequence[str] = ()


@dataclass(frozen=True)
class Verdict:
    """Everything that one drill has found."""

    operation: str
    seen: Sequence[Seen]
    marks: Sequence[Mark]
    ledgers: Ledgers | None = None
    logged: Mapping[str, int] = field(default_factory=dict)
    """Errors that a web server in front has logged, by front."""

    @property
    def requests(self) -> list[Seen]:
        return [one for one in self.seen if one.outcome is not Outcome.LEFT]

    @property
    def errors(self) -> Counter[str]:
        """What clients saw that was no success."""
        return Counter(one.what for one in self.requests if not one.yes)

    @property
    def findings(self) -> Findings:
        """The ledgers against the clients."""
        if self.ledgers is None:
            return Findings()
        told = [gift.Seen(one.id, one.status or None, one.detail, one.took) for one in self.requests]
        return reconcile(self.ledgers.presents, self.ledgers.orders, told)

    @property
    def gap(self) -> float:
        """The longest time without a success, in seconds."""
        return gap(self.requests)

    def rows(self) -> list[Row]:
        """One row for each front, in order."""
        amiss = Counter(front_of(order) for order in _amiss(self.findings))
        fronts = list(dict.fromkeys(one.front for one in sorted(self.seen, key=lambda one: one.began)))
        return [self._row(front, amiss) for front in sorted(fronts)]

    def whole(self) -> Row:
        """All fronts as one."""
        row = self._row("", Counter({"": len(_amiss(self.findings))}))
        return msgspec.structs.replace(row, front="all together", logged=sum(self.logged.values()))

    def _row(self, front: str, amiss: Mapping[str, int]) -> Row:
        seen = [one for one in self.seen if front in ("", one.front)]
        requests = [one for one in seen if one.outcome is not Outcome.LEFT]
        near = [one for one in requests if any(mark.near(one.ended) for mark in self.marks)]
        far = [one for one in requests if not any(mark.near(one.ended) for mark in self.marks)]
        left = [one for one in seen if one.outcome is Outcome.LEFT or one.closing]
        return Row(
            operation=self.operation,
            front=front,
            operations=len(self.marks),
            requests=len(requests),
            errors=dict(Counter(one.what for one in requests if not one.yes)),
            half_done=amiss.get(front.replace(" ", "_"), 0),
            left=len(left),
            gap=gap(requests) * 1000,
            median=percentile(requests, 0.5) * 1000,
            steady=percentile(far, 0.99) * 1000,
            near=percentile(near, 0.99) * 1000,
            logged=self.logged.get(front, 0),
        )

    def assert_flawless(self) -> None:
        """Every request was answered as it should be, the ledgers agree, and nginx has logged no error."""
        assert self.requests, "nobody asked for anything"
        assert self.findings == Findings(), f"{self.findings}\n{self}"
        assert self.whole().flawless, str(self)

    def __str__(self) -> str:
        return table([*self.rows(), self.whole()])


def _amiss(findings: Findings) -> list[str]:
    return [order for name in HALF_DONE for order in getattr(findings, name)]


def front_of(order: str) -> str:
    """The front that an order came through: its id begins with it."""
    return order.rpartition(".")[0]


# --- For people ------------------------------------------------------------------------------

TITLES: Final = (
    "operation", "front", "times", "requests", "lost", "below", "half-done", "closed",
    "gap ms", "p50 ms", "p99 ms", "p99 near", "nginx",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """A row in words."""
    what = ", ".join(f"{count} {error}" for error, count in sorted(row.errors.items())) or "0"
    return (
        row.operation, row.front, str(row.operations), str(row.requests), what, f"{row.bound:.3%}", str(row.half_done),
        str(row.left), f"{row.gap:.0f}", f"{row.median:.1f}", f"{row.steady:.1f}", f"{row.near:.1f}", str(row.logged),
    )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Rows, and what their columns are."""
    return markdown([TITLES, *map(cells, rows)])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that can be read as it is; the first line is its titles."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    text = [f"| {' | '.join(line)} |" for line in padded]
    text.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(text)


def by_front(rows: Sequence[Row]) -> str:
    """What each front has lost under all operations together."""
    lines: list[Sequence[str]] = [("front", "requests", "lost", "half-done", "closed", "nginx", "below")]
    for front in sorted({row.front for row in rows}):
        mine = [row for row in rows if row.front == front]
        lost, requests = sum(row.lost for row in mine), sum(row.requests for row in mine)
        sums = (
            requests,
            lost,
            *(sum(each) for each in zip(*((r.half_done, r.left, r.logged) for r in mine), strict=True)),
        )
        lines.append((front, *map(str, sums), f"{bound(lost, requests):.3%}"))
    return markdown(lines)
