"""The final stop: whoever has reached us is answered, and everybody else is refused at connect. docs/STOP.md."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import connect, eventually

APPS = Path(__file__).parent
CLIENTS = 64
WITHOUT_NET_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to give a capability away")


class Rush:
    """Clients that connect, ask once and hang up, in a loop, until they are refused: the queue is never empty."""

    def __init__(self, address: str, ask: Callable[[socket.socket], bool]) -> None:
        self.outcomes: Counter[str] = Counter()
        self._address = address
        self._ask = ask
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while True:
            try:
                sock = connect(self._address)
            except (ConnectionRefusedError, FileNotFoundError):
                self.outcomes["refused"] += 1
                return
            except OSError as error:
                self.outcomes[f"connect: {error!r}"] += 1
                return
            try:
                self.outcomes["answered" if self._ask(sock) else "another answer"] += 1
            except (OSError, http.Closed, fcgi.Cut) as error:
                self.outcomes[f"lost: {error!r}"] += 1
            finally:
                sock.close()

    def wait(self) -> Counter[str]:
        """How it went for everybody, once all have been refused."""
        for thread in self._threads:
            thread.join()
        return self.outcomes


def ask_http(sock: socket.socket) -> bool:
    """One POST. The body comes back only if the application has run."""
    sock.sendall(http.head("POST", "/slow/5", b"order", (("Connection", "close"),)) + b"order")
    data = b""
    while part := sock.recv(65536):
        data += part
    if not data:
        raise http.Closed("no answer")
    return data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"hello\n")


def ask_fastcgi(sock: socket.socket) -> bool:
    """The same over FastCGI."""
    variables = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/slow/5", "SCRIPT_NAME": "/slow/5", "CONTENT_LENGTH": "5"}
    return fcgi.request(sock, variables, b"order").stdout.endswith(b"hello\n")


def stopped_in_a_rush(server: Server, address: str, ask: Callable[[socket.socket], bool]) -> Counter[str]:
    """What became of everybody who came before, while and after the server was stopped."""
    rush = Rush(address, ask)
    eventually(lambda: rush.outcomes["answered"] > CLIENTS, "the rush is on")
    server.signal(signal.SIGTERM)
    outcomes = rush.wait()
    assert server.wait() == 0, server.everything()
    return outcomes


def lost(outcomes: Counter[str]) -> Counter[str]:
    """All but those answered, and those refused at connect."""
    return Counter({how: times for how, times in outcomes.items() if how not in ("answered", "refused")})


def options(*more: str) -> tuple[str, ...]:
    return ("apps:app", "--app-dir", str(APPS), "--workers", "1", *more)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("http_at", ["127.0.0.1:0", "[::1]:0", "unix"])
def test_a_stop_under_load_loses_nobody(serve: Servers, http_at: str, threads: str) -> None:
    """One slow worker, a full queue: all that got in are answered by the application, the others are refused."""
    server = serve(*options("--threads", threads), http=http_at)
    outcomes = stopped_in_a_rush(server, server.bound("http"), ask_http)
    assert not lost(outcomes), outcomes
    assert outcomes["refused"] == CLIENTS


@pytest.mark.parametrize("fastcgi_at", ["127.0.0.1:0", "unix"])
def test_a_stop_under_load_loses_nobody_over_fastcgi(serve: Servers, fastcgi_at: str) -> None:
    """The same with the protocol that cannot say `Connection: close`."""
    server = serve(*options(), http=False, fastcgi=fastcgi_at)
    outcomes = stopped_in_a_rush(server, server.bound("fastcgi"), ask_fastcgi)
    assert not lost(outcomes), outcomes


@root_only
@pytest.mark.parametrize("http_at", ["127.0.0.1:0", "[::1]:0"])
def test_a_stop_without_the_right_to_filter_loses_nobody_either(serve: Servers, http_at: str) -> None:
    """Without CAP_NET_ADMIN the listener asks for more hops than a SYN has left."""
    server = serve(*options(), http=http_at, prefix=WITHOUT_NET_ADMIN)
    outcomes = stopped_in_a_rush(server, server.bound("http"), ask_http)
    assert not lost(outcomes), outcomes


def test_an_overflowing_queue_is_emptied_as_well(serve: Servers) -> None:
    """With a short queue, handshakes wait for their last packet to be sent again: they are waited for."""
    server = serve(*options("--backlog", "4"), http="127.0.0.1:0")
    outcomes = stopped_in_a_rush(server, server.bound("http"), ask_http)
    assert not lost(outcomes), outcomes


# --- Kept connections ----------------------------------------------------------


def test_a_kept_connection_is_answered_once_more_with_a_close(serve: Servers) -> None:
    """Whoever asks within the grace hears that it was the last answer."""
    server = serve(*options(), http="127.0.0.1:0")
    with http.Connection(server.bound("http")) as kept:
        assert kept.request("GET", "/").status == 200
        server.signal(signal.SIGTERM)
        server.wait_log("Terminating ...")
        answer = kept.request("GET", "/")
        assert (answer.status, dict(answer.headers)["connection"]) == (200, "close")
        assert kept.closed()
    assert server.wait() == 0


def test_a_request_that_crosses_with_the_close_is_not_reset(serve: Servers) -> None:
    """The idle connection is half-closed: its client reads the end, not an error, and knows that it was not served."""
    server = serve(*options(), http="127.0.0.1:0", fastcgi="127.0.0.1:0")
    with http.Connection(server.bound("http")) as kept, connect(server.bound("fastcgi")) as front:
        assert kept.request("GET", "/").status == 200
        variables = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "SCRIPT_NAME": "/"}
        assert fcgi.request(front, variables, keep=True).status == "200 OK"
        server.signal(signal.SIGTERM)
        assert kept.closed()
        kept.send(http.head("POST", "/", b"order") + b"order")
        assert kept.closed()
        assert front.recv(1) == b""
        front.sendall(fcgi.message(variables, b"order", keep=True))
        assert front.recv(1) == b""
    assert server.wait() == 0


def test_a_first_request_may_be_late(serve: Servers) -> None:
    """The packet with it may have been dropped, and be sent again: longer is waited for it than for another request."""
    server = serve(*options(), http="127.0.0.1:0")
    with http.Connection(server.bound("http")) as kept, http.Connection(server.bound("http")) as fresh:
        assert kept.request("GET", "/").status == 200
        server.signal(signal.SIGTERM)
        assert kept.closed()
        answer = fresh.request("GET", "/")
        assert (answer.status, dict(answer.headers)["connection"]) == (200, "close")
    assert server.wait() == 0


# --- Nobody left to serve --------------------------------------------------------


def test_who_is_left_when_the_workers_were_cut_is_told_so(serve: Servers, folder: Path) -> None:
    """A second stop cuts the only worker: the clients behind it are answered 503, and named in the log."""
    server = serve(*options(), http="127.0.0.1:0", fastcgi="127.0.0.1:0")
    address, fastcgi = server.bound("http"), server.bound("fastcgi")
    busy = connect(address)
    busy.sendall(http.head("GET", f"/wait{folder}/never"))
    eventually((folder / "never.begun").exists, "the worker is busy")
    with http.Connection(address) as queued, connect(fastcgi) as front, http.Connection(address) as silent:
        queued.send(http.head("GET", "/queued"))
        variables = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/front", "SCRIPT_NAME": "/front"}
        front.sendall(fcgi.message(variables, keep=True))
        server.signal(signal.SIGTERM)
        server.wait_log("Terminating ...")
        server.signal(signal.SIGTERM)
        answer = queued.response()
        assert (answer.status, dict(answer.headers)["connection"]) == (503, "close")
        assert "retry-after" in dict(answer.headers)
        refused = fcgi.receive(front)
        assert (refused.status, refused.headers["retry-after"]) == ("503 Service Unavailable", "1")
        assert silent.response().status == 503
    assert server.wait() == 0
    assert server.log_lines('request "GET /queued" from 127.0.0.1 was not begun, 503')
    assert server.log_lines('request "GET /front" from 127.0.0.1 was not begun, 503')
    busy.close()


def test_connections_in_the_queue_wait_for_the_only_busy_worker(serve: Servers, folder: Path) -> None:
    """The master has emptied the queue at once; the worker serves them when its request is done."""
    server = serve(*options(), http="127.0.0.1:0")
    address = server.bound("http")
    busy = connect(address)
    busy.sendall(http.head("GET", f"/wait{folder}/end", headers=(("Connection", "close"),)))
    eventually((folder / "end.begun").exists, "the worker is busy")
    waiting = [http.Connection(address) for _ in range(20)]
    for connection in waiting:
        connection.send(http.head("GET", "/"))
    server.signal(signal.SIGTERM)
    server.wait_log("Terminating ...")
    (folder / "end").touch()
    assert [connection.response().status for connection in waiting] == [200] * 20
    for connection in waiting:
        connection.close()
    assert server.wait() == 0
    busy.close()


def test_a_stopped_unix_listener_leaves_no_path(serve: Servers) -> None:
    """The path goes first."""
    server = serve(*options(), http="unix")
    path = Path(server.bound("http").removeprefix("unix:"))
    assert path.exists()
    assert server.stop() == 0
    assert not path.exists()
