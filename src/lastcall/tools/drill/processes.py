"""Processes that a drill starts: each writes into a file, leads a session of its own, and is ended by its pid.

A session, because servers beget servers: whatever was started by what we started can be found again, and Ctrl-C on the
terminal reaches the drill alone, which ends the others in order.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

Found = TypeVar("Found")

LOOK_S: Final = 0.01
"""How often /proc is looked at for what tells nobody that it has happened."""
SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian keeps its servers, which is not on everybody's PATH."""
TAIL: Final = 2000
"""Characters of a log that a failure quotes: its end says it."""


class Failed(Exception):
    """The drill, or this part of it, cannot go on; the text says why."""


def wait_until(look: Callable[[], Found], what: str, within: float) -> Found:
    """The first true thing that `look` returns. Raises Failed when that takes too long."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within:g} s")
        pause(LOOK_S)
    return found


def pause(seconds: float) -> None:
    """Let so much time pass: where the passing of time is what is wanted."""
    select.select([], [], [], max(0.0, seconds))


class Process:
    """A running process, and the file that its output goes to."""

    def __init__(
        self, arguments: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.name = Path(arguments[0]).name
        self.log = log
        with log.open("ab") as output:
            try:
                self._popen = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**environment(), **(env or {})},
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise Failed(f"{arguments[0]} cannot be started: {error.strerror}") from None

    @property
    def pid(self) -> int:
        """The pid that it was started with, and its session's number."""
        return self._popen.pid

    @property
    def ended(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        return self._popen.poll()

    def text(self) -> str:
        """The end of what it has written."""
        return self.log.read_text(errors="replace")[-TAIL:]

    def wait_until(self, look: Callable[[], Found], what: str, within: float) -> Found:
        """Wait as the function does, but raise Failed at once, with the output, when it ends before."""

        def look_alive() -> Found:
            found = look()
            if not found and self.ended is not None:
                raise Failed(f"{self.name} ended with {self.ended}: {what}\n{self.text()}".rstrip())
            return found

        return wait_until(look_alive, f"{self.name}: {what}", within)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended and its pid may be someone else's."""
        if self.ended is None:
            os.kill(self.pid, number)

    def wait(self, within: float) -> int:
        """Wait until it has ended, and return the exit code. Raises Failed."""
        try:
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} has not ended within {within:g} s\n{self.text()}".rstrip()) from None

    def kill(self) -> None:
        """SIGKILL for it and for everybody of its session; returns when they are gone."""
        self.signal(signal.SIGKILL)
        self._popen.wait()
        sweep(self.pid)


def environment() -> dict[str, str]:
    """Ours, with the places where servers are."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"}


def sweep(leader: int, number: signal.Signals = signal.SIGKILL, within: float = 10.0) -> None:
    """Signal everybody who is left of a session until nobody is. Raises Failed."""

    def gone() -> bool:
        left = session(leader)
        for pid in left:
            kill(pid, number)
        return not left

    wait_until(gone, f"the processes of session {leader} end", within)


def kill(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when there is nobody any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def session(leader: int) -> list[int]:
    """The pids of a session, zombies excepted."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # gone since
            state, _, _, its_session = stat.rpartition(")")[2].split()[:4]
            if int(its_session) == leader and state != "Z":
                pids.append(int(entry.name))
    return sorted(pids)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The pids of a process's direct children that run."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # gone since
    return sorted(child for child in found if alive(child))


def owner(port: int, pids: Sequence[int]) -> int | None:
    """Which of these processes has the TCP connection whose own port this is."""
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            sockets.add(f"socket:[{fields[9]}]")
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                if str(entry.readlink()) in sockets:
                    return pid
            except OSError:
                continue  # closed since
    return None


def command_line(pid: int) -> str:
    """What a process was started as, or calls itself; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def name(pid: int) -> str:
    """The name of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""
