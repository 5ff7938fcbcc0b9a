"""What a codec yields and what it is asked for: one vocabulary for HTTP/1.1 and FastCGI.

A codec is the server's side of one connection, without the connection: bytes are handed in, requests and body
bytes come out; a response is handed in, bytes come out. It knows nothing of sockets, applications or time.

The order of calls for one request:

    receive(data) ...        as bytes arrive, any number of times, split anywhere; b"" says the peer sends no more
    request()                None until the head is complete, then the Request, once
    read() ...               body bytes; None: receive more first; b"": the body is complete
    head(), data() ..., end() the response, as bytes to send; end() makes the codec ready for the next request

`outgoing()` is asked for after each `receive`: bytes owed to the peer whatever the application does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from lastcall.protocol.refusal import Refusal


class ProtocolError(Exception):
    """The peer broke the protocol; the connection cannot be used for another request.

    `status` is the HTTP status to answer with, `detail` says in words what was wrong (for the log, and safe to
    show to the client: it never quotes more than a name).
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class ResponseError(Exception):
    """The application broke the protocol: a bad header, a body longer than its Content-Length, ..."""


@dataclass(slots=True)
class Request:
    """A request whose head is complete. Text is latin-1, as WSGI wants it.

    Not frozen, though nobody changes it: a frozen dataclass costs a microsecond more to make, on every request.
    """

    method: str
    target: str
    """As the client sent it: the request-target (HTTP), REQUEST_URI (FastCGI)."""
    path: str
    """Percent-decoded; for FastCGI SCRIPT_NAME + PATH_INFO."""
    query: str
    version: str
    """`HTTP/1.1`, `HTTP/1.0`."""
    headers: list[tuple[bytes, bytes]]
    """HTTP: names in lower case, values stripped, in order. Empty for FastCGI."""
    length: int | None
    """Bytes of body to come; None when only its end will tell (chunked)."""
    keep: bool
    """The client wants the connection kept after this exchange."""
    expects_continue: bool = False
    params: dict[str, str] = field(default_factory=dict)
    """FastCGI: the CGI variables. Empty for HTTP."""


class Codec(Protocol):
    """See the module's docstring for the order of calls."""

    keep: bool
    """After `end()`: whether the connection may carry another request. False for ever once it is False."""

    short: bool
    """After `end()`: fewer body bytes were sent than had been announced."""

    torn: bool
    """After `end(complete=False)`: only a reset of the connection tells the peer that the response is not whole."""

    aborted: bool
    """The peer has told us that it no longer wants the answer (FCGI_ABORT_REQUEST)."""

    def receive(self, data: bytes) -> None:
        """Take in what arrived. b"": the peer has closed its sending side."""

    def request(self) -> Request | None:
        """The next request, once; None while its head is incomplete. Raises ProtocolError."""

    def read(self) -> bytes | None:
        """Body bytes at hand; b"" at the body's end (and ever after); None: receive more. Raises ProtocolError.

        The peer closing before the body's end raises ProtocolError(400).
        """

    def outgoing(self) -> bytes:
        """Bytes owed to the peer apart from any response, taken once."""

    def interim(self) -> bytes:
        """What tells the client to go on and send its body (100 Continue); b"" where the protocol has no such thing."""

    def head(self, status: str, headers: list[tuple[str, str]], length: int | None) -> bytes:
        """Begin the response. `status` is `200 OK`; `length` the body's, if known and not among the headers.

        Decides the framing. Raises ResponseError for what may not be sent.
        """

    def data(self, chunk: bytes) -> bytes:
        """Frame body bytes. Never called with b"". Raises ResponseError when the body is longer than announced."""

    @property
    def raw_body(self) -> bool:
        """After `head()`: body bytes go out just as they are, so that sendfile(2) may send them."""

    def sent_raw(self, count: int) -> None:
        """Told of body bytes that did not pass through `data()`. At most what was announced."""

    def end(self, *, complete: bool = True) -> bytes:
        """End the response. `complete` False, or a body shorter than announced, makes `keep` False."""

    @property
    def under_way(self) -> bool:
        """Between `request()` and `end()`."""

    @property
    def open_ended(self) -> bool:
        """Between `head()` and `end()`: only the end of the connection tells the peer where the body ends."""

    @property
    def outstanding(self) -> int | None:
        """Between `head()` and `end()`: bytes to come, if it is known that there will be no others; else None."""

    @property
    def exchange(self) -> int:
        """What the protocol knows the request under way by: FastCGI's request id; 0 for HTTP."""

    def refuse(self, status: int, detail: str) -> bytes:
        """A whole small response to a request that will not be run. `keep` is False after it."""

    def turn_away(self, refusal: Refusal) -> bytes:
        """The answer to a request that somebody else has read, or begun to. `keep` is False after it, or what it says."""

    def unserved(self, read: bytes = b"") -> bytes | None:
        """Every byte received that belongs to no finished request, for another codec in this one's place.

        `read`: what `read()` has given of the request under way. Not to be asked once its response has begun. None
        when nobody could go on from here: after an error or an abort, or while something is owed.
        """

    @property
    def behind(self) -> int | None:
        """Bytes received behind the request under way, once its body is complete: the last ones handed in.

        None when they are not to be handed to any other codec, because `end()` will answer some of them.
        """

    @property
    def idle(self) -> bool:
        """No byte of a request is at hand: the connection may be closed, or handed over, without loss."""
