"""The one SQL text that compares two ledgers, in DuckDB's dialect; `spark` has it translated.

Decides what becomes of every key of either side. Null agrees with null and with nothing else. Reads two tables,
`left_ledger` and `right_ledger`, and gives one row for each key.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from lastcall.tools.reconcile.question import AT, ROW, USABLE, Column, Question, literal, quoted

VERDICT = "_verdict"
TIMES = ("_left_times", "_right_times")
ROWS = ("_left_row", "_right_row")
LAST_ROWS = ("_left_last_row", "_right_last_row")
ATS = ("_left_at", "_right_at")


class Verdict(enum.Enum):
    """What becomes of a key. The order is that of a report."""

    MATCHED = "matched"
    ONLY_LEFT = "only_left"
    ONLY_RIGHT = "only_right"
    DIFFERENT = "different"
    DUPLICATED = "duplicated"
    """In both ledgers, and more than once in one of them: there is no saying which row is the right one."""
    PENDING = "pending"
    """It would be one of the above, but for its youth: the other side may not have it yet."""
    OUTSIDE = "outside"
    """Before `since`, or not before `until`, on every side that says when it was."""


OFF = (Verdict.ONLY_LEFT, Verdict.ONLY_RIGHT, Verdict.DIFFERENT, Verdict.DUPLICATED)
"""What a verdict may not have if the ledgers agree."""


def of(side: str, column: Column) -> str:
    """The name of a compared column of a side in the result."""
    return f"{side}_{column.name}"


def text(question: Question) -> str:
    """The whole query."""
    keys = [quoted(column.name) for column in question.keys]
    joined = " AND ".join(f"l.{key} = r.{key}" for key in keys)
    selected = [f"COALESCE(l.{key}, r.{key}) AS {key}" for key in keys]
    selected.append(f"CASE {' '.join(_cases(question))} ELSE 'matched' END AS {VERDICT}")
    for short, names in (("l", 0), ("r", 1)):
        selected += [
            f"COALESCE({short}.times, 0) AS {TIMES[names]}",
            f"{short}.{ROW} AS {ROWS[names]}",
            f"{short}.last_row AS {LAST_ROWS[names]}",
            f"{short}.{AT} AS {ATS[names]}" if question.time else f"CAST(NULL AS TIMESTAMP) AS {ATS[names]}",
        ]
    for column in question.compared:
        selected += [f"{short}.{quoted(column.name)} AS {quoted(of(side, column))}" for short, side in _SIDES]
    return (
        f"WITH l AS ({_grouped('left_ledger', question, keys)}), r AS ({_grouped('right_ledger', question, keys)}) "
        f"SELECT {', '.join(selected)} FROM l FULL OUTER JOIN r ON {joined}"
    )


_SIDES = (("l", "left"), ("r", "right"))


def _grouped(table: str, question: Question, keys: Sequence[str]) -> str:
    """One row for each key; where there were more, how many, and which rows."""
    columns = [quoted(column.name) for column in question.compared] + ([AT] if question.time else [])
    values = "".join(f", MIN({column}) AS {column}" for column in columns)
    by = ", ".join(keys)
    return (
        f"SELECT {by}, COUNT(*) AS times, MIN({ROW}) AS {ROW}, MAX({ROW}) AS last_row{values} "
        f"FROM {table} WHERE {USABLE} GROUP BY {by}"
    )


def _cases(question: Question) -> list[str]:
    """What becomes of a key, the first that holds."""
    cases = []
    if question.since is not None:
        cases.append(f"WHEN GREATEST({_either()}) < {_moment(question.since)} THEN 'outside'")
    if question.until is not None:
        cases.append(f"WHEN LEAST({_either()}) >= {_moment(question.until)} THEN 'outside'")
    differ = " OR ".join(
        f"l.{name} IS DISTINCT FROM r.{name}" for name in (quoted(one.name) for one in question.compared)
    )
    if question.grace > 0:
        young = f"GREATEST({_either()}) > {_moment(question.now - timedelta(seconds=question.grace))}"
        off = " OR ".join(["l.times IS NULL", "r.times IS NULL", *([f"({differ})"] if differ else [])])
        once = "COALESCE(l.times, 1) = 1 AND COALESCE(r.times, 1) = 1"
        cases.append(f"WHEN {young} AND {once} AND ({off}) THEN 'pending'")
    cases.append("WHEN r.times IS NULL THEN 'only_left'")
    cases.append("WHEN l.times IS NULL THEN 'only_right'")
    cases.append("WHEN l.times > 1 OR r.times > 1 THEN 'duplicated'")
    if differ:
        cases.append(f"WHEN {differ} THEN 'different'")
    return cases


def _either() -> str:
    """Both sides' times, each standing in for the other where it is not known."""
    return f"COALESCE(l.{AT}, r.{AT}), COALESCE(r.{AT}, l.{AT})"


def _moment(when: datetime) -> str:
    return f"CAST({literal(when.astimezone(UTC).strftime('%Y-%m-%d %H:%M:%S.%f'))} AS TIMESTAMP)"
