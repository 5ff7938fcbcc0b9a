"""Words to workers, when there is no room for a message."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lastcall.protocol.link import Word, pack
from lastcall.runtime import rights
from lastcall.runtime.surroundings import Link
from lastcall.runtime.telling import Telling

Pair = tuple[Link, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A link, and the worker's end of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    yield Link(1, 0, 1, ours, 0.0), theirs
    ours.close()
    theirs.close()


def fill(link: Link) -> int:
    """Leave no room; the number of packets."""
    count = 0
    while True:
        try:
            link.sock.send(b"", socket.MSG_DONTWAIT)
        except BlockingIOError:
            return count
        count += 1


def test_a_word_is_said_at_once(pair: Pair) -> None:
    """As long as there is room."""
    link, worker = pair
    telling = Telling(lambda: 100.0)
    telling.tell(link, Word.SERVE)
    assert worker.recv(100) == pack(Word.SERVE)
    assert telling.next_due() is None


def test_a_word_for_which_there_is_no_room_is_said_later_and_in_order(pair: Pair) -> None:
    """The next one waits behind it."""
    link, worker = pair
    packets = fill(link)
    telling = Telling(lambda: 100.0)
    telling.tell(link, Word.SERVE)
    for _ in range(packets):
        worker.recv(100)
    telling.tell(link, Word.DRAIN)
    assert telling.next_due() == 0.0
    telling.again(100.0 + rights.AGAIN)
    telling.again(100.0 + rights.AGAIN)
    assert [worker.recv(100), worker.recv(100)] == [pack(Word.SERVE), pack(Word.DRAIN)]
    assert telling.next_due() is None


def test_it_is_tried_only_so_often(pair: Pair) -> None:
    """Whoever hears nothing at all has a deadline of the machine's."""
    link, _ = pair
    fill(link)
    telling = Telling(lambda: 100.0)
    telling.tell(link, Word.SERVE)
    for _ in range(rights.TRIES):
        assert telling.next_due() is not None
        telling.again(200.0)
    assert telling.next_due() is None


def test_the_dead_are_told_nothing(pair: Pair) -> None:
    """Nor is anybody woken for them."""
    link, _ = pair
    fill(link)
    telling = Telling(lambda: 100.0)
    telling.tell(link, Word.SERVE)
    telling.forget(link)
    assert telling.next_due() is None
