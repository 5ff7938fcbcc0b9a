"""What `lastcall status` is told: the machine's state, the board, and what workers have said, as one Status."""

from __future__ import annotations

import os

from lastcall import __version__
from lastcall.core import lifecycle as lc
from lastcall.protocol.control import Status, WorkerStatus
from lastcall.runtime import whereabouts
from lastcall.runtime.surroundings import Resources, Surroundings
from lastcall.runtime.testament import Tally
from lastcall.runtime.whereabouts import Desk


def status(
    around: Surroundings, resources: Resources, state: lc.Master, tally: Tally, desk: Desk, uncompleted: int, now: float
) -> Status:  # fmt: skip
    """How things stand now; `uncompleted`: cuts for which `on_cut` has not returned yet."""
    workers = [_worker(around, worker, desk, now) for worker in state.workers]
    settings = resources.settings
    return Status(
        version=__version__, pool=settings.pool, pid=os.getpid(), phase=state.phase.value, started=tally.started,
        uptime=now - tally.born, generation=state.current.generation, application=settings.app or "found by itself",
        listen=[str(listener) for listener in resources.listeners], run_dir=around.run_dir,
        workers_wanted=state.current.policy.workers, workers=workers,
        requests=tally.requests + sum(worker.requests for worker in workers), cut=tally.cut,
        restarts=tally.deaths, last_reload=tally.last_reload, last_takeover=tally.last_takeover,
        uncompleted=uncompleted, journal=settings.journal,
    )  # fmt: skip


def _worker(around: Surroundings, worker: lc.Worker, desk: Desk, now: float) -> WorkerStatus:
    slot = around.board.read(worker.slot)
    mine = slot.serial == worker.serial
    lanes = [
        whereabouts.in_flight(lane, desk.line(worker.serial, lane, now), now) for lane in (slot.lanes if mine else ())
    ]
    said = desk.connections(worker.serial)
    return WorkerStatus(
        worker.serial, worker.slot, worker.pid, worker.generation, worker.stage.name.lower(), now - worker.born,
        slot.requests if mine else 0, slot.connections if mine else 0, lanes,
        [] if said is None else whereabouts.waiting(said),
    )  # fmt: skip
