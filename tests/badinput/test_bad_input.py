"""What clients, applications and systems do wrong: a clean error, nothing leaked, the worker alive."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import connect, eventually

APPS = Path(__file__).parents[1] / "conformance"
REQUEST = http.head("POST", "/digest", b"hello") + b"hello"
FASTCGI = fcgi.message({"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "SCRIPT_NAME": "/"})


@pytest.fixture(params=["1", "3"], ids=["sync", "threads"])
def server(request: pytest.FixtureRequest, serve: Servers) -> Server:
    """One worker of each kind, on both protocols."""
    return serve("app:app", "--app-dir", str(APPS), "--workers", "1", "--threads", request.param, fastcgi=True)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def throw(address: str, data: bytes, pieces: int) -> None:
    """Send bytes, in pieces; read whatever comes, until the server closes or has nothing to say."""
    with connect(address) as sock:
        step = max(1, len(data) // pieces)
        try:
            for at in range(0, len(data), step):
                sock.sendall(data[at : at + step])
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass


def test_fuzzed_bytes_on_both_protocols(server: Server) -> None:
    """Random bytes and mutated requests, whole and in pieces: the same worker answers afterwards, and holds nothing."""
    rng = random.Random(20170625)
    (worker,) = server.workers()
    http.get(server.http_address)
    before = descriptors(worker)
    for number in range(150):
        for address, valid in ((server.http_address, REQUEST), (server.fastcgi_address, FASTCGI)):
            data = bytearray(valid)
            for _ in range(rng.randint(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            throw(address, bytes(data) if number % 3 else rng.randbytes(rng.randint(1, 300)), rng.choice([1, 3, 20]))
    assert http.get(server.http_address).body == b"hello"
    assert server.workers() == [worker]
    eventually(lambda: descriptors(worker) <= before, "the worker has closed what was thrown at it")
    assert " broke: " not in server.log()


@pytest.mark.parametrize("sent", [0, 10, len(REQUEST) - 2, len(REQUEST)])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_clients_that_vanish_leave_nothing_behind(server: Server, sent: int, how: str) -> None:
    """At each stage, with RST and with FIN."""
    (worker,) = server.workers()
    http.get(server.http_address)
    before = descriptors(worker)
    for _ in range(40):
        client = http.Connection(server.http_address)
        client.send(REQUEST[:sent])
        client.reset() if how == "reset" else client.close()
    assert http.get(server.http_address).body == b"hello"
    eventually(lambda: descriptors(worker) <= before, "the worker has noticed")
    assert server.workers() == [worker]


def test_clients_that_vanish_in_the_middle_of_an_answer(server: Server) -> None:
    """A large answer, of which they take a little."""
    (worker,) = server.workers()
    http.get(server.http_address)
    before = descriptors(worker)
    for path in ("/generate", "/file") * 5:
        client = http.Connection(server.http_address)
        client.send(http.head("GET", path))
        client.socket.recv(1000)
        client.reset()
    assert http.get(server.http_address).body == b"hello"
    eventually(lambda: descriptors(worker) <= before, "the worker has noticed")
    assert server.workers() == [worker]


def test_an_application_that_raises(server: Server) -> None:
    """Before its answer: 500. In the middle: the client sees that it is not whole. The log has the traceback."""
    with http.Connection(server.http_address) as client:
        assert client.request("GET", "/raise").status == 500
        assert client.request("GET", "/").status == 200
        client.send(http.head("GET", "/break"))
        with pytest.raises(http.Closed):
            client.response()
    assert server.log().count("RuntimeError: as asked") >= 2


def test_running_out_of_descriptors_is_survived(serve: Servers) -> None:
    """EMFILE on accept: said once, waited for, served on."""
    server = serve("app:app", "--app-dir", str(APPS), "--workers", "1", "--rlimit-files", "40")
    crowd = [connect(server.http_address) for _ in range(60)]
    server.wait_log("cannot accept: Too many open files")
    for sock in crowd:
        sock.close()
    assert http.get(server.http_address).body == b"hello"


def test_a_body_that_cannot_be_kept_is_refused_and_survived(serve: Servers, folder: Path) -> None:
    """A spool directory that is gone: 503 and a line in the log; small bodies need no disk."""
    spool = folder / "spool"
    spool.mkdir()
    server = serve("app:app", "--app-dir", str(APPS), "--tmp-dir", str(spool), "--body-buffer", "10")
    spool.rmdir()
    assert http.post(server.http_address, "/digest", b"x" * 100).status == 503
    assert http.post(server.http_address, "/digest", b"x").status == 200
    assert "could not be kept" in server.log()


def test_a_port_in_use_is_said(serve: Servers) -> None:
    """78, the address, and what to do."""
    one = serve("app:app", "--app-dir", str(APPS))
    two = serve("app:app", "--app-dir", str(APPS), http=one.http_address, wait=False)
    assert two.wait() == 78
    assert f"cannot listen on {one.http_address}: address already in use" in two.process.text()
