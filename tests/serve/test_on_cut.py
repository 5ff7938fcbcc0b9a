"""`on_cut` from outside: each cut is completed at least once, whoever dies when, and none is forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lastcall.runtime import errand
from support import http
from support.lastcall import READY, Server, Servers
from support.processes import children, comm, eventually

Start = Callable[..., Server]


@pytest.fixture
def repairing(serve: Servers, folder: Path) -> Start:
    """Start it with `on_cut`."""

    def start(*arguments: str, workers: str = "1", on_cut: str = "repairs:complete", wait: bool = True) -> Server:
        own = ("repairs:app", "--app-dir", str(Path(__file__).parent), "--workers", workers, "--on-cut", on_cut)
        return serve(*own, *arguments, env={"REPAIRS": str(folder)}, wait=wait)

    return start


def listed(folder: Path, file: str) -> list[str]:
    """What the repairs have written down."""
    path = folder / file
    return path.read_text().split() if path.exists() else []


def cut(server: Server, uri: str) -> None:
    """A request that is."""
    assert http.post(server.http_address, uri, b"").status == 503


def completed(server: Server, times: int = 1) -> None:
    server.wait_log("on_cut has completed", times)


def test_a_cut_is_completed_by_the_application(repairing: Start, folder: Path) -> None:
    """Once, with its record, in a process that has nothing of the master's; what it says is in the log."""
    server = repairing()
    cut(server, "/tells/order-17")
    completed(server)
    assert listed(folder, "done") == ["order-17"]
    (line,) = server.log_lines("said into stdout")
    assert "POST /tells/order-17 of 127.0.0.1: answered 503, 4" in line  # descriptors: three, and the listing's own
    (record,) = map(json.loads, server.command("cuts", "--json").stdout.splitlines())
    assert record["on_cut"] == "repairs:complete"
    assert record["completed_at"] > record["at"]
    assert "answered 503; repairs:complete has completed it" in server.command("cuts").stdout
    assert server.status().uncompleted == 0
    assert server.stop() == 0
    server.start_again()
    server.wait_log(READY, times=2)
    assert server.stop() == 0
    assert listed(folder, "begun") == ["order-17"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_is_the_workers_user(repairing: Start, folder: Path) -> None:
    """The master is root, and its cut list is root's; the application's code is not run by root."""
    folder.chmod(0o777)
    server = repairing("--user", "nobody")
    cut(server, "/ok/order-17")
    completed(server)
    assert (folder / "done").owner() == "nobody"
    cut(server, "/waits/order-18")
    eventually(lambda: len(listed(folder, "begun")) == 2, "it is at it")
    (errand_pid,) = (pid for pid in children(server.pid) if comm(pid) == errand.NAME)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not Path(f"/proc/{errand_pid}").exists(), "it has ended with its master")


def test_a_request_that_is_run_again_needs_no_completion(repairing: Start, folder: Path) -> None:
    """Its second run does it all."""
    server = repairing()
    assert http.get(server.http_address, "/ok/order-17").status == 200
    server.wait_log("is run again")
    assert server.stop() == 0
    assert listed(folder, "begun") == []


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("fails", "it exited with code 70"),
        ("leaves", "it exited with code 3"),
        ("is-killed", "it exited on signal 9 (SIGKILL)"),
        ("hangs", "it had run for longer than on_cut_timeout (1s)"),
    ],
)
def test_what_fails_is_done_again(repairing: Start, folder: Path, how: str, why: str) -> None:
    """After a pause; others have their turn meanwhile, and what it has started ends with it."""
    server = repairing("--on-cut-timeout", "1s")
    cut(server, f"/{how}/order-17")
    server.wait_log(f"at try 1: {why}; again in 0.5 seconds")
    cut(server, "/ok/order-18")
    completed(server, 2)
    assert sorted(listed(folder, "done")) == ["order-17", "order-18"]
    assert len(listed(folder, "begun")) == (4 if how == "fails" else 3)
    assert server.status().uncompleted == 0
    if how == "fails":
        assert "no database today" in server.log()
        assert "ConnectionError: the database is away" in server.log()


def test_a_master_that_is_killed_before_it_leaves_the_cut_to_the_next(repairing: Start, folder: Path) -> None:
    """Two are being completed, one waits: none is forgotten, and nothing runs while there is no master."""
    server = repairing()
    for number in range(3):
        cut(server, f"/waits/order-{number}")
    eventually(lambda: len(listed(folder, "begun")) == 2, "as many as may are at it")
    assert server.status().uncompleted == 3
    assert "repairs:complete has not completed it yet" in server.command("cuts").stdout
    errands = [pid for pid in children(server.pid) if comm(pid) == errand.NAME]
    assert len(errands) == 2
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in errands), "they have ended with their master")
    (folder / "go").touch()
    assert listed(folder, "done") == []
    server.start_again()
    completed(server, 3)
    assert sorted(listed(folder, "done")) == ["order-0", "order-1", "order-2"]
    assert server.stop() == 0


def test_a_master_that_is_killed_before_it_has_written_that_down_does_it_again(repairing: Start, folder: Path) -> None:
    """At least once: the function has done its work, and nobody knows."""
    server = repairing()
    with contextlib.suppress(http.Closed):  # the master may die before there is a worker to answer
        cut(server, "/kills-the-master/order-17")
    server.wait()
    assert listed(folder, "done") == ["order-17"]
    server.start_again()
    completed(server)
    server.wait_log(READY, times=2)
    assert listed(folder, "done") == ["order-17", "order-17"]
    assert server.stop() == 0
    server.start_again()
    server.wait_log(READY, times=3)
    assert server.stop() == 0
    assert len(listed(folder, "begun")) == 2


def test_a_stop_waits_for_the_completion_of_what_it_has_cut(repairing: Start, folder: Path) -> None:
    """It is the stop that cuts: the next start may be far away."""
    server = repairing("--drain-timeout", "200ms")
    with http.Connection(server.http_address) as connection:
        connection.send(http.head("POST", "/wait/order-17", b""))
        eventually((folder / "waits").exists, "it is inside")
        server.signal(signal.SIGTERM)
        assert connection.response("POST").status == 503
    assert server.wait() == 0
    assert listed(folder, "done") == ["order-17"]


def test_a_stop_in_a_hurry_leaves_it_to_the_next_start(repairing: Start, folder: Path) -> None:
    """And says so."""
    server = repairing()
    with http.Connection(server.http_address) as connection:
        connection.send(http.head("POST", "/wait/order-17", b""))
        eventually((folder / "waits").exists, "it is inside")
        server.signal(signal.SIGTERM)
        server.wait_log("Terminating ...")
        server.signal(signal.SIGTERM)
        assert connection.response("POST").status == 503
    assert server.wait() == 0
    assert "1 cut is left for on_cut at the next start" in server.log()
    server.start_again()
    server.wait_log(READY, times=2)
    completed(server)
    assert listed(folder, "done") == ["order-17"]
    assert server.stop() == 0


def test_an_upgrade_waits_for_it(repairing: Start, folder: Path) -> None:
    """Otherwise the next image would do it a second time, beside the first."""
    server = repairing()
    cut(server, "/waits/order-17")
    eventually(lambda: listed(folder, "begun"), "it is at it")
    server.signal(signal.SIGUSR2)
    cut(server, "/ok/order-18")
    assert "execvp" not in server.log()
    (folder / "go").touch()
    completed(server, 2)
    server.wait_log("execvp")
    assert listed(folder, "begun") == ["order-17", "order-18"]
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("on_cut", "why"),
    [
        ("repairs:completes", "repairs has no attribute 'completes'"),
        ("repair:complete", "there is no module 'repair'"),
        ("repairs:not_a_function", "repairs:not_a_function is no function: int cannot be called"),
    ],
)
def test_one_that_cannot_be_loaded_is_found_before_it_is_needed(repairing: Start, on_cut: str, why: str) -> None:
    """The start fails as it does with an application that cannot be loaded."""
    server = repairing(on_cut=on_cut, wait=False)
    assert server.wait() == 70
    assert why in server.log()
