"""The judgement: what clients lost, what the ledgers say, how long nobody was served, and how sure one may be.

Knows what was seen and when the operator did what; knows no process and no socket.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lastcall.tools.drill.outcomes import HARM, UNSENT, Amiss, Outcome, Seen
from lastcall.tools.drill.results import RECORDS_MAX, Latency, Ledgers, Records, Strength, Verdict

AFTER_S: Final = 0.5
"""Seconds after an operation that still count as near it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One operation: ordered then, over then, on the monotonic clock."""

    began: float
    ended: float

    @property
    def took(self) -> float:
        return self.ended - self.began

    def near(self, when: float) -> bool:
        """During it or within half a second after."""
        return self.began <= when <= self.ended + AFTER_S


@dataclass(frozen=True, slots=True)
class Books:
    """Both sides' ids, in the order in which they were written."""

    first: Sequence[str] = ()
    second: Sequence[str] = ()


def reconcile(books: Books, seen: Iterable[Seen]) -> dict[str, Amiss]:
    """What is amiss with each request, by its id; those that agree are left out.

    Only what a client has asked for is looked at: others may have written into the same ledgers.
    """
    first, second = Counter(books.first), Counter(books.second)
    found = {one.id: _amiss(first[one.id], second[one.id], told=one.yes) for one in seen}
    return {order: amiss for order, amiss in found.items() if amiss is not Amiss.NOTHING}


def _amiss(first: int, second: int, *, told: bool) -> Amiss:
    if first > 1 or second > 1:
        return Amiss.TWICE
    match first, second:
        case 1, 1:
            return Amiss.NOTHING if told else Amiss.UNTOLD
        case 1, 0:
            return Amiss.TOLD_NOT_DONE if told else Amiss.HALF_DONE
        case 0, 1:
            return Amiss.TOLD_NOT_DONE if told else Amiss.UNASKED
        case _:
            return Amiss.TOLD_NOT_DONE if told else Amiss.NEVER_BEGUN


# --- Numbers ---------------------------------------------------------------------------------


def bound(lost: int, requests: int) -> float:
    """The share that may be lost, at a confidence of 95 %, when so many were: three for none, else Poisson's."""
    if not requests:
        return 1.0
    return min(1.0, (3.0 if lost == 0 else lost + 1.645 * lost**0.5 + 1.92) / requests)


def gap(seen: Iterable[Seen]) -> float:
    """The longest time without a success, in seconds, from the first success to the last."""
    return longest(seen)[1]


def longest(seen: Iterable[Seen]) -> tuple[float, float]:
    """When the longest time without a success began, and how long it was; zeros where there were not two."""
    ends = sorted(one.ended for one in seen if one.yes)
    return max(((a, b - a) for a, b in itertools.pairwise(ends)), key=lambda gap: gap[1], default=(0.0, 0.0))


def percentile(seen: Sequence[Seen], share: float) -> float:
    """The latency, in seconds, that this share of the requests stayed within; 0 of none."""
    took = sorted(one.took for one in seen)
    return took[min(len(took) - 1, int(len(took) * share))] if took else 0.0


def sentence(lost: int, requests: int) -> str:
    """`0 of 5334 lost: below 0.056 % at 95 %`."""
    return f"{lost} of {requests} lost: below {bound(lost, requests) * 100:.2g} % at 95 %"


# --- A run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """What follows from what was seen in one run, under these operations, with these books.

    `stopped`: from then on nobody was meant to serve, and who was refused at connect has lost nothing.
    """

    seen: Sequence[Seen]
    marks: Sequence[Mark]
    books: Books | None = None
    stopped: float | None = None
    steps: int = 0
    """How many steps of a request the operation was fired at, where it was at all of them."""

    @cached_property
    def requests(self) -> list[Seen]:
        """In the order in which they were asked."""
        asked = (one for one in self.seen if one.outcome is not Outcome.LEFT)
        return sorted(asked, key=lambda one: one.began)

    @cached_property
    def amiss(self) -> dict[str, Amiss]:
        return {} if self.books is None else reconcile(self.books, self.requests)

    def ledgers(self) -> Ledgers | None:
        """The counts."""
        if self.books is None:
            return None
        count = Counter(self.amiss.values())
        return Ledgers(
            half_done=count[Amiss.HALF_DONE],
            unasked=count[Amiss.UNASKED],
            twice=count[Amiss.TWICE],
            untold=count[Amiss.UNTOLD],
            never_begun=count[Amiss.NEVER_BEGUN],
            told_not_done=count[Amiss.TOLD_NOT_DONE],
            first=len(self.books.first),
            second=len(self.books.second),
        )

    def forgiven(self, one: Seen) -> bool:
        """It asked a service that was stopped for good, and was told so in the one way that is safe."""
        return self.stopped is not None and one.ended >= self.stopped and one.outcome in UNSENT

    @cached_property
    def lost(self) -> list[Seen]:
        """Whose client saw an error, or of which the books are wrong."""
        amiss = self.amiss
        return [
            one
            for one in self.requests
            if (not one.yes and not self.forgiven(one)) or amiss.get(one.id, Amiss.NOTHING) in HARM
        ]

    def verdict(self, *, expected: bool) -> Verdict:
        """Of the run. `expected`: operations were to be seen, and a run without any says nothing."""
        lost, requests = self.lost, self.requests
        if not requests or (expected and not self.marks):
            why = "the operation did not happen" if requests else "nobody asked for anything"
            return Verdict(len(lost), len(requests), 1.0, Strength.NONE, f"nothing can be said: {why}")
        forgiven = sum(self.forgiven(one) for one in requests)
        below = bound(len(lost), len(requests))
        harm = Counter(amiss for amiss in self.amiss.values() if amiss in HARM)
        if lost:
            words, strength = f"{thousands(len(lost))} of {thousands(len(requests))} lost", Strength.PROVED
            unsent = sum(one.outcome in UNSENT for one in lost)
            told = [f"{thousands(count)} {amiss}" for amiss, count in harm.items()]
            told += [f"{thousands(unsent)} refused"] if unsent else []
            words += f" ({', '.join(told)})" if told else ""
        elif self.steps:
            words = f"0 of {thousands(len(requests))} lost, and none at any of the {self.steps} steps of a request"
            strength = Strength.ENUMERATED
        else:
            words, strength = f"0 of {thousands(len(requests))} lost", Strength.BOUNDED
            words += f": below {percent(below)} at 95 %"
        if forgiven:
            words += f"; {thousands(forgiven)} refused at connect after the stop, which is safe"
        return Verdict(len(lost), len(requests), below, strength, words)

    def latency(self) -> Latency:
        """Of all that were answered, near an operation or not."""
        answered = [one for one in self.requests if one.yes]
        near = [one for one, index in zip(answered, self.near(answered), strict=True) if index >= 0]
        far = [one for one, index in zip(answered, self.near(answered), strict=True) if index < 0]
        return Latency(
            median=percentile(answered, 0.5),
            p99=percentile(far, 0.99),
            p99_near=percentile(near, 0.99),
            longest=percentile(answered, 1.0),
        )

    def near(self, requests: Sequence[Seen]) -> list[int]:
        """For each, which operation it met; -1: none."""
        ends = [mark.ended + AFTER_S for mark in self.marks]
        found = []
        for one in requests:
            index = bisect.bisect_left(ends, one.began)
            met = index < len(self.marks) and self.marks[index].began <= one.ended
            found.append(index if met else -1)
        return found

    def records(self, began: float) -> Records:
        """Each request, its times counted from `began`: all that were lost or amiss as far as there is room, and of the
        others each n-th.
        """
        amiss, requests = self.amiss, self.requests
        kept = _kept(requests, {one.id for one in self.lost} | amiss.keys())
        outcomes, clients = _numbered(one.what for one in kept), _numbered(_client(one) for one in kept)
        ledger = [str(one) for one in Amiss]
        return Records(
            began=[round(one.began - began, 5) for one in kept],
            took=[round(one.took, 5) for one in kept],
            outcome=[outcomes[one.what] for one in kept],
            amiss=[ledger.index(amiss.get(one.id, Amiss.NOTHING)) for one in kept],
            client=[clients[_client(one)] for one in kept],
            id=[one.id for one in kept],
            near=self.near(kept),
            outcomes=list(outcomes),
            ledger=ledger,
            clients=list(clients),
            step={index: one.step for index, one in enumerate(kept) if one.step},
            left_out=len(requests) - len(kept),
        )


def _kept(requests: Sequence[Seen], notable: set[str]) -> list[Seen]:
    if len(requests) <= RECORDS_MAX:
        return list(requests)
    special = [one for one in requests if one.id in notable or one.step][:RECORDS_MAX]
    others = [one for one in requests if one.id not in notable and not one.step]
    room = RECORDS_MAX - len(special)
    thinned = [others[index * len(others) // room] for index in range(min(room, len(others)))]
    return sorted([*special, *thinned], key=lambda one: one.began)


def _numbered(texts: Iterable[str]) -> Mapping[str, int]:
    return {text: number for number, text in enumerate(dict.fromkeys(texts))}


def _client(one: Seen) -> str:
    """`HTTP 3` of `HTTP.3-00012`."""
    front, _, rest = one.id.rpartition(".")
    return f"{front} {rest.partition('-')[0]}".strip()


def whole(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several runs together: it is as strong as the weakest of them."""
    lost, requests = sum(one.lost for one in verdicts), sum(one.requests for one in verdicts)
    below = bound(lost, requests)
    saying = [one for one in verdicts if one.strength is not Strength.NONE]
    if not saying:
        return Verdict(lost, requests, 1.0, Strength.NONE, "nothing can be said: no run came to an end")
    if lost:
        return Verdict(
            lost,
            requests,
            below,
            Strength.PROVED,
            f"{thousands(lost)} of {thousands(requests)} lost in {_runs(saying)}",
        )
    strength = Strength.BOUNDED
    if all(one.strength is Strength.ENUMERATED for one in saying):
        strength = Strength.ENUMERATED
    words = f"0 of {thousands(requests)} lost in {_runs(saying)}: below {percent(below)} at 95 %"
    return Verdict(lost, requests, below, strength, words)


def _runs(verdicts: Sequence[Verdict]) -> str:
    return "1 run" if len(verdicts) == 1 else f"{len(verdicts)} runs"


def thousands(number: int) -> str:
    """`5,334`."""
    return f"{number:,}"


def percent(share: float) -> str:
    """`0.056 %`: two digits that count."""
    return f"{share * 100:.2g} %"
