"""How a drill's clients ask, and how they recognise an answer."""

from __future__ import annotations

import pytest

from lastcall.tools.drill.engine import Client, Request
from lastcall.tools.drill.wire import Answer, FastCgiAnswer, HttpAnswer, fastcgi_request
from support import fcgi

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_answers_are_recognised_in_pieces_of_any_size(size: int) -> None:
    """Byte by byte, and all at once."""
    busy = fcgi.stream(fcgi.STDOUT, b"Status: 503 Busy\r\n\r\nno") + fcgi.record(fcgi.END_REQUEST, bytes(8), padding=3)
    plain = fcgi.stream(fcgi.STDOUT, b"Content-Type: text/plain\r\n\r\nok") + fcgi.record(fcgi.END_REQUEST, bytes(8))
    cases: list[tuple[Answer, bytes, int]] = [
        (HttpAnswer(), OK, 200),
        (HttpAnswer(), b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK, 200),
        (HttpAnswer(), b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", 503),
        (FastCgiAnswer(), busy, 503),
        (FastCgiAnswer(), plain, 200),
    ]
    for answer, data, status in cases:
        for at in range(0, len(data), size):
            assert not answer.done
            answer.feed(data[at : at + size])
        assert (answer.done, answer.status, answer.keep) == (True, status, True)


def test_an_http_request_says_who_it_is() -> None:
    """In a header, and wherever the template wants it; braces of the body's own stay."""
    request = Request(
        "POST", "/send?id={id}", {"Content-Type": "application/json"}, '{"order": "{id}", "user": {client}}'
    )
    sent = request.encode(Client("HTTP", "127.0.0.1:1"), 3, "HTTP.3-00007").decode()
    head, _, body = sent.partition("\r\n\r\n")
    assert head.split("\r\n") == [
        "POST /send?id=HTTP.3-00007 HTTP/1.1", "Host: drill", "X-Request-Id: HTTP.3-00007",
        "Content-Type: application/json", f"Content-Length: {len(body)}",
    ]  # fmt: skip
    assert body == '{"order": "HTTP.3-00007", "user": 3}'


def test_a_client_that_keeps_nothing_says_so() -> None:
    """And one that names its host is taken at its word."""
    sent = Request(headers={"Host": "shop.test"}).encode(Client("HTTP", "127.0.0.1:1", keep=False), 0, "HTTP.0-1")
    assert sent == b"GET / HTTP/1.1\r\nX-Request-Id: HTTP.0-1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"


def test_a_fastcgi_request_is_what_the_specification_says() -> None:
    """Records of at most 64 KiB, names and values of any length, streams that end with an empty record."""
    body, long = b"x" * 70_000, "y" * 300
    data = fastcgi_request(
        "POST", "/send?id=7", body, (("Content-Type", "text/plain"),), keep=True, params={"LONG": long}
    )
    records, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 6], "big")
        records.append((data[at + 1], data[at + 8 : at + 8 + size]))
        at += 8 + size + data[at + 6]
    assert records[0] == (fcgi.BEGIN_REQUEST, b"\0\1\1\0\0\0\0\0")
    assert [kind for kind, _ in records[1:]] == [fcgi.PARAMS, fcgi.PARAMS, fcgi.STDIN, fcgi.STDIN, fcgi.STDIN]
    assert (records[2][1], records[-1][1]) == (b"", b"")
    assert b"".join(content for kind, content in records if kind == fcgi.STDIN) == body
    params = records[1][1]
    for name, value in (("SCRIPT_NAME", "/send"), ("QUERY_STRING", "id=7"), ("CONTENT_TYPE", "text/plain")):
        assert bytes([len(name), len(value)]) + name.encode() + value.encode() in params
    assert b"\x04" + (1 << 31 | 300).to_bytes(4, "big") + b"LONG" + long.encode() in params
