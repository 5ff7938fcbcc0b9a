"""The FastCGI 1.0 application's side of one connection: records in, requests out; responses in, records out.

It decides what every record of the front means, and what is owed to it. It knows no sockets, no applications, no
time. See exchange.py for the order of calls, docs/FASTCGI.md for what is answered and why. Section numbers are those
of the FastCGI specification 1.0 (1996).

Bounds: at most one incomplete record (65,798 bytes) and `Limits.params_bytes` are held here. STDIN is held until
`read()` and a pipelined request until `end()`: the caller bounds both, by not receiving while there is something to
read or a request to answer.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from lastcall.protocol.exchange import ProtocolError, Request, ResponseError
from lastcall.protocol.refusal import MEDIA_TYPE, RETRY_AFTER, Refusal, problem

VERSION: Final = 1

# Record types (8). Numbers, not an enum: they are compared for every record.
BEGIN_REQUEST: Final = 1
ABORT_REQUEST: Final = 2
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7
DATA: Final = 8
GET_VALUES: Final = 9
GET_VALUES_RESULT: Final = 10
UNKNOWN_TYPE: Final = 11

# Roles and flags of BEGIN_REQUEST (5.1). Of the roles we play one.
RESPONDER: Final = 1
AUTHORIZER: Final = 2
FILTER: Final = 3
KEEP_CONN: Final = 1

# Protocol statuses of END_REQUEST (5.5)
REQUEST_COMPLETE: Final = 0
CANT_MPX_CONN: Final = 1
OVERLOADED: Final = 2
UNKNOWN_ROLE: Final = 3

HEADER: Final = struct.Struct(">BBHHBx")
"""version, type, request id, content length, padding length (3.3)."""
_BEGIN: Final = struct.Struct(">HB5x")
_END: Final = struct.Struct(">BBHHBxLB3x")
_CLOSE_AND_END: Final = struct.Struct(">BBHHBxBBHHBxLB3x")
_LONG: Final = struct.Struct(">L")

FRAME: Final = 65528
"""Bytes of a stream that we put into one record: the largest multiple of 8 below 65,536. A multiple, because the
specification likes records that begin on one (3.3); then a long body needs no padding at all. The last record of a
stream is not padded: that would cost every small answer bytes and gain nobody anything."""

_DROPPED: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "status", "te",
    "trailer", "trailers", "transfer-encoding", "upgrade",
})  # fmt: skip
"""Never passed on: hop-by-hop fields (RFC 9110 7.6.1, and RFC 2616 13.5.1 to which PEP 3333 refers), for the
connection is the front's; and Status, which would be a second one (6.1)."""
_SPECIAL: Final = _DROPPED | {"content-length"}

_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
"""Known to be tokens without a look."""
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_STATUS: Final = re.compile(r"[2-9][0-9][0-9](?: .*)?").fullmatch
_LENGTH: Final = re.compile(r"[0-9]{1,18}").fullmatch


@dataclass(frozen=True, slots=True)
class Limits:
    """What a front may send as the head of one request."""

    params_bytes: int = 65536
    """Of the PARAMS stream as it is on the wire."""
    params_count: int = 1000
    """Variables."""


_LIMITS: Final = Limits()


class _Stage(enum.Enum):
    """How far the current request has been received."""

    IDLE = "no request"
    HEAD = "BEGIN_REQUEST has been seen, PARAMS is open"
    BODY = "PARAMS is closed, STDIN is open"
    ENDED = "STDIN is closed: what begins now is the next request, and waits"


_IDLE, _HEAD, _BODY, _ENDED = _Stage  # without the class: to look a member up costs more than all else per record


class Connection:
    """Codec (exchange.py) of one FastCGI connection.

    An ABORT_REQUEST sets `aborted` until the next request begins. One that comes before `request()` has handed the
    request out is answered here, and the request is never seen. Otherwise the answer is `end(complete=False)`, with
    or without a head before it; it leaves the connection usable. To `read()` past it is a ProtocolError.
    """

    __slots__ = (
        "_buffer", "_closed", "_error", "_id", "_left", "_limits", "_max_conns", "_max_reqs", "_mute", "_owed",
        "_params", "_pieces", "_request", "_size", "_stage", "_trailing", "_wanted", "_warned", "_without_body",
        "aborted", "keep", "short", "torn",
    )  # fmt: skip

    def __init__(self, limits: Limits = _LIMITS, *, max_conns: int = 1, max_reqs: int = 1) -> None:
        """`max_conns` and `max_reqs` are what FCGI_GET_VALUES is told (4.1): hints to the front, not limits."""
        self.keep = True
        self.aborted = False
        self.torn = False
        self.short = False
        self._limits = limits
        self._max_conns = max_conns
        self._max_reqs = max_reqs
        self._buffer = b""
        self._owed: list[bytes] = []
        self._closed = False
        self._trailing = False  # more records of the last request are on their way
        self._error: ProtocolError | None = None
        self._forget()

    def _forget(self) -> None:
        """Be without a request: its id is inactive from here on (3.3)."""
        self._stage: _Stage = _IDLE
        self._id = 0
        self._request: Request | None = None  # complete, and not yet handed out
        self._pieces: list[bytes] = []  # of the stream that is open: PARAMS, then STDIN
        self._params = b""  # the stream, once it is closed
        self._size = 0  # bytes of PARAMS so far
        self._wanted: int | None = 0  # bytes of STDIN still to come; None: until it is closed
        self._without_body = False  # a HEAD request
        self._mute = False  # the response may have no body
        self._left: int | None = None  # bytes of the announced body still to be sent
        self._warned = False  # STDERR is open

    # --- Requests ------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        if not data:
            self._closed = True
            if self.idle:
                self.keep = False
        elif self._error is None:
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()

    def request(self) -> Request | None:
        request = self._request
        if request is not None:
            self._request = None
            return request
        if self._stage is _IDLE or self._stage is _HEAD:
            if self._error is not None:
                raise self._error
            if self._closed and (self._buffer or self._stage is _HEAD):
                raise self._broken("the front closed the connection inside a request")
        return None

    def read(self) -> bytes | None:
        if self._pieces:
            body = b"".join(self._pieces)
            self._pieces = []
            return body
        if self._wanted == 0 or (self._wanted is None and self._stage is _ENDED):
            return b""
        if self._error is not None:
            raise self._error
        # "should compare the number of bytes received on FCGI_STDIN with CONTENT_LENGTH and abort the update" (6.2)
        if self._stage is _ENDED:
            raise self._broken("the body is shorter than CONTENT_LENGTH")
        if self.aborted:
            raise self._broken("the front aborted the request inside its body")
        if self._closed:
            raise self._broken("the front closed the connection inside the body")
        return None

    def outgoing(self) -> bytes:
        if not self._owed:
            return b""
        owed = b"".join(self._owed)
        self._owed = []
        return owed

    def unserved(self, read: bytes = b"") -> bytes | None:
        """See exchange.py. Made anew from what was understood: records that were answered or ignored are left out."""
        if self._error is not None or self._owed:
            return None
        if self._stage is _IDLE:
            return self._buffer
        if self.aborted:
            return None
        number = self._id
        begin = _BEGIN.pack(RESPONDER, KEEP_CONN if self.keep else 0)
        records = [self._framed(BEGIN_REQUEST, begin)]
        content = b"".join((read, *self._pieces))
        if self._stage is not _HEAD:
            records += (self._framed(PARAMS, self._params), HEADER.pack(VERSION, PARAMS, number, 0, 0))
        if content:
            records.append(self._framed(PARAMS if self._stage is _HEAD else STDIN, content))
        if self._stage is _ENDED:
            records.append(HEADER.pack(VERSION, STDIN, number, 0, 0))
        return b"".join(records) + self._buffer

    @property
    def behind(self) -> int | None:
        """See exchange.py. The one thing that `end()` is sure not to answer is (the start of) one plain request."""
        buffer = self._buffer
        have = len(buffer)
        at = 0
        while have - at >= 8:
            _, kind, number, size, padding = HEADER.unpack_from(buffer, at)
            after = at + 8 + size + padding
            if after > have:
                break
            begins = kind == BEGIN_REQUEST and at == 0 and buffer[8:10] == b"\0\1"  # the role: RESPONDER
            if number == 0 or not (begins or kind in (PARAMS, STDIN)):
                return None
            at = after
        return have

    @property
    def idle(self) -> bool:
        if self._stage is not _IDLE or self._buffer or self._owed or self._error is not None:
            return False
        # To close while the front still sends would reset the connection, and the answer with it.
        return self.keep or not self._trailing

    # --- Responses -----------------------------------------------------------

    def interim(self) -> bytes:
        return b""  # 100 Continue is between the client and the front

    def head(self, status: str, headers: list[tuple[str, str]], length: int | None) -> bytes:
        if not _STATUS(status):
            raise ResponseError("the status is not of the form '200 OK', or not a final one")
        lines = ["Status: " + status]
        announced: int | None = None
        for name, value in headers:
            field = _field(name)
            if field not in _SPECIAL:
                lines.append(f"{name}: {value}")
            elif field == "content-length":
                announced = _announced(value, announced)
        code = status[:3]
        self._mute = self._without_body or code in {"204", "304"}
        if announced is None and not (self._mute and not length) and code != "304":
            announced = length
        if announced is not None and code != "204":  # RFC 9110 8.6: none with 204
            lines.append(f"Content-Length: {announced}")
        self._left = announced
        lines += ("", "")
        return self._framed(STDOUT, _block(lines))

    def data(self, chunk: bytes) -> bytes:
        if self._mute:
            return b""
        if self._left is not None:
            if len(chunk) > self._left:
                raise ResponseError("the body is longer than its Content-Length")
            self._left -= len(chunk)
        return self._framed(STDOUT, chunk)

    def stderr(self, text: bytes) -> bytes:
        """Frame what the front shall write to its error log (6.1); b"" stays b""."""
        if not text:
            return b""  # an empty record would close the stream
        self._warned = True
        return self._framed(STDERR, text)

    @property
    def raw_body(self) -> bool:
        return False  # it travels in records

    def sent_raw(self, count: int) -> None:
        raise AssertionError(f"{count} bytes sent raw: a FastCGI body is framed")

    def end(self, *, complete: bool = True) -> bytes:
        """End the response, and go on to what has been pipelined behind the request.

        A body cut short must not pass for a whole one: see docs/FASTCGI.md, "An answer that was cut". What a
        pipelined record is owed is part of the bytes.
        """
        number = self._id
        left = 0 if self._mute else self._left
        self.short = bool(left)
        if left == 0 or (complete and left is None) or self.aborted:
            # The empty record closes the stream (3.3, 6.1)
            ending = _CLOSE_AND_END.pack(
                VERSION, STDOUT, number, 0, 0, VERSION, END_REQUEST, number, 8, 0, 0, REQUEST_COMPLETE
            )  # fmt: skip
            if self._warned:
                ending = HEADER.pack(VERSION, STDERR, number, 0, 0) + ending
        else:
            complete = False
            self.torn = not left
            ending = _END.pack(VERSION, END_REQUEST, number, 8, 0, 0, REQUEST_COMPLETE) if left else b""
        # Whoever aborts a request wants its end, not the rest of its answer (5.4): no harm is done.
        self.keep = self.keep and (complete or self.aborted)
        self._trailing = self._stage is not _ENDED
        self._forget()
        self._settle()
        if self._buffer:
            self._advance()
            return ending + self.outgoing()
        return ending

    def refuse(self, status: int, detail: str) -> bytes:
        """See exchange.py; b"" where there is no request to answer, for want of an id."""
        self.keep = False
        line = f"{status} {HTTPStatus(status).phrase}"
        headers = [("Content-Type", "text/plain; charset=utf-8"), *_retry(status)]
        return self._whole(line, headers, f"{line}\n\n{detail}\n".encode())

    @property
    def under_way(self) -> bool:
        return self._id != 0 and self._request is None

    @property
    def open_ended(self) -> bool:
        return self._left is None and not self._mute

    @property
    def outstanding(self) -> None:
        return None  # records follow the body

    @property
    def exchange(self) -> int:
        return self._id

    def turn_away(self, refusal: Refusal) -> bytes:
        """As `refuse`; the id may be known only from who had the connection before us."""
        self.keep = refusal.keep
        self._id = self._id or refusal.exchange
        self._without_body = refusal.method == "HEAD"
        headers = [("Content-Type", MEDIA_TYPE), *_retry(refusal.status)]
        return self._whole(f"{refusal.status} {HTTPStatus(refusal.status).phrase}", headers, problem(refusal))

    def _whole(self, line: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
        if not self._id:
            return b""
        return self.head(line, headers, len(body)) + self.data(body) + self.end()

    def _framed(self, kind: int, content: bytes) -> bytes:
        size = len(content)
        number = self._id
        if size <= FRAME:
            return HEADER.pack(VERSION, kind, number, size, 0) + content
        view = memoryview(content)
        frames: list[bytes | memoryview] = []
        for start in range(0, size, FRAME):
            part = view[start : start + FRAME]
            frames += (HEADER.pack(VERSION, kind, number, len(part), 0), part)
        return b"".join(frames)

    # --- Records -------------------------------------------------------------

    def _advance(self) -> None:
        """Take in every whole record at hand, up to one that has to wait for the end of this request."""
        buffer = self._buffer
        have = len(buffer)
        at = 0
        try:
            while have - at >= 8:
                version, kind, number, size, padding = HEADER.unpack_from(buffer, at)
                if version != VERSION:
                    raise ProtocolError(400, "this is not FastCGI version 1")  # noqa: TRY301 (it joins the others)
                content = at + 8
                after = content + size
                if after + padding > have:
                    break
                if number == 0:
                    self._manage(kind, buffer[content:after])
                elif kind == BEGIN_REQUEST:
                    if self._stage is _ENDED:
                        break
                    self._begin(number, buffer[content:after])
                elif number == self._id:
                    self._take(kind, buffer[content:after])
                # else its request is over, or was refused: "the application ignores records" (3.3)
                at = after + padding
        except ProtocolError as error:
            # Behind the end of a request it is the next one that is broken: this one keeps its answer.
            if self._stage is not _ENDED:
                self._error = error
                self.keep = False
        self._buffer = buffer[at:] if at < have else b""
        if self._stage is _IDLE:
            self._settle()

    def _settle(self) -> None:
        """Between two requests: see whether there can be another one."""
        if not self.keep:
            self._buffer = b""
        elif self._closed and not self._buffer:
            self.keep = False

    def _begin(self, number: int, content: bytes) -> None:
        if len(content) != 8:
            raise ProtocolError(400, "BEGIN_REQUEST has not 8 bytes")
        if number == self._id:
            raise ProtocolError(400, "a request began twice")
        if self._id:
            self._owe(number, CANT_MPX_CONN)
            return
        if not self.keep:
            return  # nothing begins on a connection that is to be closed
        role, flags = _BEGIN.unpack(content)
        if not flags & KEEP_CONN:
            self.keep = False
        self.aborted = False
        if role != RESPONDER:
            self._trailing = True
            self._owe(number, UNKNOWN_ROLE)
            return
        self._id = number
        self._stage = _HEAD

    def _take(self, kind: int, content: bytes) -> None:
        """Take in a record of the current request."""
        if kind == PARAMS and self._stage is _HEAD:
            if content:
                self._pieces.append(content)
                self._size += len(content)
                if self._size > self._limits.params_bytes:
                    raise ProtocolError(431, f"more than {self._limits.params_bytes} bytes of PARAMS")
            else:
                self._complete_head()
        elif kind == STDIN and self._stage is _BODY:
            if not content:
                self._stage = _ENDED
            elif self._wanted is None:
                self._pieces.append(content)
            elif self._wanted:  # what is beyond CONTENT_LENGTH is nobody's
                self._pieces.append(content[: self._wanted])
                self._wanted -= len(self._pieces[-1])
        elif kind == ABORT_REQUEST:
            self._abort()
        else:
            raise ProtocolError(400, f"a record of type {kind} is out of place")

    def _complete_head(self) -> None:
        self._params = b"".join(self._pieces)
        params = _pairs(self._params)
        self._pieces = []
        if len(params) > self._limits.params_count:
            raise ProtocolError(431, f"more than {self._limits.params_count} variables")
        request = _request(params, self.keep)
        self._without_body = request.method == "HEAD"
        self._wanted = request.length
        self._request = request
        self._stage = _BODY

    def _abort(self) -> None:
        self.aborted = True
        if self._stage is _HEAD or self._request is not None:
            self._owe(self._id, REQUEST_COMPLETE)
            self._forget()

    def _manage(self, kind: int, content: bytes) -> None:
        """Answer a management record (4). Only names that we know are in the answer: it is small."""
        if kind != GET_VALUES:
            self._owed.append(HEADER.pack(VERSION, UNKNOWN_TYPE, 0, 8, 0) + bytes((kind, 0, 0, 0, 0, 0, 0, 0)))
            return
        known = {
            "FCGI_MAX_CONNS": self._max_conns,
            "FCGI_MAX_REQS": self._max_reqs,
            "FCGI_MPXS_CONNS": 0,
        }
        answer = b""
        for name in _pairs(content):
            if name in known:
                value = b"%d" % known[name]
                answer += bytes((len(name), len(value))) + name.encode() + value
        self._owed.append(HEADER.pack(VERSION, GET_VALUES_RESULT, 0, len(answer), 0) + answer)

    def _owe(self, number: int, status: int) -> None:
        self._owed.append(_END.pack(VERSION, END_REQUEST, number, 8, 0, 0, status))

    def _broken(self, detail: str) -> ProtocolError:
        self.keep = False
        return ProtocolError(400, detail)


def _pairs(block: bytes) -> dict[str, str]:
    """Name-value pairs (3.4); of a name that comes twice the last value. Raises ProtocolError.

    The hot path of the codec. The text is decoded once and cut, which is cheaper than to cut and decode.
    """
    text = block.decode("latin-1")
    end = len(block)
    pairs: dict[str, str] = {}
    at = 0
    try:
        while at < end:
            name = block[at]
            value = block[at + 1]
            if name | value < 128:
                start = at + 2
            else:
                name, value, start = _long(block, at)
            middle = start + name
            at = middle + value
            pairs[text[start:middle]] = text[middle:at]
    except (IndexError, struct.error):
        at = -1
    if at != end:
        raise ProtocolError(400, "a name-value pair is cut short")
    return pairs


def _long(block: bytes, at: int) -> tuple[int, int, int]:
    """Lengths of a pair of which one at least takes four bytes, and where the name begins."""
    lengths = []
    for _ in range(2):
        length = block[at]
        at += 1
        if length >= 128:
            length = _LONG.unpack_from(block, at - 1)[0] & 0x7FFFFFFF
            at += 3
        lengths.append(length)
    return lengths[0], lengths[1], at


def _request(params: dict[str, str], keep: bool) -> Request:
    get = params.get
    method = get("REQUEST_METHOD", "")
    if method not in _METHODS and not _TOKEN(method):
        raise ProtocolError(400, "REQUEST_METHOD is missing or not a token")
    path = get("SCRIPT_NAME", "") + get("PATH_INFO", "")
    query = get("QUERY_STRING", "")
    target = get("REQUEST_URI")
    if not target:
        # Both come decoded from the front: encoded again, they are a target that fits in a line of a log.
        target = quote(path, safe="/!$&'()*+,;=:@~", encoding="latin-1") + ("?" + query if query else "")
    length = None
    announced = get("CONTENT_LENGTH")
    if announced:  # nginx sends an empty one with a GET
        if not _LENGTH(announced):
            raise ProtocolError(400, "CONTENT_LENGTH is not a number")
        length = int(announced)
    version = get("SERVER_PROTOCOL", "HTTP/1.0")
    return Request(method, target, path, query, version, [], length, keep, False, params)


@lru_cache(maxsize=1024)
def _field(name: str) -> str:
    """A field name in lower case. Remembered, because an application has but a few. Raises ResponseError."""
    if not _TOKEN(name):
        raise ResponseError("a header name is not a token")
    return name.lower()


def _announced(value: str, before: int | None) -> int:
    if not _LENGTH(value):
        raise ResponseError("Content-Length is not a number")
    if before is not None and before != int(value):
        raise ResponseError("Content-Length is given twice, and differs")
    return int(value)


def _retry(status: int) -> list[tuple[str, str]]:
    """When trying again makes sense, as a header."""
    return [("Retry-After", str(RETRY_AFTER[status]))] if status in RETRY_AFTER else []


def _block(lines: list[str]) -> bytes:
    """The lines as bytes. Raises ResponseError where one of them holds CR, LF, NUL or what is not latin-1."""
    text = "\r\n".join(lines)
    # Counted over the whole rather than looked for in each: a line break more than we wrote is one of theirs.
    breaks = len(lines) - 1
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise ResponseError("the status or a header value holds CR, LF or NUL")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ResponseError("the status or a header value is not latin-1") from None
