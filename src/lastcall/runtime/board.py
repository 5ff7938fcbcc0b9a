"""The board: the pool's slots in a file under the run directory, shared by the master, its workers, and the tools.

The file outlives every process, so that a later master can read who was in the middle of what. Sparse: a slot that was
never used costs nothing.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import Final

from lastcall.core import slot as layout

NAME: Final = "board"
"""The file in the run directory."""
_FIRST: Final = 4096
"""Bytes before the first slot: the board's own head."""
_STATES: Final = _FIRST + layout.SLOTS * layout.SLOT_BYTES
"""Behind the slots: for each slot a byte for each descriptor of its worker."""
_SIZE: Final = _STATES + layout.SLOTS * layout.FDS
_QUARANTINED_AT: Final = 16
"""A byte: whether there is anything in the quarantine."""
_QUARANTINE: Final = 1024
_PATIENT: Final = struct.Struct("<16sd")
"""A fingerprint, and until when (monotonic)."""
QUARANTINE_MAX: Final = 64
"""Kinds of requests in quarantine at one time; beyond, the one that would leave first makes room."""
_STOPPING_AT: Final = 8
_LEAVING_AT: Final = 9
_CLOSED_AT: Final = 10
_PARKING_AT: Final = 11
_FROZEN_AT: Final = 12
_MASTERLESS: Final = struct.Struct("<d")
_MASTERLESS_AT: Final = 24
LAYOUT: Final = "lastcal4"
"""What the file begins with. Another layout has another name, and is not read. It stands for the inbox's packets as well."""
_MAGIC: Final = LAYOUT.encode()


class Board:
    """Read by anybody; each slot is written by its worker, the head and a dead worker's slot by the master."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Map the file. Raises OSError, and ValueError for a file that is no board."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.truncate(fd, _SIZE)
            elif os.fstat(fd).st_size != _SIZE:
                raise ValueError(f"{path} is not a board of this version")
            self._memory = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        if create:
            self._memory[: len(_MAGIC)] = _MAGIC
        elif self._memory[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"{path} is not a board of this version")

    @property
    def stopping(self) -> bool:
        """The pool is being stopped: no other worker will be there to take a connection over."""
        return self._memory[_STOPPING_AT] == 1

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self._memory[_STOPPING_AT] = int(value)

    @property
    def leaving(self) -> bool:
        """A stop is announced, or has begun: whoever asks whether we are ready is told to go elsewhere."""
        return self._memory[_LEAVING_AT] == 1

    @leaving.setter
    def leaving(self, value: bool) -> None:
        self._memory[_LEAVING_AT] = int(value)

    @property
    def closed(self) -> bool:
        """The stopping pool's listeners are closed: nobody new comes into the inbox."""
        return self._memory[_CLOSED_AT] == 1

    @closed.setter
    def closed(self, value: bool) -> None:
        self._memory[_CLOSED_AT] = int(value)

    @property
    def parking(self) -> bool:
        """The inbox is kept for the next start, and nobody takes anything out of it before."""
        return self._memory[_PARKING_AT] == 1

    @parking.setter
    def parking(self, value: bool) -> None:
        self._memory[_PARKING_AT] = int(value)

    def quarantine(self, fingerprint: str, until: float) -> None:
        """Have no worker run requests of this kind until then. The master's alone."""
        patients = [patient for patient in self._patients() if patient[0] != fingerprint]
        patients = sorted([*patients, (fingerprint, until)], key=lambda patient: patient[1])[-QUARANTINE_MAX:]
        for number in range(QUARANTINE_MAX):
            digest, time = patients[number] if number < len(patients) else ("", 0.0)
            _PATIENT.pack_into(self._memory, _QUARANTINE + number * _PATIENT.size, bytes.fromhex(digest), time)
        self._memory[_QUARANTINED_AT] = 1

    @property
    def has_quarantine(self) -> bool:
        """Whether `is_quarantined` need be asked."""
        return self._memory[_QUARANTINED_AT] == 1

    def is_quarantined(self, fingerprint: str, now: float) -> bool:
        return any(patient == fingerprint and now < until for patient, until in self._patients())

    def _patients(self) -> list[tuple[str, float]]:
        end = _QUARANTINE + QUARANTINE_MAX * _PATIENT.size
        found = _PATIENT.iter_unpack(self._memory[_QUARANTINE:end])
        return [(digest.hex(), until) for digest, until in found if until]

    @property
    def frozen(self) -> bool:
        """A listener has been closed to new clients: what is accepted may have to be thawed (`runtime/closing.py`)."""
        return self._memory[_FROZEN_AT] == 1

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._memory[_FROZEN_AT] = int(value)

    @property
    def masterless(self) -> float:
        """Since when (monotonic) the workers have had no master; 0: they have one. Written by them, and undone by it."""
        (since,) = _MASTERLESS.unpack_from(self._memory, _MASTERLESS_AT)
        return float(since)

    @masterless.setter
    def masterless(self, since: float) -> None:
        _MASTERLESS.pack_into(self._memory, _MASTERLESS_AT, since)

    def read(self, number: int) -> layout.Slot:
        at = _FIRST + number * layout.SLOT_BYTES
        lanes = layout.lanes_used(self._memory[at : at + layout.HEAD.size])
        return layout.unpack(self._memory[at : at + layout.HEAD.size + lanes * layout.LANE_BYTES])

    def claim(
        self, number: int, *, pid: int, generation: int, serial: int, lanes: int, started: int = 0
    ) -> SlotWriter:  # fmt: skip
        """A fresh slot for a fresh worker, wiped of what its last owner left."""
        at = _FIRST + number * layout.SLOT_BYTES
        self.wipe(number)
        head = layout.pack_head(pid, generation, serial, lanes, started)
        self._memory[at : at + len(head)] = head
        return SlotWriter(self._memory, number, at)

    def inherit(self, other: Board, number: int) -> None:
        """Have a slot as it stands on another board."""
        at, states = _FIRST + number * layout.SLOT_BYTES, _STATES + number * layout.FDS
        self._memory[at : at + layout.SLOT_BYTES] = other._memory[at : at + layout.SLOT_BYTES]
        self._memory[states : states + layout.FDS] = other.states(number)

    def states(self, number: int) -> bytes:
        """Of each descriptor of a slot's worker, its `State`."""
        at = _STATES + number * layout.FDS
        return self._memory[at : at + layout.FDS]

    def mark(self, number: int, fd: int, state: int) -> None:
        """Say what a dead worker's connection has come to since."""
        if fd < layout.FDS:
            self._memory[_STATES + number * layout.FDS + fd] = state

    def wipe(self, number: int) -> None:
        """Forget a slot's worker. The lanes' details stay; nobody reads them while `begun` is 0."""
        at = _FIRST + number * layout.SLOT_BYTES
        # Only the lanes that were in use, and the head last: whoever is killed in between leaves it to be done again.
        for lane in range(layout.lanes_used(self._memory[at : at + layout.HEAD.size])):
            layout.BEGUN.pack_into(self._memory, at + layout.HEAD.size + lane * layout.LANE_BYTES, 0.0)
        self._memory[at : at + layout.HEAD.size] = bytes(layout.HEAD.size)

    def wipe_states(self, number: int) -> None:
        """Forget what a dead worker's connections had come to. One that ends in order has done so itself."""
        at = _STATES + number * layout.FDS
        self._memory[at : at + layout.FDS] = bytes(layout.FDS)


class SlotWriter:
    """A worker's pen: a handful of stores, no lock, no system call."""

    __slots__ = (
        "_address", "_at", "_connections", "_counters_at", "_depths", "_ended_at", "_locks", "_memory", "_requests",
        "_states_at", "_steps", "_versions", "number",
    )  # fmt: skip

    def __init__(self, memory: mmap.mmap, number: int, at: int) -> None:
        self.number = number
        self._memory = memory
        self._at = at + layout.HEAD.size
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._counters_at = at + layout.COUNTERS_AT
        self._ended_at = at + layout.ENDED_AT
        self._states_at = _STATES + number * layout.FDS
        self._requests = itertools.count(1)  # its next() is atomic: threads share a slot
        self._versions = [0] * layout.LANES
        self._steps = [0] * layout.LANES
        self._depths = [0] * layout.LANES
        # Reentrant: a signal handler or a finalizer of the application may say where it is while it says so.
        self._locks = [threading.RLock() for _ in range(layout.LANES)]
        self._connections = 0

    @property
    def connections(self) -> int:
        """How many there are; written down at once, for a worker may have connections without a request."""
        return self._connections

    @connections.setter
    def connections(self, count: int) -> None:
        self._connections = count
        layout.CONNECTIONS.pack_into(self._memory, self._counters_at, count)

    def begin(
        self, lane: int, now: float, request_id: str, method: str, uri: str, client: str, trace: str, fd: int,
        exchange: int = 0, attempt: int = 1, kept: bool = False,
    ) -> int:  # fmt: skip
        """A request begins on the connection `fd`; `kept`: its client wants it to be kept.

        Returns what `step`, `enter` and `leave` know it by.
        """
        at = self._at + lane * layout.LANE_BYTES
        self._versions[lane] = version = (self._versions[lane] + 1) & 0xFFFFFFFF
        self._depths[lane] = 0
        layout.DETAILS.pack_into(
            self._memory, at + layout.DETAILS_AT, version, attempt, fd, exchange, self._steps[lane],
            request_id.encode("latin-1", "replace"),
            method.encode("latin-1", "replace"), uri.encode("latin-1", "replace"), client.encode("latin-1", "replace"),
            trace.encode("latin-1", "replace"), version,
        )  # fmt: skip
        self._memory[at + layout.DONE_AT : at + layout.DURABLE_AT + 1] = b"\0\0"
        self._memory[at + layout.KEPT_AT] = kept
        layout.BEGINNING.pack_into(self._memory, at, now, 0.0)
        return version

    # --- Where a request says that it is (gateway/marks.py): from any thread, and of no effect when it is over ----

    def step(self, lane: int, version: int, text: str) -> None:
        """The request has come to a step."""
        at = self._at + lane * layout.LANE_BYTES
        with self._locks[lane]:
            if self._versions[lane] != version:
                return
            number = self._steps[lane]
            layout.STEP.pack_into(
                self._memory, at + layout.RING_AT + number % layout.RING * layout.STEP.size,
                time.monotonic(), text.encode("utf-8", "replace"),
            )  # fmt: skip
            self._steps[lane] = number = (number + 1) & 0xFFFFFFFF
            layout.COUNT.pack_into(self._memory, at + layout.RING_END, number)
            layout.COUNT.pack_into(self._memory, at + layout.STEPS_AT, number)

    def enter(self, lane: int, version: int) -> None:
        """The request passes a point of no return; it may do so again inside."""
        with self._locks[lane]:
            if self._versions[lane] == version:
                self._depths[lane] += 1
                if self._depths[lane] == 1:
                    self._critical(lane, time.monotonic())

    def leave(self, lane: int, version: int) -> None:
        """Undoes one `enter`."""
        with self._locks[lane]:
            if self._versions[lane] == version and self._depths[lane]:
                self._depths[lane] -= 1
                if not self._depths[lane]:
                    self._critical(lane, -time.monotonic())

    def _critical(self, lane: int, when: float) -> None:
        layout.CRITICAL.pack_into(self._memory, self._at + lane * layout.LANE_BYTES + layout.CRITICAL_AT, when)

    def forget(self) -> None:
        """In a process that the application has forked: what it says is not said of a request of ours."""
        self._versions = [-1] * layout.LANES
        self._locks = [threading.RLock() for _ in range(layout.LANES)]

    def room(self, lane: int) -> int:
        """The address of REQUEST_BYTES bytes, for recv(2): what is taken from the kernel is nowhere else than here."""
        return self._address + self._at + lane * layout.LANE_BYTES + layout.REQUEST_AT

    def mark(self, fd: int, state: int) -> None:
        """Say what the request on a connection has come to; back to WHOLE before the next one, to UNKNOWN when closed."""
        if fd < layout.FDS:
            self._memory[self._states_at + fd] = state

    def answer(self, lane: int, written: int, length: int, taken: int, due: int, unread: int, kept: bool) -> None:
        """The first byte of an answer is about to leave: see `slot.ANSWER`."""
        at = self._at + lane * layout.LANE_BYTES + layout.ANSWER_AT
        layout.ANSWER.pack_into(self._memory, at, written, length, taken, due, unread, kept)

    def length(self, lane: int, length: int) -> None:
        """The last part of an answer is about to leave: so many bytes will it have as a whole."""
        layout.LENGTH.pack_into(self._memory, self._at + lane * layout.LANE_BYTES + layout.LENGTH_AT, length)

    def promise(self, lane: int) -> None:
        """The request is about to be written into a journal: it may be run again until its answer begins."""
        self._memory[self._at + lane * layout.LANE_BYTES + layout.DURABLE_AT] = 1

    def done(self, lane: int) -> None:
        """All of the answer has been handed to the kernel: whatever is done next is about the next request."""
        self._memory[self._at + lane * layout.LANE_BYTES + layout.DONE_AT] = 1

    def end(self, lane: int) -> None:
        layout.BEGUN.pack_into(self._memory, self._at + lane * layout.LANE_BYTES, 0.0)
        layout.COUNTERS.pack_into(self._memory, self._counters_at, self._connections, next(self._requests))

    def ended(self) -> None:
        """This worker ends in order: whoever finds the slot need not ask of what it has died."""
        layout.ENDED.pack_into(self._memory, self._ended_at, 1)
