"""Which process it is: a pid is given away again, a pid and the time of its start are not."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_STARTED: Final = 19
"""Of the fields after a process's name in /proc/PID/stat: when it was started, in clock ticks since the boot."""


def started(pid: int, *, proc: Path = PROC) -> int:
    """When the process was started; 0 where there is none, or only what is left of it (a zombie)."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return 0
    fields = stat.rpartition(b")")[2].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[_STARTED])


def find(pid: int, since: int) -> int:
    """A descriptor (pidfd) of this very process; -1 where it lives no more. Raises OSError where there can be none."""
    if pid <= 0 or not since:
        return -1
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    # In this order: who has the pid now, and was started then, has had it when the descriptor was opened.
    if started(pid) == since:
        return fd
    os.close(fd)
    return -1


def ended(fd: int) -> bool:
    """Whether the process behind a pidfd has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def boot() -> str:
    """Which boot of the machine this is: times and pids of another one mean nothing. Empty where nobody says."""
    with contextlib.suppress(OSError):
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return ""
