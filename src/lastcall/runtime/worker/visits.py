"""What the worker's loop and durable requests have to do with each other: a seat for each, and visits without a client."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from lastcall.runtime.board import SlotWriter

VISITOR: Final = 0xFFFF
"""The listener of a connection that has come through none: a worker's to itself, which it gives to nobody."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that a worker makes of itself, in FastCGI on one end of a socketpair."""

    sock: socket.socket
    journal_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Seat:
    """`environ["lastcall.durable"]`: what a durable request needs of its server (`lastcall.durable.wsgi.Seat`)."""

    slot: SlotWriter
    lane: int
    origin: tuple[str, str]

    def promise(self) -> None:
        """Whoever finds this request unanswered may run it again."""
        self.slot.promise(self.lane)
