"""The cut list's file: `cuts.jsonl` in the run directory, appended to by the master. It outlives every instance.

Each record is one write(2) to a file opened with O_APPEND, then fsync(2). What cannot be written is said to the caller, and
has no other consequence: the error log names the request as well.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lastcall.core import cuts
from lastcall.core.slot import Lane

NAME: Final = "cuts.jsonl"
OLD: Final = f"{NAME}.1"
BYTES_MAX: Final = 16 << 20
"""Of the file; one that has grown larger becomes OLD, and takes the place of the one before. About 30,000 records."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a worker, as far as it concerns the requests that it was running."""

    pool: str
    pid: int
    serial: int
    generation: int
    status: int
    """The wait status."""
    kind: cuts.Kind
    request_timeout: float
    drain_timeout: float
    clock: float
    """When, on the monotonic clock, on which requests begin."""
    time: float
    """When, as Unix time."""
    because: str = ""
    """What it was told to finish for, if it was."""
    asked_by: str = ""
    """Who has asked for that."""


def records(death: Death, lanes: Iterable[tuple[Lane, str]], done: str = "") -> list[cuts.Cut]:
    """What the cut list says of these requests; with each the line of code that it was in, or "". `done`: about them."""
    patience = death.request_timeout if death.kind is cuts.Kind.REQUEST_TIMEOUT else death.drain_timeout
    at = datetime.fromtimestamp(death.time, UTC).isoformat(timespec="milliseconds")
    found = []
    for lane, where in lanes:
        elapsed = max(0.0, death.clock - lane.begun)
        other = elapsed <= death.request_timeout
        cause = cuts.cause(death.kind, death.status, patience, other=other, because=death.because)
        cut = cuts.Cut(
            id=f"{round(death.time * 1000):x}-{death.serial}-{lane.number}", at=at,
            time=round(death.time, 3), request_id=lane.request_id, method=lane.method, uri=lane.uri,
            client=lane.client, elapsed=round(elapsed, 6), pid=death.pid, serial=death.serial,
            generation=death.generation, kind=death.kind, cause=cause, asked_by=death.asked_by, pool=death.pool,
            step="" if lane.step is None else lane.step.name,
            steps=tuple(cuts.Step(step.name, round(max(0.0, step.at - lane.begun), 6), step.about) for step in lane.steps),
            steps_before=lane.forgotten, critical="inside" if lane.critical > 0 else "passed" if lane.critical else "",
            where=where, trace_id=cuts.trace_id(lane.trace), attempt=lane.attempt, done=done,
            shortened=lane.shortened,
        )  # fmt: skip
        found.append(cut)
    return found


class CutList:
    """The list of one run directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME

    def add(self, records: list[cuts.Cut]) -> str:
        """Write the records; returns why that has failed, or "". Nothing is left of a record that did not fit."""
        try:
            self._rotate()
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o600)
            try:
                for record in records:
                    _append(fd, cuts.encode(record))
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            return f"{self._path}: {error.strerror or error}"
        return ""

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size > BYTES_MAX:
                self._path.replace(self._path.with_name(OLD))


def _append(fd: int, line: bytes) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        line = b"\n" + line  # the machine went down inside a write: that record is lost, this one is not
    written = os.write(fd, line)
    if written < len(line):
        os.ftruncate(fd, size)  # nobody else writes here: the run directory's lock is ours
        raise OSError("no space for a whole record")


def files(file: Path) -> list[Path]:
    """The files of a cut list that are there, the older one first."""
    return [path for path in (file.with_name(f"{file.name}.1"), file) if path.exists()]
