"""HTTP/1.1, the server's side of one connection: bytes <-> requests and responses. RFC 9112, RFC 9110.

Decides what is a well-formed request, where its body ends, and how a response is framed. The head is parsed by llhttp
(httptools) in its strict mode, one head at a time; what llhttp lets through and we do not: a missing, repeated or
malformed Host, Transfer-Encoding in HTTP/1.0, a transfer coding other than `chunked`, more or larger fields than
`Limits`, targets that are no request-target, unknown expectations. The chunked coding is decoded here, so that the
first byte after a request is always known: a second request in the same packet is left where it is.

The way of the bytes:   receive -> _buffer -> request (head) -> read (body) -> [the next head]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from lastcall.protocol.exchange import ProtocolError, Request, ResponseError
from lastcall.protocol.refusal import MEDIA_TYPE, RETRY_AFTER, Refusal, problem


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request head may cost. Bytes, but for `headers`, which counts fields."""

    head: int = 65536
    request_line: int = 8190
    headers: int = 100


class Stamp:
    """The header lines that depend on the clock, kept up to date by whoever has one: `Server` and `Date`."""

    __slots__ = ("lines",)

    def __init__(self, lines: str = "Server: lastcall\r\n") -> None:
        self.lines = lines


CHUNK_LINE_MAX: Final = 4096
"""Bytes of a chunk-size line with its extensions; more is an attack, not an extension."""
TRAILER_MAX: Final = 8192
"""Bytes of all trailer fields together. They are checked and dropped: WSGI has no place for them."""
NAMES_MAX: Final = 1024
"""Field names remembered as checked, of requests and of responses. Whoever invents names makes us check again."""

REASONS: Final = {
    400: "Bad Request", 408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long",
    417: "Expectation Failed", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip

BODILESS: Final = frozenset({"204", "304"})
FRAMING: Final = frozenset({"content-length", "connection", "date", "server"})
HOP_BY_HOP: Final = frozenset({
    "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "trailers", "transfer-encoding",
    "upgrade",
})  # fmt: skip
"""RFC 9110 section 7.6.1, and PEP 3333: an application may not set these. `Connection: close` alone is heard."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STATUS = re.compile(r"[2-5][0-9][0-9]( [\t\x20-\x7e\x80-\xff]*)?")
_HOST = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.%A-Za-z]+\])(:\d{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)([/?][^#]*)?", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_NOT_BEGUN = (b"", b"\r")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")


class _Names(dict[bytes, bytes]):
    """Field names as sent -> in lower case. A table, because making it anew costs more than finding it."""

    def __missing__(self, name: bytes) -> bytes:
        if len(self) >= NAMES_MAX:
            return name.lower()
        self[name] = lower = name.lower()
        return lower


_LOWER = _Names()
_HOSTS: set[bytes] = set()
_CHECKED: dict[str, str] = {}
_STATUS_LINES: dict[str, str] = {}


class _Fields:
    """What httptools calls back into."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((_LOWER[name], value))


class Chunked:
    """Decodes the chunked coding (RFC 9112 section 7.1) from the front of a buffer that it is handed."""

    __slots__ = ("_left", "_trailer_bytes", "done")

    def __init__(self) -> None:
        self._left = -1  # bytes of the present chunk; 0: its CRLF is due; -1: a size line is due; -2: trailers
        self._trailer_bytes = 0
        self.done = False

    def decode(self, buffer: bytes) -> tuple[bytes, bytes]:
        """Body bytes from the buffer's front, and what is left of the buffer. Raises ProtocolError(400)."""
        out: list[bytes] = []
        at = 0
        while not self.done:
            if self._left > 0:
                piece = buffer[at : at + self._left]
                if not piece:
                    break
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._left == 0:
                if not buffer.startswith(b"\r\n", at):
                    if b"\r\n".startswith(buffer[at : at + 2]):
                        break  # nothing yet, or only the CR
                    raise ProtocolError(400, "a chunk is not followed by CRLF")
                at += 2
                self._left = -1
            else:
                end = buffer.find(b"\r\n", at)
                if end < 0:
                    self._check_unfinished(buffer[at:])
                    break
                self._line(buffer[at:end])
                at = end + 2
        return b"".join(out), buffer[at:]

    def coded(self, body: bytes) -> bytes:
        """What has been decoded, in the coding again, up to the very place where the buffer goes on."""
        if self._left == 0:
            return b"%x\r\n%b" % (len(body), body)
        whole = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        if self._left > 0:
            return b"%b%x\r\n" % (whole, self._left)
        if self._left == -2:
            whole += b"0\r\n\r\n" if self.done else b"0\r\n"
        return whole

    def _line(self, line: bytes) -> None:
        if self._left == -2:
            self._trailer_bytes += len(line) + 2
            if not line:
                self.done = True
            elif self._trailer_bytes > TRAILER_MAX:
                raise ProtocolError(431, "the trailer fields are too large")
            elif not _TRAILER_LINE.fullmatch(line):
                raise ProtocolError(400, "malformed trailer field")
            return
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or len(line) > CHUNK_LINE_MAX:
            raise ProtocolError(400, "malformed chunk size")
        self._left = int(match[1], 16) or -2

    def _check_unfinished(self, rest: bytes) -> None:
        bound = CHUNK_LINE_MAX if self._left == -1 else TRAILER_MAX - self._trailer_bytes
        if len(rest) > bound and self._left == -2:
            raise ProtocolError(431, "the trailer fields are too large")
        if len(rest) > bound or b"\n" in rest or b"\r" in rest[:-1]:
            raise ProtocolError(400, "malformed chunk size" if self._left == -1 else "malformed trailer field")


class Connection:
    """See `exchange.Codec` for what may be called when."""

    __slots__ = (
        "_announced", "_buffer", "_chunked_in", "_chunked_out", "_eof", "_head", "_left", "_limits", "_method", "_old",
        "_scanned", "_stamp", "_swallow", "_under_way", "_written", "aborted", "keep",
        "short", "torn",
    )  # fmt: skip

    def __init__(self, limits: Limits, stamp: Stamp) -> None:
        self.keep = True
        self.aborted = False
        self.torn = False
        self.short = False
        self._limits = limits
        self._stamp = stamp
        self._buffer = b""
        self._head = b""  # of the request under way
        self._scanned = 0
        self._eof = False
        self._under_way = False  # between request() and end()
        self._left = 0  # body bytes to come, by Content-Length
        self._chunked_in: Chunked | None = None
        self._method = ""
        self._old = False  # HTTP/1.0
        self._announced: int | None = None
        self._written = 0
        self._chunked_out = False
        self._swallow = False

    # --- Requests --------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        if not data:
            self._eof = True
        elif self._buffer:
            self._buffer += data
        else:
            self._buffer = data

    @property
    def idle(self) -> bool:
        return not self._buffer and not self._under_way

    def unserved(self, read: bytes = b"") -> bytes | None:
        if not self._under_way:
            return self._buffer
        if self._chunked_in is not None:
            read = self._chunked_in.coded(read)
        return self._head + read + self._buffer

    @property
    def behind(self) -> int:
        return len(self._buffer)

    def outgoing(self) -> bytes:
        return b""

    def request(self) -> Request | None:
        buffer = self._buffer
        if not buffer:
            return None
        if self._under_way:
            raise AssertionError("request() before the end() of the one before")
        if buffer[0] in b"\r\n":  # section 2.2: an empty line before the request line is forgiven
            buffer = self._buffer = self._without_empty_lines(buffer)
            if buffer in _NOT_BEGUN:
                if buffer and self._eof:
                    raise self._fatal(400, "malformed request line")
                return None
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3)) + 4
        if end == 3 or end > self._limits.head:
            self._check_unfinished(buffer, whole=end > 3)
            self._scanned = len(buffer)
            return None
        self._scanned = 0
        head = buffer if end == len(buffer) else buffer[:end]
        try:
            request = self._parse(head)
        except ProtocolError:
            self.keep = False
            raise
        self._buffer = buffer[end:]
        self._head = head
        self._under_way = True
        self.keep = request.keep and self.keep
        return request

    def _without_empty_lines(self, buffer: bytes) -> bytes:
        match = _EMPTY_LINES.match(buffer)
        stripped = buffer[match.end() :] if match is not None else buffer
        if stripped[:1] in (b"\n", b"\r") and stripped != b"\r":
            raise self._fatal(400, "malformed request line")
        return stripped

    def _parse(self, head: bytes) -> Request:
        line_end = head.find(b"\r\n")
        if line_end > self._limits.request_line:
            raise ProtocolError(414, "the request line is too long")
        parts = head[:line_end].split(b" ")
        fields = _Fields()
        try:
            httptools.HttpRequestParser(fields).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # CONNECT, refused below; or an Upgrade that we do not take up (RFC 9110 section 7.8)
        except httptools.HttpParserError as error:
            raise self._refusal(parts, error) from None
        if len(parts) != 3:
            raise ProtocolError(400, "malformed request line")
        headers = fields.headers
        if b" \r\n" in head or b"\t\r\n" in head:  # llhttp leaves white space behind a value (section 5.1)
            headers[:] = [(name, value.rstrip(b" \t")) for name, value in headers]
        if len(headers) > self._limits.headers:
            raise ProtocolError(431, "too many header fields")
        method = parts[0].decode("latin-1")
        self._method = method
        self._old = old = parts[2] != b"HTTP/1.1"
        if old and parts[2] != b"HTTP/1.0":
            raise ProtocolError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        named = dict(headers)
        if len(named) != len(headers):
            _merge_repeated(headers, named)
        host = named.get(b"host")
        if host is None:
            if not old:
                raise ProtocolError(400, "the Host field is missing")
        elif host not in _HOSTS:
            _check_host(host)
        target, path, query = _split_target(method, parts[1], headers)
        if b"content-length" in named or b"transfer-encoding" in named:
            length = self._frame_body(named, old=old)
        else:
            self._chunked_in = None
            length = self._left = 0
        connection = named.get(b"connection")
        keep = not old if connection is None else connection == b"keep-alive" or _keeps(connection, old=old)
        expects = False
        if b"expect" in named:
            if named[b"expect"].lower() != b"100-continue":
                raise ProtocolError(417, "the only expectation known here is 100-continue")
            expects = not old and length != 0
        version = "HTTP/1.0" if old else "HTTP/1.1"
        return Request(method, target, path, query, version, headers, length, keep, expects)

    def _frame_body(self, named: dict[bytes, bytes], *, old: bool) -> int | None:
        """Section 6.3: where the body ends. llhttp has refused both fields together, and malformed lengths."""
        self._chunked_in = None
        coding = named.get(b"transfer-encoding")
        if coding is not None:
            if old:
                raise ProtocolError(400, "HTTP/1.0 has no Transfer-Encoding")
            if b"content-length" in named:
                raise ProtocolError(400, "both Content-Length and Transfer-Encoding")
            codings = [token.strip().lower() for token in coding.split(b",")]
            if codings != [b"chunked"]:
                final = codings[-1] == b"chunked" and codings.count(b"chunked") == 1
                raise ProtocolError(501 if final or b"chunked" not in codings else 400, "transfer coding not supported")
            self._left = 0
            self._chunked_in = Chunked()
            return None
        length = named.get(b"content-length")
        self._left = 0 if length is None else int(length)
        return self._left

    def _refusal(self, parts: list[bytes], error: httptools.HttpParserError) -> ProtocolError:
        """Say what llhttp did not like, with the status that fits."""
        method_is_token = bool(_METHOD.fullmatch(parts[0]))
        if isinstance(error, httptools.HttpParserInvalidMethodError) and method_is_token and len(parts) == 3:
            return ProtocolError(501, "method not known here")
        if len(parts) == 3 and _VERSION.fullmatch(parts[2]) and parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            return ProtocolError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        detail = str(error).replace("\n", " ") or "no detail"
        return ProtocolError(400, f"malformed request ({detail})")

    def _check_unfinished(self, buffer: bytes, *, whole: bool) -> None:
        """Refuse at once what cannot become a request, rather than when the client gives up."""
        line_end = buffer.find(b"\r\n")
        if (line_end if line_end >= 0 else len(buffer)) > self._limits.request_line:
            raise self._fatal(414, "the request line is too long")
        if whole or len(buffer) > self._limits.head:
            raise self._fatal(431, "the request head is too large")
        if self._eof:
            raise self._fatal(400, "the connection was closed inside a request head")
        if line_end < 0:
            if b"\n" in buffer:
                raise self._fatal(400, "malformed request line")
            word = buffer.split(b" ", 1)[0]
            if word and not _METHOD.fullmatch(word):
                raise self._fatal(400, "malformed request line")
        elif b"\n" in buffer[self._scanned :]:
            parts = buffer[:line_end].split(b" ")
            try:
                httptools.HttpRequestParser(_Fields()).feed_data(buffer)
            except httptools.HttpParserUpgrade:
                pass
            except httptools.HttpParserError as error:
                self.keep = False
                raise self._refusal(parts, error) from None

    def _fatal(self, status: int, detail: str) -> ProtocolError:
        self.keep = False
        return ProtocolError(status, detail)

    def read(self) -> bytes | None:
        buffer = self._buffer
        if self._chunked_in is not None:
            if self._chunked_in.done:
                return b""
            try:
                data, self._buffer = self._chunked_in.decode(buffer)
            except ProtocolError:
                self.keep = False
                raise
            if data or self._chunked_in.done:
                return data
        elif self._left == 0:
            return b""
        elif buffer:
            data = buffer[: self._left]
            self._buffer = buffer[len(data) :]
            self._left -= len(data)
            return data
        if self._eof:
            raise self._fatal(400, "the connection was closed inside a request body")
        return None

    # --- Responses ---------------------------------------------------------------

    def interim(self) -> bytes:
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def head(self, status: str, headers: list[tuple[str, str]], length: int | None) -> bytes:
        line = _STATUS_LINES.get(status) or _status_line(status)
        lines = [line]
        announced = None
        stamped = ""
        for name, value in headers:
            lower = _CHECKED.get(name) or _check_name(name)
            if lower in FRAMING:
                if lower == "content-length":
                    announced = _check_length(value, announced)
                    continue
                if lower == "connection":
                    if value.strip().lower() == "close":
                        self.keep = False
                    continue
                stamped += lower
            elif lower in HOP_BY_HOP:
                continue
            lines.append(f"{name}: {value}\r\n")
        text = "".join(lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise ResponseError("a response header holds a line break or NUL")
        framing = self._frame_response(status[:3], announced, length)
        stamp = self._stamp.lines if not stamped else _stamp_without(self._stamp.lines, stamped)
        try:
            return f"{text}{framing}{stamp}\r\n".encode("latin-1")
        except UnicodeEncodeError:
            raise ResponseError("a response header is not latin-1 text") from None

    def _frame_response(self, code: str, announced: int | None, length: int | None) -> str:
        """Section 6.3: how the client will know where the body ends, as header lines."""
        bodiless = code in BODILESS
        self._swallow = swallow = bodiless or self._method == "HEAD"
        self._written = 0
        self._chunked_out = False
        if self._left or (self._chunked_in is not None and not self._chunked_in.done):
            self.keep = False  # the body was not wanted: what is left of it must not be taken for a request
        if announced is None and not bodiless and (length or not swallow):
            announced = length
        self._announced = announced
        line = ""
        if announced is not None:
            if code != "204":
                line = f"Content-Length: {announced}\r\n"
        elif bodiless or (swallow and length == 0):
            pass  # an empty answer to HEAD does not say how long the one to GET would be
        elif self._old:
            self.keep = False  # only the end of the connection ends this body
        else:
            self._chunked_out = True
            line = "Transfer-Encoding: chunked\r\n"
        if not self.keep:
            return line + "Connection: close\r\n"
        return line + "Connection: keep-alive\r\n" if self._old else line

    def data(self, chunk: bytes) -> bytes:
        if self._swallow:
            return b""
        self._written += len(chunk)
        if self._announced is not None and self._written > self._announced:
            raise ResponseError(f"the body is longer than its Content-Length of {self._announced}")
        if self._chunked_out:
            return b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return chunk

    @property
    def raw_body(self) -> bool:
        return not (self._swallow or self._chunked_out)

    def sent_raw(self, count: int) -> None:
        self._written += count

    def end(self, *, complete: bool = True) -> bytes:
        tail = b"0\r\n\r\n" if self._chunked_out and complete and not self._swallow else b""
        self.short = self._announced is not None and self._written < self._announced and not self._swallow
        if self.short or not complete:
            self.keep = False
            self.torn = self._announced is None and not self._chunked_out and not self._swallow
        self._method = ""
        self._head = b""
        self._under_way = False
        self._announced = None
        self._chunked_out = False
        return tail

    @property
    def under_way(self) -> bool:
        return self._under_way

    @property
    def open_ended(self) -> bool:
        return self._announced is None and not self._chunked_out and not self._swallow

    @property
    def outstanding(self) -> int | None:
        return None if self._announced is None or self._swallow else self._announced - self._written

    @property
    def exchange(self) -> int:
        return 0

    def refuse(self, status: int, detail: str) -> bytes:
        text = f"{status} {REASONS.get(status, 'Error')}: {detail}\n".encode("latin-1", "replace")
        return self._whole(status, "text/plain; charset=utf-8", text)

    def turn_away(self, refusal: Refusal) -> bytes:
        self._method = refusal.method or self._method
        return self._whole(refusal.status, MEDIA_TYPE, problem(refusal))

    def _whole(self, status: int, media_type: str, body: bytes) -> bytes:
        self.keep = False
        self._under_way = False
        retry = f"Retry-After: {RETRY_AFTER[status]}\r\n" if status in RETRY_AFTER else ""
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: {media_type}\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n{self._stamp.lines}\r\n"
        )
        return head.encode("latin-1") + (b"" if self._method == "HEAD" else body)


def _keeps(connection: bytes, *, old: bool) -> bool:
    """Section 9.3: whether the connection persists, by its Connection field."""
    tokens = [token.strip() for token in connection.lower().split(b",")]
    return b"close" not in tokens and (not old or b"keep-alive" in tokens)


def _check_host(host: bytes) -> None:
    if not _HOST.fullmatch(host):
        raise ProtocolError(400, "malformed Host field")
    if len(_HOSTS) < NAMES_MAX:
        _HOSTS.add(host)


def _merge_repeated(headers: list[tuple[bytes, bytes]], named: dict[bytes, bytes]) -> None:
    """Fields that may be given once are refused when given twice; lists are joined (RFC 9110 section 5.3)."""
    for name in (b"host", b"content-length"):
        if sum(1 for other, _ in headers if other == name) > 1:
            raise ProtocolError(400, f"more than one {name.decode().title()} field")
    for name in (b"transfer-encoding", b"connection", b"expect"):
        if name in named:
            named[name] = b", ".join(value for other, value in headers if other == name)


def _split_target(method: str, raw: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[str, str, str]:
    """The request-target as text, its decoded path ("" for `*`), its query (section 3.2)."""
    if method == "CONNECT":
        raise ProtocolError(501, "CONNECT is for proxies")
    origin = raw
    if raw[:1] != b"/":
        if raw == b"*" and method == "OPTIONS":
            return "*", "", ""
        match = _ABSOLUTE.fullmatch(raw)
        if match is None or not _HOST.fullmatch(match[1]):
            raise ProtocolError(400, "malformed request target")
        # Section 3.2.2: the authority of an absolute target replaces whatever Host says.
        headers[:] = [(b"host", match[1]), *(field for field in headers if field[0] != b"host")]
        rest = match[2] or b""
        origin = rest if rest[:1] == b"/" else b"/" + rest
    if b"#" in raw:
        raise ProtocolError(400, "a request target has no fragment")
    text = origin.decode("latin-1")
    path, _, query = text.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    return text if origin is raw else raw.decode("latin-1"), path, query


def _status_line(status: str) -> str:
    if not _STATUS.fullmatch(status):
        raise ResponseError(f"bad status {status[:80]!r}")
    line = f"HTTP/1.1 {status}\r\n" if len(status) > 3 else f"HTTP/1.1 {status} \r\n"
    if len(_STATUS_LINES) < NAMES_MAX:
        _STATUS_LINES[status] = line
    return line


def _check_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ResponseError(f"bad header name {name[:80]!r}")
    lower = name.lower()
    if len(_CHECKED) < NAMES_MAX:
        _CHECKED[name] = lower
    return lower


def _check_length(value: str, before: int | None) -> int:
    text = value.strip()
    if not (text.isascii() and text.isdigit()):
        raise ResponseError(f"bad Content-Length {value[:40]!r}")
    length = int(text)
    if before is not None and before != length:
        raise ResponseError("two different Content-Length headers")
    return length


def _stamp_without(lines: str, stamped: str) -> str:
    kept = [line for line in lines.splitlines(keepends=True) if line.split(":", 1)[0].lower() not in stamped]
    return "".join(kept)
