"""A process that shares another's table of open files, and what it finds there when the other is dead."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lastcall.core.address import parse
from lastcall.protocol import adoption
from lastcall.protocol.adoption import Claim, Stage, Standing
from lastcall.runtime import custody, doors, rights, sender, sockets
from lastcall.runtime.bequest import Bequest
from lastcall.runtime.board import Board
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.sockets import Listener
from support.processes import WITHIN_S, comm, eventually

NAME = adoption.door(7)


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

    def __init__(self, listeners: tuple[Listener, Listener], folder: Path | None = None) -> None:
        """With a folder it has a door there, too."""
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.link.close()
                custody.place(theirs, listeners, None if folder is None else bequeath(folder, theirs, listeners))
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


def bequeath(folder: Path, link: socket.socket, listeners: tuple[Listener, Listener]) -> Bequest:
    """A door, as a worker has one."""
    bequest = Bequest(
        doors.bind(folder, NAME), folder / NAME, os.geteuid(), 60.0, 7, os.getpid(),
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0], link, listeners, Inbox(), (),
        Board(folder / "board", create=True), 0,
    )  # fmt: skip
    bequest.open()
    return bequest


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
    last = ward.hear()
    assert last is not None
    assert last[0].last
    custody.take(ward.link, [report.found[0].was])
    custody.take(ward.link, [])
    assert ward.hear() is None
    assert os.waitpid(ward.keeper, 0) == (ward.keeper, 0)


def test_what_a_master_has_not_taken_when_it_dies_is_the_next_ones(
    listeners: tuple[Listener, Listener], tmp_path: Path
) -> None:
    """One of two connections is taken; the other waits at the door, and nobody has both, or neither."""
    ward = Ward(listeners, tmp_path)
    os.kill(ward.pid, signal.SIGKILL)
    os.waitpid(ward.pid, 0)
    found = ward.hear()
    assert found is not None
    tcp, unix = found[0].found
    custody.take(ward.link, [tcp.was])
    ward.link.close()
    link = doors.knock(tmp_path, NAME, WITHIN_S)
    assert link is not None
    assert sender.peer(link)[0] == ward.pid
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rights.send(link, msgspec.json.encode(Claim(adoption.FORMAT, os.getpid())), [theirs.fileno()])
    theirs.close()
    packet, given = rights.receive(link, adoption.PACKET_MAX, adoption.RIGHTS_MAX)
    standing = msgspec.json.decode(packet, type=Standing)
    assert (standing.serial, standing.pid, standing.stage) == (7, ward.pid, Stage.DEAD)
    assert standing.listeners == [listener.papers for listener in listeners]
    assert len(given) == 4
    ward.link = ours
    again = ward.hear()
    assert again is not None
    assert again[0].found == [unix]
    custody.take(ours, [unix.was])
    custody.take(ours, [])
    assert os.waitpid(ward.keeper, 0) == (ward.keeper, 0)
    for fd in (*found[1], *given, *again[1]):
        os.close(fd)
    link.close()
    ward.close()


def test_a_custodian_hears_no_signal(ward: Ward) -> None:
    """What is sent to the whole group is not for it; and it can be told from a worker by its name."""
    assert comm(ward.keeper) == custody.NAME
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        os.kill(ward.keeper, number)
    os.kill(ward.pid, signal.SIGKILL)
    os.waitpid(ward.pid, 0)
    assert ward.hear() is not None
    custody.take(ward.link, [])
    os.waitpid(ward.keeper, 0)


def test_a_worker_that_ends_in_order_leaves_nothing(ward: Ward) -> None:
    """Its connections are closed by whoever shares them; a custodian without a master ends all the same."""
    ward.link.close()
    os.kill(ward.pid, signal.SIGKILL)
    os.waitpid(ward.pid, 0)
    eventually(lambda: os.waitpid(ward.keeper, os.WNOHANG)[0] == ward.keeper, "the custodian has ended")
    assert [client.recv(1) for client in ward.clients] == [b"", b""]


def test_a_full_table_is_handed_over_as_well(listeners: tuple[Listener, Listener]) -> None:
    """To look at the table takes a descriptor, and a worker may have died for want of them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
            custody.place(theirs, listeners)
            listeners[0].sock.setblocking(True)
            kept = [listeners[0].sock.accept()]
            with contextlib.suppress(OSError):
                while True:
                    os.dup(say)
            os.write(say, b"!")
            signal.pause()
            kept.clear()
        finally:
            os._exit(1)
    theirs.close()
    with socket.create_connection(listeners[0].sock.getsockname()) as client, ours:
        assert os.read(said, 1) == b"!"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        first = custody.receive(ours) if select.select([ours], [], [], WITHIN_S)[0] else None
        assert first is not None
        assert select.select([ours], [], [], WITHIN_S)[0]
        found = custody.receive(ours)
        assert found is not None
        assert [each.port for each in found[0].found] == [client.getsockname()[1]]
        for fd in found[1]:
            os.close(fd)
        custody.take(ours, [])
        os.waitpid(first[0].pid, 0)
    os.close(said)
    os.close(say)
