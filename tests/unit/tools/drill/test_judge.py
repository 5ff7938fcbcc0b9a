"""The judgement: what is lost, what is forgiven, and how much a verdict says."""

from __future__ import annotations

import pytest

from lastcall.tools.drill import judge, results
from lastcall.tools.drill.judge import Books, Judgement, Mark
from lastcall.tools.drill.outcomes import Amiss, Outcome, Seen
from lastcall.tools.drill.results import Strength, Verdict


def seen(
    number: int, status: int = 200, *, outcome: Outcome = Outcome.ANSWERED, began: float = 0.0, took: float = 0.01,
    step: str = "",
) -> Seen:  # fmt: skip
    return Seen(f"HTTP.3-{number:05}", "HTTP", outcome, status, began, took, kept=True, step=step)


@pytest.mark.parametrize(
    ("first", "second", "status", "amiss"),
    [
        (1, 1, 200, None),
        (1, 1, 502, Amiss.UNTOLD),
        (1, 0, 502, Amiss.HALF_DONE),
        (1, 0, 200, Amiss.TOLD_NOT_DONE),
        (0, 1, 502, Amiss.UNASKED),
        (0, 1, 200, Amiss.TOLD_NOT_DONE),
        (0, 0, 502, Amiss.NEVER_BEGUN),
        (0, 0, 200, Amiss.TOLD_NOT_DONE),
        (2, 1, 200, Amiss.TWICE),
        (1, 2, 200, Amiss.TWICE),
        (2, 0, 502, Amiss.TWICE),
    ],
)
def test_every_way_in_which_two_ledgers_and_a_client_can_disagree_has_a_name(
    first: int, second: int, status: int, amiss: Amiss | None
) -> None:
    """Of all combinations one alone is agreement."""
    order = seen(1, status)
    books = Books([order.id] * first, [order.id] * second)
    assert judge.reconcile(books, [order]) == ({order.id: amiss} if amiss else {})


def test_what_no_client_has_asked_for_is_none_of_our_business() -> None:
    """A user's ledgers hold other people's orders."""
    assert judge.reconcile(Books(["another"], []), [seen(1, 502)]) == {"HTTP.3-00001": Amiss.NEVER_BEGUN}


def test_none_lost_is_said_with_its_strength() -> None:
    """The rule of three."""
    many = [seen(number) for number in range(5334)]
    verdict = Judgement(many, [Mark(0, 1)]).verdict(expected=True)
    assert verdict.sentence == "0 of 5,334 lost: below 0.056 % at 95 %"
    assert (verdict.lost, verdict.strength) == (0, Strength.BOUNDED)


def test_a_loss_is_counted_once_whoever_noticed_it() -> None:
    """An order that is half done, and whose client saw an error, is one loss; one that was told yes is one, too."""
    orders = [seen(1), seen(2, 502), seen(3), seen(4, 0, outcome=Outcome.REFUSED)]
    books = Books([one.id for one in orders[:3]], [orders[0].id])
    verdict = Judgement(orders, [Mark(0, 1)], books).verdict(expected=True)
    assert verdict.sentence == "3 of 4 lost (1 half done, 1 told 200, not done, 1 refused)"
    assert (verdict.lost, verdict.strength) == (3, Strength.PROVED)


def test_who_is_refused_after_the_last_stop_has_lost_nothing() -> None:
    """He was told in the one way that is safe; whoever was refused before, or reset after, has lost."""
    stop = 10.0
    refused = [seen(n, 0, outcome=Outcome.REFUSED, began=began) for n, began in ((1, 9.0), (2, 10.5), (3, 11.0))]
    after = [*refused, seen(4, 0, outcome=Outcome.RESET, began=10.2), seen(5, began=9.5)]
    judgement = Judgement(after, [Mark(10.0, 10.1)], stopped=stop)
    assert [one.id for one in judgement.lost] == ["HTTP.3-00001", "HTTP.3-00004"]
    assert judgement.verdict(expected=True).sentence.endswith("; 2 refused at connect after the stop, which is safe")


def test_a_run_in_which_nothing_happened_says_nothing() -> None:
    """Neither one without requests nor one without the operation; the control needs none."""
    for judgement in (Judgement([], [Mark(0, 1)]), Judgement([seen(1)], [])):
        assert judgement.verdict(expected=True).strength is Strength.NONE
    assert Judgement([seen(1)], []).verdict(expected=False).strength is Strength.BOUNDED


def test_all_steps_without_a_loss_are_a_proof() -> None:
    """And a loss at one of them is a loss."""
    assert Judgement([seen(1)], [Mark(0, 1)], steps=8).verdict(expected=True).strength is Strength.ENUMERATED
    assert Judgement([seen(1, 502)], [Mark(0, 1)], steps=8).verdict(expected=True).strength is Strength.PROVED


def test_a_request_is_near_the_operation_that_it_met() -> None:
    """While it was under way, or within half a second after its end."""
    marks = [Mark(10, 11), Mark(20, 21)]
    orders = [seen(n, began=began) for n, began in enumerate((9.9, 9.995, 11.4, 11.6, 19.995, 22.0))]
    assert Judgement(orders, marks).near(orders) == [-1, 0, 0, -1, 1, -1]
    assert Judgement(orders, []).near(orders) == [-1] * 6


def test_latency_is_judged_apart_near_an_operation() -> None:
    """A stall of the whole server does not hide in the steady percentile."""
    orders = [seen(1, began=1), seen(2, began=9.8, took=1.5), seen(3, 502, began=10, took=9)]
    latency = Judgement(orders, [Mark(10, 10.1)]).latency()
    assert (latency.p99, latency.p99_near, latency.longest) == (0.01, 1.5, 1.5)


def test_records_are_columns_in_the_order_of_asking() -> None:
    """With what clients saw, what the ledgers say, and the operation that they met."""
    orders = [seen(2, 502, began=12.0, step="writing"), seen(1, began=11.0)]
    books = Books([orders[0].id, orders[1].id], [orders[1].id])
    records = Judgement(orders, [Mark(11.9, 12.1)], books).records(10.0)
    assert (records.began, records.took, records.id) == ([1.0, 2.0], [0.01, 0.01], ["HTTP.3-00001", "HTTP.3-00002"])
    assert [records.outcomes[index] for index in records.outcome] == ["200", "502"]
    assert [records.ledger[index] for index in records.amiss] == ["", "half done"]
    assert (records.near, records.clients, records.client) == ([-1, 0], ["HTTP 3"], [0, 0])
    assert (records.step, records.left_out) == ({1: "writing"}, 0)


def test_of_too_many_records_the_losses_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of the others each n-th."""
    monkeypatch.setattr(judge, "RECORDS_MAX", 10)
    orders = [seen(n, 502 if n in (50, 51, 99) else 200, began=n) for n in range(100)]
    records = Judgement(orders, []).records(0)
    assert (len(records), records.left_out) == (10, 90)
    assert sum(records.outcomes[index] == "502" for index in records.outcome) == 3
    assert records.began == sorted(records.began)
    assert records.began[0] == 0


def test_runs_together_say_what_the_weakest_of_them_says() -> None:
    """One loss is a loss of all; a run that says nothing adds nothing."""
    none = Verdict(0, 1000, 0.003, Strength.BOUNDED, "")
    proof = Verdict(0, 1000, 0.003, Strength.ENUMERATED, "")
    loss = Verdict(7, 1000, 0.01, Strength.PROVED, "")
    nothing = Verdict(0, 0, 1.0, Strength.NONE, "")
    assert judge.whole([none, proof]).sentence == "0 of 2,000 lost in 2 runs: below 0.15 % at 95 %"
    assert judge.whole([none, proof]).strength is Strength.BOUNDED
    assert judge.whole([proof, proof]).strength is Strength.ENUMERATED
    assert judge.whole([none, loss, nothing]).sentence == "7 of 2,000 lost in 2 runs"
    assert judge.whole([nothing]).strength is Strength.NONE
    assert judge.whole([]).sentence == "nothing can be said: no run came to an end"


def test_the_longest_time_without_a_success_has_a_place() -> None:
    """Failures do not fill it."""
    orders = [seen(1, began=0), seen(2, 502, began=2), seen(3, began=3), seen(4, began=3.5)]
    assert judge.longest(orders) == pytest.approx((0.01, 3.0))
    assert judge.longest([seen(1)]) == (0.0, 0.0)


def test_the_ledgers_of_a_result_count_each_kind() -> None:
    """None where nobody has shown us any."""
    orders = [seen(1, 502), seen(2, 502), seen(3, 502)]
    books = Books([orders[0].id, orders[1].id], [orders[1].id])
    assert Judgement(orders, [], books).ledgers() == results.Ledgers(
        half_done=1, untold=1, never_begun=1, first=2, second=1
    )
    assert Judgement(orders, []).ledgers() is None
