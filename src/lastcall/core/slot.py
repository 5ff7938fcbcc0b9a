"""One slot of the scoreboard: fields, pack, unpack. The board (`runtime/board.py`) says where the memory is.

A slot is a head and LANES lanes; a lane is one request in flight (a sync worker uses the first, a worker with threads
one per thread). Each has one writer, its worker, and no lock. A lane's details carry a version before and after, written
in one ascending pass: a reader that finds two different ones has met a write under way, and reads again.

`begun` and the details are separate on purpose: a request ends by writing eight zero bytes.

Steps are in a ring, numbered for as long as the worker lives. Whoever reads them while they are written finds some of them
missing, never one that is half another: the counter before the ring is behind what is whole, the one after it ahead of
what is overwritten, and one place more than STEPS is kept free for the writer.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

LANES: Final = 64
"""Requests in flight per worker that have a place: the upper bound of `threads`."""
SLOTS: Final = 512
"""Workers, old and new together, that have a place."""
WORKERS_MAX: Final = 200
SURGE_MAX: Final = 100

HEAD: Final = struct.Struct("<IIQIIQQB23x")
"""pid, generation, serial, lanes in use, connections, requests finished, when the process was started (see
`runtime/identity.py`), whether it has ended; padded to 64 bytes."""
ENDED: Final = struct.Struct("<B")
ENDED_AT: Final = 40
CONNECTIONS: Final = struct.Struct("<I")
COUNTERS: Final = struct.Struct("<IQ")
COUNTERS_AT: Final = 20
BEGUN: Final = struct.Struct("<d")
CRITICAL: Final = BEGUN
"""Since when the request is past a point of no return (`lastcall.critical`); below 0: when it was last; 0: it never was."""
CRITICAL_AT: Final = 8
BEGINNING: Final = struct.Struct("<dd")
"""Both of them."""
TEXTS: Final = {"request_id": 37, "method": 16, "uri": 300, "client": 46, "trace": 64}
"""A lane's texts and the bytes that each has: latin-1, cut, padded with NUL. An id has one more than a UUID needs, so
that a UUID does not look as if it had been cut."""
DETAILS: Final = struct.Struct("<IBIHI" + "".join(f"{width}s" for width in TEXTS.values()) + "I")
"""version, attempt, descriptor, exchange, the number of its first step, the texts, version again."""
DETAILS_AT: Final = 16
LANE_BYTES: Final = 4096
ANSWER: Final = struct.Struct("<IIIHH?")
"""About the answer, written down before its first byte leaves: bytes that the connection had been written before, bytes of
the answer as far as they are known by then (else 0), bytes that had been read from the connection, bytes of the request
that are still to be read, bytes that wait to be read (these included), whether the connection is kept."""
ANSWER_AT: Final = 500
LENGTH: Final = struct.Struct("<I")
LENGTH_AT: Final = ANSWER_AT + 4
KEPT_AT: Final = ANSWER_AT + ANSWER.size - 1
DONE_AT: Final = 517
"""A byte: all of the answer has been handed to the kernel, and the lane is about to end."""
DURABLE_AT: Final = 518
"""A byte: the request may be run again at any time, because it is in a journal (docs/DURABLE.md)."""
STEPS: Final = 16
"""The latest steps of a request that are kept."""
STEP_BYTES: Final = 72
STEP: Final = struct.Struct(f"<d{STEP_BYTES}s")
"""When (monotonic), and a text: UTF-8, cut, padded with NUL; SEPARATOR and what the step is about may follow its name."""
SEPARATOR: Final = "\x1f"
RING: Final = STEPS + 1
COUNT: Final = struct.Struct("<I")
"""How many steps there have been in this lane: before and after the ring."""
STEPS_AT: Final = 520
RING_AT: Final = 528
RING_END: Final = RING_AT + RING * STEP.size
REQUEST_AT: Final = 1920
REQUEST_BYTES: Final = LANE_BYTES - REQUEST_AT
"""Where a request lands that is taken before its answer is sent, if it is no longer: it is not lost with its worker."""
SLOT_BYTES: Final = HEAD.size + LANES * LANE_BYTES

AFTERMATH: Final = 0.25
"""Seconds that a request has to be answered when it has left a critical block: nothing is gained by cutting it then."""

FDS: Final = 65536
"""Descriptors of a worker whose state has a place; `limits` in runtime/service.py raises no limit above it by itself."""


class State(enum.IntEnum):
    """What has happened to the request on a connection, as far as the connection itself shows: one byte a descriptor."""

    UNKNOWN = 0
    """Nobody has said anything yet: it has just been accepted, or has just come from the inbox."""
    WHOLE = 1
    """Nothing was taken from it: whatever was not answered is still in the kernel."""
    TAKEN = 2
    """A part of the request that is to be answered next has been taken from the kernel."""
    TAKING = 3
    """A request that is whole is just being taken; not a byte of its answer has left."""
    OVER = 4
    """All has been answered, and nothing follows: it is about to be closed, and its client may wait for that."""
    GIVEN = 5
    """It is in the inbox, or is just being put there: which of the two, its label says (`runtime/label.py`)."""
    ANSWERING = 6
    """A byte of its answer may have left, and the request may have been taken; where the answer ends stands in it."""
    OPEN_ENDED = 7
    """The same, and only the connection's end will say where it ends."""
    PARTED = 8
    """As GIVEN, with bytes that were taken from it: they go with it, and nobody else has them."""


assert HEAD.size == 64
assert 2 * WORKERS_MAX + SURGE_MAX <= SLOTS  # what the machine allows: docs/LIFECYCLE.md
assert DETAILS_AT + DETAILS.size <= ANSWER_AT
assert ANSWER_AT + ANSWER.size <= DONE_AT < DURABLE_AT < STEPS_AT
assert RING_END + COUNT.size <= REQUEST_AT


@dataclass(frozen=True, slots=True)
class Step:
    """Where in its work a request has said that it was."""

    name: str
    at: float
    """When, on the monotonic clock."""
    about: str = ""
    """What it is about: the key of an order."""
    shortened: bool = False
    """The two filled their place to the last byte."""

    @property
    def words(self) -> str:
        """`sendPresent (order-17)`."""
        return f"{self.name} ({self.about})" if self.about else self.name


@dataclass(frozen=True, slots=True)
class Lane:
    """A request in flight, as read from a slot."""

    number: int
    begun: float
    """On the monotonic clock, which all processes of a machine share."""
    attempt: int
    request_id: str
    method: str
    uri: str
    client: str
    steps: tuple[Step, ...] = ()
    """The latest STEPS of them."""
    forgotten: int = 0
    """Steps before these."""
    critical: float = 0.0
    """See CRITICAL."""
    trace: str = ""
    """What the header that names the trace has."""
    fd: int = -1
    """The connection's number in its worker."""
    exchange: int = 0
    """What the protocol knows the request by: FastCGI's request id; 0 for HTTP."""
    written: int = 0
    length: int = 0
    taken: int = 0
    due: int = 0
    unread: int = 0
    kept: bool = False
    done: bool = False
    """See ANSWER."""
    durable: bool = False
    """See DURABLE_AT."""
    landed: bytes = b""
    """See REQUEST_AT: what has been taken, once it is known to have been (State.TAKING)."""

    @property
    def request(self) -> str:
        return f"{self.method} {self.uri}"

    def committed(self, now: float) -> bool:
        """It is past a point of no return, or was a moment ago."""
        return self.critical > 0 or (self.critical < 0 and now + self.critical < AFTERMATH)

    @property
    def step(self) -> Step | None:
        """The last one."""
        return self.steps[-1] if self.steps else None

    @property
    def shortened(self) -> tuple[str, ...]:
        """The texts that fill their place to the last byte: there may have been more of them."""
        names = tuple(name for name, width in TEXTS.items() if len(getattr(self, name)) >= width)
        return (*names, "steps") if any(step.shortened for step in self.steps) else names


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot says of its worker."""

    pid: int
    generation: int
    serial: int
    connections: int
    requests: int
    lanes: tuple[Lane, ...]
    started: int = 0
    """With the pid: which process it is."""
    ended: bool = False
    """It has ended in order, by itself."""


def pack_head(pid: int, generation: int, serial: int, lanes: int, started: int = 0) -> bytes:
    """A fresh worker's head."""
    return HEAD.pack(pid, generation, serial, lanes, 0, 0, started, 0)


def unpack(data: bytes) -> Slot:
    """A slot from a copy of its bytes. A lane that was being written is left out: ask again."""
    pid, generation, serial, used, connections, requests, started, ended = HEAD.unpack_from(data)
    lanes = []
    for number in range(min(used, LANES, (len(data) - HEAD.size) // LANE_BYTES)):
        lane = _lane(number, data, HEAD.size + number * LANE_BYTES)
        if lane is not None:
            lanes.append(lane)
    return Slot(pid, generation, serial, connections, requests, tuple(lanes), started, ended == 1)


def lanes_used(head: bytes) -> int:
    """From the HEAD.size bytes of a head."""
    return min(int(HEAD.unpack(head)[3]), LANES)


def _lane(number: int, data: bytes, at: int) -> Lane | None:
    begun, critical = BEGINNING.unpack_from(data, at)
    before, attempt, fd, exchange, first, *texts, after = DETAILS.unpack_from(data, at + DETAILS_AT)
    if begun == 0.0 or before != after:
        return None
    request_id, method, uri, client, trace = map(_text, texts)
    written, length, taken, due, unread, kept = ANSWER.unpack_from(data, at + ANSWER_AT)
    steps, forgotten = _steps(data, at, first)
    return Lane(
        number, begun, attempt, request_id, method, uri, client, steps, forgotten, critical, trace, fd, exchange, written,
        length, taken, due, unread, kept, data[at + DONE_AT] == 1, data[at + DURABLE_AT] == 1,
        data[at + REQUEST_AT : at + REQUEST_AT + due] if due <= REQUEST_BYTES else b"",
    )  # fmt: skip


def _steps(data: bytes, at: int, first: int) -> tuple[tuple[Step, ...], int]:
    """The latest steps of a request, and how many there were before them."""
    (whole,) = COUNT.unpack_from(data, at + STEPS_AT)
    (begun,) = COUNT.unpack_from(data, at + RING_END)
    oldest = max(first, begun - STEPS)
    found = []
    for number in range(oldest, whole):
        when, raw = STEP.unpack_from(data, at + RING_AT + number % RING * STEP.size)
        name, _, about = raw.rstrip(b"\0").decode("utf-8", "ignore").partition(SEPARATOR)
        found.append(Step(name, when, about, shortened=raw[-1] != 0))
    return tuple(found), max(0, oldest - first)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("latin-1")
