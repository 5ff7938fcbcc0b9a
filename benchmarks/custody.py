"""What custody costs: CPU per request of a hello on kept connections, and memory of a worker, with it and without."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.effort import Effort
from benchmarks.measure import cpu_per_request, memory
from benchmarks.memory import SETTLE_S
from benchmarks.report import Table, Target
from benchmarks.servers import Maker, Place
from lastcall.runtime.custody import NAME
from lastcall.tools.drill.processes import session
from support.processes import comm

MAKERS: Final[dict[str, Maker]] = {
    "custody on": servers.lastcall("--custody", "on"),
    "custody off": servers.lastcall("--custody", "off"),
    "custody on, 3 threads": servers.lastcall("--custody", "on", "--threads", "3"),
    "custody off, 3 threads": servers.lastcall("--custody", "off", "--threads", "3"),
}
TARGETS: Final = (
    Target("custody on", 1.35, "custody off"),
    Target("custody on, 3 threads", 1.35, "custody off, 3 threads"),
)
WORKERS: Final = 2
CONNECTIONS: Final = (1, 8, 32)


def measure(effort: Effort, folder: Path) -> list[Table]:
    """All servers at once, each loaded in its turn; then a look at what each has taken."""
    work = Table("HTTP hello, CPU per request", "microseconds", targets=TARGETS)
    taken = Table("Memory for each worker", "MB")
    with servers.running(MAKERS, Place(folder, WORKERS)) as started:
        time.sleep(SETTLE_S)
        for connections in CONNECTIONS:
            for _ in range(effort.rounds):
                for name, server in started.items():
                    url = f"{server.address}/orders/1?page=2"
                    used = cpu_per_request(server.process, url, connections, effort.seconds)
                    work.add(name, f"{WORKERS}w {connections}c", used)
        for name, server in started.items():
            others = [pid for pid in session(server.process.pid) if pid != server.process.pid]
            keepers = [pid for pid in others if comm(pid) == NAME]
            _look(taken, name, "worker", [pid for pid in others if pid not in keepers])
            _look(taken, name, "custodian", keepers)
    return [work, taken]


def _look(table: Table, row: str, who: str, pids: list[int]) -> None:
    found = [memory(pid) for pid in pids]
    if found:
        table.add(row, f"{who}, own", statistics.mean(each.unique for each in found) / 1024)
        table.add(row, f"{who}, PSS", statistics.mean(each.proportional for each in found) / 1024)
