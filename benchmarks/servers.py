"""The servers that are compared: each with the same application, the same number of workers, and its own defaults.

A maker returns a running server, or None where the software is not installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.processes import ROOT, SBIN, Process, free_port

APPS: Final = Path(__file__).with_name("apps")


@dataclass(frozen=True)
class Server:
    """Running, and listening on `address`; the process leads the session that everything it started is in."""

    process: Process
    address: str


@dataclass(frozen=True)
class Place:
    """What a server is started with."""

    folder: Path
    workers: int


Maker = Callable[[Place], Server | None]


def environment() -> dict[str, str]:
    """The checkout's own lastcall, installed or not; compiled once, as an installed one is, whoever runs us."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}


def find(name: str) -> str | None:
    """A program: beside the interpreter, or on the PATH, or where Debian keeps servers."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=os.pathsep.join([str(beside), os.environ.get("PATH", ""), SBIN]))


def start(place: Place, name: str, arguments: list[str], address: str) -> Server:
    """Start it among the applications, and wait until it listens."""
    process = Process(arguments, place.folder / f"{name}-{place.workers}.log", env=environment(), cwd=APPS)
    return Server(process.wait_accepting(address), address)


def _address() -> str:
    return f"127.0.0.1:{free_port()}"


def lastcall_command(place: Place, *options: str) -> list[str]:
    """`lastcall serve` for the hello application; run directory and logs are new."""
    run_dir = place.folder / f"run-{free_port()}"
    run_dir.mkdir()
    base = [sys.executable, "-m", "lastcall", "serve", "hello:app", "--workers", str(place.workers)]
    return [*base, "--run-dir", str(run_dir), *options]


def lastcall(*options: str) -> Maker:
    """Lastcall over HTTP."""

    def make(place: Place) -> Server:
        address = _address()
        return start(place, "lastcall", lastcall_command(place, "--http", address, *options), address)

    return make


def lastcall_logging(place: Place) -> Server:
    """Lastcall over HTTP, with its access log."""
    address = _address()
    log = place.folder / f"lastcall-access-{place.workers}.log"
    return start(place, "lastcall-log", lastcall_command(place, "--http", address, "--access-log", str(log)), address)


def lastcall_fastcgi(place: Place) -> Server:
    """Lastcall over FastCGI."""
    address = _address()
    return start(place, "lastcall-fastcgi", lastcall_command(place, "--fastcgi", address), address)


def granian(place: Place) -> Server | None:
    """Granian (Rust), without an access log, which is its default."""
    program = find("granian")
    if program is None:
        return None
    address = _address()
    host, _, port = address.partition(":")
    arguments = [program, "--interface", "wsgi", "--host", host, "--port", port]
    return start(place, "granian", [*arguments, "--workers", str(place.workers), "hello:app"], address)


def gunicorn(kind: str, *options: str) -> Maker:
    """Gunicorn with one kind of its workers."""

    def make(place: Place) -> Server | None:
        program = find("gunicorn")
        if program is None:
            return None
        address = _address()
        arguments = [program, "--worker-class", kind, "--workers", str(place.workers), "--bind", address, *options]
        return start(place, f"gunicorn-{kind}", [*arguments, "hello:app"], address)

    return make


def gunicorn_logging(place: Place) -> Server | None:
    """Gunicorn's gthread with its access log."""
    log = place.folder / f"gunicorn-access-{place.workers}.log"
    return gunicorn("gthread", "--access-logfile", str(log))(place)


FPM: Final = """
[global]
error_log = {folder}/fpm-error-{workers}.log
daemonize = no
[hello]
{user}
listen = {address}
pm = static
pm.max_children = {workers}
"""


def php_fpm(place: Place) -> Server | None:
    """php-fpm with a static pool, and opcache as its package turns it on."""
    program = next(filter(None, map(find, ("php-fpm8.2", "php-fpm8.4", "php-fpm"))), None)
    if program is None:
        return None
    address = _address()
    root = os.geteuid() == 0
    config = place.folder / f"fpm-{place.workers}.conf"
    user = "user = root" if root else ""
    config.write_text(FPM.format(folder=place.folder, workers=place.workers, address=address, user=user))
    arguments = [program, "--nodaemonize", "--fpm-config", str(config), *(["--allow-to-run-as-root"] if root else [])]
    return start(place, "php-fpm", arguments, address)


def uwsgi(place: Place) -> Server | None:
    """The fastcgi-socket of uWSGI, without a request log."""
    program = find("uwsgi")
    if program is None:
        return None
    address = _address()
    arguments = [program, "--master", "--processes", str(place.workers), "--fastcgi-socket", address]
    arguments += ["--module", "hello:app", "--need-app", "--disable-logging", "--die-on-term"]
    return start(place, "uwsgi", arguments, address)


@contextmanager
def running(makers: dict[str, Maker], place: Place) -> Iterator[dict[str, Server]]:
    """All that are installed, at the same time; killed at the end."""
    servers: dict[str, Server] = {}
    try:
        for name, make in makers.items():
            server = make(place)
            if server is not None:
                servers[name] = server
        yield servers
    finally:
        for server in servers.values():
            server.process.kill()
