"""A small HTTP/1.1 client for tests: it sends exactly the bytes that it is given, and reads one response at a time."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from typing import Self

from support.processes import WITHIN_S, connect


class Closed(Exception):
    """The server closed, or reset, before a whole response had come. Its text says what had come."""


@dataclass(frozen=True, slots=True)
class Response:
    """One final response, and the interim ones (1xx) before it."""

    status: int
    reason: str
    version: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""
    body: bytes
    interim: tuple[int, ...] = ()

    def header(self, name: str) -> str | None:
        """The value of a header that may stand there once; None where it does not."""
        found = [value for key, value in self.headers if key == name.lower()]
        assert len(found) <= 1, f"{name} stands there {len(found)} times: {found}"
        return found[0] if found else None


class Connection:
    """One connection. A context manager: it closes at the end of the block."""

    def __init__(self, address: str, within: float = WITHIN_S) -> None:
        self.socket = connect(address, within)
        self.leftover = b""
        """What came after the last response that was read."""

    def __enter__(self) -> Self:
        """Nothing more to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close in order: FIN, not RST, unless bytes were left unread."""
        self.socket.close()

    def reset(self) -> None:
        """Close with RST, as a client does that has crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.socket.sendall(data)

    def request(
        self, method: str, target: str, body: bytes | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> Response:
        """Send a plain request and read its response."""
        self.send(head(method, target, body, headers) + (body or b""))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """Read one response to a request of this method. Raises Closed when it does not come whole."""
        interim: list[int] = []
        while True:
            version, status, reason, headers = self._head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        return Response(status, reason, version, headers, self._body(method, status, headers), tuple(interim))

    def closed(self) -> bool:
        """Wait until the server has closed in order; False when bytes come first, a reset, or nothing at all."""
        try:
            return not self.leftover and self.socket.recv(1) == b""
        except (TimeoutError, ConnectionResetError):
            return False

    def quiet(self, for_s: float) -> bool:
        """Whether nothing comes, not even a close, for so many seconds."""
        return not self.leftover and not select.select([self.socket], [], [], for_s)[0]

    def _head(self) -> tuple[str, int, str, tuple[tuple[str, str], ...]]:
        raw = self._until(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in rest if line)
        return version, int(status), reason, tuple((name.lower(), value.strip()) for name, value in pairs)

    def _body(self, method: str, status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
        if method == "HEAD" or status in (101, 204, 304):
            return b""
        named = dict(headers)
        if named.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        if "content-length" in named:
            return self._exactly(int(named["content-length"]))
        whole = self.leftover
        while data := self._receive():
            whole += data
        self.leftover = b""
        return whole

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        while self._until(b"\r\n") != b"\r\n":  # trailers
            pass
        return body

    def _until(self, mark: bytes) -> bytes:
        """Everything up to the mark, and the mark."""
        while mark not in self.leftover:
            self._more()
        end = self.leftover.index(mark) + len(mark)
        found, self.leftover = self.leftover[:end], self.leftover[end:]
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self.leftover) < count:
            self._more()
        found, self.leftover = self.leftover[:count], self.leftover[count:]
        return found

    def _more(self) -> None:
        data = self._receive()
        if not data:
            raise Closed(f"after {self.leftover!r}")
        self.leftover += data

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 16)
        except ConnectionResetError:
            raise Closed(f"reset, after {self.leftover!r}") from None


def head(method: str, target: str, body: bytes | None = None, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A request's head, with Host, and with Content-Length where there is a body."""
    all_headers = [("Host", "test"), *headers]
    if body is not None:
        all_headers.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def get(address: str, target: str = "/", headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """GET on a connection of its own."""
    with Connection(address) as connection:
        return connection.request("GET", target, headers=headers)


def post(address: str, target: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """POST on a connection of its own."""
    with Connection(address) as connection:
        return connection.request("POST", target, body, headers)
