"""The kinds of what became of a request, as a report shows them: one colour and one shape each, the worst first."""

from __future__ import annotations

import enum
from typing import Final

from lastcall.tools.drill.outcomes import HARM, Amiss, Outcome
from lastcall.tools.drill.results import Records, Run


class Kind(enum.StrEnum):
    """What a reader must tell apart at a glance. The value is its name in the page."""

    HARM = "harm"
    UNTOLD = "untold"
    BROKEN = "broken"
    STATUS = "status"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    ANSWERED = "answered"


WORDS: Final[dict[Kind, str]] = {
    Kind.HARM: "books wrong",
    Kind.UNTOLD: "done, not told",
    Kind.BROKEN: "connection broken",
    Kind.STATUS: "error status",
    Kind.TIMEOUT: "timed out",
    Kind.REFUSED: "refused",
    Kind.ANSWERED: "answered",
}
"""In the order in which they are listed."""

MEANING: Final[dict[Kind, str]] = {
    Kind.HARM: "one action was done without the other, done twice, or promised and not done",
    Kind.UNTOLD: "all of it was done, and the client was shown an error",
    Kind.BROKEN: "reset, closed or cut: nothing was done, or nobody keeps books",
    Kind.STATUS: "502, 503, 504 or another error",
    Kind.TIMEOUT: "no answer in time",
    Kind.REFUSED: "no connection came about: the client knows that nothing was done",
    Kind.ANSWERED: "as it should be",
}

GLYPHS: Final[dict[Kind, tuple[str, str]]] = {
    Kind.HARM: ("◆", "#"),
    Kind.UNTOLD: ("◇", "%"),
    Kind.BROKEN: ("✕", "x"),
    Kind.STATUS: ("□", "o"),
    Kind.TIMEOUT: ("+", "t"),
    Kind.REFUSED: ("▽", "v"),
    Kind.ANSWERED: ("·", "."),
}
"""For a terminal: in Unicode and in ASCII. The page draws the same shapes."""

_HARM: Final = frozenset(map(str, HARM))
_BY_OUTCOME: Final[dict[str, Kind]] = {
    Outcome.REFUSED: Kind.REFUSED,
    Outcome.CONNECT_TIMED_OUT: Kind.REFUSED,
    Outcome.TIMED_OUT: Kind.TIMEOUT,
    Outcome.RESET: Kind.BROKEN,
    Outcome.CLOSED: Kind.BROKEN,
    Outcome.CUT: Kind.BROKEN,
}


def kind(outcome: str, amiss: str) -> Kind:
    """Of one request, from its words in `Records.outcomes` and `Records.ledger`. What the books say weighs more."""
    if amiss in _HARM:
        return Kind.HARM
    if amiss == Amiss.UNTOLD:
        return Kind.UNTOLD
    known = _BY_OUTCOME.get(outcome)
    if known is not None:
        return known
    return Kind.ANSWERED if len(outcome) == 3 and outcome.startswith("2") else Kind.STATUS


def kinds(records: Records) -> list[Kind]:
    """Of every request that is kept."""
    table = [[kind(outcome, amiss) for amiss in records.ledger] for outcome in records.outcomes]
    return [table[outcome][amiss] for outcome, amiss in zip(records.outcome, records.amiss, strict=True)]


def tally(found: list[Kind]) -> dict[Kind, int]:
    """How many there are of each kind that there is, the worst first."""
    counted = {one: found.count(one) for one in Kind}
    return {one: many for one, many in counted.items() if many}


def extent(run: Run) -> float:
    """Seconds that a plot of the run has to show: until the last thing that happened."""
    records = run.records
    last_answer = max((began + took for began, took in zip(records.began, records.took, strict=True)), default=0.0)
    return max(run.took, last_answer, max((restart.ended for restart in run.restarts), default=0.0), 0.1)
