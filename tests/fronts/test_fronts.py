"""Real web servers in front: nginx over HTTP and FastCGI, Apache, lighttpd, HAProxy, and cgi-fcgi."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import fronts, http
from support.lastcall import Server, Servers
from support.nginx import Nginx

HERE = Path(__file__).parent
Front = Callable[[Server], str]
"""Puts a front before a server, and returns its HTTP address."""

NAMES = [
    "nginx-http-keep", "nginx-http", "nginx-fastcgi-keep", "nginx-fastcgi", "apache-reuse", "apache", "lighttpd",
    "haproxy-keep", "haproxy",
]  # fmt: skip


@pytest.fixture(params=NAMES)
def front(request: pytest.FixtureRequest, folder: Path, nginx: Nginx) -> Iterator[Front]:
    """Every front, with and without kept connections to us."""
    started: list[fronts.Front] = []

    def start(server: Server) -> str:
        name: str = request.param
        keep = name.endswith(("-keep", "-reuse"))
        if name.startswith("nginx-http"):
            address = nginx.http(server.http_address, keepalive=keep)
            nginx.start()
            return address
        if name.startswith("nginx"):
            address = nginx.fastcgi(server.fastcgi_address, keep_conn=keep)
            nginx.start()
            return address
        if name.startswith("apache"):
            started.append(fronts.apache(folder, server.fastcgi_address, reuse=keep))
        elif name.startswith("haproxy"):
            started.append(fronts.haproxy(folder, server.fastcgi_address, keep_conn=keep))
        else:
            started.append(fronts.lighttpd(folder, server.fastcgi_address))
        return started[0].address

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def mirror(serve: Servers) -> Server:
    """The mirror, on both protocols; the validator around it complains into the log."""
    return serve("mirror:app", "--app-dir", str(HERE), http=True, fastcgi=True)


def test_a_front_passes_everything_on(mirror: Server, front: Front) -> None:
    """Method, path, query, client, headers, and a body come through; large answers and errors go back."""
    address = front(mirror)
    with http.Connection(address) as client:
        got = client.request("GET", "/some/p%C3%A5th?a=1&b=%202", headers=(("User-Agent", "test/1"),))
        told = json.loads(got.body)
        assert told["method"] == "GET"
        assert told["script"] + told["path"] == "/some/p\u00c3\u00a5th"
        assert told["script"] == ""
        assert told["query"] == "a=1&b=%202"
        assert told["client"] == "127.0.0.1"
        assert told["agent"] == "test/1"

        body = b"0123456789" * 50_000
        told = json.loads(client.request("POST", "/upload", body).body)
        assert told["length"] == len(body)

        assert client.request("HEAD", "/head").status == 200
        assert client.request("GET", "/big/3000000").body == b"x" * 3_000_000
        assert client.request("GET", "/boom").status == 500
    assert "AssertionError" not in mirror.log()


def test_a_front_sees_nothing_of_reloads(mirror: Server, front: Front) -> None:
    """Requests on kept connections, reload after reload: each is answered."""
    address = front(mirror)
    generation = 1
    with http.Connection(address) as client:
        for round_ in range(4):
            for number in range(10):
                answer = client.request("POST", f"/{round_}/{number}", b"order")
                assert answer.status == 200, answer
            mirror.signal(signal.SIGHUP)
            generation += 1
            mirror.wait_log(f"reload finished, generation {generation} is in service")


def test_a_front_does_not_take_half_an_answer_for_a_whole_one(mirror: Server, front: Front) -> None:
    """An application that raises inside a body of unknown length: the client sees an error, not a short answer.

    lighttpd 1.4.69 passes even a reset on as the end of the answer: nothing that we send could tell it otherwise.
    """
    address = front(mirror)
    try:
        answer = http.get(address, "/torn")
    except http.Closed:
        return
    assert answer.status in (500, 502) or (answer.header("server") or "").startswith("lighttpd"), answer


def test_cgi_fcgi_gets_its_answer(mirror: Server) -> None:
    """The reference library's client."""
    env = {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "/x", "REQUEST_URI": "/x?q", "QUERY_STRING": "q",
        "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "test", "SERVER_PORT": "80", "CONTENT_LENGTH": "5",
        "REMOTE_ADDR": "192.0.2.1",
    }  # fmt: skip
    done = subprocess.run(
        ["cgi-fcgi", "-bind", "-connect", mirror.fastcgi_address],
        env={**os.environ, **env}, input=b"hello", capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert b"Status: 200 OK" in head
    told = json.loads(body)
    assert (told["path"], told["query"], told["body"], told["client"]) == ("/x", "q", "hello", "192.0.2.1")


def test_nginx_over_unix_sockets(serve: Servers, nginx: Nginx) -> None:
    """Both protocols over UNIX sockets; the client's address comes from the front."""
    server = serve("mirror:app", "--app-dir", str(HERE), "--socket-mode", "666", http="unix", fastcgi="unix")
    addresses = nginx.http(server.http_address), nginx.fastcgi(server.fastcgi_address)
    nginx.start()
    for address in addresses:
        told = json.loads(http.post(address, "/x", b"hello").body)
        assert told["body"] == "hello"
        assert told["client"] == "127.0.0.1"
