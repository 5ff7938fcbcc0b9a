"""The judgement of our own drills: rows, fronts, and the table of scripts/drill.

That the load sees each loss for what it is, is tested where the load is: tests/drilltool.
"""

from __future__ import annotations

import pytest

from lastcall.tools.drill.judge import Mark, bound, gap, percentile, sentence
from lastcall.tools.drill.outcomes import Outcome, Seen
from support.drill.fronts import Front
from support.drill.judge import Ledgers, Row, Verdict, by_front, cells, table


def seen(number: int, *, began: float, took: float = 0.01, status: int = 200, front: str = "a b") -> Seen:
    return Seen(f"{front.replace(' ', '_')}.{number}", front, Outcome.ANSWERED, status, began, took, True)


def test_the_gap_is_the_longest_time_without_a_success() -> None:
    """Failures do not fill it."""
    orders = [seen(1, began=0.0), seen(2, began=1.0), seen(3, began=1.5, status=502), seen(4, began=3.0)]
    assert gap(orders) == pytest.approx(2.0)
    assert gap([]) == 0.0


def test_a_percentile_is_a_latency_that_was_measured() -> None:
    """No interpolation."""
    assert percentile([seen(n, began=0, took=n) for n in range(1, 101)], 0.99) == 100
    assert percentile([seen(n, began=0, took=n) for n in range(1, 101)], 0.5) == 51
    assert percentile([], 0.5) == 0


def test_the_rule_of_three() -> None:
    """None of 5334: at 95 % confidence fewer than 0.056 % are lost."""
    assert bound(0, 5334) == pytest.approx(3 / 5334)
    assert bound(4, 1000) == pytest.approx(0.00921, rel=0.02)  # the exact bound of a Poisson rate is 9.15
    assert bound(0, 0) == 1.0
    assert sentence(0, 5334) == "0 of 5334 lost: below 0.056 % at 95 %"


def test_a_verdict_tells_fronts_and_kinds_of_loss_apart() -> None:
    """The ledgers' findings are counted for the front that the order came through."""
    orders = [
        seen(1, began=0),
        seen(2, began=1, status=502),
        seen(3, began=2, status=502),
        seen(4, began=3, front="c"),
        Seen("", "c", Outcome.LEFT, 0, 4, 0, True),
    ]
    ledgers = Ledgers(presents=["a_b.1", "a_b.2", "c.4", "c.4"], orders=["a_b.1", "c.4"])
    verdict = Verdict("TERM", orders, [Mark(1.0, 1.1)], ledgers, {"c": 1})
    ab, c = verdict.rows()
    assert (ab.requests, ab.errors, ab.half_done, ab.left, ab.logged) == (3, {"502": 2}, 1, 0, 0)
    assert (c.requests, c.errors, c.half_done, c.left, c.logged) == (1, {}, 1, 1, 1)
    whole = verdict.whole()
    assert (whole.requests, whole.lost, whole.half_done, whole.logged) == (4, 2, 2, 1)
    assert verdict.findings.half_done == ("a_b.2",)
    assert verdict.findings.sent_twice == ("c.4",)
    assert verdict.findings.failed == ("a_b.3",)
    with pytest.raises(AssertionError):
        verdict.assert_flawless()


def test_what_ends_within_half_a_second_after_an_operation_is_near_it() -> None:
    """And what was under way then, too; the steady percentile knows nothing of it."""
    late = [seen(1, began=9.0, took=1.2), seen(2, began=10.4, took=0.05), seen(3, began=12.0, took=0.02)]
    (row,) = Verdict("HUP", late, [Mark(10.0, 10.1)]).rows()
    assert row.near == pytest.approx(1200)
    assert row.steady == pytest.approx(20)


def test_the_table_is_markdown() -> None:
    """As wide in every line as in the first."""
    lines = table([Row("HUP", "HTTP", 20, 5334, {"502": 2}, 0, 0, 1, 1, 1, 1)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "2 502" in cells(Row("HUP", "HTTP", 20, 5334, {"502": 2}, 0, 0, 1, 1, 1, 1))
    assert set(lines[1]) == {"|", "-"}


def test_a_front_is_judged_by_all_that_came_through_it() -> None:
    """Under whatever operation."""
    rows = [
        Row("HUP", "HTTP", 20, 900, {"502": 2}, 1, 0, 1, 1, 1, 1, 2),
        Row("USR2", "HTTP", 20, 100, {}, 0, 0, 1, 1, 1, 1),
    ]
    assert [cell.strip() for cell in by_front(rows).splitlines()[2].split("|")][1:-2] == [
        "HTTP",
        "1000",
        "2",
        "1",
        "0",
        "2",
    ]


def test_fronts_have_names_that_tell_them_apart() -> None:
    """A table's rows are told apart by them, and so are the orders in the ledgers."""
    assert str(Front(fastcgi=True, unix=False, keep=True, nginx=True)) == "nginx FastCGI TCP kept"
