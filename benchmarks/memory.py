"""Memory of an idle master and of a worker, before and after its first thousand requests."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.effort import Effort
from benchmarks.measure import generator, memory
from benchmarks.report import Table, Target
from benchmarks.servers import Maker, Place, Server
from lastcall.tools.drill.processes import session

MAKERS: Final[dict[str, Maker]] = {
    "lastcall": servers.lastcall(),
    "gunicorn sync": servers.gunicorn("sync"),
    "gunicorn gthread": servers.gunicorn("gthread"),
}
WORKERS: Final = 2
REQUESTS: Final = 1000
"""Per worker, on average."""
SETTLE_S: Final = 1.0
"""Seconds from the first connection to the first look: every worker has booted by then."""
TARGETS: Final = (Target("lastcall", 1.0, "gunicorn sync"), Target("lastcall", 1.0, "gunicorn gthread"))


def measure(effort: Effort, folder: Path) -> list[Table]:
    """Fresh servers in each turn."""
    unique = Table(f"Unique memory, {WORKERS} workers", "MB", targets=TARGETS)
    proportional = Table(f"Proportional memory (PSS), {WORKERS} workers", "MB", targets=TARGETS)
    for turn in range(effort.rounds):
        place = Place(folder / f"{turn}", WORKERS)
        place.folder.mkdir()
        with servers.running(MAKERS, place) as started:
            time.sleep(SETTLE_S)
            for name, server in started.items():
                _look(server, name, "idle", unique, proportional)
                with generator(f"{server.address}/", 8 * WORKERS, requests=REQUESTS * WORKERS) as load:
                    load.go()
                _look(server, name, f"{REQUESTS} req", unique, proportional)
    return [unique, proportional]


def _look(server: Server, name: str, when: str, unique: Table, proportional: Table) -> None:
    master = server.process.pid
    others = [memory(pid) for pid in session(master) if pid != master]  # a worker's custodian counts with it
    for who, found, share in (("master", [memory(master)], 1), ("worker", others, WORKERS)):
        unique.add(name, f"{who} {when}", sum(each.unique for each in found) / share / 1024)
        proportional.add(name, f"{who} {when}", sum(each.proportional for each in found) / share / 1024)
