"""Requests that come in parts, and how their clients end: what is unread in the socket hides nothing, and costs nothing."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import connect, eventually

APPS = Path(__file__).parents[1] / "serve"
REQUEST = http.head("POST", "/", b"hello") + b"hello"
FASTCGI = fcgi.message({"REQUEST_METHOD": "POST", "SCRIPT_NAME": "/", "CONTENT_LENGTH": "5"}, b"hello", keep=True)
PARTS = [20, len(REQUEST) - 2]
LOOKS_S = 0.05
"""Far more than a worker takes to look at what has come. A test that did not wait would pass as well."""


@pytest.fixture(params=[("1", "tcp"), ("1", "unix"), ("3", "tcp")], ids=["sync", "sync, unix", "threads"])
def server(request: pytest.FixtureRequest, serve: Servers) -> Server:
    """One worker of each kind."""
    threads, family = request.param
    arguments = ("apps:app", "--app-dir", str(APPS), "--workers", "1", "--threads", threads)
    return serve(*arguments, http=True if family == "tcp" else "unix", fastcgi=True)


@pytest.mark.parametrize("part", PARTS, ids=["head", "body"])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "with bytes"])
def test_a_client_that_gives_up_inside_a_request_is_told_so_at_once(
    server: Server, part: int, *, together: bool
) -> None:
    """Its FIN comes behind unread bytes: alone, or in one segment with the last of them."""
    with http.Connection(server.http_address, within=5) as client:
        client.send(REQUEST[: part - 3])
        assert client.quiet(LOOKS_S)
        if together:
            client.socket.send(REQUEST[part - 3 : part], socket.MSG_MORE)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.response().status == 400
        assert client.closed()


@pytest.mark.parametrize("part", PARTS, ids=["head", "body"])
def test_a_client_that_closes_behind_its_request_is_answered(server: Server, part: int) -> None:
    """The rest of the request and the FIN come in one segment."""
    with http.Connection(server.http_address, within=5) as client:
        client.send(REQUEST[:part])
        assert client.quiet(LOOKS_S)
        client.socket.send(REQUEST[part:], socket.MSG_MORE)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.response().body == b"hello\n"
        assert client.closed()


@pytest.mark.parametrize("part", PARTS, ids=["head", "body"])
def test_a_client_that_resets_inside_a_request_is_forgotten(server: Server, part: int) -> None:
    """Its descriptor is closed long before a deadline says so."""
    (worker,) = server.workers()
    descriptors = Path(f"/proc/{worker}/fd")
    before = len(list(descriptors.iterdir()))
    client = http.Connection(server.http_address)
    client.send(REQUEST[:part])
    eventually(lambda: len(list(descriptors.iterdir())) == before + 1, "it is accepted")
    assert client.quiet(LOOKS_S)
    client.reset()
    eventually(lambda: len(list(descriptors.iterdir())) == before, "it is closed", within=5)


def test_every_byte_may_come_alone(server: Server) -> None:
    """More pieces than are kept in the socket; two requests, the second of them pipelined."""
    with http.Connection(server.http_address) as client:
        for byte in REQUEST * 2:
            client.send(bytes((byte,)))
        assert [client.response().body for _ in range(2)] == [b"hello\n"] * 2
    with connect(server.fastcgi_address) as sock:
        for _ in range(2):
            for byte in FASTCGI:
                sock.sendall(bytes((byte,)))
            assert fcgi.receive(sock).body == b"hello\n"


@pytest.mark.parametrize("size", [100, 8192, 16384, 16385, 20_000, 70_000])
def test_a_body_of_any_size_may_come_in_two_halves(server: Server, size: int) -> None:
    """Also one that fills what is looked at at once to the last byte."""
    body = b"x" * (size - len(http.head("POST", "/", b"x" * (size - 90))))
    data = http.head("POST", "/", body) + body
    with http.Connection(server.http_address) as client:
        for half in (len(data) // 2, 40, 8192, 16384):
            client.send(data[:half])
            assert half >= len(data) or client.quiet(LOOKS_S)
            client.send(data[half:] + data)
            assert [client.response().body for _ in range(2)] == [b"hello\n"] * 2


def test_a_unix_client_that_is_blocked_by_its_own_bytes_gets_on(serve: Servers, folder: Path) -> None:
    """Byte by byte into a worker that is busy: the client's buffer is full before a head is complete."""
    server = serve("apps:app", "--app-dir", str(APPS), "--workers", "1", http="unix")
    end = folder / "end.flag"
    with http.Connection(server.http_address) as busy, http.Connection(server.http_address) as client:
        busy.send(http.head("GET", f"/wait{end}"))
        eventually(end.with_suffix(".begun").exists, "the worker is busy")
        data = http.head("GET", "/", headers=(("X", "x" * 1000),))
        client.socket.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):  # noqa: PT012 - which one it is does not matter
            while True:
                sent += client.socket.send(data[sent : sent + 1])
        client.socket.settimeout(10)
        end.touch()
        for byte in data[sent:]:
            client.send(bytes((byte,)))
        assert client.response().body == b"hello\n"


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_unread_bytes_cost_nothing_while_they_wait(server: Server, folder: Path) -> None:
    """Half a head and half a body, in an idle worker and in a busy one: nobody looks at them again and again."""
    (worker,) = server.workers()
    end = folder / "end.flag"
    clients = [http.Connection(server.http_address) for _ in range(3)]
    for client, part in zip(clients, (*PARTS, 0), strict=True):
        client.send(REQUEST[:part])
    assert clients[0].quiet(LOOKS_S)
    before = cpu_s(worker)
    assert clients[0].quiet(0.7)
    assert cpu_s(worker) - before < 0.05
    waiting = threading.Thread(target=clients[2].request, args=("GET", f"/wait{end}"))
    waiting.start()
    eventually(end.with_suffix(".begun").exists, "the worker is busy")
    assert clients[0].quiet(0.7)
    end.touch()
    waiting.join()
    assert cpu_s(worker) - before < 0.25  # the application itself looks for a file all the time
    for client, part in zip(clients, (*PARTS, 0), strict=True):
        client.send(REQUEST[part:])
        assert client.response().body == b"hello\n"
        client.close()
