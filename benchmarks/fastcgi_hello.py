"""CPU per request of a hello over FastCGI behind a real nginx, whose own CPU is not counted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.effort import Effort
from benchmarks.measure import cpu_per_request
from benchmarks.report import Table, Target
from benchmarks.servers import APPS, Maker, Place, Server
from support.nginx import Nginx

MAKERS: Final[dict[str, Maker]] = {
    "lastcall": servers.lastcall_fastcgi,
    "php-fpm": servers.php_fpm,
    "uWSGI": servers.uwsgi,
}
TARGETS: Final = (Target("lastcall", 0.5, "php-fpm"), Target("lastcall", 1.0, "uWSGI"))
WORKERS: Final = (1, 2)
CONNECTIONS: Final = (1, 8, 32)


def measure(effort: Effort, folder: Path) -> list[Table]:
    """With a new connection for each request, as nginx does by default, and with kept ones."""
    if servers.find("nginx") is None:
        return [Table("FastCGI hello: nginx is not installed", "", targets=TARGETS)]
    apart = Table("FastCGI hello behind nginx, fastcgi_keep_conn off, CPU per request", "microseconds", targets=TARGETS)
    kept = Table("FastCGI hello behind nginx, fastcgi_keep_conn on, CPU per request", "microseconds", targets=TARGETS)
    for workers in WORKERS:
        place = Place(folder / f"{workers}", workers)
        place.folder.mkdir()
        with servers.running(MAKERS, place) as started:
            nginx = Nginx(place.folder)
            shutil.copy(APPS / "hello.php", nginx.folder)
            sites = {name: _sites(nginx, server) for name, server in started.items()}
            try:
                nginx.start()
                for connections in CONNECTIONS:
                    _turns(
                        effort,
                        apart,
                        {name: (started[name], site[0]) for name, site in sites.items()},
                        workers,
                        connections,
                    )
                # A php-fpm worker serves the connections that nginx keeps one after the other: with more of them
                # than workers the rest would starve, and what was measured would be nginx waiting.
                _turns(effort, kept, {name: (started[name], site[1]) for name, site in sites.items()}, workers, workers)
            finally:
                nginx.stop()
    return [apart, kept]


def _sites(nginx: Nginx, server: Server) -> tuple[str, str]:
    return nginx.fastcgi(server.address, keep_conn=False), nginx.fastcgi(server.address, keep_conn=True)


def _turns(effort: Effort, table: Table, sites: dict[str, tuple[Server, str]], workers: int, connections: int) -> None:
    for _ in range(effort.rounds):
        for name, (server, site) in sites.items():
            used = cpu_per_request(server.process, f"{site}/hello.php", connections, effort.seconds)
            table.add(name, f"{workers}w {connections}c", used)
