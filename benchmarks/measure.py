"""What is read from the system: a server's CPU time, its memory, and how it does under the load generator."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lastcall.tools.drill.processes import session
from support.processes import Process

LOAD: Final = Path(__file__).with_name("load.py")


class Unfit(Exception):
    """A measurement that says nothing: requests failed, or processes came and went."""


def cpu_ns(leader: int) -> dict[int, int]:
    """CPU time so far, user and system, of each process of a session: of all its threads, as the scheduler counts."""
    used = {}
    for pid in session(leader):
        tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
        used[pid] = sum(int(task.read_text().split()[0]) for task in tasks)
    return used


@dataclass(frozen=True)
class Memory:
    """Kilobytes of one process: what it has for itself alone, and that plus its share of what it shares."""

    unique: int
    proportional: int


def memory(pid: int) -> Memory:
    """From smaps_rollup, which needs the same user or root."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(kilobytes["Private_Clean"] + kilobytes["Private_Dirty"], kilobytes["Pss"])


class Generator:
    """A load generator that is warm and waits for its `go`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go(self) -> int:
        """Let it work until it is done; the number of requests answered. Raises Unfit when one of them failed."""
        answer, _ = self._process.communicate("\n")
        if self._process.returncode:
            raise Unfit("the load generator has failed")
        tally = json.loads(answer)
        if tally["failed"] or not tally["answered"]:
            raise Unfit(f"{tally['failed']} of {tally['answered']} requests failed")
        return int(tally["answered"])


@contextmanager
def generator(url: str, connections: int, *, seconds: float = math.inf, requests: int = 1 << 60) -> Iterator[Generator]:
    """A generator for `host:port/path`, connected and warm."""
    address, slash, path = url.partition("/")
    arguments = [sys.executable, str(LOAD), address, slash + path, str(connections), str(seconds), str(requests)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise Unfit("the load generator cannot connect")
            yield Generator(process)
        finally:
            process.kill()


def cpu_per_request(server: Process, url: str, connections: int, seconds: float) -> float:
    """Microseconds of CPU, of everybody in the server's session, per request answered."""
    try:
        with generator(url, connections, seconds=seconds) as load:
            before = cpu_ns(server.pid)
            answered = load.go()
            after = cpu_ns(server.pid)
    except Unfit as unfit:
        raise Unfit(f"{server.name}: {unfit}\n{server.text()[-2000:]}") from None
    if before.keys() != after.keys():
        raise Unfit(f"{server.name}: processes came or went while it was measured")
    return (sum(after.values()) - sum(before.values())) / answered / 1000
