"""Recycling by requests, age and memory: the successor is ready first, one at a time, and nobody notices."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from lastcall.protocol.control import Status
from support import http
from support.lastcall import Server, Servers
from support.processes import eventually

BUSY = ("busy:app", "--app-dir", str(Path(__file__).parent), "--log-level", "debug")
WORKERS = 3
RECYCLINGS = 8


SHOP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
ONE_ONLY = """
import pathlib, threading

try:
    pathlib.Path(__file__).with_suffix(".once").touch(exist_ok=False)
except FileExistsError:
    while not pathlib.Path(__file__).with_suffix(".go").exists():
        threading.Event().wait(0.01)
    raise RuntimeError("the second")
"""
"""The first worker serves, the second fails once it is let."""


class Load:
    """Clients that ask one request after the other, on kept and on new connections, until the end of the block."""

    def __init__(self, server: Server, target: str) -> None:
        self.outcomes: Counter[str] = Counter()
        self._server = server
        self._target = target
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, kept: bool) -> None:
        connection = http.Connection(self._server.http_address)
        while not self._over.is_set():
            try:
                self.outcomes[str(connection.request("POST", self._target, b"order").status)] += 1
            except (http.Closed, OSError) as error:
                self.outcomes[repr(error)] += 1
                kept_now = False
            else:
                kept_now = kept
            if not kept_now:
                connection.close()
                connection = http.Connection(self._server.http_address)
        connection.close()


def check_strength(status: Status) -> None:
    """Never fewer than there are to be, and never more than one successor."""
    stages = Counter(worker.stage for worker in status.workers)
    assert stages["ready"] >= WORKERS, stages
    assert stages["ready"] + stages["booting"] + stages["spawning"] <= WORKERS + 1, stages


def check_order(lines: list[str]) -> None:
    """One successor boots at a time, and nobody has gone before it was ready."""
    booting: set[str] = set()
    ready: set[str] = set()
    for line in lines:
        found = re.search(r"child (\d+) (started|of generation 1 ready|exited)", line)
        if found is None:
            continue
        pid, event = found.groups()
        match event:
            case "started":
                booting.add(pid)
                assert len(booting) <= (1 if len(ready) >= WORKERS else WORKERS), line
            case "exited":
                ready.discard(pid)
                assert len(ready) >= WORKERS, line
            case _:
                booting.discard(pid)
                ready.add(pid)


@pytest.mark.parametrize(
    ("arguments", "target", "why"),
    [
        (("--max-requests", "50", "--max-requests-jitter", "20"), "/", r"\d\d requests"),
        (("--max-age", "1s", "--max-age-jitter", "500ms"), "/", r"has served for 1(\.\d+)?s"),
        (("--max-memory", "64MiB"), "/leak/1", r"(6[5-9]|[7-9]\d|\d{3,}) MiB, limit 64 MiB"),
    ],
    ids=["requests", "age", "memory"],
)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_recycling_under_load(serve: Servers, threads: str, arguments: tuple[str, ...], target: str, why: str) -> None:
    """No request fails, the pool keeps its strength, the first workers are gone, and the log says what was exceeded."""
    server = serve(*BUSY, "--workers", str(WORKERS), "--threads", threads, *arguments)
    first = set(server.workers())
    with Load(server, target) as load:

        def recycled() -> bool:
            check_strength(server.status())
            return len(server.log_lines("due for recycling")) >= RECYCLINGS and first.isdisjoint(server.workers())

        eventually(recycled, f"there were {RECYCLINGS} recyclings, and the first workers are gone")
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert re.search(rf"NOTICE: \[pool app\] child \d+ is due for recycling: {why}$", server.log(), re.MULTILINE)
    check_order(server.log_lines("child"))
    assert "WARNING: [pool app]" not in server.log()


def test_an_idle_worker_reaches_its_age(serve: Servers) -> None:
    """Nobody asks for anything, and all are replaced."""
    server = serve(*BUSY, "--workers", str(WORKERS), "--max-age", "300ms")
    first = set(server.workers())
    eventually(lambda: first.isdisjoint(server.workers()), "the first workers are gone")
    check_order(server.log_lines("child"))


def test_a_reload_that_fails_makes_nobody_younger(serve: Servers, folder: Path) -> None:
    """The old worker has rested while the new ones were on trial: its age counts from when it was ready first."""
    (folder / "shop.py").write_text(SHOP)
    server = serve("shop:app", "--app-dir", str(folder), "--workers", "2", "--trial", "1h", "--max-age", "4s")
    first = set(server.workers())
    begun = time.monotonic()
    (folder / "shop.py").write_text(ONE_ONLY + SHOP)
    server.signal(signal.SIGHUP)
    eventually(lambda: "resting" in [worker.stage for worker in server.status().workers], "an old worker rests")
    eventually(lambda: time.monotonic() > begun + 3, "most of its time is over")
    (folder / "shop.go").touch()
    server.wait_log("reload failed")
    eventually(lambda: len(server.log_lines("due for recycling")) >= 2, "both are due", within=3)
    assert set(re.findall(r"child (\d+) is due", server.log())) == {str(pid) for pid in first}


def test_a_worker_that_is_idle_after_a_leak_is_recycled(serve: Servers) -> None:
    """The last request took the memory, and no other comes: it is noticed all the same."""
    server = serve(*BUSY, "--workers", "1", "--max-memory", "64MiB")
    first = int(http.get(server.http_address).body)
    http.get(server.http_address, "/leak/100")
    eventually(lambda: first not in server.workers(), "the worker is gone")


def test_a_limit_that_is_too_low_is_told_at_the_start(serve: Servers) -> None:
    """Or the pool would recycle after every request, and only look slow."""
    server = serve(*BUSY, "--workers", "1", "--max-memory", "1MiB")
    server.wait_log("exceeds max_memory before its first request: ")
    assert http.get(server.http_address).status == 200


def test_who_keeps_the_limits_stays(serve: Servers) -> None:
    """Nothing is recycled without a reason."""
    server = serve(*BUSY, "--workers", "1", "--max-memory", "1GiB", "--max-age", "1h", "--max-requests", "1000")
    first = server.workers()
    for _ in range(20):
        assert http.get(server.http_address).status == 200
    assert server.workers() == first
    assert server.log_lines("due for recycling") == []
