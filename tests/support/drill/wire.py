"""How a request is asked and its answer recognised: HTTP/1.1 and FastCGI, byte by byte, without a socket.

No codec of lastcall's is used: the two must be able to disagree.
"""

from __future__ import annotations

import struct
from typing import Protocol

from support import fcgi, http

Headers = tuple[tuple[str, str], ...]


class Answer(Protocol):
    """One answer on its way."""

    begun: bool
    """Some of it has come."""
    done: bool
    status: int
    keep: bool
    """The connection may carry another request."""

    def feed(self, data: bytes) -> None:
        """These bytes have come."""

    def end(self) -> None:
        """The connection has ended."""


class HttpAnswer:
    """An HTTP/1.1 answer: by length, in chunks, or until the end of the connection."""

    def __init__(self) -> None:
        self.begun = self.done = False
        self.status = 0
        self.keep = True
        self._data = bytearray()
        self._left: int | None = None
        self._chunked = False
        self._headed = False

    def feed(self, data: bytes) -> None:
        self.begun = True
        self._data += data
        while not self._headed and b"\r\n\r\n" in self._data:
            self._head()
        if self._headed:
            self._body()

    def end(self) -> None:
        if self._headed and self._left is None and not self._chunked:
            self.done = True
        self.keep = False

    def _head(self) -> None:
        raw, _, rest = bytes(self._data).partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ", 2)[1])
        self._data = bytearray(rest)
        if self.status < 200:
            return  # an interim one: the answer is still to come
        self._headed = True
        fields = {name.strip().lower(): value.strip().lower() for name, _, value in (x.partition(":") for x in lines)}
        self.keep = fields.get("connection") != "close" and first.startswith("HTTP/1.1")
        self._chunked = fields.get("transfer-encoding") == "chunked"
        if "content-length" in fields:
            self._left = int(fields["content-length"])
        elif not self._chunked:
            self.keep = False

    def _body(self) -> None:
        if self._chunked:
            self._chunks()
        elif self._left is not None:
            self.done = len(self._data) >= self._left

    def _chunks(self) -> None:
        while b"\r\n" in self._data and not self.done:
            line, _, rest = bytes(self._data).partition(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            if len(rest) < size + 2:
                return
            self._data = bytearray(rest[size + 2 :])
            self.done = size == 0


class FastCgiAnswer:
    """A FastCGI answer: records until END_REQUEST."""

    def __init__(self) -> None:
        self.begun = self.done = False
        self.status = 0
        self.keep = True
        self._data = bytearray()
        self._head = b""

    def feed(self, data: bytes) -> None:
        self.begun = True
        self._data += data
        while len(self._data) >= 8 and not self.done:
            _, kind, _, size, padding = struct.unpack_from(">BBHHBx", self._data)
            if len(self._data) < 8 + size + padding:
                return
            content = bytes(self._data[8 : 8 + size])
            del self._data[: 8 + size + padding]
            if kind == fcgi.STDOUT and not self.status:
                self._head += content
                if b"\r\n\r\n" in self._head:
                    self.status = int(fcgi.Response(self._head, b"", 0, 0).status.split(" ")[0])
            elif kind == fcgi.END_REQUEST:
                self.done = True

    def end(self) -> None:
        self.keep = False


def http_request(method: str, target: str, body: bytes | None, headers: Headers, *, keep: bool) -> bytes:
    """The bytes of an HTTP request."""
    close = () if keep else (("Connection", "close"),)
    return http.head(method, target, body, (*headers, *close)) + (body or b"")


def fastcgi_request(method: str, target: str, body: bytes | None, headers: Headers, *, keep: bool) -> bytes:
    """The bytes of a FastCGI request, with the parameters that nginx would send."""
    variables = {
        "REQUEST_METHOD": method,
        "REQUEST_URI": target,
        "SCRIPT_NAME": target,
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "test",
        "SERVER_PORT": "80",
        "CONTENT_LENGTH": str(len(body or b"")),
    }
    for name, value in headers:
        key = name.upper().replace("-", "_")
        variables[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return fcgi.message(variables, body or b"", keep=keep)
