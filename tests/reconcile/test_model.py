"""The comparison against a model of it: whatever the two ledgers hold, no order is forgotten and none is judged wrongly."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall.cli import main

DAY = datetime(2017, 6, 25, tzinfo=UTC)
YOUNG = datetime(2099, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """An order in one of the ledgers."""

    key: str
    amount: str | None
    at: datetime | None


ROWS = st.lists(
    st.builds(
        Row,
        st.sampled_from("abcdef"),
        st.sampled_from([None, "1", "1.0", "1.00000000000000000001", "2", "0", "-0.0"]),
        st.sampled_from([None, DAY - timedelta(seconds=1), DAY, DAY + timedelta(seconds=1), YOUNG]),
    ),
    min_size=1,
    max_size=8,
)


def verdict(left: list[Row], right: list[Row]) -> str:
    """What becomes of an order with these rows, in the words of the manual."""
    known = any(row.at for row in (*left, *right))
    if known and _latest(left, right) < DAY:
        return "outside"
    different = bool(left) and bool(right) and _amount(left) != _amount(right)
    once = len(left) <= 1 and len(right) <= 1
    if known and once and _latest(left, right) == YOUNG and (not left or not right or different):
        return "pending"
    if not left or not right:
        return "only_left" if left else "only_right"
    if not once:
        return "duplicated"
    return "different" if different else "matched"


def _latest(left: list[Row], right: list[Row]) -> datetime:
    """The later of the two sides' times; of several rows on one side the first counts."""
    sides = [min((row.at for row in rows if row.at), default=None) for rows in (left, right) if rows]
    return max(at for at in sides if at is not None)


def _amount(rows: list[Row]) -> Decimal | None:
    return None if rows[0].amount is None else Decimal(rows[0].amount)


def csv(rows: list[Row]) -> str:
    """A side as a CSV file."""
    lines = [f"{row.key},{row.amount or ''},{row.at.isoformat() if row.at else ''}" for row in rows]
    return "\n".join(["id,amount,at", *lines, ""])


def json_lines(rows: list[Row]) -> str:
    """A side as JSON lines, with its amounts as numbers."""
    text = '{{"id": "{}", "amount": {}, "at": {}}}\n'
    at = [json.dumps(row.at.isoformat() if row.at else None) for row in rows]
    return "".join(text.format(row.key, row.amount or "null", when) for row, when in zip(rows, at, strict=True))


@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(ROWS, ROWS)
def test_every_order_is_judged_as_the_manual_says(left: list[Row], right: list[Row]) -> None:
    """By its rows on both sides: counts, and the orders by name."""
    with tempfile.TemporaryDirectory(prefix="lc-") as name:
        folder = Path(name)
        (folder / "left.csv").write_text(csv(left))
        (folder / "right.jsonl").write_text(json_lines(right))
        sides = [str(folder / "left.csv"), str(folder / "right.jsonl")]
        question = ["--key", "id", "--compare", "amount", "--time", "at", "--since", DAY.isoformat()]
        rest = ["--ignore-younger", "1m", "--spool", name, "--format", "json"]
        done = CliRunner().invoke(main, ["reconcile", *sides, *question, *rest])
    summary = json.loads(done.stdout)
    expected = {
        key: verdict([row for row in left if row.key == key], [row for row in right if row.key == key])
        for key in {row.key for row in (*left, *right)}
    }
    assert {kind: count for kind, count in summary["counts"].items() if count} == Counter(expected.values()), (
        done.stderr
    )
    named = {one["key"]["id"]: one["verdict"] for one in summary["findings"]}
    assert named == {key: kind for key, kind in expected.items() if kind not in ("matched", "outside")}
