"""The control client: which instance is meant, what its answers mean, and no wait without an end."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lastcall.protocol.control import LINE_MAX, Command, Do, Reply
from lastcall.tools import client
from support.master import STATUS, fake_master, line


@dataclass(frozen=True)
class Found:
    """An instance, as `runtime.rundir` lists it."""

    path: Path
    pid: int | None


def nowhere() -> list[Found]:
    """No instance is running."""
    return []


def failure(run: Callable[[], object]) -> tuple[str, int]:
    """The words and the exit code of what cannot be done."""
    with pytest.raises(client.Failed) as caught:
        run()
    return caught.value.text, caught.value.code


# --- Finding -----------------------------------------------------------------


def test_a_run_directory_is_taken_at_its_word(tmp_path: Path) -> None:
    """Nobody looks for other instances."""
    assert client.find(tmp_path, None, nowhere) == tmp_path


def test_the_only_instance_is_found_by_itself(tmp_path: Path) -> None:
    """No option is needed where there is no doubt."""
    assert client.find(None, None, lambda: [Found(tmp_path, 1)]) == tmp_path


def test_no_instance_is_unavailable() -> None:
    """69, and what else can be said."""
    assert failure(lambda: client.find(None, None, nowhere)) == (
        "no instance of lastcall is running (or name its directory: --run-dir DIR)",
        client.UNAVAILABLE,
    )


def test_of_several_instances_one_must_be_named(tmp_path: Path) -> None:
    """They are listed with what tells them apart, also one that does not answer."""
    one, other = tmp_path / "one", tmp_path / "other"
    other.mkdir()
    with fake_master(one, line(Reply(ok=True, status=STATUS))):
        text, code = failure(lambda: client.find(None, None, lambda: [Found(one, 4711), Found(other, 4712)]))
    assert code == client.USAGE
    assert text.splitlines() == [
        "2 instances are running, say which one is meant:",
        f"  --run-dir {one}   pool gift, pid 4711, http 127.0.0.1:8000, fastcgi 127.0.0.1:9000",
        f"  --run-dir {other}   pid 4712: no instance is running in {other}",
    ]


def test_a_pid_file_names_the_instance(tmp_path: Path) -> None:
    """By the pid of its master."""
    (tmp_path / "pid").write_text("42\n")
    instances = [Found(tmp_path / "one", 41), Found(tmp_path / "other", 42)]
    assert client.find(None, tmp_path / "pid", lambda: instances) == tmp_path / "other"


def test_a_pid_file_also_finds_a_run_directory_that_is_in_no_list(tmp_path: Path) -> None:
    """By the lock that its master holds open."""
    (tmp_path / "pid").write_text(str(os.getpid()))
    with fake_master(tmp_path / "run"), (tmp_path / "run" / "lock").open("w"):
        assert client.find(None, tmp_path / "pid", nowhere) == tmp_path / "run"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory: is the instance running?"),
        ("", "holds no pid"),
        ("-1", "holds no pid"),
        ("4194305", "is no instance of lastcall that we can see"),
    ],
)
def test_a_pid_file_that_leads_nowhere_is_told(tmp_path: Path, content: str | None, said: str) -> None:
    """Missing, not a number, or somebody who is gone (pids end at 4194304)."""
    file = tmp_path / "pid"
    if content is not None:
        file.write_text(content)
    text, code = failure(lambda: client.find(None, file, nowhere))
    assert said in text
    assert code == client.UNAVAILABLE


# --- Talking -----------------------------------------------------------------


def test_a_command_is_said_and_its_replies_are_heard(tmp_path: Path) -> None:
    """Progress first, then the final one; lines may arrive in any pieces."""
    said: list[str] = []
    both = line(Reply(ok=True, text="booting", final=False)) + line(Reply(ok=True, text="in service"))
    with fake_master(tmp_path, both[:9], both[9:50], both[50:]) as heard:
        reply = client.ask(tmp_path, Command(Do.RELOAD, wait=True), 10, said.append)
    assert reply == Reply(ok=True, text="in service")
    assert said == ["booting"]
    assert heard == [Command(Do.RELOAD, wait=True)]


def test_a_run_directory_may_have_a_longer_path_than_a_socket(tmp_path: Path) -> None:
    """107 bytes is the kernel's limit for a socket's path, not for a directory's."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with fake_master(deep, line(Reply(ok=True, status=STATUS))):
        assert client.status_of(deep) == STATUS


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    """No directory, no socket, or a socket that a killed master has left behind."""
    empty, left = tmp_path / "empty", tmp_path / "left"
    empty.mkdir()
    left.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left / "control.sock"))
    for folder, said in (
        (tmp_path / "none", "No such file or directory: no instance is running there"),
        (empty, f"no instance is running in {empty}"),
        (left, "has left its socket behind"),
    ):
        text, code = failure(lambda folder=folder: client.status_of(folder))  # type: ignore[misc]
        assert said in text
        assert code == client.UNAVAILABLE


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([], "closed the connection without an answer"),
        ([b'{"ok": true, "final"'], "closed the connection without an answer"),
        ([b"hello\n"], "is not understood"),
        ([b"{}\n"], "is not understood"),
        ([b"\xff\n"], "is not understood"),
    ],
)
def test_an_answer_that_is_none_is_told(tmp_path: Path, answers: list[bytes], said: str) -> None:
    """A master that dies meanwhile, or is no master."""
    with fake_master(tmp_path, *answers):
        text, code = failure(lambda: client.status_of(tmp_path))
    assert said in text
    assert code == client.UNAVAILABLE


def test_an_endless_answer_ends(tmp_path: Path) -> None:
    """A line has at most LINE_MAX bytes."""
    with fake_master(tmp_path, b" " * (LINE_MAX + 70000), silent=True):
        text, _ = failure(lambda: client.status_of(tmp_path))
    assert "longer than" in text


def test_silence_ends(tmp_path: Path) -> None:
    """After the time given: 75, try again."""
    with fake_master(tmp_path, silent=True):
        text, code = failure(lambda: client.status_of(tmp_path, timeout=0.05))
    assert (text, code) == ("no answer within 0.05 seconds", client.TEMPORARY)


def test_a_status_that_was_refused_is_told(tmp_path: Path) -> None:
    """In the master's words."""
    with fake_master(tmp_path, line(Reply(ok=False, text="not now"))):
        assert failure(lambda: client.status_of(tmp_path)) == ("not now", client.FAILED)


def test_another_users_instance_is_told(tmp_path: Path) -> None:
    """77, unless we are root, whom nobody refuses."""
    with fake_master(tmp_path, line(Reply(ok=True, status=STATUS))):
        (tmp_path / "control.sock").chmod(0)
        if os.geteuid() == 0:
            assert client.status_of(tmp_path) == STATUS
        else:
            text, code = failure(lambda: client.status_of(tmp_path))
            assert (text, code) == (f"the instance in {tmp_path} is another user's", client.NOT_ALLOWED)
        (tmp_path / "control.sock").chmod(0o600)


# --- Stopping ----------------------------------------------------------------

MASTER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listening", flush=True)
peer, _ = listener.accept()
peer.recv(4096)
peer.sendall(b'{"ok": true, "text": "waiting for child 7", "final": false}\\n{"ok": true}\\n')
peer.close()
sys.stdin.read()
"""
"""A master that takes its time to exit after its final reply: until its stdin ends."""


def test_stopped_means_that_the_process_is_gone(tmp_path: Path) -> None:
    """Whoever starts the next one finds the port free."""
    path = tmp_path / "control.sock"
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", MASTER, str(path)], stdin=-1, stdout=-1) as master:
        assert master.stdin is not None
        assert master.stdout is not None
        assert master.stdout.readline() == b"listening\n"
        with client.Connection(tmp_path, 0.05) as connection:
            assert connection.pid == master.pid
            process = os.pidfd_open(master.pid)
            text, code = failure(lambda: connection.gone(process))
            os.close(process)
        assert code == client.TEMPORARY
        assert "still finishing requests" in text
        master.kill()
    with subprocess.Popen([sys.executable, "-c", MASTER, str(tmp_path / "2")], stdin=-1, stdout=-1) as master:
        assert master.stdin is not None
        assert master.stdout is not None
        assert master.stdout.readline() == b"listening\n"
        (tmp_path / "2").rename(path)
        master.stdin.close()
        client.stop(tmp_path, 20, said.append)
        # Gone: a zombie of ours at the most, which poll() reaps.
        assert master.poll() == 0
    assert said == ["waiting for child 7"]


def test_without_a_pidfd_the_connections_end_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox may forbid pidfd_open; the master's death closes its end."""

    def forbidden(pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    with fake_master(tmp_path) as heard:
        client.stop(tmp_path, 10, lambda _: None)
    assert heard == [Command(Do.STOP, wait=True)]


def test_a_stop_that_takes_too_long_is_told(tmp_path: Path) -> None:
    """The instance goes on finishing; only the waiting ends."""
    with fake_master(tmp_path, silent=True):
        _, code = failure(lambda: client.stop(tmp_path, 0.05, lambda _: None))
    assert code == client.TEMPORARY


def test_a_stop_that_was_refused_is_told(tmp_path: Path) -> None:
    """In the master's words."""
    with fake_master(tmp_path, line(Reply(ok=False, text="not you"))):
        assert failure(lambda: client.stop(tmp_path, 10, lambda _: None)) == ("not you", client.FAILED)
