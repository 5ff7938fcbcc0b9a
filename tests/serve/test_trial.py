"""A reload's trial, from outside: new code that seems well and is not, and the old code that has never gone away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support import http
from support.lastcall import Server
from support.processes import ROOT, WITHIN_S, eventually

Shop = Callable[..., Server]

DIES_LATER = """
import os, threading

threading.Timer(0.8, os._exit, [7]).start()

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"new\\n"]
"""
"""It is imported, ready, even serves; then it dies."""

ONE_ONLY = """
import pathlib, threading

try:
    pathlib.Path(__file__).with_suffix(".once").touch(exist_ok=False)
except FileExistsError:
    while not pathlib.Path(__file__).with_suffix(".go").exists():
        threading.Event().wait(0.01)
    raise RuntimeError("the second")

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"new\\n"]
"""
"""The first worker serves, the second fails once it is let."""

HANGS = "import threading\nthreading.Event().wait()\n"
EXITS_AFTER_A_SECOND = "import os, threading\nthreading.Event().wait(1)\nos._exit(3)\n"
RAISES = "raise RuntimeError('half a deploy')\n"


def ready(server: Server) -> dict[int, int]:
    """Pid and generation of whoever serves."""
    return {
        worker.pid: worker.generation for worker in server.status().workers if worker.stage == "ready" and worker.pid
    }


def resting(server: Server) -> list[int]:
    """The pids of whoever rests."""
    return [worker.pid for worker in server.status().workers if worker.stage == "resting" and worker.pid]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_new_code_that_dies_when_it_has_become_ready_is_rolled_back(shop: Shop, code: Path, threads: str) -> None:
    """The old processes, which have the old code in memory, serve on; the reload fails in words."""
    server = shop("--workers", "2", "--trial", "2", "--threads", threads)
    before = ready(server)
    (code / "shop.py").write_text(DIES_LATER)
    done = server.command("reload", "--wait")
    assert done.returncode == 1, server.everything()
    assert "exited with code 7" in done.stdout + done.stderr
    assert http.get(server.http_address).body == b"hello\n"
    eventually(lambda: ready(server) == before, f"the old serve: {before}")
    eventually(lambda: set(server.workers()) == set(before), "the new are gone")
    last = server.status().last_reload
    assert last is not None
    assert not last.ok
    assert "exited with code 7" in last.text


def test_without_a_trial_the_new_code_is_believed_at_once(shop: Shop, code: Path) -> None:
    """--trial 0: nothing of the old is left to go back to. It is the trial that keeps it."""
    server = shop("--workers", "2", "--trial", "0")
    before = set(ready(server))
    (code / "shop.py").write_text(DIES_LATER)
    assert server.command("reload", "--wait").returncode == 0
    eventually(lambda: not set(server.workers()) & before, "the old are gone")


def test_a_connection_outlives_the_rest_and_the_return_of_its_worker(shop: Shop, code: Path) -> None:
    """Kept through a reload of which the second worker fails: it is answered by whoever serves just then."""
    server = shop("--workers", "2", "--trial", "60")
    before = ready(server)
    (code / "shop.py").write_text(ONE_ONLY)
    with http.Connection(server.http_address) as kept, http.Connection(server.http_address) as silent:
        assert kept.request("GET", "/").body == b"hello\n"
        server.signal(signal.SIGHUP)
        eventually(lambda: resting(server), "an old worker rests")
        assert kept.request("GET", "/").status == 200
        (code / "shop.go").touch()
        server.wait_log("reload failed")
        eventually(lambda: set(server.workers()) == set(before), "the new are gone")
        assert ready(server) == before
        assert kept.request("GET", "/").body == b"hello\n"
        assert silent.request("GET", "/").body == b"hello\n"


def test_a_request_in_flight_is_finished_by_a_worker_that_rests(shop: Shop, folder: Path) -> None:
    """It is waited for as long as the trial lasts, and then as long as a drain may."""
    server = shop("--workers", "1", "--trial", "300ms")
    end = folder / "end.flag"
    with http.Connection(server.http_address) as kept:
        kept.send(http.head("GET", f"/wait{end}"))
        eventually(end.with_suffix(".begun").exists, "the request has begun")
        server.signal(signal.SIGHUP)
        server.wait_log("reload finished")
        end.touch()
        assert kept.response().body == b"waited\n"
        assert kept.request("GET", "/").body == b"hello\n"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(RAISES, "half a deploy"), (HANGS, "not ready after"), (EXITS_AFTER_A_SECOND, "with code 3")],
)
def test_new_code_that_never_becomes_ready_changes_nothing(shop: Shop, code: Path, broken: str, reason: str) -> None:
    """It raises, hangs, or exits while it is imported: the same processes as before serve on."""
    server = shop("--boot-timeout", "1500ms")
    before = ready(server)
    (code / "shop.py").write_text(broken)
    done = server.command("reload", "--wait")
    assert done.returncode == 1, server.everything()
    assert reason in done.stdout + done.stderr
    assert ready(server) == before
    assert http.get(server.http_address).body == b"hello\n"
    last = server.status().last_reload
    assert last is not None
    assert not last.ok
    assert reason in last.text


def test_the_old_rest_while_the_new_are_on_trial_and_then_go(shop: Shop) -> None:
    """The reload is finished when the trial is over, and not before."""
    server = shop("--trial", "3s")
    before = set(ready(server))

    began = time.monotonic()
    server.signal(signal.SIGHUP)
    eventually(lambda: set(resting(server)) == before, "the new serve, the old rest")
    server.wait_log("reload finished")
    assert time.monotonic() - began > 3
    eventually(lambda: not set(server.workers()) & before, "the old are gone")


def test_a_worker_that_rests_obeys_the_stop(shop: Shop) -> None:
    """Nobody waits for the end of a trial; whoever waits for the reload hears of it."""
    server = shop("--trial", "60")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "lastcall", "reload", "--wait", "--run-dir", str(server.run_dir)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    eventually(lambda: set(ready(server).values()) == {2}, "the new serve")
    assert server.stop() == 0
    said, _ = waiting.communicate(timeout=WITHIN_S)
    assert waiting.returncode == 1
    assert "stopping" in said


def test_a_worker_that_rests_may_be_ended_by_hand(shop: Shop) -> None:
    """`kill -TERM`: it goes, nobody takes its place, and the trial is not disturbed."""
    server = shop("--trial", "60")
    server.signal(signal.SIGHUP)
    eventually(lambda: len(resting(server)) == 2, "the old rest")
    first, second = resting(server)
    os.kill(first, signal.SIGTERM)
    eventually(lambda: resting(server) == [second], "one of them has gone")
    assert len(server.workers()) == 3
    assert "reload f" not in server.log()


def test_workers_that_rest_end_when_their_master_is_killed(shop: Shop) -> None:
    """Nobody could call them back."""
    server = shop("--trial", "60", "--orphan-timeout", "0")
    server.signal(signal.SIGHUP)
    eventually(lambda: len(resting(server)) == 2, "the old rest")
    workers = server.workers()
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers have ended")


def test_a_reload_while_stopping_is_refused(shop: Shop, folder: Path) -> None:
    """The stop goes on, and the request that it waits for is answered."""
    server = shop("--workers", "1")
    end = folder / "end.flag"
    with http.Connection(server.http_address) as kept:
        kept.send(http.head("GET", f"/wait{end}"))
        eventually(end.with_suffix(".begun").exists, "the request has begun")
        server.signal(signal.SIGTERM)
        server.wait_log("Terminating ...")
        done = server.command("reload", "--wait")
        assert done.returncode == 1
        assert "stopping" in done.stdout + done.stderr
        end.touch()
        assert kept.response().body == b"waited\n"
    assert server.wait() == 0


def test_25_usr2_in_300_ms_are_few_reloads_and_the_last_one_wins(shop: Shop, code: Path) -> None:
    """Neither lost nor repeated; the code of the last moment is what serves."""
    server = shop()
    shop_py = code / "shop.py"
    pause = threading.Event()
    for number in range(25):
        if number == 24:
            shop_py.write_text(shop_py.read_text().replace('b"hello\\n"', 'b"welcome\\n"'))
        server.signal(signal.SIGUSR2)
        pause.wait(0.012)
    server.wait_log("reload finished")
    eventually(lambda: server.status().phase == "running" and len(server.status().workers) == 2, "the pool is whole")
    assert http.get(server.http_address).body == b"welcome\n"
    assert len(server.log_lines("reload finished")) <= 3


def test_20_reloads_back_to_back_lose_nothing(shop: Shop) -> None:
    """0.2 s apart, each on trial for longer than that, under a small load."""
    server = shop("--workers", "2")
    outcomes: Counter[str] = Counter()
    over = threading.Event()

    def ask(*, keep: bool) -> None:
        connection = http.Connection(server.http_address)
        while not over.is_set():
            try:
                outcomes[str(connection.request("POST", "/pid", b"order").status)] += 1
            except (http.Closed, OSError) as error:
                outcomes[repr(error)] += 1
            if not keep:
                connection.close()
                connection = http.Connection(server.http_address)
            over.wait(0.002)
        connection.close()

    threads = [threading.Thread(target=ask, kwargs={"keep": keep}) for keep in (True, False)]
    for thread in threads:
        thread.start()
    most = 0
    for _ in range(20):
        server.signal(signal.SIGHUP)
        over.wait(0.2)
        most = max(most, len(server.workers()))
    server.wait_log("reload finished")
    eventually(lambda: len(server.status().workers) == 2, "the pool is whole again")
    over.set()
    for thread in threads:
        thread.join()
    assert set(outcomes) == {"200"}, outcomes
    assert most <= 2 * 2 + 1


def test_a_reload_of_eight_workers_takes_about_a_second(shop: Shop) -> None:
    """With a light application and default settings, the trial included. Generous here: machines are busy."""
    server = shop("--workers", "8")
    began = time.monotonic()
    server.signal(signal.SIGHUP)
    server.wait_log("reload finished")
    took = time.monotonic() - began
    print(f"8 workers reloaded within {took:.3f} s")
    assert took < 3
