"""What the kernel counts of a connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lastcall.core.rescue import Counts, Found
from lastcall.core.slot import Lane, State
from lastcall.runtime import progress
from support.processes import eventually


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end of a TCP connection, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    yield client, server
    client.close()
    server.close()


def test_what_is_written_and_read_is_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    """From the first byte on, sent or still to be sent; a look is no reading."""
    client, server = pair
    assert progress.counts(server) == Counts(0, 0, 0)
    client.sendall(b"x" * 50)
    eventually(lambda: progress.counts(server) == Counts(0, 0, 50), "it has arrived")
    server.recv(50, socket.MSG_PEEK)
    assert progress.counts(server) == Counts(0, 0, 50)
    server.recv(20, socket.MSG_TRUNC)
    assert progress.counts(server) == Counts(0, 20, 30)
    server.setblocking(False)
    sent = sum(iter(lambda: _send(server), 0))
    assert progress.counts(server) == Counts(sent, 20, 30)


def _send(sock: socket.socket) -> int:
    """As much as it takes of a piece; 0 when it takes no more."""
    try:
        return sock.send(b"y" * 65536)
    except BlockingIOError:
        return 0


def test_the_end_counts_as_one(pair: tuple[socket.socket, socket.socket]) -> None:
    """A client that has ended its side: `core/rescue.py` has to know."""
    client, server = pair
    client.sendall(b"x" * 50)
    client.shutdown(socket.SHUT_WR)
    eventually(lambda: progress.counts(server) == Counts(0, 1, 50), "it has arrived")
    server.recv(50)
    assert progress.counts(server) == Counts(0, 51, 0)


def test_a_unix_socket_is_not_counted() -> None:
    """But for what waits in it."""
    client, server = socket.socketpair()
    with client, server:
        client.sendall(b"12345")
        assert progress.counts(server) == Counts(None, 0, 5)


def test_each_connection_has_its_own_number(pair: tuple[socket.socket, socket.socket]) -> None:
    """Which its duplicates share."""
    client, server = pair
    twin = server.dup()
    numbers = [progress.cookie(each) for each in (client, server, twin)]
    twin.close()
    assert all(numbers)
    assert numbers[1] == numbers[2] != numbers[0]


def test_a_note_is_compared_with_the_counts(pair: tuple[socket.socket, socket.socket]) -> None:
    """All has been sent: the request was answered, and is still to be taken off."""
    client, server = pair
    client.sendall(b"x" * 40)
    lane = Lane(0, 1.0, 1, "r", "GET", "/", "c", fd=server.fileno(), length=7, due=40, unread=40)
    eventually(lambda: progress.waiting(server) == 40, "it has arrived")
    assert progress.examine(server.fileno(), lane, State.ANSWERING) == Found(lane, State.WHOLE, clean=True)
    server.sendall(b"answer\n")
    assert progress.examine(server.fileno(), lane, State.ANSWERING) == Found(None, State.WHOLE, due=40)
    server.recv(40)
    assert progress.examine(server.fileno(), lane, State.ANSWERING) == Found(None, State.WHOLE)
    assert server.fileno() >= 0, "it is still open"
