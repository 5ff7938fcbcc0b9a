"""The cut list's file: `cuts.jsonl` in the run directory, appended to by the master. It outlives every instance.

Each record is one write(2) to a file opened with O_APPEND, then fsync(2). What cannot be written is said to the caller, and
has no other consequence: the error log names the request as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lastcall.core import cuts
from lastcall.core.rescue import Verdict
from lastcall.core.slot import Lane

NAME: Final = "cuts.jsonl"
OLD: Final = f"{NAME}.1"
COMPLETED: Final = "cuts.completed.jsonl"
"""Beside it: a line for each record for which `on_cut` has returned."""
BYTES_MAX: Final = 16 << 20
"""Of the file; one that has grown larger becomes OLD, and takes the place of the one before. About 30,000 records."""
BYTES_MOST: Final = 4 * BYTES_MAX
"""Of the file, where the one before holds records that wait for `on_cut`. Beyond, they are given up."""


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
    on_cut: str = ""
    """What is to complete the requests that are not run again."""


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
            # The journal completes what is durable: nobody else is to.
            on_cut="" if done == Verdict.AGAIN.value or lane.durable else death.on_cut,
            shortened=lane.shortened,
        )  # fmt: skip
        found.append(cut)
    return found


class CutList:
    """The list of one run directory, and beside it the list of those that `on_cut` has completed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._completed = directory / COMPLETED
        self._rotate_at = BYTES_MAX

    def add(self, records: list[cuts.Cut], *, once: bool = False) -> str:
        """Write the records; returns why that has failed, or "". Nothing is left of a record that did not fit.

        `once`: leave out those that are there. A master that has died may have written them, and not lived to say so.
        """
        try:
            if once:
                records = self._unknown(records)
            self._rotate()
            _append(self._path, [cuts.encode(record) for record in records])
        except OSError as error:
            return f"{self._path}: {error.strerror or error}"
        return ""

    def complete(self, cut: str, tries: int) -> str:
        """Write down that this record is completed; returns why that has failed, or ""."""
        line = cuts.encode(cuts.Completion(cut, datetime.now(UTC).isoformat(timespec="milliseconds"), tries))
        try:
            _append(self._completed, [line])
        except OSError as error:
            return f"{self._completed}: {error.strerror or error}"
        return ""

    def uncompleted(self) -> list[cuts.Cut]:
        """The records that wait for `on_cut`, the oldest first. Raises OSError."""
        completed = completions(self._path)
        return [cut for path in files(self._path) for cut in _records(path) if cut.on_cut and cut.id not in completed]

    def _unknown(self, records: list[cuts.Cut]) -> list[cuts.Cut]:
        known = {_identity(cut) for path in files(self._path) for cut in _records(path)}
        return [record for record in records if _identity(record) not in known]

    def _rotate(self) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size <= self._rotate_at:
            return
        old = self._path.with_name(OLD)
        completed = completions(self._path)
        waits = old.exists() and any(cut.on_cut and cut.id not in completed for cut in _records(old))
        if waits and size < BYTES_MOST:
            self._rotate_at = size + BYTES_MAX // 16  # what would be thrown away is somebody's work: look again later
            return
        self._rotate_at = BYTES_MAX
        self._path.replace(old)
        self._forget({cut.id for cut in _records(old)}, completed)

    def _forget(self, known: set[str], completed: dict[str, cuts.Completion]) -> None:
        """Drop the completions of records that are gone."""
        fresh = self._completed.with_name(f"{COMPLETED}.new")
        fresh.unlink(missing_ok=True)
        _append(fresh, [cuts.encode(completion) for cut, completion in completed.items() if cut in known])
        fresh.replace(self._completed)


def _identity(cut: cuts.Cut) -> tuple[str, int, int, int]:
    return cut.request_id, cut.attempt, cut.serial, cut.pid


def completions(file: Path) -> dict[str, cuts.Completion]:
    """What has been completed of a cut list, by the records' ids. Raises OSError."""
    try:
        lines = file.with_name(COMPLETED).read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    return {completion.id: completion for completion in cuts.decode_completions(lines)}


def _records(path: Path) -> list[cuts.Cut]:
    return cuts.decode(path.read_bytes().split(b"\n"))[0]


def _append(path: Path, lines: list[bytes]) -> None:
    """Write whole lines, and have them on the disk. Raises OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    is_new = not path.exists()
    fd = os.open(path, flags, 0o600)
    try:
        for line in lines:
            _write(fd, line)
        os.fsync(fd)
    finally:
        os.close(fd)
    if is_new:
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """A new file's name is on the disk only then (fsync(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(fd: int, line: bytes) -> None:
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
