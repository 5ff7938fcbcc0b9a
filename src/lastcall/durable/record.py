"""What stands in a journal: a request as it was asked, its steps, and its response. Pure data; stores write it down.

The fields are an interface between versions: a journal outlives the code that has written it. Fields may be added at the
end, with a default; none is removed or gets another meaning.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from typing import Final

import msgspec

KEY_MAX: Final = 255
"""Characters of an idempotency key, as Stripe has it."""
BODY_MAX: Final = 1 << 20
"""Bytes of a durable request's body: each is written to disk once more than usual."""
RESPONSE_MAX: Final = 1 << 20
"""Bytes of a durable request's response."""
RESULT_MAX: Final = 1 << 20
"""Bytes of a step's result, as JSON."""


class State(enum.IntEnum):
    """Where a request is. The numbers are written down."""

    RUNNING = 1
    """Begun and not ended: it runs, or whoever ran it has died."""
    DONE = 2
    PARKED = 3
    """Somebody has to decide: `why` says what."""
    ABANDONED = 4
    """Somebody has decided that it is not to be finished."""


class StepState(enum.IntEnum):
    """Where a step is. The numbers are written down."""

    STARTED = 1
    """It may have happened."""
    DONE = 2
    FAILED = 3
    """It has raised; that is its result."""


class Asked(msgspec.Struct, frozen=True):
    """A request, so that it can be run again without its client."""

    method: str
    target: str
    environ: dict[str, str]
    """The CGI variables, as a server gives them (RFC 3875)."""
    body: bytes = b""
    request_id: str = ""

    @property
    def path(self) -> str:
        """What the client calls the resource: decoded, without the query."""
        return self.environ.get("SCRIPT_NAME", "") + self.environ.get("PATH_INFO", "")

    @property
    def fingerprint(self) -> str:
        """What is the same when the same is asked for again."""
        method, target = self.method.encode("latin-1", "replace"), self.target.encode("utf-8", "surrogateescape")
        parts = (method, target, self.body)
        text = b"".join([part for each in parts for part in (len(each).to_bytes(8, "little"), each)])
        return hashlib.blake2b(text, digest_size=16).hexdigest()


class Response(msgspec.Struct, frozen=True):
    """What a client is told, now and whenever it asks the same again."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Step(msgspec.Struct, frozen=True):
    """One step of a request."""

    seq: int
    name: str
    state: StepState
    attempt: int
    """Of the request, in which this was written."""
    at: float
    result: bytes = b""
    """JSON: what it returned, or what it raised: `[class, text]`."""


class Record(msgspec.Struct, frozen=True):
    """One durable request."""

    key: str
    """Scope and idempotency key (`full_key`): unique in a journal."""
    id: str
    """How it is called in logs and commands."""
    fingerprint: str
    method: str
    target: str
    begun: float
    """Unix time, as is every time here."""
    changed: float
    owner: str
    """Who has run it last: for people."""
    attempt: int = 1
    state: State = State.RUNNING
    why: str = ""
    """Why it is parked."""
    asked: Asked | None = None
    """None once it has ended: it will not be run again."""
    response: Response | None = None
    steps: tuple[Step, ...] = ()


def full_key(scope: str, key: str) -> str:
    """One text of both. A key has no control characters, so that no two pairs give the same text."""
    return f"{scope}\n{key}"


def step_key(key: str, name: str, seq: int) -> str:
    """What a step passes to its callee: the same in every attempt, on every machine, and after the journal was lost."""
    return hashlib.blake2b(f"{key}\n{name}\n{seq}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=256)  # asked ten times for each request
def number(key: str) -> int:
    """A key as a number of 62 bits: a place in a file of locks, a row's number."""
    return (
        int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little") >> 2
    )
