"""HTTP and WSGI over a real server, sync and with threads; the validator around the application stays silent."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from wsgiref import validate

import pytest

from support import http
from support.lastcall import Server, Servers
from support.processes import connect, eventually

HERE = Path(__file__).parent
HOST = b"Host: localhost\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def serve(serve: Servers) -> Iterator[Servers]:
    """Whatever a test here has started: at its end neither validator nor worker has complained."""
    yield serve
    assert "AssertionError" not in serve.logs()
    assert " broke: " not in serve.logs()


@pytest.fixture(params=["1", "4"], ids=["sync", "threads"])
def server(request: pytest.FixtureRequest, serve: Servers) -> Server:
    """One worker of each kind."""
    return serve("app:app", "--app-dir", str(HERE), "--workers", "1", "--threads", request.param)


def exchange(address: str, data: bytes, *, half_close: bool = True) -> bytes:
    """Everything that comes back until the server closes."""
    with connect(address) as sock:
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        out = b""
        try:
            while piece := sock.recv(65536):
                out += piece
        except ConnectionResetError:
            pass
        return out


CLOSES = ("HTTP/1.0", "Connection: close")
"""After these it is the server that closes, though the client might go on."""
ANY = tuple(status for status in range(200, 600) if status != 400)
H1SPEC: list[tuple[str, bytes, tuple[int, ...]]] = [
    ("simple GET", b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", (200,)),
    ("POST with Content-Length", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", (200,)),
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", ANY),
    ("absolute-form", b"GET http://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", (200,)),
    ("CONNECT authority-form", b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST + b"\r\n", ANY),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", (400, 505)),
    ("no version", b"GET /\r\n" + HOST + b"\r\n", (400,)),
    ("missing Host", b"GET / HTTP/1.1\r\n\r\n", (400,)),
    ("two Hosts", b"GET / HTTP/1.1\r\n" + HOST + b"Host: example.com\r\n\r\n", (400,)),
    ("bad Host", b"GET / HTTP/1.1\r\nHost: bad host\r\n\r\n", (400,)),
    ("bad name", b"GET / HTTP/1.1\r\n" + HOST + b"Bad Header: value\r\n\r\n", (400,)),
    ("folding", b"GET / HTTP/1.1\r\n" + HOST + b"  continued\r\n\r\n", (400,)),
    ("space before colon", b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", (400,)),
    ("NUL", b"GET / HTTP/1.1\r\nHost: local\x00host\r\n\r\n", (400,)),
    ("chunked", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", (200,)),
    ("chunked, HTTP/1.0", CHUNKED.replace(b"1.1", b"1.0") + b"5\r\nhello\r\n0\r\n\r\n", (400,)),
    ("chunked and length", CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", (400,)),
    ("unknown coding", CHUNKED.replace(b"chunked", b"nonsense") + b"hello", (400, 501)),
    ("chunked not final", CHUNKED.replace(b"chunked", b"chunked, gzip") + b"0\r\n\r\n", (400,)),
    ("invalid length", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: xyz\r\n\r\nhello", (400,)),
    ("two lengths", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello!!", (400,)),
    ("bad chunk size", CHUNKED + b"Z\r\nhello\r\n0\r\n\r\n", (400,)),
    ("chunk without its end", CHUNKED + b"5\r\nhello0\r\n\r\n", (400,)),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", (200,)),
    ("Connection: close", b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", (200,)),
    ("long request line", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", (414,)),
    ("101 fields", b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: v\r\n" % n for n in range(101)) + b"\r\n", (431,)),
    ("large field", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 9000 + b"\r\n\r\n", (200,)),
]
"""The 33 checks of h1spec (dropseed), as bytes and the statuses that pass; what is no row is in the tests below.

Where h1spec takes any answer for a limit, or the end of the connection, the status that we want stands here. It is in no
package index; its source was read.
"""


def test_the_checks_of_h1spec(server: Server) -> None:
    """Each on a connection that the client half-closes; what was refused is refused alone, and the server lives."""
    follow_up = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    for name, data, allowed in H1SPEC:
        out = exchange(server.http_address, data)
        assert out.startswith(b"HTTP/1.1 "), (name, out)
        assert int(out[9:12]) in allowed, (name, out)
        if out[9:12] in (b"400", b"501", b"505", b"414", b"431"):
            both = exchange(server.http_address, data + follow_up, half_close=False)
            assert len(re.findall(rb"HTTP/1\.1 [0-9]{3}", both)) == 1, (name, both)
            assert b"Connection: close" in both
    lower = exchange(server.http_address, b"get / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"Content-Length: " in lower
    head = exchange(server.http_address, b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert head.endswith(b"\r\n\r\n")
    for name, data, _ in H1SPEC:
        if name in CLOSES:
            assert exchange(server.http_address, data, half_close=False).endswith(b"hello"), name


def test_kept_and_pipelined_requests(server: Server) -> None:
    """One connection, one request after the other (h1spec's keep-alive); twenty at once are answered in order."""
    with http.Connection(server.http_address) as client:
        for _ in range(3):
            assert client.request("GET", "/").body == b"hello"
        client.send(http.head("GET", "/") * 20)
        assert [client.response().body for _ in range(20)] == [b"hello"] * 20


def test_expect_100_continue(server: Server) -> None:
    """The interim answer comes before the body is sent (h1spec's Expect)."""
    with http.Connection(server.http_address) as client:
        client.send(http.head("POST", "/digest", b"hello", (("Expect", "100-continue"),)))
        assert client.socket.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.response().body.decode() == hashlib.sha256(b"hello").hexdigest()


def memory(pid: int) -> int:
    """Bytes of a process's own memory, at its highest."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("body", ["spool", "stream"])
@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_large_body_is_never_in_memory(serve: Servers, body: str, threads: str) -> None:
    """64 MiB through one worker; its peak grows by far less. Sized and chunked."""
    server = serve("app:app", "--app-dir", str(HERE), "--workers", "1", "--threads", threads, "--body", body)
    http.get(server.http_address)
    (worker,) = server.workers()
    before = memory(worker)
    piece, count = b"0123456789abcdef" * 4096, 1024
    digest = hashlib.sha256()
    with http.Connection(server.http_address) as client:
        client.send(b"POST /digest HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (len(piece) * count))
        for _ in range(count):
            client.send(piece)
            digest.update(piece)
        assert client.response().body.decode() == digest.hexdigest()
    assert memory(worker) - before < 16 << 20


@pytest.mark.parametrize("path", ["/generate", "/file"])
def test_a_slow_reader_occupies_nobody(server: Server, path: str) -> None:
    """It takes nothing of a 3 MB answer; others are answered by the one worker; then it gets all of it."""
    with http.Connection(server.http_address) as slow:
        slow.send(http.head("GET", path))
        for _ in range(5):
            assert http.get(server.http_address).body == b"hello"
        body = slow.response().body
        assert len(body) == 3_000_000
        assert len(set(body)) == 1


def test_a_slow_or_silent_client_occupies_nobody(server: Server) -> None:
    """Connected and silent; half a head; half a body: the one worker answers others, then these."""
    request = http.head("POST", "/digest", b"hello") + b"hello"
    clients = [http.Connection(server.http_address) for _ in range(3)]
    for client, sent in zip(clients, (0, 10, len(request) - 2), strict=True):
        client.send(request[:sent])
    assert http.get(server.http_address).body == b"hello"
    for client, sent in zip(clients, (0, 10, len(request) - 2), strict=True):
        client.send(request[sent:])
        assert client.response().body.decode() == hashlib.sha256(b"hello").hexdigest()
        client.close()


def test_timeouts_and_limits(serve: Servers) -> None:
    """408 for a head and for a body that do not come; 413 for a body that is too large; idle ones are closed."""
    arguments = (
        "--header-timeout",
        "100ms",
        "--body-timeout",
        "100ms",
        "--keepalive-timeout",
        "100ms",
        "--max-body",
        "10",
    )
    server = serve("app:app", "--app-dir", str(HERE), *arguments)
    for sent, status in (
        (b"GET / HT", 408),
        (http.head("POST", "/digest", b"hello"), 408),
        (http.head("POST", "/digest", b"x" * 11), 413),
        (CHUNKED + b"b\r\n01234567890\r\n", 413),
    ):
        with http.Connection(server.http_address) as client:
            client.send(sent)
            assert client.response().status == status
            assert client.closed()
    with http.Connection(server.http_address) as client:
        assert client.request("GET", "/").status == 200
        assert client.closed()


def test_who_the_client_is(serve: Servers) -> None:
    """X-Forwarded-*, X-Request-Id: believed from those named, from others not."""
    said = (("X-Forwarded-For", "evil, 192.0.2.7"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "abc-1"))
    server = serve("app:app", "--app-dir", str(HERE))
    assert http.get(server.http_address, "/who", said).body == b"192.0.2.7 https abc-1"
    server = serve("app:app", "--app-dir", str(HERE), "--forwarded-allow-ips", "10.0.0.0/8")
    client, scheme, identity = http.get(server.http_address, "/who", said).body.decode().split()
    assert (client, scheme) == ("127.0.0.1", "http")
    assert re.fullmatch(r"[0-9a-f]{20}", identity)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_kept_connection_does_not_wait_for_a_busy_worker(serve: Servers, folder: Path, threads: str) -> None:
    """32 kept connections on 8 workers, one of which is busy: every other connection is answered meanwhile."""
    apps = HERE.parent / "serve"
    server = serve("apps:app", "--app-dir", str(apps), "--workers", "8", "--threads", threads)
    clients = [http.Connection(server.http_address) for _ in range(32)]
    for client in clients:
        client.request("GET", "/")
    end = folder / "end.flag"
    clients[0].send(http.head("GET", f"/wait{end}"))
    eventually(end.with_suffix(".begun").exists, "one worker is busy")
    for _ in range(3):
        for client in clients[1:]:
            assert client.request("GET", "/").body == b"hello\n"
    end.touch()
    assert clients[0].response().body == b"waited\n"
    for client in clients:
        client.close()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_request_deadline_shows_the_line_before_it_cuts(serve: Servers, threads: str) -> None:
    """--request-timeout: the stack names the application's line; then the worker is cut and replaced."""
    arguments = ("--workers", "1", "--threads", threads, "--request-timeout", "500ms")
    server = serve("app:app", "--app-dir", str(HERE), *arguments)
    outcome: list[str] = []

    def ask() -> None:
        try:
            outcome.append(str(http.get(server.http_address, "/spin").status))
        except http.Closed:
            outcome.append("closed")

    thread = threading.Thread(target=ask)
    thread.start()
    server.wait_log("was cut after")
    thread.join()
    assert outcome == ["504"]
    log = server.log()
    assert "execution timed out" in log
    assert log.index("is here:") < log.index("was cut after")
    assert "app.py" in log
    where = log[log.index("is here:") : log.index("was cut after")]
    assert [line.split('"')[1] for line in where.splitlines() if line.lstrip().startswith("File ")] == [
        validate.__file__,
        str(HERE / "app.py"),
    ]
    assert http.get(server.http_address).status == 200
