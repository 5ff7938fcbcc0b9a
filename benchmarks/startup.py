"""From exec to the first request answered, and to `ready to handle connections` in the log."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.effort import Effort
from benchmarks.load import complete, message
from benchmarks.report import Table, Target
from benchmarks.servers import APPS, Place
from support.processes import WITHIN_S, Process, free_port

WORKERS: Final = 2
READY: Final = "ready to handle connections"
LOOK_S: Final = 0.001
"""Seconds between two looks, and so the precision."""
TARGETS: Final = (Target("lastcall", 150.0),)

Commands = dict[str, tuple[list[str], str]]


def measure(effort: Effort, folder: Path) -> list[Table]:
    """Everybody in turns. The first turn, which compiles what nobody has imported before, does not count."""
    table = Table(f"Start, {WORKERS} workers", "milliseconds", targets=TARGETS)
    for turn in range(effort.starts + 1):
        place = Place(folder / f"{turn}", WORKERS)
        place.folder.mkdir()
        times = {name: _start(*command, place.folder / name) for name, command in _commands(place).items()}
        times["python -c pass"] = {"first 200": _bare()}
        for name, found in times.items():
            for column, seconds in found.items():
                if turn:
                    table.add(name, column, seconds * 1000)
    return [table]


def _commands(place: Place) -> Commands:
    workers = str(place.workers)
    ports = [str(free_port()) for _ in range(3)]
    ours, gunicorns, granians = (f"127.0.0.1:{port}" for port in ports)
    commands: Commands = {"lastcall": (servers.lastcall_command(place, "--http", ours), ours)}
    if (gunicorn := servers.find("gunicorn")) is not None:
        commands["gunicorn sync"] = ([gunicorn, "--workers", workers, "--bind", gunicorns, "hello:app"], gunicorns)
    if (granian := servers.find("granian")) is not None:
        arguments = [granian, "--interface", "wsgi", "--port", ports[2], "--workers", workers, "hello:app"]
        commands["granian"] = (arguments, granians)
    return commands


def _start(arguments: list[str], address: str, log: Path) -> dict[str, float]:
    """Seconds until each of what is waited for, by its column. Only lastcall says when it is ready."""
    waited_for = {"first 200"} | ({"ready"} if arguments[0] == sys.executable else set())
    found: dict[str, float] = {}
    began = time.monotonic()
    process = Process(arguments, log, env=servers.environment(), cwd=APPS)
    client = Client(address)
    try:
        while waited_for - found.keys():
            answered = client.look()
            now = time.monotonic() - began
            assert process.ended is None, process.text()
            assert now < WITHIN_S, process.text()
            if answered:
                found.setdefault("first 200", now)
            if "ready" in waited_for and READY in process.text():
                found.setdefault("ready", now)
    finally:
        client.close()
        process.kill()
    return found


class Client:
    """Tries to connect until somebody listens, asks once, and waits, never for longer than LOOK_S."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._message = message(address, "/")
        self._socket: socket.socket | None = None
        self._answer = b""

    def look(self) -> bool:
        """Whether the answer is there. Raises AssertionError when it is no 200."""
        if self._socket is None:
            sock = socket.socket()
            if sock.connect_ex(self._address):
                sock.close()
                time.sleep(LOOK_S)
                return False
            sock.sendall(self._message)
            self._socket = sock
        elif select.select([self._socket], [], [], LOOK_S)[0]:
            self._answer += self._socket.recv(65536)
        if not complete(self._answer):
            return False
        assert self._answer.startswith(b"HTTP/1.1 200 "), self._answer
        return True

    def close(self) -> None:
        """Drop the connection."""
        if self._socket is not None:
            self._socket.close()


def _bare() -> float:
    """What an interpreter alone takes, from exec to exit."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - began
