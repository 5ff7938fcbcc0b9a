"""Connections that a worker leaves to another: at a reload, and while it is busy. Clients cannot tell."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import eventually

APPS = Path(__file__).parent
KEPT, CARRIED, SPOOLED = 10, 20_000, 200_000
"""Bodies: one that the kernel keeps, one that is taken and travels with its connection, one that is on disk."""
FASTCGI_END = 8
"""Bytes of the record that ends a body."""


class Client:
    """A connection, and how far one request on it has been sent."""

    def __init__(self, address: str, speaks: str) -> None:
        self._connection = http.Connection(address)
        self._speaks = speaks
        self._rest = b""
        self._expected = ""

    def close(self) -> None:
        self._connection.close()

    def begin(self, *, size: int, left: int) -> None:
        """Send a request whose body has `size` bytes, but for the last `left` bytes of the body, or more."""
        body = b"0123456789" * (size // 10)
        self._expected = hashlib.sha256(body).hexdigest()
        if self._speaks == "http":
            data = http.head("POST", "/body", body) + body
        else:
            variables = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/body", "SCRIPT_NAME": "/body"}
            data = fcgi.message({**variables, "CONTENT_LENGTH": str(size)}, body, keep=True)
            left += FASTCGI_END if left else 0
        self._rest = data[len(data) - left :]
        self._connection.send(data[: len(data) - left])

    def finish(self) -> int:
        """Send the rest; who has answered."""
        self._connection.send(self._rest)
        if self._speaks == "http":
            response = self._connection.response()
            assert response.status == 200
            assert response.header("connection") is None
            body = response.body
        else:
            body = fcgi.receive(self._connection.socket).body
        pid, digest = body.decode().split()
        assert digest == self._expected
        return int(pid)

    def ask(self) -> int:
        """A whole small request; who has answered it."""
        self.begin(size=KEPT, left=0)
        return self.finish()


@pytest.fixture(params=["http", "fastcgi"])
def speaks(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


Dial = Callable[[], Client]


@pytest.fixture(params=[("1", "tcp"), ("1", "unix"), ("3", "tcp")], ids=["sync", "sync, unix", "threads"])
def server(request: pytest.FixtureRequest, serve: Servers) -> Server:
    """One worker of each kind, on both protocols."""
    threads, family = request.param
    address = True if family == "tcp" else "unix"
    arguments = ("apps:app", "--app-dir", str(APPS), "--workers", "1", "--threads", threads)
    return serve(*arguments, http=address, fastcgi=address)


@pytest.fixture
def dial(server: Server, speaks: str) -> Iterator[Dial]:
    """Connects clients, and closes them in the end."""
    with ExitStack() as stack:

        def connected() -> Client:
            client = Client(server.http_address if speaks == "http" else server.fastcgi_address, speaks)
            stack.callback(client.close)
            return client

        yield connected


def replaced(server: Server, old: int) -> int:
    """Wait until the one worker has ended and another is there; its pid."""
    server.wait_log("reload finished")
    eventually(lambda: old not in server.workers() and len(server.workers()) == 1, "the old worker has ended")
    return server.workers()[0]


def test_a_reload_hands_over_every_connection_on_which_no_request_runs(server: Server, dial: Dial) -> None:
    """Idle, silent, with half a head, with half a body: each is answered by the new generation, and stays open."""
    clients = [dial() for _ in range(6)]
    idle, _, part_of_head, head, kept, carried = clients
    (old,) = server.workers()
    assert idle.ask() == old
    part_of_head.begin(size=KEPT, left=KEPT + 30)
    head.begin(size=KEPT, left=KEPT)
    kept.begin(size=KEPT, left=5)
    carried.begin(size=CARRIED, left=9000)
    server.signal(signal.SIGHUP)
    new = replaced(server, old)
    assert [client.finish() for client in clients[2:]] == [new] * 4
    assert [client.ask() for client in clients] == [new] * 6
    assert " broke: " not in server.log()


def test_a_body_on_disk_is_finished_by_the_old_generation(server: Server, dial: Dial) -> None:
    """And then its connection goes over, too."""
    client = dial()
    (old,) = server.workers()
    client.begin(size=SPOOLED, left=1000)
    eventually(
        lambda: any(link.endswith("(deleted)") for link in links(old)), "the body is on disk, in a file without a name"
    )
    server.signal(signal.SIGHUP)
    server.wait_log("reload finished")
    assert client.finish() == old
    new = replaced(server, old)
    assert client.ask() == new


def test_many_reloads_pass_a_half_sent_request_on_and_on(server: Server, dial: Dial) -> None:
    """What a worker took over it can hand over as well."""
    clients = [dial() for _ in range(2)]
    clients[0].begin(size=KEPT, left=5)
    clients[1].begin(size=CARRIED, left=9000)
    for _ in range(3):
        assert server.command("reload", "--wait").returncode == 0
    eventually(lambda: len(server.workers()) == 1, "the old workers have ended")
    assert [client.finish() for client in clients] == server.workers() * 2


@pytest.mark.parametrize("size", [KEPT, CARRIED])
def test_a_client_is_told_once_to_continue(serve: Servers, size: int) -> None:
    """The worker that takes over does not say it again."""
    server = serve("apps:app", "--app-dir", str(APPS), "--workers", "1")
    body = b"x" * size
    with http.Connection(server.http_address) as client:
        client.send(http.head("POST", "/body", body, (("Expect", "100-continue"),)))
        assert client.socket.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        (old,) = server.workers()
        server.signal(signal.SIGHUP)
        replaced(server, old)
        client.send(body)
        response = client.response()
    assert (response.status, response.interim) == (200, ())
    assert response.body.split()[1].decode() == hashlib.sha256(body).hexdigest()


def test_pipelined_requests_are_answered_over_a_reload(serve: Servers, folder: Path) -> None:
    """The first is inside the application when the reload comes; the others are in the socket, and go over with it."""
    server = serve("apps:app", "--app-dir", str(APPS), "--workers", "1")
    (old,) = server.workers()
    end = folder / "end.flag"
    with http.Connection(server.http_address) as client:
        client.send(http.head("GET", f"/wait{end}") + http.head("GET", "/pid") * 2)
        eventually(end.with_suffix(".begun").exists, "the request has begun")
        server.signal(signal.SIGHUP)
        server.wait_log("reload finished")
        end.touch()
        assert client.response().body == b"waited\n"
        for _ in range(2):  # by the old one, if it has not yet heard of the reload
            assert client.response().status == 200
        new = replaced(server, old)
        assert int(client.request("GET", "/pid").body) == new


@pytest.mark.parametrize("seen", [20, -2], ids=["half a head", "half a body"])
def test_a_request_that_becomes_whole_while_its_worker_is_busy_is_served_by_another(
    serve: Servers, folder: Path, seen: int
) -> None:
    """The busy one has seen a part of it, and leaves it in the socket."""
    server = serve("apps:app", "--app-dir", str(APPS), "--workers", "2")
    request = http.head("POST", "/body", b"hello") + b"hello"
    end = folder / "end.flag"
    with ExitStack() as stack:
        clients = [stack.enter_context(http.Connection(server.http_address)) for _ in range(8)]
        of_worker: dict[bytes, list[http.Connection]] = {}
        for client in clients:
            of_worker.setdefault(client.request("GET", "/pid").body, []).append(client)
        worker, (slow, busy, *_) = max(of_worker.items(), key=lambda each: len(each[1]))
        slow.send(request[:seen])
        waiting = threading.Thread(target=busy.request, args=("GET", f"/wait{end}"))
        waiting.start()
        eventually(end.with_suffix(".begun").exists, "the worker is busy")
        slow.send(request[seen:])
        assert slow.response().body.split()[0] != worker
        assert waiting.is_alive()
        end.touch()
        waiting.join()


def links(pid: int) -> dict[str, int]:
    """What the descriptors of a process lead to, and their numbers."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            found[str(entry.readlink())] = int(entry.name)
    return found


def sockets_of(pid: int) -> set[int]:
    """The descriptors of a process that are sockets."""
    return {fd for link, fd in links(pid).items() if link.startswith("socket:")}


def duplicate(pid: int, fd: int) -> socket.socket:
    """Another process's socket, for us too: pidfd_getfd(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    ours = libc.syscall(438, pidfd, fd, 0)
    os.close(pidfd)
    assert ours >= 0, os.strerror(ctypes.get_errno())
    return socket.socket(fileno=ours)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("behind", [b"", http.head("GET", "/pid")], ids=["alone", "with another behind it"])
def test_the_request_that_a_killed_worker_was_in_is_still_in_its_socket(
    serve: Servers, folder: Path, threads: str, behind: bytes
) -> None:
    """Whoever has the connection can read it, whole, and answer it."""
    alone = ("--workers", "1", "--threads", threads, "--custody", "off")  # else somebody answers, and takes it
    server = serve("apps:app", "--app-dir", str(APPS), *alone)
    (worker,) = server.workers()
    before = sockets_of(worker)
    end = folder / "never.flag"
    data = http.head("POST", f"/wait{end}", b"hello") + b"hello"
    with http.Connection(server.http_address) as client:
        client.send(data[:-3])
        client.send(data[-3:] + behind)
        eventually(end.with_suffix(".begun").exists, "the request has begun")
        (fd,) = sockets_of(worker) - before
        with duplicate(worker, fd) as ours:
            os.kill(worker, signal.SIGKILL)
            eventually(lambda: worker not in server.workers(), "the worker is dead")
            ours.settimeout(5)
            assert ours.recv(65536) == data + behind
            ours.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            assert client.response().status == 503
