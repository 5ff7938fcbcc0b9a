"""Processes that the tests start: each writes into a file, is ended by its pid, and leaves nobody behind.

A process leads a session of its own, and so everything that it starts can be found again. The one loop that waits by
looking again and again is `eventually`.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lastcall.tools.drill import probe
from lastcall.tools.drill.processes import session

Found = TypeVar("Found")

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

WITHIN_S = 20.0
"""Seconds that anything is waited for, unless a test says otherwise: many times what it takes on a busy machine."""
LOOK_S = 0.005

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian keeps its servers, which is not on everybody's PATH."""


def eventually(look: Callable[[], Found], what: str, within: float = WITHIN_S) -> Found:
    """The first true thing that `look` returns. Fails, saying `what` did not happen, when that takes too long."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        time.sleep(LOOK_S)
    return found


# --- Addresses ---------------------------------------------------------------


def connect(address: str, within: float = WITHIN_S) -> socket.socket:
    """A connection to `host:port`, `[v6]:port` or `unix:/path`. Raises OSError."""
    return probe.connect(address, within)


def accepting(address: str) -> bool:
    """Whether somebody listens there."""
    try:
        connect(address).close()
    except OSError:
        return False
    return True


_RANGES = 220


def _range_of_our_own() -> tuple[range, socket.socket]:
    """A hundred ports that no other test process of this machine has, and what holds them for us until we end."""
    for number in range(os.getpid(), os.getpid() + _RANGES):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0lastcall-tests-ports-{number % _RANGES}")
        except OSError:
            claim.close()
            continue
        first = 10_000 + number % _RANGES * 100
        return range(first, first + 100), claim
    raise AssertionError("all ports belong to other test processes")


def _ports() -> Iterator[int]:
    """Below the kernel's range for outgoing connections, and a range of its own for each test process."""
    ours, _claim = _range_of_our_own()
    for port in itertools.cycle(ours):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


_free_ports = _ports()


def free_port() -> int:
    """A TCP port that nobody listens on, given to nobody else for the next ninety-nine calls."""
    return next(_free_ports)


# --- Processes ---------------------------------------------------------------


class Process:
    """A running process, and the file that its output goes to."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = Path(arguments[0]).name
        self.output = log
        environment = {**os.environ, **(env or {})}
        environment["PATH"] = f"{environment.get('PATH', '')}:{SBIN}"
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The pid that it was started with."""
        return self._popen.pid

    @property
    def ended(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        return self._popen.poll()

    def text(self) -> str:
        """All that it has written so far."""
        return self.output.read_text(errors="replace")

    def wait_until(self, look: Callable[[], Found], what: str, within: float = WITHIN_S) -> Found:
        """Wait as `eventually`, but fail at once, with the output, when the process ends before."""

        def look_alive() -> Found:
            found = look()
            assert found or self.ended is None, f"{self.name} ended with {self.ended}: {what}\n{self.text()[-4000:]}"
            return found

        return eventually(look_alive, f"{self.name}: {what}", within)

    def wait_accepting(self, address: str) -> Process:
        """Wait until it listens. One that does not is killed: its maker has no other way to be rid of it."""
        try:
            self.wait_until(lambda: accepting(address), f"listens on {address}")
        except AssertionError:
            self.kill()
            raise
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended and its pid may be someone else's."""
        if self.ended is None:
            os.kill(self.pid, number)

    def wait(self, within: float = WITHIN_S) -> int:
        """Wait until it has ended, and return the exit code."""
        try:
            return self._popen.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {within:g} s\n{self.text()[-4000:]}") from None

    def stop(self, within: float = WITHIN_S) -> int:
        """SIGTERM, wait, and insist that nobody of its session is left; the exit code.

        Whoever had to be killed makes the test fail, but does not outlive it.
        """
        self.signal(signal.SIGTERM)
        try:
            code = self.wait(within)
            eventually(lambda: not session(self.pid), f"{self.name}'s session is empty: {session(self.pid)}", within)
        finally:
            self.kill()
        return code

    def kill(self) -> None:
        """SIGKILL for it and for everybody of its session; returns when they are gone."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

        def gone() -> bool:
            left = session(self.pid)
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not left

        eventually(gone, f"{self.name}'s session is empty")


def children(pid: int) -> list[int]:
    """The pids of a process's direct children."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # gone since
    return sorted(found)


def comm(pid: int) -> str:
    """The name of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def state(pid: int) -> str:
    """R, S, T, Z; "" when nobody has this pid."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def holds(pid: int, kind: str) -> int:
    """How many of a kind a process has open: `socket`, `pipe`."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith(f"{kind}:")
        except OSError:
            continue  # closed since
    return count


def lines(path: Path, pattern: str = "") -> list[str]:
    """The lines of a file in which a pattern is found; none when there is no such file."""
    if not path.exists():
        return []
    return [line for line in path.read_text(errors="replace").splitlines() if re.search(pattern, line)]
