"""A stop that is announced first, and the path at which a load balancer hears of it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import connect, eventually

Shop = Callable[..., Server]

APPS = Path(__file__).parent
READY_PATH = ("--ready-path", "/-/ready")


def probe(server: Server, method: str = "GET", target: str = "/-/ready") -> tuple[int, bytes]:
    """What a load balancer is told, on a connection of its own."""
    with http.Connection(server.http_address) as connection:
        answer = connection.request(method, target)
        return answer.status, answer.body


# --- The path ----------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_ready_path_is_answered_without_the_application(shop: Shop, threads: str) -> None:
    """GET and HEAD of exactly this path, on a connection that is kept; neither counted nor logged."""
    server = shop(*READY_PATH, "--threads", threads, "--access-log", "-")
    with http.Connection(server.http_address) as kept:
        for target in ("/-/ready", "/-/ready?who=probe", "/-/%72eady"):
            assert kept.request("GET", target).body == b"ready\n"
        head = kept.request("HEAD", "/-/ready")
        assert (head.status, head.header("content-length"), head.body) == (200, "6", b"")
        assert kept.request("GET", "/-/ready", b"a body").body == b"ready\n"
        assert server.status().requests == 0
        for method, target in (("POST", "/-/ready"), ("GET", "/-/ready/"), ("GET", "/-/read"), ("GET", "/")):
            assert kept.request(method, target).body == b"hello\n"
    assert "HEAD" not in server.process.text()


def test_the_ready_path_is_answered_on_fastcgi(serve: Servers) -> None:
    """Whatever the front calls it: SCRIPT_NAME and PATH_INFO make the path."""
    server = serve("apps:app", "--app-dir", str(APPS), *READY_PATH, http=False, fastcgi=True)
    with connect(server.fastcgi_address) as front:
        for name, info in (("/-/ready", ""), ("", "/-/ready"), ("/-", "/ready")):
            variables = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": name, "PATH_INFO": info, "REQUEST_URI": "/-/ready"}
            answer = fcgi.request(front, variables, keep=True)
            assert (answer.status, answer.body) == ("200 OK", b"ready\n")
        variables = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/", "REQUEST_URI": "/"}
        assert fcgi.request(front, variables, keep=True).body == b"hello\n"


def test_a_draining_worker_says_that_it_stops(shop: Shop) -> None:
    """A probe whose body is still on its way when the stop comes is a request that has begun."""
    server = shop(*READY_PATH, "--workers", "1")
    with http.Connection(server.http_address) as kept:
        kept.send(http.head("GET", "/-/ready", b"slow") + b"sl")
        assert probe(server) == (200, b"ready\n")  # by then the other one has been taken in
        server.signal(signal.SIGTERM)
        eventually(lambda: server.status().phase == "stopping", "it drains")
        kept.send(b"ow")
        answer = kept.response()
        assert (answer.status, answer.body) == (503, b"stopping\n")
        assert kept.closed()
    assert server.wait() == 0


# --- The lame duck -----------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_lame_duck_says_so_and_serves_on(shop: Shop, threads: str) -> None:
    """503 at the ready path, everything else as before, on connections old and new; then it drains and ends with 0."""
    server = shop(*READY_PATH, "--lame-duck", "2s", "--threads", threads)
    with http.Connection(server.http_address) as kept:
        assert kept.request("GET", "/").body == b"hello\n"
        assert probe(server) == (200, b"ready\n")
        server.signal(signal.SIGTERM)
        server.wait_log("lame duck: serving on for 2 s")
        assert server.status().phase == "leaving"
        assert probe(server) == (503, b"stopping\n")
        assert probe(server, "HEAD") == (503, b"")
        assert http.get(server.http_address).body == b"hello\n"
        answer = kept.request("GET", "/-/ready")
        assert (answer.status, answer.header("connection")) == (503, None)
        answer = kept.request("GET", "/")
        assert (answer.body, answer.header("connection")) == (b"hello\n", None)
        assert "bye-bye" not in server.log()
    assert server.wait() == 0


def test_in_a_lame_duck_the_dead_are_replaced_and_nothing_new_is_begun(shop: Shop) -> None:
    """A worker that is killed has a successor; a reload and a resize are told that it is too late."""
    server = shop("--workers", "1", "--lame-duck", "60s")
    (before,) = server.workers()
    server.signal(signal.SIGTERM)
    server.wait_log("lame duck")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: server.workers() not in ([before], []), "another worker is there")
    assert http.get(server.http_address).body == b"hello\n"
    for command in (("reload", "--wait"), ("scale", "+1")):
        done = server.command(*command)
        assert done.returncode == 1
        assert "stopping" in done.stdout + done.stderr
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "is cut" not in server.log()


def test_the_second_stop_drains_and_the_third_cuts(shop: Shop, folder: Path) -> None:
    """Each leads one step further."""
    server = shop("--workers", "1", "--lame-duck", "60s")
    end = folder / "end.flag"
    with http.Connection(server.http_address) as kept:
        kept.send(http.head("GET", f"/wait{end}"))
        eventually(end.with_suffix(".begun").exists, "the request has begun")
        server.signal(signal.SIGTERM)
        server.wait_log("lame duck")
        server.signal(signal.SIGTERM)
        eventually(lambda: server.status().phase == "stopping", "it drains")
        assert "is cut" not in server.log()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "asked to stop again: what still runs is cut" in server.log()


def test_ctrl_c_is_for_people_and_does_not_wait(shop: Shop) -> None:
    """SIGINT drains at once."""
    server = shop("--lame-duck", "60s")
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert "lame duck" not in server.log()


def test_the_service_manager_hears_of_the_stop_when_it_is_announced(shop: Shop, folder: Path) -> None:
    """STOPPING=1 at the beginning of the lame duck."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(20)
    manager.bind(str(folder / "notify.sock"))
    server = shop("--lame-duck", "60s", env={"NOTIFY_SOCKET": str(folder / "notify.sock")})
    server.signal(signal.SIGTERM)
    while b"STOPPING=1" not in manager.recv(4096):
        pass
    manager.close()
    assert server.status().phase == "leaving"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
