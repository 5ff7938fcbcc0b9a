"""What can become of one request: as its client saw it, and as the ledgers have it."""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class Outcome(enum.StrEnum):
    """How it ended. All but the first are losses; the last is none, for it was no request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """No connection came about: nobody listens there."""
    CONNECT_TIMED_OUT = "connect timed out"
    RESET = "reset before the head"
    CLOSED = "closed before the head"
    CUT = "cut inside the answer"
    TIMED_OUT = "timed out"
    LEFT = "closed while idle"
    """A kept connection that the server closed between two requests: allowed, but a client can tell."""


UNSENT: Final = frozenset({Outcome.REFUSED, Outcome.CONNECT_TIMED_OUT})
"""No connection came about, and so the request was never sent: the client knows that nothing was done."""


class Amiss(enum.StrEnum):
    """What the two ledgers say of a request, where they and its client do not agree. The first is agreement."""

    NOTHING = ""
    HALF_DONE = "half done"
    """The first action was done, the second was not."""
    UNASKED = "second action only"
    """The second action was done, the first was not."""
    TWICE = "done twice"
    UNTOLD = "done, not told"
    """Both actions were done, and the client saw an error."""
    NEVER_BEGUN = "never begun"
    """Neither was done, and the client saw an error: the kind that may be asked again."""
    TOLD_NOT_DONE = "told 200, not done"
    """The client was told yes, and it is not so."""


HARM: Final = (Amiss.HALF_DONE, Amiss.UNASKED, Amiss.TWICE, Amiss.TOLD_NOT_DONE)
"""The books are wrong. A client that was not told has seen an error, and that is counted as one."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What a client saw of one request. Times are of the monotonic clock, which all processes share."""

    id: str
    front: str
    outcome: Outcome
    status: int
    """Of an answer; 0 without one."""
    began: float
    """When it was to be sent: with a fixed rate of arrivals that may be before it was."""
    took: float
    kept: bool
    """The connection had carried a request before."""
    closing: bool = False
    """The answer came, and said that the connection would end, which the client had not asked for."""
    detail: str = ""
    step: str = ""
    """The step at which the operator struck, of a request that was held there."""

    @property
    def ended(self) -> float:
        return self.began + self.took

    @property
    def yes(self) -> bool:
        """Answered as it should be."""
        return self.outcome is Outcome.ANSWERED and 200 <= self.status < 300

    @property
    def what(self) -> str:
        """The outcome in a word or two; a status that is an error by its number."""
        return str(self.status) if self.outcome is Outcome.ANSWERED else str(self.outcome)
