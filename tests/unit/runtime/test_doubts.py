"""Connections of which nobody knows whether they were given away: each ends up in exactly one hand."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lastcall.runtime import label
from lastcall.runtime.custody import Rescued
from lastcall.runtime.doubts import MOMENT, PATIENCE, Doubts
from lastcall.runtime.inbox import Inbox, Parcel

NOW = 100.0


@dataclass
class Dead:
    """What a worker has left that died while it gave a connection away."""

    inbox: Inbox
    sock: socket.socket
    doubts: Doubts

    def put(self) -> None:
        """It got as far as that."""
        assert self.inbox.put(Parcel(self.sock.fileno(), 1, "", 0, b""))

    def bury(self) -> None:
        self.doubts.add(Rescued(7, 1, "", 0), os.dup(self.sock.fileno()), NOW)

    def take(self) -> int:
        """Another worker takes a connection out."""
        parcel = self.inbox.take()
        assert parcel is not None
        return parcel.fd


@pytest.fixture
def dead() -> Iterator[Dead]:
    inbox = Inbox()
    client, server = socket.socketpair()
    with client, server:
        yield Dead(inbox, server, Doubts(inbox))
    inbox.close()


def test_one_that_was_taken_out_before_is_not_ours(dead: Dead) -> None:
    dead.put()
    os.close(dead.take())
    dead.bury()
    assert not dead.doubts


def test_one_that_never_got_there_is_ours_after_a_moment(dead: Dead) -> None:
    label.put(dead.sock.fileno())  # and there it died
    dead.bury()
    assert dead.doubts.look(NOW) == []
    assert dead.doubts.look(NOW + MOMENT - 0.01) == []
    ((rescued, fd),) = dead.doubts.look(NOW + MOMENT)
    assert rescued.was == 7
    os.close(fd)
    assert not dead.doubts


def test_one_that_lies_in_the_inbox_is_left_there(dead: Dead) -> None:
    dead.put()
    dead.bury()
    assert dead.doubts.look(NOW) == []
    assert dead.doubts.look(NOW + 10 * MOMENT) == []
    os.close(dead.take())
    assert dead.doubts.look(NOW + 20 * MOMENT) == []
    assert not dead.doubts


def test_one_that_was_taken_and_given_on_is_not_ours(dead: Dead) -> None:
    """Its label is odd once more, and another one."""
    dead.put()
    dead.bury()
    fd = dead.take()
    assert dead.inbox.put(Parcel(fd, 1, "", 0, b""))
    os.close(fd)
    assert dead.doubts.look(NOW) == []
    assert not dead.doubts


def test_one_that_another_dead_worker_had_taken_is_found_there(dead: Dead) -> None:
    """Before it could say so: the custodian of that one has it."""
    label.put(dead.sock.fileno())
    dead.bury()
    dead.doubts.forget(dead.sock.fileno())
    assert not dead.doubts


def test_at_the_end_there_is_no_doubt(dead: Dead) -> None:
    """Nobody uses the inbox any more."""
    label.put(dead.sock.fileno())
    dead.bury()
    ((_, fd),) = dead.doubts.look(NOW, last=True)
    os.close(fd)


def test_an_inbox_that_is_never_empty_ends_the_waiting(dead: Dead) -> None:
    """Something else lies in it for ever."""
    other, end = socket.socketpair()
    with other, end:
        assert dead.inbox.put(Parcel(end.fileno(), 1, "", 0, b""))
        label.put(dead.sock.fileno())
        dead.bury()
        assert dead.doubts.look(NOW + PATIENCE - 1) == []
        assert dead.doubts
        assert dead.doubts.look(NOW + PATIENCE) == []
        assert not dead.doubts
        os.close(dead.take())
