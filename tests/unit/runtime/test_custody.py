"""A process that shares another's table of open files, and what it finds there when the other is dead."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.core.address import parse
from lastcall.runtime import custody, sockets
from lastcall.runtime.sockets import Listener
from support.processes import WITHIN_S, comm, eventually


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[tuple[Listener, Listener]]:
    access = sockets.SocketFile(0o600)
    tcp = sockets.listen(parse("127.0.0.1:0"), fastcgi=False, backlog=10, access=access)
    unix = sockets.listen(parse(f"unix:{tmp_path}/u.sock"), fastcgi=True, backlog=10, access=access)
    yield tcp, unix
    tcp.sock.close()
    unix.sock.close()


class Ward:
    """A worker with a custodian. It accepts a connection from each listener, and opens one of its own."""

    def __init__(self, listeners: tuple[Listener, Listener]) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.link.close()
                custody.place(theirs, listeners)
                for listener in listeners:
                    listener.sock.setblocking(True)
                kept = [listener.sock.accept() for listener in listeners]
                kept.append((socket.create_connection(listeners[0].sock.getsockname()), None))
                os.write(say, b"!")
                signal.pause()
            finally:
                os._exit(1)
        theirs.close()
        os.close(say)
        self.clients = [socket.socket(listener.sock.family) for listener in listeners]
        for client, listener in zip(self.clients, listeners, strict=True):
            client.connect(listener.sock.getsockname())
        assert os.read(said, 1) == b"!"
        os.close(said)
        first = self.hear()
        assert first is not None
        self.keeper = first[0].pid

    def hear(self) -> tuple[custody.Report, list[int]] | None:
        assert select.select([self.link], [], [], WITHIN_S)[0]
        return custody.receive(self.link)

    def close(self) -> None:
        self.link.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def ward(listeners: tuple[Listener, Listener]) -> Iterator[Ward]:
    ward = Ward(listeners)
    yield ward
    ward.close()


def test_the_clients_connections_outlive_their_worker(ward: Ward, listeners: tuple[Listener, Listener]) -> None:
    """Each with its number, its listener and its client; the worker's own connections are none of them."""
    tcp, unix = ward.clients
    tcp.sendall(b"hello")
    os.kill(ward.pid, signal.SIGKILL)
    os.waitpid(ward.pid, 0)
    found = ward.hear()
    assert found is not None
    report, fds = found
    assert [(one.listener, one.client, one.port) for one in report.found] == [
        (listeners[0].number, "127.0.0.1", tcp.getsockname()[1]),
        (listeners[1].number, "", 0),
    ]
    with socket.socket(fileno=fds[0]) as rescued, socket.socket(fileno=fds[1]) as other:
        assert rescued.recv(10) == b"hello"
        rescued.sendall(b"world")
        other.sendall(b"unix")
    assert (tcp.recv(10), unix.recv(10)) == (b"world", b"unix")
    assert ward.hear() is None
    assert os.waitpid(ward.keeper, 0) == (ward.keeper, 0)


def test_a_custodian_hears_no_signal(ward: Ward) -> None:
    """What is sent to the whole group is not for it; and it can be told from a worker by its name."""
    assert comm(ward.keeper) == custody.NAME
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        os.kill(ward.keeper, number)
    os.kill(ward.pid, signal.SIGKILL)
    os.waitpid(ward.pid, 0)
    assert ward.hear() is not None
    os.waitpid(ward.keeper, 0)


def test_a_worker_that_ends_in_order_leaves_nothing(ward: Ward) -> None:
    """Its connections are closed by whoever shares them; a custodian without a master ends all the same."""
    ward.link.close()
    os.kill(ward.pid, signal.SIGKILL)
    os.waitpid(ward.pid, 0)
    eventually(lambda: os.waitpid(ward.keeper, os.WNOHANG)[0] == ward.keeper, "the custodian has ended")
    assert [client.recv(1) for client in ward.clients] == [b"", b""]
