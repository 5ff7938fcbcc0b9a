"""When a queue may be closed: the clock is the test's, the sockets are real."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from lastcall.core.address import parse
from lastcall.runtime.closing import HALF_OPEN_MAX, QUIET, Closing
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.sockets import Listener, SocketFile, listen


@pytest.fixture
def listener() -> Iterator[Listener]:
    """With a queue that two connections fill."""
    listener = listen(parse("127.0.0.1:0"), fastcgi=False, backlog=1, access=SocketFile(0o600))
    with closing(listener.sock):
        yield listener


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """Where those in the queue go; they hang up at its end."""
    with closing(Inbox()) as inbox:
        yield inbox
        while (parcel := inbox.take()) is not None:
            os.close(parcel.fd)


def test_an_empty_queue_is_closed_after_a_moment(listener: Listener, inbox: Inbox) -> None:
    """Nobody was ever turned away from it, and so nobody is on the way."""
    end = Closing([listener], inbox, 0.0)
    end.look(QUIET / 2)
    assert not end.over
    end.look(QUIET)
    assert end.over


def test_a_queue_that_was_full_is_waited_for_longer(listener: Listener, inbox: Inbox) -> None:
    """Clients whose last packet it has dropped believe to be connected, and send it again after a while."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(8)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(listener.sock.getsockname())
        end = Closing([listener], inbox, 0.0)
        end.look(0.0)
        end.look(HALF_OPEN_MAX - QUIET / 2)
        assert not end.over
        end.look(2 * HALF_OPEN_MAX)
        assert end.over


def test_a_queue_that_was_full_is_made_longer(listener: Listener, inbox: Inbox) -> None:
    """Whoever was turned away in one moment comes back in one, too: TCP_INFO of a listener has the length (tcpi_sacked)."""
    before = length(listener.sock)
    Closing([listener], inbox, 0.0)
    assert before == 1
    assert length(listener.sock) > 100


def length(sock: socket.socket) -> int:
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)[0])
