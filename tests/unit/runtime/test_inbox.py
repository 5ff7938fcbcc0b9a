"""The inbox where the system has no room."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lastcall.runtime import label
from lastcall.runtime.inbox import Inbox, Parcel


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process gets no more of them."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_connection_for_which_there_is_no_descriptor_stays() -> None:
    """recvmsg(2) would take the packet, and drop what it carries."""
    inbox = Inbox()
    client, server = socket.socketpair()
    with client, server:
        assert inbox.put(Parcel(server.fileno(), 3, "10.0.0.9", 4711, b""))
        with no_descriptors():
            nothing, starved = inbox.take(), inbox.starved
        assert nothing is None
        assert starved
        parcel = inbox.take()
        assert parcel is not None
        assert (parcel.listener, parcel.client, parcel.port) == (3, "10.0.0.9", 4711)
        os.write(parcel.fd, b"hello")
        os.close(parcel.fd)
        assert client.recv(5) == b"hello"
        assert inbox.take() is None
        assert not inbox.starved
    inbox.close()


def test_of_two_copies_of_a_connection_one_comes_out() -> None:
    """The later one, wherever the first was: whoever has put it in again has looked."""
    inbox = Inbox()
    client, server = socket.socketpair()
    with client, server:
        assert inbox.put(Parcel(server.fileno(), 1, "first", 0, b""))
        assert inbox.put(Parcel(server.fileno(), 1, "second", 0, b""))
        parcel = inbox.take()
        assert parcel is not None
        assert parcel.client == "second"
        os.close(parcel.fd)
        assert inbox.take() is None
    inbox.close()


def test_a_connection_may_pass_through_as_often_as_it_likes() -> None:
    """Its label has few numbers: they come again."""
    inbox = Inbox()
    client, server = socket.socketpair()
    with client, server:
        for _ in range(2 * label.MODULUS):
            assert inbox.put(Parcel(server.fileno(), 1, "", 0, b""))
            assert label.is_on_its_way(label.read(server.fileno()))
            parcel = inbox.take()
            assert parcel is not None
            assert not label.is_on_its_way(label.read(server.fileno()))
            os.close(parcel.fd)
    inbox.close()
