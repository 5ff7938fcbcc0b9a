"""A worker's connection: the kernel keeps the request until its answer begins, and nothing but the request goes with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lastcall.protocol import fastcgi, http1
from lastcall.protocol.exchange import Codec
from lastcall.runtime.worker.connection import PEEK_MAX, PIECES_MAX, Connection
from support import fcgi, http
from support.processes import eventually


@dataclass(frozen=True)
class Pen:
    """Keeps no record."""

    def mark(self, fd: int, state: int) -> None:
        pass

    def answer(self, lane: int, written: int, length: int, taken: int, due: int, unread: int, kept: bool) -> None:
        pass

    def length(self, lane: int, length: int) -> None:
        pass

    def done(self, lane: int) -> None:
        pass

    def room(self, lane: int) -> int:
        raise NotImplementedError


class Terms:
    send_timeout: float = 5.0
    body_timeout: float = 5.0
    response_buffer: int = 65536
    tmp_dir: str = "/tmp"


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end, and the server's."""
    if request.param == "unix":
        client, server = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    yield client, server
    client.close()
    server.close()


@pytest.fixture
def client(pair: tuple[socket.socket, socket.socket]) -> socket.socket:
    return pair[0]


@pytest.fixture
def server(pair: tuple[socket.socket, socket.socket]) -> socket.socket:
    return pair[1]


def connection(server: socket.socket, codec: Codec | None = None) -> Connection:
    return Connection(server, codec or http1.Connection(http1.Limits(), http1.Stamp()), 0, "", "0", Terms(), Pen())


def unread(server: socket.socket) -> bytes:
    """What whoever has the socket could read."""
    try:
        return server.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def arrive(client: socket.socket, server: socket.socket, data: bytes) -> None:
    before = unread(server)
    client.sendall(data)
    eventually(lambda: unread(server) == before + data, "it is there")


def answer(connection: Connection) -> None:
    codec = connection.codec
    connection.write(codec.head("200 OK", [], 2) + codec.data(b"ok") + codec.end())


def drain(codec: Codec) -> bytes | None:
    """The body; None while more of it is to come."""
    body = b""
    while piece := codec.read():
        body += piece
    return None if piece is None else body


CGI = {"REQUEST_METHOD": "POST", "SCRIPT_NAME": "/", "CONTENT_LENGTH": "5"}
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = {
    "GET": http.head("GET", "/"),
    "POST": http.head("POST", "/", b"hello") + b"hello",
    "chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "behind an empty line": b"\r\n" + http.head("GET", "/"),
    "FastCGI": fcgi.message(CGI, b"hello", keep=True),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("behind", [0, 10, None], ids=["alone", "pipelined in part", "pipelined"])
@pytest.mark.parametrize("piecewise", [False, True], ids=["at once", "in pieces"])
def test_the_request_is_in_the_socket_until_its_answer_begins(
    client: socket.socket, server: socket.socket, name: str, behind: int | None, *, piecewise: bool
) -> None:
    """While the application runs whoever has the socket has the request; after that only what is behind it."""
    data = REQUESTS[name]
    rest = data[:behind]
    ours = connection(server, fastcgi.Connection() if name == "FastCGI" else None)
    ours.request = None
    step = 40 if piecewise else len(data)
    for at in range(0, len(data), step):
        arrive(client, server, data[at : at + step] + (rest if at + step >= len(data) else b""))
        assert ours.receive()
        ours.request = ours.request or ours.codec.request()
    assert ours.request is not None
    assert drain(ours.codec) is not None
    ours.whole()
    assert unread(server) == data + rest
    assert ours.peeked == len(data + rest)
    answer(ours)
    assert unread(server) == rest
    assert ours.peeked == len(rest)
    assert ours.carried() == b""
    if rest == data:
        assert ours.codec.request() is not None
        assert drain(ours.codec) is not None
        ours.whole()
        answer(ours)
        assert unread(server) == b""
        assert ours.codec.idle


def test_an_interim_answer_is_not_the_answer(client: socket.socket, server: socket.socket) -> None:
    """100 Continue leaves the head where it is."""
    head = http.head("POST", "/", b"hello", (("Expect", "100-continue"),))
    ours = connection(server)
    arrive(client, server, head)
    assert ours.receive()
    assert ours.codec.request() is not None
    assert ours.codec.read() is None
    ours.write(ours.codec.interim())
    ours.hold(5)
    assert unread(server) == head


def test_a_file_takes_the_request_off_too(client: socket.socket, server: socket.socket, folder: Path) -> None:
    """sendfile(2) is as much an answer as send(2)."""
    (folder / "file").write_bytes(b"ok")
    ours = connection(server)
    arrive(client, server, REQUESTS["GET"])
    assert ours.receive()
    assert ours.codec.request() is not None
    ours.whole()
    with (folder / "file").open("rb") as file:
        ours.sendfile(ours.codec.head("200 OK", [], 2), file, 2)
    assert unread(server) == b""
    assert client.recv(4096).endswith(b"ok")


@pytest.mark.parametrize("way", ["size", "pieces"])
def test_what_is_too_large_to_be_kept_is_taken_as_it_comes(
    client: socket.socket, server: socket.socket, way: str
) -> None:
    """A body that is announced larger than PEEK_MAX; one that comes in too many pieces."""
    body = b"x" * (PEEK_MAX if way == "size" else 100)
    head = http.head("POST", "/", body)
    ours = connection(server)
    arrive(client, server, head)
    assert ours.receive()
    assert ours.codec.request() is not None
    assert ours.codec.read() is None
    ours.hold(len(body) if way == "size" else 0)
    pieces = 0
    while ours.peeks:
        assert unread(server)
        arrive(client, server, b"x")
        assert ours.receive()
        assert ours.codec.read() == b"x"
        ours.hold()
        pieces += 1
    assert (pieces > PIECES_MAX) is (way == "pieces")
    assert unread(server) == b""
    assert ours.carried() == head + b"x" * 0
    client.sendall(b"y")
    eventually(ours.receive, "it is there")
    assert unread(server) == b""
    assert ours.codec.read() == b"y"


def test_a_request_as_large_as_can_be_kept_is_kept(client: socket.socket, server: socket.socket) -> None:
    """All PEEK_MAX bytes, seen in several looks."""
    size = PEEK_MAX - len(http.head("POST", "/", b"x" * (PEEK_MAX - 100)))
    data = http.head("POST", "/", b"x" * size) + b"x" * size
    assert len(data) == PEEK_MAX
    ours = connection(server)
    arrive(client, server, data[:5000])
    assert ours.receive()
    assert ours.codec.request() is not None
    ours.hold(len(data) - 5000)
    arrive(client, server, data[5000:])
    body = b""
    while len(body) < size:
        assert ours.receive()
        while piece := ours.codec.read():
            body += piece
    assert ours.peeks
    ours.whole()
    assert unread(server) == data
    answer(ours)
    assert unread(server) == b""


@pytest.mark.parametrize("pair", ["tcp"], indirect=True)
def test_the_largest_request_that_is_kept_does_not_keep_the_client_from_sending(
    client: socket.socket, server: socket.socket
) -> None:
    """PEEK_MAX bytes fit into a TCP connection that nobody reads, however small the segments are."""
    for size in range(1, PEEK_MAX + 1):
        client.send(b"x")
        if size % 256 == 0:
            eventually(lambda size=size: len(unread(server)) == size, "it has come through")  # type: ignore[misc]


def test_a_client_that_unread_bytes_may_block_is_found(client: socket.socket, server: socket.socket) -> None:
    """A UNIX client whose bytes are unread for a while; a TCP client only when the receive buffer is full."""
    ours = connection(server)
    arrive(client, server, b"GET / HT")
    assert ours.receive()
    assert not ours.stalled()
    assert ours.stalled() is (server.family == socket.AF_UNIX)
    arrive(client, server, b"TP/1.1\r\n")
    assert ours.receive()
    assert not ours.stalled()


def test_the_end_behind_unread_bytes_is_seen(client: socket.socket, server: socket.socket) -> None:
    """A peek cannot see it: the bytes are taken then, for nothing will become of them."""
    ours = connection(server)
    arrive(client, server, b"GET / HT")
    assert ours.receive()
    assert not ours.receive()
    assert not ours.news()
    client.shutdown(socket.SHUT_WR)
    eventually(ours.news, "the end has come")
    assert ours.receive()
    assert ours.ended
    assert unread(server) == b""


def test_a_reset_behind_unread_bytes_is_seen(client: socket.socket, server: socket.socket) -> None:
    """It raises, or is an end, as it does where nothing is unread."""
    ours = connection(server)
    arrive(client, server, b"GET / HT")
    assert ours.receive()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    eventually(ours.news, "the reset has come")
    try:
        assert ours.receive()
        assert ours.ended
    except ConnectionResetError:
        pass


def test_a_close_with_unread_bytes_is_no_reset(client: socket.socket, server: socket.socket) -> None:
    """What was sent before arrives: nothing unread is left when the descriptor goes."""
    ours = connection(server)
    arrive(client, server, REQUESTS["GET"] + b"GET / HT")
    assert ours.receive()
    assert ours.codec.request() is not None
    ours.whole()
    answer(ours)
    ours.close()
    assert client.recv(4096).endswith(b"ok")
    assert client.recv(4096) == b""


def test_what_was_taken_is_carried(client: socket.socket, server: socket.socket) -> None:
    """Another codec goes on from what is carried and what the kernel still has."""
    ours = connection(server)
    arrive(client, server, CHUNKED[:30])
    assert ours.receive()
    ours.take()
    arrive(client, server, CHUNKED[30:])
    assert ours.receive()
    assert ours.carried() == CHUNKED
    assert unread(server) == b""
    assert ours.codec.request() is not None
    assert ours.carried() == CHUNKED
