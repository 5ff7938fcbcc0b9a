"""HTTP/1.1, byte by byte: what is a request, where it ends, what is refused; how a response is framed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall.protocol.exchange import ProtocolError, Request, ResponseError
from lastcall.protocol.http1 import Connection, Limits, Stamp

HOST = b"Host: x\r\n"
Heard = tuple[Request, bytes] | int | None


def connection() -> Connection:
    return Connection(Limits(head=4096, request_line=1000, headers=20), Stamp(""))


def hear(pieces: list[bytes], *, ended: bool = False) -> Heard:
    """The first request and its body; a refusal's status; None for one that is not whole."""
    codec = connection()
    request, body = None, b""
    try:
        for piece in [*pieces, *([b""] if ended else [])]:
            codec.receive(piece)
            if request is None:
                request = codec.request()
            while request is not None:
                data = codec.read()
                if data is None:
                    break
                if not data:
                    return request, body
                body += data
    except ProtocolError as error:
        assert not codec.keep
        return error.status
    return None


def both_ways(data: bytes) -> Heard:
    """Whole, and byte by byte: the outcome is one."""
    whole = hear([data])
    assert hear([data[at : at + 1] for at in range(len(data))]) == whole
    return whole


REFUSED = [
    (400, b"GET /\r\n" + HOST + b"\r\n"),
    (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: bad host\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"Bad Name: v\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"  folded\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x01\r\n\r\n"),
    (400, b"GET / HTTP/1.1\n" + b"Host: x\n\n"),
    (400, b"GET nowhere HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"GET /#frag HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"GET http://u@h/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n"),
    (501, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    (501, b"CONNECT h:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
    (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    (400, b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\nhello"),
    (417, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: the-moon\r\n\r\nhello"),
    (414, b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 5000 + b"\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: a\r\n" * 20 + b"\r\n"),
]


@pytest.mark.parametrize(("status", "data"), REFUSED)
def test_what_is_refused(status: int, data: bytes) -> None:
    """Each with its status, however it arrives."""
    assert both_ways(data) == status


def chunked(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body


@pytest.mark.parametrize(
    "body",
    [
        b"Z\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"-1\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5;\x00\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        b"11111111111111111\r\n",
        b"\r\n",
        b"5" + b"0" * 5000,
    ],
)
def test_a_malformed_chunk_is_refused(body: bytes) -> None:
    """Smuggling begins with two opinions on where a chunk ends (RFC 9112 section 7.1)."""
    assert both_ways(chunked(body)) == 400


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n", b"hello!"),
        (b"00a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ],
)
def test_chunks_are_put_together(body: bytes, content: bytes) -> None:
    """Extensions and trailers are read and dropped."""
    heard = both_ways(chunked(body))
    assert isinstance(heard, tuple)
    assert heard[1] == content


def test_a_whole_request() -> None:
    """Method, target, decoded path, query, headers in lower case, body."""
    heard = both_ways(
        b"POST /a%20b/%C3%A9?q=%20 HTTP/1.1\r\nHost: x:80\r\nX-A:  v \t\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert heard == (
        Request(
            "POST",
            "/a%20b/%C3%A9?q=%20",
            "/a b/\u00c3\u00a9",
            "q=%20",
            "HTTP/1.1",
            [(b"host", b"x:80"), (b"x-a", b"v"), (b"content-length", b"5")],
            5,
            keep=True,
        ),
        b"hello",
    )


@pytest.mark.parametrize(
    ("line", "fields", "keep"),
    [
        (b"HTTP/1.1", b"", True),
        (b"HTTP/1.1", b"Connection: close\r\n", False),
        (b"HTTP/1.1", b"Connection: foo, Close\r\n", False),
        (b"HTTP/1.0", b"", False),
        (b"HTTP/1.0", b"Connection: keep-alive\r\n", True),
        (b"HTTP/1.1", b"Connection: a\r\nConnection: close\r\n", False),
    ],
)
def test_who_keeps_the_connection(line: bytes, fields: bytes, keep: bool) -> None:
    """RFC 9112 section 9.3."""
    heard = both_ways(b"GET / " + line + b"\r\n" + HOST + fields + b"\r\n")
    assert isinstance(heard, tuple)
    assert heard[0].keep is keep


def test_forms_of_the_target() -> None:
    """Absolute-form replaces Host; OPTIONS has an asterisk."""
    heard = both_ways(b"GET http://other:81/p?q HTTP/1.1\r\n" + HOST + b"\r\n")
    assert isinstance(heard, tuple)
    assert (heard[0].path, heard[0].query, heard[0].headers) == ("/p", "q", [(b"host", b"other:81")])
    heard = both_ways(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
    assert isinstance(heard, tuple)
    assert heard[0].target == "*"


def test_a_pipelined_request_stays_where_it_is() -> None:
    """The second is parsed when the first is answered, and not before."""
    codec = connection()
    one, two = (b"GET /%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in (1, 2))
    codec.receive(one + two)
    first = codec.request()
    assert first is not None
    assert first.path == "/1"
    assert codec.read() == b""
    assert not codec.idle
    codec.head("200 OK", [], 0)
    codec.end()
    assert codec.unserved() == two
    second = codec.request()
    assert second is not None
    assert second.path == "/2"


BODIES = [
    (b"Content-Length: 5\r\n", b"hello"),
    (b"Transfer-Encoding: chunked\r\n", b"5;a=b\r\nhello\r\n1\r\n!\r\n00\r\nA: b\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    (b"", b""),
]


@pytest.mark.parametrize(("field", "body"), BODIES)
def test_a_connection_can_be_handed_over_wherever_its_bytes_stop(field: bytes, body: bytes) -> None:
    """Inside a head, inside a body, behind a request: another codec goes on from `unserved`, and hears the same."""
    data = b"\r\nPOST / HTTP/1.1\r\n" + HOST + field + b"\r\n" + body + b"GET /next HTTP/1.1\r\n"
    expected = hear([data])
    for at in range(len(data) + 1):
        first = connection()
        read = b""
        if at:
            first.receive(data[:at])
        if first.request() is not None:
            while piece := first.read():
                read += piece
        carried = first.unserved(read)
        assert carried is not None
        assert hear([piece for piece in (carried, data[at:]) if piece]) == expected


def test_what_is_closed_in_the_middle_is_refused() -> None:
    """EOF inside a head or a body; but a request that is whole is answered after it."""
    assert hear([b"GET / HT"], ended=True) == 400
    assert hear([b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhel"], ended=True) == 400
    assert isinstance(hear([b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"], ended=True), tuple)


def answered(
    request: bytes, status: str, headers: list[tuple[str, str]], body: bytes, length: int | None
) -> tuple[bytes, bool]:
    codec = connection()
    codec.receive(request)
    codec.request()
    out = codec.head(status, headers, length)
    out += codec.data(body) if body else b""
    return out + codec.end(), codec.keep


GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
HEAD = b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "headers", "body", "length", "out", "keep"),
    [
        (GET, "200 OK", [], b"hi", 2, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", True),
        (
            GET,
            "200 OK",
            [],
            b"hi",
            None,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            True,
        ),
        (HEAD, "200 OK", [("Content-Length", "9")], b"hi", 2, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", True),
        (GET, "204 No Content", [], b"hi", 2, b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (GET, "304 Not Modified", [], b"", 0, b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
        (OLD, "200 OK", [], b"hi", None, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi", False),
        (
            GET,
            "200 OK",
            [("Connection", "close")],
            b"",
            0,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            False,
        ),
        (GET, "200 OK", [("Content-Length", "9")], b"hi", 2, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", False),
    ],
)
def test_how_a_response_is_framed(
    request_: bytes,
    status: str,
    headers: list[tuple[str, str]],
    body: bytes,
    length: int | None,
    out: bytes,
    keep: bool,
) -> None:
    """RFC 9112 section 6.3; a body that is too short ends the connection."""
    assert answered(request_, status, headers, body, length) == (out, keep)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("A", "b\r\nEvil: 1")]),
        ("200 OK", [("A\r\nB", "c")]),
        ("200 OK", [("A", "b\nc")]),
        ("200 OK", [("A b", "c")]),
        ("200\r\nX: y", []),
        ("99 x", []),
        ("100 Continue", []),
        ("200 OK", [("A", "\u20ac")]),
        ("200 OK", [("Content-Length", "x")]),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")]),
        ("200 OK", [("A", "\0")]),
    ],
)
def test_an_application_cannot_forge_a_head(status: str, headers: list[tuple[str, str]]) -> None:
    """No response splitting, no interim responses, no two lengths."""
    codec = connection()
    codec.receive(GET)
    codec.request()
    with pytest.raises(ResponseError):
        codec.head(status, headers, 0)


def test_a_body_longer_than_announced_is_an_error() -> None:
    """Its excess would be taken for the next response."""
    codec = connection()
    codec.receive(GET)
    codec.request()
    codec.head("200 OK", [("Content-Length", "1")], None)
    with pytest.raises(ResponseError):
        codec.data(b"hi")


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=300, deadline=None)
def test_garbage_is_a_clean_refusal_or_a_request(pieces: list[bytes]) -> None:
    """Whatever arrives: nothing but a ProtocolError, or a request."""
    hear(pieces, ended=True)


ALPHABET = [
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.1\r\n",
    HOST,
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"Connection: close\r\n",
    b" ",
    b"\x00",
    b":",
]


@given(st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=10))
@settings(max_examples=400, deadline=None)
def test_nearly_right_bytes_mean_the_same_however_they_are_split(words: list[bytes]) -> None:
    """Whole or byte by byte, and then the end: the same request, or refused both times."""
    data = b"".join(words)
    whole = hear([data], ended=True)
    split = hear([data[at : at + 1] for at in range(len(data))], ended=True)
    if isinstance(whole, int) or isinstance(split, int):
        assert isinstance(whole, int), (whole, split)
        assert isinstance(split, int), (whole, split)
    else:
        assert whole == split
