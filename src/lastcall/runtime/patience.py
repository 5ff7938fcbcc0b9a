"""Which requests have run for too long, and which are not to be cut at this moment: what the slots say, for the master."""

from __future__ import annotations

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


def committed(workers: Iterable[lc.Worker], board: Board, now: float) -> list[lc.Event]:
    """Those whose drain is to be ended now, and that run a request past a point of no return."""
    draining = [worker for worker in workers if worker.stage is lc.Stage.DRAINING]
    due = [worker for worker in draining if worker.deadline is not None and worker.deadline <= now]
    return [
        lc.Committed(worker.serial)
        for worker in due
        if any(lane.committed(now) for lane in board.read(worker.slot).lanes)
    ]
