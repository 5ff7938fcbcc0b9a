"""How a request is asked and its answer recognised: HTTP/1.1 and FastCGI, byte by byte, without a socket.

No codec of lastcall's is used: the two must be able to disagree.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, Protocol

Headers = tuple[tuple[str, str], ...]

_BEGIN, _END, _PARAMS, _STDIN, _STDOUT = 1, 3, 4, 5, 6
"""FastCGI's record types, as far as a client needs them."""
_CONTENT_MAX: Final = 0xFFFF


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
            if kind == _STDOUT and not self.status:
                self._head += content
                if b"\r\n\r\n" in self._head:
                    self.status = _cgi_status(self._head)
            elif kind == _END:
                self.done = True

    def end(self) -> None:
        self.keep = False


def _cgi_status(head: bytes) -> int:
    """RFC 3875, 6.3.3: 200 where there is no Status."""
    for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"status":
            return int(value.split()[0])
    return 200


def http_request(method: str, target: str, body: bytes | None, headers: Headers, *, keep: bool) -> bytes:
    """The bytes of an HTTP request."""
    fields = [*headers] if any(name.lower() == "host" for name, _ in headers) else [("Host", "drill"), *headers]
    if not keep:
        fields.append(("Connection", "close"))
    if body is not None:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def fastcgi_request(
    method: str,
    target: str,
    body: bytes | None,
    headers: Headers,
    *,
    keep: bool,
    params: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a FastCGI request, with the parameters that nginx would send, and `params` besides."""
    path, _, query = target.partition("?")
    variables = {
        "REQUEST_METHOD": method,
        "REQUEST_URI": target,
        "SCRIPT_NAME": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "drill",
        "SERVER_PORT": "80",
        "CONTENT_LENGTH": str(len(body or b"")),
        **(params or {}),
    }
    for name, value in headers:
        key = name.upper().replace("-", "_")
        variables[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    begin = struct.pack(">HB5x", 1, keep)
    pairs = b"".join(_pair(name.encode(), value.encode()) for name, value in variables.items())
    return _record(_BEGIN, begin) + _stream(_PARAMS, pairs) + _stream(_STDIN, body or b"")


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def _stream(kind: int, data: bytes) -> bytes:
    """Records of at most 64 KiB, and the empty one that ends them."""
    pieces = [data[at : at + _CONTENT_MAX] for at in range(0, len(data), _CONTENT_MAX)]
    return b"".join(_record(kind, piece) for piece in [*pieces, b""])


def _pair(name: bytes, value: bytes) -> bytes:
    sizes = b"".join(
        bytes([len(text)]) if len(text) < 128 else struct.pack(">I", len(text) | 1 << 31) for text in (name, value)
    )
    return sizes + name + value
