"""What a client has not taken yet."""

from __future__ import annotations

import io
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.runtime.worker import outgoing
from lastcall.runtime.worker.outgoing import NoRoom, Outgoing

Pair = tuple[socket.socket, socket.socket]


def full_device() -> io.FileIO:
    """A file on a disk that is full, whatever the disk."""
    return io.FileIO("/dev/full", "w")


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A server's and a client's end, with little room between."""
    server, client = socket.socketpair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.setblocking(False)
    client.setblocking(False)
    yield server, client
    server.close()
    client.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Outgoing]:
    """A queue that keeps ten bytes in memory."""
    queue = Outgoing(10, str(tmp_path))
    yield queue
    queue.close()


def taken(queue: Outgoing, pair: Pair) -> bytes:
    """Everything that comes through, by a client that takes a little at a time."""
    server, client = pair
    out = b""
    while True:
        done = queue.flush(server)
        try:
            out += client.recv(1000)
        except BlockingIOError:
            assert done
            return out


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_nothing(kept: Outgoing, pair: Pair) -> None:
    """An empty queue is false, and sent at once."""
    assert not kept
    assert kept.flush(pair[0])


@pytest.mark.parametrize("sizes", [[1], [10], [11], [4, 4, 4], [9, 100_000, 1], [100_000, 3], [0, 5]])
def test_bytes_come_out_as_they_went_in(kept: Outgoing, pair: Pair, sizes: list[int]) -> None:
    """From memory, from the file, from both; the queue is empty then, and may be used again."""
    for _ in range(2):
        pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
        for piece in pieces:
            kept.add(piece)
        assert kept
        assert taken(kept, pair) == b"".join(pieces)
        assert not kept


def test_what_is_added_while_it_is_sent_stays_in_order(kept: Outgoing, pair: Pair) -> None:
    """As an application does that writes faster than its client reads."""
    rng = random.Random(5)
    server, client = pair
    said = heard = b""
    for number in range(300):
        piece = bytes([number % 251]) * rng.choice((1, 8, 700, 5000))
        said += piece
        kept.add(piece)
        kept.flush(server)
        try:
            heard += client.recv(rng.choice((10, 3000)))
        except BlockingIOError:
            continue
    assert heard + taken(kept, pair) == said


def test_pieces_of_files_keep_their_place(kept: Outgoing, pair: Pair, tmp_path: Path) -> None:
    """Between what is said before and after them; their owner may close and remove them meanwhile."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 2000)
    kept.add(b"head ")
    with path.open("rb") as file:
        kept.add_file(file.fileno(), 5, 10_000)
    path.unlink()
    kept.add(b" tail")
    assert taken(kept, pair) == b"head " + (b"0123456789" * 2000)[5:10_005] + b" tail"


def test_a_file_that_became_shorter_ends_the_connection(kept: Outgoing, pair: Pair, tmp_path: Path) -> None:
    """What was promised can no longer be sent; there is nothing else to send in its place."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with path.open("r+b") as file:
        kept.add_file(file.fileno(), 0, 100)
        file.truncate(50)
    with pytest.raises(ConnectionAbortedError):
        taken(kept, pair)


def test_a_client_that_is_gone_is_an_oserror(kept: Outgoing, pair: Pair) -> None:
    """Bytes and files alike."""
    server, client = pair
    client.close()
    kept.add(b"x")
    with pytest.raises(BrokenPipeError):
        kept.flush(server)


@pytest.mark.parametrize("before", [b"", b"0123456789"])
def test_no_room_keeps_nothing_of_what_did_not_fit(
    pair: Pair, tmp_path: Path, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither memory nor disk: the caller tries again when the client has taken something."""
    monkeypatch.setattr(outgoing, "SPOOL_MAX", 1000)
    queue = Outgoing(10, str(tmp_path))
    if before:
        queue.add(before)
    with pytest.raises(NoRoom):
        queue.add(b"y" * 1001)
    assert taken(queue, pair) == before
    queue.add(b"z" * 1000)
    with pytest.raises(NoRoom):
        queue.add(b"z")
    assert taken(queue, pair) == b"z" * 1000
    queue.close()


def test_a_folder_that_is_gone_is_no_room_and_memory_goes_on(pair: Pair, tmp_path: Path) -> None:
    """The disk fails those only who need it."""
    queue = Outgoing(10, str(tmp_path / "gone"))
    with pytest.raises(NoRoom):
        queue.add(b"x" * 11)
    queue.add(b"x" * 10)
    assert taken(queue, pair) == b"x" * 10


def test_a_full_disk_is_no_room(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full in the place of the file; no descriptor is left behind."""
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full_device())
    before = open_files()
    queue = Outgoing(10, str(tmp_path))
    for _ in range(3):
        with pytest.raises(NoRoom):
            queue.add(b"x" * 11)
    assert open_files() == before
    queue.add(b"x")
    assert taken(queue, pair) == b"x"


def test_close_drops_files_and_bytes(kept: Outgoing, tmp_path: Path) -> None:
    """The descriptors are closed, ours and the duplicates; twice is once."""
    before = open_files()
    path = tmp_path / "file"
    path.write_bytes(b"x")
    descriptor = os.open(path, os.O_RDONLY)
    kept.add_file(descriptor, 0, 1)
    os.close(descriptor)
    kept.add(b"y" * 100)
    assert open_files() == before + 2
    kept.close()
    kept.close()
    assert open_files() == before
    assert not kept
