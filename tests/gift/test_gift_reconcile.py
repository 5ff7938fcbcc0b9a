"""The reconciliation: it names every order about which the two ledgers, or a client, disagree."""

from __future__ import annotations

from examples.gift.load import Seen
from examples.gift.reconcile import WORDS, Findings, reconcile, table, verdict
from hypothesis import given
from hypothesis import strategies as st

IDS = st.text("abcdef", min_size=1, max_size=1)


def told(order: str, status: int | None = 200) -> Seen:
    """What a client saw."""
    return Seen(order, status, "" if status == 200 else "an error", 0.1)


def test_ledgers_that_agree_have_no_findings() -> None:
    """Every present has its order, every order its present, and every client its yes."""
    findings = reconcile(["a", "b"], ["b", "a"], [told("a"), told("b")])
    assert findings == Findings()
    assert findings.flawless
    assert verdict(findings) == "The ledgers agree, and no client saw an error."


def test_each_kind_of_disagreement_is_named() -> None:
    """One order for each kind."""
    findings = reconcile(
        ["fine", "half", "twice", "twice", "silent"],
        ["fine", "unsent", "twice", "silent"],
        [told("fine"), told("half", None), told("lie"), told("twice"), told("silent", 502), told("lost", 502)],
    )
    assert findings == Findings(
        half_done=("half",),
        unsent=("unsent",),
        sent_twice=("twice",),
        told_but_missing=("lie",),
        done_not_told=("silent",),
        failed=("lost",),
    )
    assert verdict(findings) == "THE LEDGERS DO NOT AGREE."


def test_a_client_that_saw_an_error_spoils_the_verdict_though_the_ledgers_agree() -> None:
    """Nothing is broken, but somebody was told so."""
    findings = reconcile(["a"], ["a"], [told("a", 504), told("b", None)])
    assert findings.ledgers_agree
    assert not findings.flawless
    assert verdict(findings) == "The ledgers agree, but 2 clients saw an error."


@given(st.lists(IDS), st.lists(IDS), st.lists(IDS), st.lists(IDS))
def test_no_order_is_forgotten(presents: list[str], orders: list[str], yes: list[str], no: list[str]) -> None:
    """An order of which any of the three knows is either right in all respects or in the findings."""
    seen = [told(order) for order in set(yes)] + [told(order, 502) for order in set(no) - set(yes)]
    findings = reconcile(presents, orders, seen)
    named = {order for kind in WORDS for order in getattr(findings, kind)}
    for order in {*presents, *orders, *yes, *no}:
        right = presents.count(order) == 1 and order in orders and not (order in no and order not in yes)
        assert right == (order not in named)


def test_the_table_counts_all_and_names_a_few() -> None:
    """With a hundred half-done orders a reader wants the number, and some to look at."""
    text = table(reconcile([f"o-{n:03}" for n in range(100)], [], []), {"presents sent": 100})
    assert "  present sent, no order written                 100  o-000, o-001, o-002, o-003, o-004, ..." in text
    assert "  presents sent                                  100\n" in text
