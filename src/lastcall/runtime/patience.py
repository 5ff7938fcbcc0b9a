"""Which requests have run for too long, and which are not to be cut at this moment: what the slots say, for the master."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lastcall.core import lifecycle as lc
from lastcall.core.settings import Settings
from lastcall.core.slot import Lane, Slot
from lastcall.runtime.board import Board


def overdue(slot: Slot, settings: Settings, reported: float, now: float) -> list[Lane]:
    """The requests that have exceeded `request_timeout`, but for those that had begun by the time of the last report."""
    found = []
    for lane in slot.lanes:
        more = settings.critical_timeout if lane.committed(now) else 0.0
        if now - lane.begun > settings.request_timeout + more and lane.begun > reported:
            found.append(lane)
    return found


def committed(workers: Iterable[lc.Worker], board: Board, settings: Settings, now: float) -> list[lc.Event]:
    """Those that would be cut now, or as soon as they have said where they are, past a point of no return."""
    most = settings.request_timeout + settings.critical_timeout if settings.request_timeout else math.inf
    found: list[lc.Event] = []
    for worker in workers:
        over = worker.stage is lc.Stage.DRAINING and worker.deadline is not None and worker.deadline <= now
        if over or worker.stage is lc.Stage.CUTTING:
            lanes = board.read(worker.slot).lanes
            if any(lane.committed(now) and now - lane.begun <= most for lane in lanes):
                found.append(lc.Committed(worker.serial))
    return found
