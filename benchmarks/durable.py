"""What it costs to keep a request with two steps: CPU per request beyond the same request without, beside DBOS."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.effort import Effort
from benchmarks.measure import cpu_per_request
from benchmarks.report import Table, Target
from benchmarks.servers import APPS, Maker, Place, Server, environment
from support.processes import Process, free_port

PLAIN: Final = "lastcall, plain"
CONNECTIONS: Final = 4
WORKERS: Final = (1, 4)
AT_MOST: Final = 150.0
"""Microseconds."""


def lastcall(folder: Path, *options: str) -> Maker:
    """Lastcall with the application of two steps."""

    def make(place: Place) -> Server:
        address = f"127.0.0.1:{free_port()}"
        run_dir = place.folder / f"run-{free_port()}"
        run_dir.mkdir()
        command = [sys.executable, "-m", "lastcall", "serve", "durable_hello:app", "--workers", str(place.workers)]
        journal = folder / f"journal-{free_port()}"
        own = ["--run-dir", str(run_dir), "--http", address, "--journal", str(journal), *options]
        env = environment() | {"DBOS_FOLDER": str(place.folder)}
        process = Process([*command, *own], place.folder / f"{run_dir.name}.log", env=env, cwd=APPS)
        return Server(process.wait_accepting(address), address)

    return make


def measure(effort: Effort, folder: Path) -> list[Table]:
    """The journal is on the disk that the working directory is on: a directory in memory would flatter the syncs."""
    kept = Path(os.environ.get("BENCH_DISK", folder))
    makers = {
        PLAIN: ("/plain", lastcall(kept)),
        "durable, process": ("/durable", lastcall(kept, "--durability", "process")),
        "durable, power": ("/durable", lastcall(kept, "--durability", "power")),
    }
    if importlib.util.find_spec("dbos") is not None:
        makers["DBOS, SQLite"] = ("/dbos", lastcall(kept))
    targets = (Target("durable, process: beyond plain", AT_MOST),)
    table = Table("Two steps kept, CPU per request", "microseconds", targets=targets)
    for workers in WORKERS:
        with servers.running({name: maker for name, (_, maker) in makers.items()}, Place(folder, workers)) as started:
            for server, (path, _) in zip(started.values(), makers.values(), strict=True):
                cpu_per_request(server.process, f"{server.address}{path}", CONNECTIONS, 0.3)  # everything is open now
            for _ in range(effort.rounds):
                used = {
                    name: cpu_per_request(
                        server.process, f"{server.address}{makers[name][0]}", CONNECTIONS, effort.seconds
                    )
                    for name, server in started.items()
                }
                for name, microseconds in used.items():
                    table.add(name, f"{workers}w", microseconds)
                    if name != PLAIN:
                        table.add(f"{name}: beyond plain", f"{workers}w", microseconds - used[PLAIN])
    return [table]
