"""One slot of the scoreboard: fields, pack, unpack. The board (`runtime/board.py`) says where the memory is.

A slot is a head and LANES lanes; a lane is one request in flight (a sync worker uses the first, a worker with threads
one per thread). Each has one writer, its worker, and no lock. A lane's details carry a version before and after, written
in one ascending pass: a reader that finds two different ones has met a write under way, and reads again.

`begun` and the details are separate on purpose: a request ends by writing eight zero bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

LANES: Final = 64
"""Requests in flight per worker that have a place: the upper bound of `threads`."""
SLOTS: Final = 512
"""Workers, old and new together, that have a place."""
WORKERS_MAX: Final = 200
SURGE_MAX: Final = 100

HEAD: Final = struct.Struct("<IIQIIQ32x")
"""pid, generation, serial, lanes in use, connections, requests finished; padded to 64 bytes."""
COUNTERS: Final = struct.Struct("<IQ")
COUNTERS_AT: Final = 20
BEGUN: Final = struct.Struct("<d")
TEXTS: Final = {"request_id": 37, "method": 16, "uri": 300, "client": 46, "step": 72}
"""A lane's texts and the bytes that each has: latin-1, cut, padded with NUL. An id has one more than a UUID needs, so
that a UUID does not look as if it had been cut."""
DETAILS: Final = struct.Struct("<IB" + "".join(f"{width}s" for width in TEXTS.values()) + "I")
"""version, attempt, the texts, version again."""
DETAILS_AT: Final = 8
LANE_BYTES: Final = 512
STEP_BYTES: Final = TEXTS["step"]
SLOT_BYTES: Final = HEAD.size + LANES * LANE_BYTES

assert HEAD.size == 64
assert 2 * WORKERS_MAX + SURGE_MAX <= SLOTS  # what the machine allows: docs/LIFECYCLE.md
assert DETAILS_AT + DETAILS.size <= LANE_BYTES


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
    step: str

    @property
    def request(self) -> str:
        return f"{self.method} {self.uri}"

    @property
    def shortened(self) -> tuple[str, ...]:
        """The texts that fill their place to the last byte: there may have been more of them."""
        return tuple(name for name, width in TEXTS.items() if len(getattr(self, name)) >= width)


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot says of its worker."""

    pid: int
    generation: int
    serial: int
    connections: int
    requests: int
    lanes: tuple[Lane, ...]


def pack_head(pid: int, generation: int, serial: int, lanes: int) -> bytes:
    """A fresh worker's head."""
    return HEAD.pack(pid, generation, serial, lanes, 0, 0)


def unpack(data: bytes) -> Slot:
    """A slot from a copy of its SLOT_BYTES bytes. A lane that was being written is left out: ask again."""
    pid, generation, serial, used, connections, requests = HEAD.unpack_from(data)
    lanes = []
    for number in range(min(used, LANES)):
        at = HEAD.size + number * LANE_BYTES
        (begun,) = BEGUN.unpack_from(data, at)
        if begun == 0.0:
            continue
        before, attempt, request_id, method, uri, client, step, after = DETAILS.unpack_from(data, at + DETAILS_AT)
        if before == after:
            lanes.append(Lane(number, begun, attempt, *map(_text, (request_id, method, uri, client, step))))
    return Slot(pid, generation, serial, connections, requests, tuple(lanes))


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("latin-1")
