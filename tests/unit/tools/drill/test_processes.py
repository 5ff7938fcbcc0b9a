"""Processes that a drill starts: ended with all that they have started, and their failures told in words."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from lastcall.tools.drill.processes import (
    Failed,
    Process,
    alive,
    children,
    command_line,
    kill,
    name,
    session,
    sweep,
    wait_until,
)
from support.processes import WITHIN_S, eventually


def python(code: str, folder: Path) -> Process:
    return Process([sys.executable, "-c", code], folder / "log")


WAIT = "import signal; signal.pause()"
FORK = f"import os, signal; signal.signal(15, signal.SIG_IGN); os.fork(); {WAIT}"


def test_whoever_was_started_ends_with_all_that_he_has_started(tmp_path: Path) -> None:
    """Also one that does not hear TERM."""
    process = python(FORK, tmp_path)
    eventually(lambda: len(session(process.pid)) == 2, "there are two")
    (child,) = children(process.pid)
    assert (alive(child), name(child)) == (True, name(process.pid))
    assert "signal.pause()" in command_line(child)
    process.kill()
    assert (session(process.pid), alive(child), process.ended) == ([], False, -signal.SIGKILL)
    gone = process.pid  # it has been reaped; its child may be a zombie for a while
    assert (kill(gone, signal.SIGTERM), name(gone), command_line(gone), children(gone)) == (False, "", "", [])


def test_who_does_not_end_in_time_is_named(tmp_path: Path) -> None:
    """And goes on until somebody is less polite."""
    process = python(FORK, tmp_path)
    eventually(lambda: len(session(process.pid)) == 2, "there are two")
    with pytest.raises(Failed, match=f"the processes of session {process.pid} end: not within 0.1 s"):
        sweep(process.pid, signal.SIGTERM, 0.1)
    with pytest.raises(Failed, match=r"has not ended within 0\.05 s"):
        process.wait(0.05)
    process.kill()


def test_what_cannot_be_started_is_said_so(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(Failed, match="nonsuch cannot be started: No such file or directory"):
        Process([str(tmp_path / "nonsuch")], tmp_path / "log")


def test_who_ends_while_he_is_waited_for_is_quoted(tmp_path: Path) -> None:
    """At once, with the end of what he has said."""
    process = python("print('no such app'); raise SystemExit(3)", tmp_path)
    with pytest.raises(Failed, match=r"ended with 3: it serves\nno such app"):
        process.wait_until(lambda: False, "it serves", WITHIN_S)
    process.kill()


def test_what_does_not_happen_is_said_so() -> None:
    """And the first true thing is what comes back."""
    assert wait_until(lambda: "yes", "something", 1.0) == "yes"
    with pytest.raises(Failed, match=r"something: not within 0\.02 s"):
        wait_until(lambda: None, "something", 0.02)


def test_servers_are_found_where_debian_keeps_them(tmp_path: Path) -> None:
    """Which is not on everybody's PATH."""
    process = python("import os; print(os.environ['PATH'])", tmp_path)
    assert process.wait(WITHIN_S) == 0
    assert process.text().strip() == f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
