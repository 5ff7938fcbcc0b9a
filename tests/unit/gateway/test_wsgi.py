"""PEP 3333 against a real codec and a sink that remembers: what an application may do, and what is said when it may not."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator

import pytest

from lastcall.gateway import wsgi
from lastcall.protocol.exchange import Request
from lastcall.protocol.http1 import Connection, Limits, Stamp

Start = Callable[..., Callable[[bytes], object]]


class Sink:
    """Bytes that went out; goes away after `patience` writes."""

    def __init__(self, patience: int = 100) -> None:
        self.out = b""
        self._patience = patience

    def write(self, data: bytes) -> None:
        self._patience -= 1
        if self._patience < 0:
            raise wsgi.ClientGone
        self.out += data

    def span(self, file: object) -> int | None:
        return None

    def sendfile(self, head: bytes, file: object, count: int) -> None:
        raise AssertionError("there is no span")


def call(app: object, patience: int = 100) -> tuple[wsgi.Outcome, bytes, bool]:
    codec = Connection(Limits(), Stamp(""))
    codec.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    codec.request()
    sink = Sink(patience)
    outcome = wsgi.run(app, {"REQUEST_METHOD": "GET"}, codec, sink)  # type: ignore[arg-type]
    return outcome, sink.out, codec.keep


class Body:
    """An iterable that is told when it is closed."""

    def __init__(self, chunks: Iterable[object]) -> None:
        self.chunks = chunks
        self.closed = 0

    def __iter__(self) -> Iterator[object]:
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1


def test_a_list_of_one_goes_out_in_one_piece_with_its_length() -> None:
    """The common case."""

    def app(_: object, start: Start) -> list[bytes]:
        start("200 OK", [("A", "b")])
        return [b"hello"]

    outcome, out, keep = call(app)
    assert out == b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello"
    assert (outcome.status, outcome.sent, outcome.error, keep) == (200, 5, "", True)


def test_a_generator_may_start_late_and_is_sent_piece_by_piece() -> None:
    """start_response before the first non-empty chunk is soon enough; empty chunks send nothing."""

    def app(_: object, start: Start) -> Iterator[bytes]:
        yield b""
        start("200 OK", [])
        yield b"a"
        yield b"bc"

    _, out, _ = call(app)
    assert out.endswith(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")


def test_write_comes_before_the_iterable() -> None:
    """The imperative way (PEP 3333, "The write() Callable")."""

    def app(_: object, start: Start) -> list[bytes]:
        write = start("200 OK", [("Content-Length", "4")])
        write(b"ab")
        return [b"cd"]

    assert call(app)[1].endswith(b"\r\n\r\nabcd")


def raises(_: object, start: Start) -> list[bytes]:
    raise ValueError("no stock")


def never_starts(_: object, start: Start) -> list[bytes]:
    return [b"x"]


def starts_twice(_: object, start: Start) -> list[bytes]:
    start("200 OK", [])
    start("200 OK", [])
    return []


def sends_text(_: object, start: Start) -> list[str]:
    start("200 OK", [])
    return ["text"]


def numbers_in_headers(_: object, start: Start) -> list[bytes]:
    start("200 OK", [("A", 1)])
    return []


def tuple_of_headers(_: object, start: Start) -> list[bytes]:
    start("200 OK", (("A", "b"),))
    return []


def returns_nothing(_: object, start: Start) -> None:
    start("200 OK", [])


def splits(_: object, start: Start) -> list[bytes]:
    start("200 OK", [("A", "b\r\nc: d")])
    return []


def exits(_: object, start: Start) -> list[bytes]:
    sys.exit(1)


def too_long(_: object, start: Start) -> list[bytes]:
    start("200 OK", [("Content-Length", "1")])
    return [b"abc"]


@pytest.mark.parametrize(
    ("app", "why"),
    [
        (raises, "ValueError: no stock"),
        (never_starts, "did not call start_response"),
        (starts_twice, "called twice"),
        (sends_text, "must be bytes, not str"),
        (numbers_in_headers, "two str"),
        (tuple_of_headers, "must be a list"),
        (returns_nothing, "NoneType"),
        (splits, "line break"),
        (exits, "SystemExit"),
        (too_long, "longer than its Content-Length"),
    ],
)
def test_what_an_application_does_wrong_is_a_500_with_its_reason(app: object, why: str) -> None:
    """Before anything was sent: 500, the reason for the log, and the connection lives."""
    outcome, out, _ = call(app)
    assert out.startswith(b"HTTP/1.1 500 ")
    assert outcome.status == 500
    assert why in outcome.error


def test_breaking_off_in_the_middle_ends_the_connection() -> None:
    """Half an answer is never passed off as a whole one."""

    def app(_: object, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"half"
        raise ValueError("no stock")

    outcome, out, keep = call(app)
    assert out.endswith(b"4\r\nhalf\r\n")
    assert not keep
    assert "no stock" in outcome.error


def test_exc_info_replaces_the_head_before_it_is_sent_and_raises_after() -> None:
    """PEP 3333, "Error Handling"."""

    def before(_: object, start: Start) -> list[bytes]:
        start("200 OK", [])
        try:
            raise ValueError("no stock")
        except ValueError:
            start("503 Sold Out", [], sys.exc_info())
        return [b"sorry"]

    assert call(before)[1].startswith(b"HTTP/1.1 503 Sold Out")

    def after(_: object, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"half"
        try:
            raise ValueError("no stock")
        except ValueError:
            start("503 Sold Out", [], sys.exc_info())

    outcome, _, keep = call(after)
    assert "no stock" in outcome.error
    assert not keep


def test_too_short_is_said() -> None:
    """The connection ends, and the log has both numbers."""

    def app(_: object, start: Start) -> list[bytes]:
        start("200 OK", [("Content-Length", "9")])
        return [b"abc"]

    outcome, _, keep = call(app)
    assert outcome.error == "the application announced 9 bytes and sent 3"
    assert not keep


@pytest.mark.parametrize("patience", [0, 1, 100])
@pytest.mark.parametrize("chunks", [[b"a", b"b"], [b"a", "text"], []])
def test_close_is_called_once_whatever_happens(patience: int, chunks: list[object]) -> None:
    """Also when the client has gone, and when the body is wrong."""
    body = Body(chunks)

    def app(_: object, start: Start) -> Body:
        start("200 OK", [])
        return body

    outcome, _, _ = call(app, patience)
    assert body.closed == 1
    assert outcome.gone or patience


def request(headers: list[tuple[bytes, bytes]], params: dict[str, str] | None = None) -> Request:
    return Request("GET", "/a?b", "/a", "b", "HTTP/1.1", headers, 0, keep=True, params=params or {})


def test_the_environ_of_http() -> None:
    """CGI's names; repeated fields joined; what could pass for another field left out."""
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", b"0"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"x_a", b"evil"),
        (b"proxy", b"evil"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]
    env = wsgi.environ(request(headers), {"SCRIPT_NAME": ""}, io.BytesIO())
    assert (env["PATH_INFO"], env["QUERY_STRING"], env["SCRIPT_NAME"]) == ("/a", "b", "")
    assert (env["CONTENT_TYPE"], env["CONTENT_LENGTH"]) == ("text/plain", "0")
    assert (env["HTTP_X_A"], env["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")
    assert "HTTP_PROXY" not in env


def test_the_environ_of_fastcgi() -> None:
    """A front that puts the whole path into SCRIPT_NAME is understood; PATH_INFO is taken where it is given."""
    env = wsgi.environ(request([], {"SCRIPT_NAME": "/a", "HTTPS": "on", "HTTP_PROXY": "evil"}), {}, io.BytesIO())
    assert (env["SCRIPT_NAME"], env["PATH_INFO"], env["wsgi.url_scheme"]) == ("", "/a", "https")
    assert "HTTP_PROXY" not in env
    env = wsgi.environ(request([], {"SCRIPT_NAME": "/m", "PATH_INFO": "/a"}), {}, io.BytesIO())
    assert (env["SCRIPT_NAME"], env["PATH_INFO"]) == ("/m", "/a")
