"""What a journal is: where durable requests are written down. The stores beside this module are journals.

A *claim* on a key is held by whoever runs its request. It ends with its holder: a request that is RUNNING and claimed by
nobody is one whose worker has died. Between `claim` and `release` the record of that key is the claimer's alone.

Every method that reaches the store may raise JournalError: what was to be written is then not to be relied on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lastcall.durable.record import Record, Response, State, Step

SCHEMES: Final = ("postgresql://", "postgres://", "mongodb://", "mongodb+srv://")
MEMORY: Final = "memory:"


class JournalError(Exception):
    """The journal cannot be written or read; the text says why."""


class Full(JournalError):
    """There is no room for another request; those that have begun have some."""


class Lost(JournalError):
    """Somebody else has taken the request over: our claim on it has run out."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an operator has said about a journal."""

    durability: str = "power"
    """`process`: survives the death of every process; `power`: and that of the machine."""
    size: int = 1 << 30
    """Bytes at which new requests are refused; 0: no limit."""
    keep: float = 7 * 86400.0
    """Seconds for which an ended request is remembered."""
    sharers: int = 1
    """Processes that share `size`."""


class Journal(Protocol):
    """See the module's docstring. Safe to use from any thread."""

    def claim(self, key: str, patience: float) -> bool:
        """Claim a key, waiting for whoever has it; False when that takes longer than `patience`."""

    def release(self, key: str) -> None:
        """Give a claim up. Never raises: a claim that cannot be given up runs out."""

    def find(self, key: str) -> Record | None:
        """What is written down under a key."""

    def begin(self, record: Record) -> None:
        """Write a new request down; its key is claimed."""

    def adopt(self, record: Record) -> None:
        """Take a request over, as it was found, but for its attempt and its owner; its key is claimed."""

    def note(self, record: Record, step: Step) -> None:
        """Write down where a step is, over what was written about it before."""

    def erase(self, record: Record, step: Step) -> None:
        """A step has certainly not happened: as if it had never been started."""

    def end(self, record: Record, state: State, *, response: Response | None = None, why: str = "") -> None:
        """DONE with its response, PARKED, or ABANDONED."""

    def forget(self, record: Record) -> None:
        """Nothing was done: as if it had never been asked."""

    def orphans(self) -> Sequence[str]:
        """Keys of requests that are RUNNING, and that nobody here claims: for this process to adopt."""

    def revive(self, record: Record, steps: Sequence[Step]) -> None:
        """A parked request is to run again, from its first attempt on, with these of its steps; its key is claimed."""

    def listing(self, state: State | None = None, limit: int = 1000) -> Sequence[Record]:
        """Records, the newest first, without their bodies and steps."""

    def show(self, identity: str) -> Record | None:
        """One record, by its id, or by the first letters of it."""

    def tidy(self) -> None:
        """What is to be done from time to time: forget what is older than `keep`, take over what the dead have left."""

    def order(self, verb: str, identity: str, result: bytes | None = None) -> str:
        """`retry` or `abandon` a parked request; what became of that, in words. Raises JournalError."""

    def close(self) -> None:
        """Let go of everything."""
