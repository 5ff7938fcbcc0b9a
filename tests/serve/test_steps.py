"""`lastcall.step` from outside: who asks where a request is hears what it has said."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastcall.runtime.whereabouts import EXPLAIN
from support import http
from support.lastcall import Server, Servers
from support.processes import eventually

MARKED = ("marked:app", "--app-dir", str(Path(__file__).parent))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),)


@contextmanager
def asking(server: Server, what: str, file: Path, method: str = "GET") -> Iterator[list[http.Response]]:
    """A request that is inside the application for as long as the block lasts; its answer is in the list then."""
    answers: list[http.Response] = []

    def ask() -> None:
        with http.Connection(server.http_address) as connection:
            connection.send(http.head(method, f"/{what}{file}", headers=HEADERS))
            answers.append(connection.response())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        eventually(file.with_suffix(".begun").exists, "the request has begun")
        yield answers
    finally:
        file.touch()
        thread.join()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_status_shows_the_steps_of_a_request(serve: Servers, folder: Path, threads: str) -> None:
    """The last one for people, the latest with their times for programs; a thread speaks for it, a fork does not."""
    server = serve(*MARKED, "--workers", "1", "--threads", threads)
    with asking(server, "steps", folder / "end.flag"):
        (request,) = server.status().workers[0].in_flight
        assert request.step == "sendPresent"
        names = [step.name for step in request.steps]
        assert names == [*(f"step {number}" for number in range(6, 20)), "helped", "sendPresent"]
        assert request.steps_before == 6
        assert request.steps[-1].about == "order-17"
        times = [0.0, *(step.at for step in request.steps), request.elapsed]
        assert times == sorted(times)
        assert re.search(r", at sendPresent \(order-17\) for \d\.\d\ds, ", server.command("status").stdout)


def test_a_drain_says_at_which_step_it_waits(serve: Servers, folder: Path) -> None:
    """And for how long."""
    server = serve(*MARKED, "--workers", "1")
    with asking(server, "steps", folder / "end.flag"):
        server.signal(signal.SIGTERM)
        server.wait_log("waiting for child", within=4 * EXPLAIN)
    assert server.wait() == 0
    (line, *_) = server.log_lines("waiting for child")
    assert re.search(r"\d sec, at step sendPresent \(order-17\) for \d\.\d sec, ", line)


def test_the_cut_list_has_the_steps_and_the_trace(serve: Servers, folder: Path) -> None:
    """As the dead worker has left them; its client hears the last one's name, not what it was about."""
    server = serve(*MARKED, "--workers", "1", "--replay", "none")
    with asking(server, "steps", folder / "end.flag") as answers:
        os.kill(server.workers()[0], signal.SIGKILL)
        eventually(lambda: answers, "the client is answered")
    assert json.loads(answers[0].body)["last_step"] == "sendPresent"
    (line,) = server.log_lines("was cut after")
    assert " sec, at step sendPresent (order-17): its worker exited on signal 9" in line
    record = json.loads(server.command("cuts", "--json").stdout)
    assert (record["step"], record["steps_before"], record["trace_id"]) == ("sendPresent", 6, TRACE)
    assert len(record["steps"]) == 16
    last = record["steps"][-1]
    assert (last["name"], last["about"]) == ("sendPresent", "order-17")
    assert 0 < last["at"] <= record["elapsed"]


def test_another_header_names_the_trace(serve: Servers, folder: Path) -> None:
    """As a whole."""
    server = serve(*MARKED, "--workers", "1", "--replay", "none", "--trace-header", "Host")
    with asking(server, "steps", folder / "end.flag") as answers:
        os.kill(server.workers()[0], signal.SIGKILL)
        eventually(lambda: answers, "the client is answered")
    record = json.loads(server.command("cuts", "--json").stdout)
    assert record["trace_id"] == "test"
