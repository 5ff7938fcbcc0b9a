"""CPU per request of a hello over HTTP/1.1, on kept connections, with and without the access log."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.effort import Effort
from benchmarks.measure import cpu_per_request
from benchmarks.report import Table, Target
from benchmarks.servers import Maker, Place

MAKERS: Final[dict[str, Maker]] = {
    "lastcall": servers.lastcall(),
    "granian": servers.granian,
    "lastcall, access log": servers.lastcall_logging,
    "gunicorn gthread, access log": servers.gunicorn_logging,
}
TARGETS: Final = (
    Target("lastcall", 1.0, "granian"),
    Target("lastcall, access log", 0.25, "gunicorn gthread, access log"),
)
WORKERS: Final = (1, 2)
CONNECTIONS: Final = (1, 8, 32)


def measure(effort: Effort, folder: Path) -> list[Table]:
    """All servers at once, each loaded in its turn."""
    table = Table("HTTP hello, CPU per request", "microseconds", targets=TARGETS)
    for workers in WORKERS:
        with servers.running(MAKERS, Place(folder, workers)) as started:
            for connections in CONNECTIONS:
                for _ in range(effort.rounds):
                    for name, server in started.items():
                        url = f"{server.address}/orders/1?page=2"
                        used = cpu_per_request(server.process, url, connections, effort.seconds)
                        table.add(name, f"{workers}w {connections}c", used)
    return [table]
