"""A pool without a master, seen from outside, by whoever only looks: the board says who is there, and what they do."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from lastcall.core.slot import Slot
from lastcall.protocol import handover
from lastcall.protocol.handover import Handover, Unreadable
from lastcall.runtime import adoption, identity, rundir, testament
from lastcall.runtime.board import LAYOUT, Board
from lastcall.runtime.board import NAME as BOARD


@dataclass(frozen=True, slots=True)
class Orphaned:
    """What there is."""

    master: int
    """The pid of the one that has died."""
    listen: list[str]
    workers: list[Slot]
    """Those that live."""
    seconds: float
    """For which there has been no master."""
    left: float
    """Seconds until they end by themselves; 0: they are doing so."""


def look(directory: Path) -> Orphaned | None:
    """The pool of this run directory, if it has lost its master; None where it has one, or nobody of it lives."""
    if rundir.holder(directory) is not None:
        return None
    try:
        left = handover.decode((directory / testament.NAME).read_bytes())
        if left.estate.board != LAYOUT:
            return None
        board = Board(directory / BOARD, create=False)
    except (OSError, Unreadable, ValueError):
        return None
    alive = [slot for worker in left.reign.workers if _lives(slot := board.read(worker.slot), worker)]
    if not alive:
        return None
    seconds = time.monotonic() - board.masterless if board.masterless else 0.0
    rest = 0.0 if board.stopping else max(0.0, _patience(left) - seconds)
    listen = [f"{each.papers.protocol} {each.papers.address}" for each in left.estate.listeners]
    return Orphaned(left.estate.pid, listen, alive, seconds, rest)


def _lives(slot: Slot, worker: handover.Worker) -> bool:
    fd = identity.find(worker.pid, slot.started) if slot.serial == worker.serial else -1
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def _patience(left: Handover) -> float:
    current = next(release for release in left.reign.releases if release.generation == left.reign.current)
    found = current.settings.get("orphan_timeout")
    return float(found) if isinstance(found, int | float) else 0.0


def stop(directory: Path) -> bool:
    """Have the workers of this pool end, which has lost its master; whether there were any. Raises RunDirError, OSError.

    They have closed their listeners when this returns; what has begun is finished after it.
    """
    if look(directory) is None:
        return False
    ours = rundir.RunDir.open(directory, keep=True)  # so that nobody becomes their master meanwhile
    try:
        adoption.send_home(directory)
    finally:
        ours.leave()
    return True
