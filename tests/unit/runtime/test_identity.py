"""Which process it is: by pid and start, so that one is never taken for another."""

from __future__ import annotations

import os
import subprocess
import sys

from lastcall.runtime import identity
from support.processes import eventually


def test_a_process_is_found_by_its_pid_and_its_start() -> None:
    """Another start with the same pid is another process."""
    since = identity.started(os.getpid())
    fd = identity.find(os.getpid(), since)
    assert fd >= 0
    assert not identity.ended(fd)
    os.close(fd)
    assert identity.find(os.getpid(), since + 1) == -1
    assert identity.find(os.getpid(), 0) == -1
    assert identity.find(0, since) == -1


def test_a_process_that_has_ended_is_not_found() -> None:
    """Nor what is left of it, until it is reaped; whoever has its descriptor hears of the end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    since = identity.started(process.pid)
    fd = identity.find(process.pid, since)
    assert fd >= 0
    process.stdin.close()
    eventually(lambda: identity.ended(fd), "it has ended")
    assert identity.started(process.pid) == 0
    assert identity.find(process.pid, since) == -1
    process.wait()
    assert identity.find(process.pid, since) == -1
    os.close(fd)


def test_a_name_may_hold_anything() -> None:
    """Parentheses and blanks in a process's name do not shift the fields behind it."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'a) R 1 (b', 0, 0, 0); print('named', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        before = identity.started(process.pid)
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        assert identity.started(process.pid) == before > 0
        process.kill()
