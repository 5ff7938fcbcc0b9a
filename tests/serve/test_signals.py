"""What the operator's signals do (DESIGN: section 7), seen from outside: answers, log lines, exit codes."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support import http
from support.lastcall import Server
from support.processes import eventually

Shop = Callable[..., Server]


def in_flight(server: Server, folder: Path) -> tuple[threading.Thread, list[http.Response], Path]:
    """A request that has begun, and the file that ends it."""
    answers: list[http.Response] = []
    end = folder / "end.flag"
    thread = threading.Thread(target=lambda: answers.append(http.get(server.http_address, f"/wait{end}")))
    thread.start()
    eventually(end.with_suffix(".begun").exists, "the request has begun")
    return thread, answers, end


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "Terminating ..."), (signal.SIGINT, "Terminating ..."), (signal.SIGQUIT, "Finishing ...")],
)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_every_stop_signal_finishes_what_has_begun(
    shop: Shop, folder: Path, number: signal.Signals, word: str, threads: str
) -> None:
    """TERM, INT and QUIT drain: the request in flight is answered, then the server ends with 0."""
    server = shop("--threads", threads)
    thread, answers, end = in_flight(server, folder)
    server.signal(number)
    server.wait_log(word)
    end.touch()
    thread.join()
    assert [answer.body for answer in answers] == [b"waited\n"]
    assert server.wait() == 0
    assert "NOTICE: exiting, bye-bye!" in server.log()


def test_a_second_stop_cuts_and_names_what_it_cut(shop: Shop, folder: Path) -> None:
    """The second TERM cuts; the log holds the stack of the request and one line that names it."""
    server = shop()
    thread, answers, end = in_flight_unanswered(server, folder)
    server.signal(signal.SIGTERM)
    server.wait_log("Terminating ...")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    thread.join()
    assert answers == ["503"]
    assert not end.exists()
    assert "asked to stop again: what still runs is cut" in server.log()
    assert re.search(r'request "GET /wait\S+" \(\w+\), [\d.]+ sec, is here:\n(.*\n)*?.*shop\.py', server.log())
    assert re.search(r'ERROR: .*request "GET /wait\S+" \(\w+\) from 127\.0\.0\.1 was cut after', server.log())


def in_flight_unanswered(server: Server, folder: Path) -> tuple[threading.Thread, list[str], Path]:
    """A request that will be cut."""
    outcome: list[str] = []
    end = folder / "never.flag"

    def ask() -> None:
        try:
            outcome.append(str(http.get(server.http_address, f"/wait{end}").status))
        except http.Closed:
            outcome.append("closed")

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(end.with_suffix(".begun").exists, "the request has begun")
    return thread, outcome, end


def test_the_drain_deadline_cuts(shop: Shop, folder: Path) -> None:
    """What has not finished by --drain-timeout is traced, named, and cut."""
    server = shop("--drain-timeout", "300ms")
    thread, answers, _ = in_flight_unanswered(server, folder)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    thread.join()
    assert answers == ["503"]
    assert "has not finished after 0.3 seconds, terminating" in server.log()
    assert "was cut after" in server.log()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_reload_replaces_every_worker_and_keeps_the_master(shop: Shop, number: signal.Signals) -> None:
    """HUP and USR2: other workers, the same master, the new code."""
    server = shop()
    before = {worker.pid for worker in server.status().workers}
    server.signal(number)
    server.wait_log("reload finished, generation 2 is in service")
    eventually(lambda: len(server.status().workers) == 2, "two workers are left")
    after = server.status()
    assert before.isdisjoint({worker.pid for worker in after.workers})
    assert after.pid == server.pid
    assert {worker.generation for worker in after.workers} == {2}


def test_the_new_generation_runs_the_new_code(shop: Shop, code: Path) -> None:
    """An edit of the application is served after a reload, not before."""
    server = shop()
    shop_py = code / "shop.py"
    shop_py.write_text(shop_py.read_text().replace('b"hello\\n"', 'b"welcome\\n"'))
    assert http.get(server.http_address).body == b"hello\n"
    server.signal(signal.SIGHUP)
    server.wait_log("reload finished")
    assert http.get(server.http_address).body == b"welcome\n"


def test_a_request_in_flight_at_a_reload_is_finished_by_the_old_generation(shop: Shop, folder: Path) -> None:
    """New workers serve at once; the old one stays until its request is answered."""
    server = shop("--workers", "1")
    thread, answers, end = in_flight(server, folder)
    server.signal(signal.SIGHUP)
    server.wait_log("reload finished")
    assert http.get(server.http_address).body == b"hello\n"
    end.touch()
    thread.join()
    assert [answer.body for answer in answers] == [b"waited\n"]


def test_twenty_five_reloads_at_once_end_in_one_working_generation(shop: Shop) -> None:
    """Signals that arrive meanwhile are neither lost nor do they pile up (FPM_FACTS section 5)."""
    server = shop()
    for _ in range(25):
        server.signal(signal.SIGUSR2)
    server.wait_log("reload finished")
    eventually(lambda: [worker.stage for worker in server.status().workers] == ["ready"] * 2, "the pool is whole again")
    assert http.get(server.http_address).status == 200


def test_ttin_and_ttou_scale(shop: Shop) -> None:
    """One worker more, one less; never none."""
    server = shop("--workers", "1")
    server.signal(signal.SIGTTIN)
    eventually(lambda: len(server.status().workers) == 2, "there are two workers")
    server.signal(signal.SIGTTOU)
    eventually(lambda: len(server.status().workers) == 1, "there is one worker")
    server.signal(signal.SIGTTOU)
    server.wait_log("scaled to 1 workers", times=2)
    assert http.get(server.http_address).status == 200


def test_usr1_reopens_the_logs_for_master_and_workers(shop: Shop, folder: Path) -> None:
    """After logrotate has moved the files everybody writes into new ones."""
    access = folder / "access.log"
    server = shop("--access-log", str(access))
    http.get(server.http_address, "/before")
    eventually(lambda: "/before" in access.read_text(), "the access line is there")
    access.rename(folder / "access.log.1")
    server.error_log.rename(folder / "error.log.1")
    server.signal(signal.SIGUSR1)
    server.wait_log("error log file re-opened")
    server.wait_log("access log file re-opened")

    def heard() -> bool:
        http.get(server.http_address, "/after")
        return "/after" in access.read_text()

    eventually(heard, "the workers write into the new file")


def test_the_log_says_who_sent_a_signal(shop: Shop) -> None:
    """Pid, uid, command line and ancestors."""
    server = shop()
    server.signal(signal.SIGHUP)
    server.wait_log("SIGHUP from")
    (line,) = server.log_lines("SIGHUP from")
    assert f"pid {os.getpid()} uid {os.getuid()}" in line
    assert "pytest" in line


def test_the_last_words_are_php_fpms(shop: Shop) -> None:
    """Parsers of php-fpm's log find its lines in ours (FPM_FACTS section 1)."""
    server = shop("--workers", "1")
    server.signal(signal.SIGTERM)
    server.wait()
    stamp = r"\[\d\d-[A-Z][a-z]{2}-\d{4} \d\d:\d\d:\d\d\]"
    for line in (
        r"NOTICE: lastcall is running, pid \d+",
        r"NOTICE: \[pool app\] child \d+ started",
        r"NOTICE: ready to handle connections",
        r"NOTICE: Terminating \.\.\.",
        r"NOTICE: \[pool app\] child \d+ exited with code 0 after \d+\.\d{6} seconds from start",
        r"NOTICE: exiting, bye-bye!",
    ):
        assert re.search(rf"^{stamp} {line}$", server.log(), re.MULTILINE), line


def test_a_worker_that_is_told_to_stop_by_hand_finishes_and_is_replaced(shop: Shop, folder: Path) -> None:
    """`kill -TERM` of a worker inside a request: answered; another worker takes its place."""
    server = shop("--workers", "1")
    thread, answers, end = in_flight(server, folder)
    (before,) = server.workers()
    os.kill(before, signal.SIGTERM)
    end.touch()
    thread.join()
    assert [answer.body for answer in answers] == [b"waited\n"]
    eventually(lambda: server.workers() not in ([before], []), "another worker is there")
    assert http.get(server.http_address).status == 200


def test_a_killed_worker_is_replaced_and_its_request_is_named(shop: Shop, folder: Path) -> None:
    """Kill -9 inside a request: the log says which request, how long, and why."""
    server = shop("--workers", "1", "--replay", "none")
    thread, answers, _ = in_flight_unanswered(server, folder)
    (before,) = server.workers()
    os.kill(before, signal.SIGKILL)
    thread.join()
    assert answers == ["503"]
    server.wait_log("was cut after")
    (line,) = server.log_lines("was cut after")
    assert "its worker exited on signal 9 (SIGKILL)" in line
    assert http.get(server.http_address).status == 200


def test_a_worker_that_crashes_leaves_its_stack_in_the_log(shop: Shop, code: Path) -> None:
    """SIGSEGV in C code: the application's line, in the log that was reopened meanwhile."""
    (code / "shop.py").write_text("import ctypes\ndef app(environ, start_response):\n    ctypes.string_at(0)\n")
    server = shop("--rlimit-core", "0")
    server.error_log.rename(server.error_log.with_suffix(".1"))
    assert server.command("reopen").returncode == 0
    assert http.get(server.http_address).status == 500
    server.wait_log("exited on signal 11 (SIGSEGV)")
    assert "Fatal Python error: Segmentation fault" in server.log()
    assert f'File "{code}/shop.py", line 3 in app' in server.log()
    assert "was cut after" in server.log()


def test_workers_end_when_their_master_is_killed(shop: Shop) -> None:
    """Where none is to be waited for: no orphan goes on listening."""
    server = shop("--orphan-timeout", "0")
    workers = server.workers()
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers have ended")
