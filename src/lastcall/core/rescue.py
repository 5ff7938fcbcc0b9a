"""What is done about a connection whose worker has died. It knows no sockets: only a lane of the slot and a byte of state.

    nothing of a request was taken            passed on: another worker reads it from the kernel
    the application had not begun             the same, if the request is still whole; else 503
    it had begun, the request is whole        run again where the rule allows; else 503
    it had begun, and bytes of it were taken  503
    a byte of the answer may have left        cut: the connection is closed in a way that shows that it is not the whole

Nothing is answered twice: a request is run again only while not a byte of an answer has left.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Final

from lastcall.core.slot import Lane, State

ATTEMPTS_MAX: Final = 5
"""A request is run this often at most. SIGKILL comes from outside and says nothing about the request, so a request may be
unlucky more than once; five times in a row it was not luck."""
BLAMED_MAX: Final = 2
"""Workers that a request may take with it by a fault of its own (a crash, an exit, the memory) before it is poison."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110 section 9.2.1, without TRACE, which is not for servers behind a front."""
IDEMPOTENT: Final = SAFE | {"PUT", "DELETE"}
"""RFC 9110 section 9.2.2."""
RULES: Final = {"none": frozenset[str](), "safe": SAFE, "idempotent": IDEMPOTENT}
"""The values of the setting `replay`."""


class Verdict(enum.Enum):
    """What becomes of a connection. The value is the word that the cut list uses."""

    PASS_ON = "passed on"  # noqa: S105 - no password
    AGAIN = "run again"
    REFUSE = "answered 503"
    LATE = "answered 504"
    POISON = "answered 500"
    CUT = "cut"


def judge(lane: Lane | None, state: State, *, rule: str, taken_by: int = 0) -> Verdict:
    """`lane` is the request that the application had begun on this connection; `taken_by` counts the workers that requests
    like it have taken with them, this one included; 0: nobody blames the request.
    """
    if state >= State.ANSWERING:
        return Verdict.CUT
    if lane is None:
        return Verdict.PASS_ON if state is State.WHOLE else Verdict.REFUSE
    if taken_by >= BLAMED_MAX:
        return Verdict.POISON
    if state is State.WHOLE and lane.method in RULES[rule]:
        return Verdict.AGAIN if lane.attempt < ATTEMPTS_MAX else Verdict.POISON
    return Verdict.REFUSE


def fingerprint(method: str, uri: str) -> str:
    """What requests that are alike have in common. The slot's texts are cut: so is the likeness."""
    return hashlib.blake2b(f"{method} {uri}".encode("latin-1", "replace"), digest_size=16).hexdigest()
