"""Descriptors as passengers of a message."""

from __future__ import annotations

import os
import socket

import pytest

from lastcall.runtime import rights


def test_descriptors_arrive_and_are_closed_at_exec() -> None:
    """A program that the application starts must not inherit them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        rights.send(ours, b"two", [ours.fileno(), theirs.fileno()])
        data, fds = rights.receive(theirs, 10, 2)
        assert (data, len(fds)) == (b"two", 2)
        for fd in fds:
            assert not os.get_inheritable(fd)
            os.close(fd)
        rights.send(ours, b"none", [])
        assert rights.receive(theirs, 10, 2) == (b"none", [])


def test_what_is_not_to_wait_does_not() -> None:
    """A peer that reads nothing does not hold up whoever tells it something."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        with pytest.raises(BlockingIOError):
            rights.receive(ours, 10, 2, socket.MSG_DONTWAIT)
        with pytest.raises(BlockingIOError):
            send_until_full(ours)


def send_until_full(sock: socket.socket) -> None:
    """Far more than a socket's buffer holds."""
    for _ in range(100_000):
        rights.send(sock, b"word", [], socket.MSG_DONTWAIT)
