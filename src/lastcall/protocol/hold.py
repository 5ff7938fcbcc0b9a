"""What is said to a holder, the process that a stopped master leaves its listeners with: a JSON object a packet.

    CLAIM     -> a packet for each listener, its Papers with the descriptor, then Held with the inbox's two ends
    SERVING   -> nothing; the connections that the holder keeps go back into the inbox
    DONE      -> nothing; the holder ends, and what it held is the claimant's alone
    STATUS    -> Held
    STOP      -> nothing; the holder ends as if its time were up

A claimant that closes its connection without DONE has died: the holder goes on holding.
"""

from __future__ import annotations

import enum

import msgspec

PACKET_MAX = 65536


class Do(enum.Enum):
    """See the module's docstring."""

    CLAIM = "claim"
    SERVING = "serving"
    DONE = "done"
    STATUS = "status"
    STOP = "stop"


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """One packet to the holder."""

    do: Do
    kept: list[int] = []
    """With SERVING and DONE: the numbers of the listeners that the claimant goes on with."""


class Held(msgspec.Struct, frozen=True):
    """What a holder has."""

    pid: int
    listeners: list[str]
    left: float
    """Seconds until its time is up."""
    connections: int
    claimed: bool
    """A start is under way, and the time stands still."""
