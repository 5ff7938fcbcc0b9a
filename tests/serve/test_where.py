"""What is being waited for, and where it is: the lines of a drain, and `lastcall status`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastcall.runtime.whereabouts import EXPLAIN, NO_ANSWER
from support import http
from support.lastcall import Server, Servers
from support.processes import eventually

HERE = Path(__file__).parent
BUSY = ("busy:app", "--app-dir", str(HERE))


@contextmanager
def asking(server: Server, target: str, flag: Path) -> Iterator[None]:
    """A request that has begun, and is answered with 200 at the end of the block, once it has been let go there."""
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(http.get(server.http_address, target).status))
    thread.start()
    eventually(flag.with_suffix(".begun").exists, f"{target} has begun")
    try:
        yield
    finally:
        thread.join()
    assert answers == [200]


@contextmanager
def stuck(server: Server, folder: Path) -> Iterator[None]:
    """A request whose worker runs no other thread, until the end of the block."""
    fifo = folder / "stuck.fifo"
    os.mkfifo(fifo)
    with asking(server, f"/stuck{fifo}", fifo):
        try:
            yield
        finally:
            os.close(os.open(fifo, os.O_WRONLY))


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_drain_says_what_it_is_waiting_for(serve: Servers, folder: Path, threads: str) -> None:
    """The request with the line of code that it is in; half-received requests and unsent responses with their number."""
    server = serve(*BUSY, "--workers", "1", "--threads", threads)
    end = folder / "end.flag"
    with http.Connection(server.http_address) as half, http.Connection(server.http_address) as lazy:
        half.send(http.head("POST", "/", b"order"))
        lazy.send(http.head("GET", "/big"))
        assert lazy.socket.recv(1) == b"H"
        with asking(server, f"/wait{end}", end):
            server.signal(signal.SIGTERM)
            server.wait_log("waiting for child", times=2, within=4 * EXPLAIN)
            end.touch()
        half.send(b"order")
        assert half.response().status == 200
        lazy.leftover = b"H"
        assert len(lazy.response().body) == 32 << 20
    assert server.wait() == 0
    request, connections, *_ = server.log_lines("waiting for child")
    where = re.escape(str(HERE / "busy.py"))
    assert re.search(rf'request "GET /wait{end}" \(\w+\), \d\.\d sec, {where}:\d+ in wait_for$', request)
    assert connections.endswith("2 connections: 1 request still arriving, 1 response not yet taken")


def test_a_drain_says_that_a_worker_does_not_answer(serve: Servers, folder: Path) -> None:
    """C code that holds the GIL: the line comes in time, and says so."""
    server = serve(*BUSY, "--workers", "1")
    with stuck(server, folder):
        server.signal(signal.SIGTERM)
        server.wait_log("waiting for child", within=4 * EXPLAIN)
    assert server.wait() == 0
    (line, *_) = server.log_lines("waiting for child")
    assert line.endswith(f" sec, {NO_ANSWER}")


def test_the_cut_list_says_that_a_worker_did_not_answer(serve: Servers, folder: Path) -> None:
    """C code has kept the GIL until the worker was killed: no trace, and still a reason."""
    server = serve(*BUSY, "--workers", "1", "--drain-timeout", "100ms")
    fifo = folder / "stuck.fifo"
    os.mkfifo(fifo)
    with http.Connection(server.http_address) as connection:
        connection.send(http.head("GET", f"/stuck{fifo}"))
        eventually(fifo.with_suffix(".begun").exists, "the request has begun")
        server.signal(signal.SIGTERM)
        assert connection.response().status == 503
        assert server.wait() == 0
    record = json.loads(server.command("cuts", "--json").stdout)
    assert (record["kind"], record["where"]) == ("drain_timeout", NO_ANSWER)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_status_shows_the_line_of_code(serve: Servers, folder: Path, threads: str) -> None:
    """For people and for programs; what else the worker has to finish stands beside it."""
    server = serve(*BUSY, "--workers", "1", "--threads", threads)
    end = folder / "end.flag"
    with http.Connection(server.http_address) as half:
        half.send(http.head("POST", "/", b"order"))
        with asking(server, f"/wait{end}", end):
            (worker,) = eventually(
                lambda: [worker for worker in server.status().workers if worker.waiting], "the half request is there"
            )
            (request,) = worker.in_flight
            assert re.fullmatch(rf"{re.escape(str(HERE / 'busy.py'))}:\d+ in wait_for", request.where)
            assert worker.waiting == ["1 request still arriving"]
            text = server.command("status").stdout
            assert request.where in text
            assert "  1 request still arriving\n" in text
            end.touch()


def test_status_shows_the_line_of_a_request_whose_worker_rests(serve: Servers, folder: Path) -> None:
    """It was replaced, and its successor is on trial."""
    server = serve(*BUSY, "--workers", "1", "--trial", "1h")
    end = folder / "end.flag"
    with asking(server, f"/wait{end}", end):
        server.signal(signal.SIGHUP)
        resting = eventually(
            lambda: [worker for worker in server.status().workers if worker.stage == "resting"], "the old worker rests"
        )
        assert [request.where.endswith(" in wait_for") for request in resting[0].in_flight] == [True]
        end.touch()


def test_status_does_not_wait_for_a_worker_that_is_stuck(serve: Servers, folder: Path) -> None:
    """Others are shown as ever, several clients at once are answered, one that hangs up harms nobody; requests go on."""
    server = serve(*BUSY, "--workers", "2")
    with stuck(server, folder):
        with socket.socket(socket.AF_UNIX) as impatient:
            impatient.connect(str(server.run_dir / "control.sock"))
            impatient.sendall(b'{"do":"status"}\n')
        clients = [socket.socket(socket.AF_UNIX) for _ in range(5)]
        for client in clients:
            client.settimeout(20)
            client.connect(str(server.run_dir / "control.sock"))
            client.sendall(b'{"do":"status"}\n')
        assert http.get(server.http_address).status == 200
        for client in clients:
            status = json.loads(client.makefile().readline())["status"]
            said = [request["where"] for worker in status["workers"] for request in worker["in_flight"]]
            assert said == [NO_ANSWER]
            client.close()


def test_a_client_that_has_closed_its_sending_side_is_answered(serve: Servers, folder: Path) -> None:
    """As `socat` does it, also when the answer takes a moment; what comes after the command is none."""
    server = serve(*BUSY, "--workers", "1")
    with stuck(server, folder), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(server.run_dir / "control.sock"))
        client.sendall(b'{"do":"status"}\n')
        client.sendall(b'{"do":"status"}\n')
        client.shutdown(socket.SHUT_WR)
        lines = client.makefile().readlines()
        assert [json.loads(line)["ok"] for line in lines] == [True]


def test_what_a_client_says_after_its_command_repeats_nothing(serve: Servers, folder: Path) -> None:
    """A byte too many does not reload a second time."""
    server = serve(*BUSY, "--workers", "1")
    with stuck(server, folder), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(server.run_dir / "control.sock"))
        client.sendall(b'{"do":"reload","wait":true}\n')
        server.wait_log("lastcall reload from")
        client.sendall(b"x")
        assert json.loads(client.makefile().readline())["ok"]
    assert server.log().count("lastcall reload from") == 1
