"""A FastCGI front, small and literal: what tests send, and how they read what comes back.

Written from the specification, not from our codec, so that the two can disagree.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR, DATA = range(1, 9)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = range(9, 12)


class Cut(Exception):
    """The connection ended before END_REQUEST; `stdout` is what had come."""

    def __init__(self, stdout: bytes) -> None:
        super().__init__(f"cut after {len(stdout)} bytes of stdout")
        self.stdout = stdout


@dataclass(frozen=True)
class Record:
    """One record, without its padding."""

    kind: int
    id: int
    content: bytes = b""


@dataclass(frozen=True)
class Response:
    """One answer, as it was when END_REQUEST came."""

    stdout: bytes
    stderr: bytes
    app_status: int
    protocol_status: int

    @property
    def status(self) -> str:
        """`200 OK`: the Status line, or what is meant where there is none (RFC 3875, 6.3.3)."""
        return self.headers.get("status", "200 OK")

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case; of a name that comes twice the last value."""
        lines = self.stdout.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return {name.lower(): value for name, _, value in pairs}

    @property
    def body(self) -> bytes:
        return self.stdout.partition(b"\r\n\r\n")[2]


# --- Records out -------------------------------------------------------------


def record(kind: int, content: bytes = b"", *, id: int = 1, padding: int = 0, version: int = 1) -> bytes:  # noqa: A002
    """One record; its padding is not zeros, for nobody may look at it."""
    header = struct.pack(">BBHHBB", version, kind, id, len(content), padding, 0xEE)
    return header + content + b"\xee" * padding


def begin(*, role: int = 1, keep: bool = False, id: int = 1) -> bytes:  # noqa: A002
    return record(BEGIN_REQUEST, struct.pack(">HB5x", role, keep), id=id)


def length(size: int, *, long: bool = False) -> bytes:
    """A length of 3.4: one byte if it fits, or four."""
    return struct.pack(">L", size | 1 << 31) if long or size > 127 else bytes((size,))


def pairs(variables: dict[str, str], *, long: bool = False) -> bytes:
    """Name-value pairs; `long`: every length in four bytes."""
    encoded = b""
    for name, value in variables.items():
        n, v = name.encode("latin-1"), value.encode("latin-1")
        encoded += length(len(n), long=long) + length(len(v), long=long) + n + v
    return encoded


def stream(kind: int, content: bytes, *, id: int = 1, size: int = 65535) -> bytes:  # noqa: A002
    """A whole stream, in records of at most `size` bytes, closed."""
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(record(kind, part, id=id) for part in (*parts, b""))


def params(variables: dict[str, str], *, id: int = 1) -> bytes:  # noqa: A002
    return stream(PARAMS, pairs(variables), id=id)


def stdin(body: bytes, *, id: int = 1) -> bytes:  # noqa: A002
    return stream(STDIN, body, id=id)


def message(variables: dict[str, str], body: bytes = b"", *, keep: bool = False, id: int = 1) -> bytes:  # noqa: A002
    """A whole request."""
    return begin(keep=keep, id=id) + params(variables, id=id) + stdin(body, id=id)


# --- Records in --------------------------------------------------------------


def parse(data: bytes) -> list[Record]:
    """Every record of `data`, which must hold whole ones only."""
    records = []
    while data:
        version, kind, number, size, padding = struct.unpack_from(">BBHHBx", data)
        assert version == 1, "not a FastCGI record"
        assert len(data) >= 8 + size + padding, "a record is incomplete"
        records.append(Record(kind, number, data[8 : 8 + size]))
        data = data[8 + size + padding :]
    return records


def response(records: list[Record]) -> Response:
    """The answer that some records of one request are; the last of them is its END_REQUEST."""
    assert records[-1].kind == END_REQUEST, "the answer is not ended"
    out = b"".join(each.content for each in records if each.kind == STDOUT)
    err = b"".join(each.content for each in records if each.kind == STDERR)
    return Response(out, err, *struct.unpack(">LB3x", records[-1].content))


# --- Over a socket -----------------------------------------------------------


def request(sock: socket.socket, variables: dict[str, str], body: bytes = b"", *, keep: bool = False) -> Response:
    """Send one request and wait for its answer. The socket's own timeout applies. Raises Cut."""
    sock.sendall(message(variables, body, keep=keep))
    return receive(sock)


def receive(sock: socket.socket) -> Response:
    """The next answer on a connection. Raises Cut."""
    records: list[Record] = []
    while not records or records[-1].kind != END_REQUEST:
        header = _exactly(sock, 8)
        size, padding = struct.unpack_from(">HB", header, 4) if header else (0, 0)
        rest = _exactly(sock, size + padding)
        if header is None or rest is None:
            raise Cut(b"".join(each.content for each in records if each.kind == STDOUT))
        records += parse(header + rest)
    return response(records)


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    """None when the connection ends first."""
    data = b""
    while len(data) < size:
        try:
            part = sock.recv(min(size - len(data), 65536))
        except ConnectionResetError:
            part = b""
        if not part:
            return None
        data += part
    return data
