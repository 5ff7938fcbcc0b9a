"""The answer: counts, and the orders that are off, as one value that every report is made of.

The names of `Summary` and of what is in it are an interface: it is what `--format json` prints and what an alarm gets.
A later version adds some, and removes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lastcall.tools.reconcile.compare import ATS, LAST_ROWS, OFF, ROWS, TIMES, VERDICT, Verdict, of
from lastcall.tools.reconcile.duck import Duck
from lastcall.tools.reconcile.question import Question, quoted
from lastcall.tools.reconcile.spool import Reading

AGREE, DISAGREE, NONE = "agree", "off", "none"
"""The verdict as a whole."""
SHOWN_BROKEN = 100


class Explanation(msgspec.Struct, frozen=True):
    """What is thought to have happened to an order, and how sure that is."""

    confidence: str
    """`certain`: its key stands in the request that was cut. `likely`: nothing else fits. `possible`: several fit."""
    text: str
    request_id: str
    cut_at: str


class Finding(msgspec.Struct, omit_defaults=True):
    """One order that is off, or that may yet be."""

    verdict: str
    key: dict[str, str]
    at: str = ""
    """When it was made, in UTC; empty where nobody says."""
    columns: tuple[str, ...] = ()
    """Those in which the sides differ."""
    left: dict[str, str | None] | None = None
    """The compared values of a side; None where the order is not there."""
    right: dict[str, str | None] | None = None
    left_times: int = 0
    right_times: int = 0
    left_lines: tuple[int, ...] = ()
    """The first and the last of its rows in the source, where rows can be found again."""
    right_lines: tuple[int, ...] = ()
    new: bool = False
    since: str = ""
    """When it was seen first, by the state file."""
    explained: Explanation | None = None


class Repair(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has become of an order that was to be repaired."""

    key: dict[str, str]
    verdict: str
    outcome: str
    """A word of `repair.Outcome`."""
    text: str = ""
    """What the function has said, or why it is parked, or has failed."""
    journal: str = ""
    """What `lastcall journal` calls it; empty where nothing was written down."""
    changed: str = ""
    """When that was written down last."""
    touched: bool = False
    """This run has begun it, or gone on with it."""
    resumed: bool = False
    """An earlier run had begun it."""
    explained: Explanation | None = None


class Repairs(msgspec.Struct):
    """What has become of all of them."""

    function: str
    applied: bool
    """False: nothing was changed."""
    journal: str
    """The directory in which they are written down."""
    refused: str = ""
    """Why nothing is repaired."""
    outcomes: dict[str, int] = {}
    each: list[Repair] = []


class BrokenRow(msgspec.Struct, frozen=True):
    """A row that was kept aside."""

    line: int
    text: str
    why: str


class SideSummary(msgspec.Struct):
    """What was read from one side."""

    label: str
    rows: int = 0
    broken: int = 0
    broken_rows: list[BrokenRow] = []
    counted: str = ""
    """What a line number counts: `line` or `row`."""


class Summary(msgspec.Struct):
    """Everything that is known when a run has ended."""

    verdict: str
    at: str
    left: SideSummary
    right: SideSummary
    key: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    error: str = ""
    """Why there is no verdict."""
    seconds: float = 0.0
    counts: dict[str, int] = {}
    """By what became of each order; all of them, always."""
    differing: dict[str, int] = {}
    """How many orders differ in each column."""
    explained: int = 0
    new: int | None = None
    """Since the last run, if there is a state file."""
    resolved: int | None = None
    gone: int | None = None
    """Known from the last run, and no longer in either ledger."""
    resolved_keys: list[str] = []
    grace: str = ""
    spool: str = ""
    findings: list[Finding] = []
    left_out: dict[str, int] = {}
    """Findings that are not listed, by kind; the spool has them."""
    repairs: Repairs | None = None
    """With `--repair`. The rest is how the ledgers are after it."""

    @property
    def off(self) -> int:
        """Orders that are off."""
        return sum(self.counts.get(one.value, 0) for one in OFF)

    @property
    def broken(self) -> int:
        return self.left.broken + self.right.broken


def side(reading: Reading) -> SideSummary:
    """What was read, for people."""
    rows = [BrokenRow(one.line, one.text, one.why) for one in sorted(reading.broken, key=lambda one: one.line)]
    label = reading.side.place.label
    return SideSummary(label, reading.rows, len(rows), rows[:SHOWN_BROKEN], reading.counted)


def count(duck: Duck, question: Question) -> tuple[dict[str, int], dict[str, int]]:
    """How many orders became what, and how many differ in each column. Reads the table `judged`."""
    counts = {one.value: 0 for one in Verdict}
    counts |= dict(duck.run(f"SELECT {VERDICT}, count(*) FROM judged GROUP BY 1"))
    if not question.compared or not counts[Verdict.DIFFERENT.value]:
        return counts, {}
    names = [column.name for column in question.compared]
    each = ", ".join(
        f"count(*) FILTER ({quoted(of('left', one))} IS DISTINCT FROM {quoted(of('right', one))})"
        for one in question.compared
    )
    (differing,) = duck.run(f"SELECT {each} FROM judged WHERE {VERDICT} = 'different'")
    return counts, {name: number for name, number in zip(names, differing, strict=True) if number}


def findings(
    duck: Duck, question: Question, verdict: Verdict, limit: int, known: Mapping[str, str] | None
) -> list[Finding]:
    """The first orders of one kind, by their time and key. `known` says since when they are known."""
    keys = [quoted(column.name) for column in question.keys]
    values = [quoted(of(name, column)) for column in question.compared for name in ("left", "right")]
    texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in keys + values)
    rows = duck.run(
        f"SELECT {', '.join((*TIMES, *ROWS, *LAST_ROWS))}, CAST(COALESCE({ATS[0]}, {ATS[1]}) AS VARCHAR), {texts} "
        f"FROM judged WHERE {VERDICT} = '{verdict.value}' "
        f"ORDER BY COALESCE({ATS[0]}, {ATS[1]}) NULLS LAST, {', '.join(keys)} LIMIT {limit}"
    )
    found = [_finding(question, verdict, row) for row in rows]
    for one in found:
        if known is not None and verdict in OFF:
            key = key_text(one.key.values())
            one.since, one.new = known.get(f"{verdict.value} {key}", ""), f"{verdict.value} {key}" not in known
    return found


def key_text(values: Any) -> str:
    """A key as the state file has it."""
    return msgspec.json.encode(list(values)).decode()


def _finding(question: Question, verdict: Verdict, row: tuple[Any, ...]) -> Finding:
    times, lines, last, (at, *texts) = row[0:2], row[2:4], row[4:6], row[6:]
    keys, values = texts[: len(question.keys)], texts[len(question.keys) :]
    names = [column.name for column in question.compared]
    left, right = dict(zip(names, values[0::2], strict=True)), dict(zip(names, values[1::2], strict=True))
    both = times[0] and times[1]
    return Finding(
        verdict.value,
        {column.name: value for column, value in zip(question.keys, keys, strict=True)},
        at or "",
        tuple(name for name in names if left[name] != right[name]) if both and max(times) == 1 else (),
        left if times[0] else None,
        right if times[1] else None,
        *times,
        *(_span(first, end) for first, end in zip(lines, last, strict=True)),
    )


def _span(first: int | None, last: int | None) -> tuple[int, ...]:
    if first is None or last is None:
        return ()
    return (first,) if first == last else (first, last)


def locate(found: Sequence[Finding], readings: tuple[Reading, Reading]) -> None:
    """Turn rows into the lines that people find them on. All at once: a source may have to be read again for it."""
    for name, reading in zip(("left_lines", "right_lines"), readings, strict=True):
        if not reading.counted:
            for one in found:
                setattr(one, name, ())
            continue
        lines = reading.locate({row for one in found for row in getattr(one, name)})
        for one in found:
            setattr(one, name, tuple(lines[row] for row in getattr(one, name)))
