"""Stop and start as an init script does them, with a holder in between: nobody notices. docs/STOP.md."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import pytest

from lastcall.tools.drill.processes import session
from support import fcgi, http
from support.lastcall import Server
from support.processes import accepting, connect, eventually, free_port

APPS = Path(__file__).parent
VARIABLES = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/slow/5", "SCRIPT_NAME": "/slow/5", "CONTENT_LENGTH": "5"}

Made = TypeVar("Made")


class Service:
    """One service as its init script knows it: a folder, addresses, a command line; many starts and stops."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http = f"127.0.0.1:{free_port()}"
        self.fastcgi = f"unix:{folder}/f.sock"
        self.server: Server | None = None
        self.holders: set[int] = set()

    def start(self, *more: str, hold: str = "20s", app: str = "apps:app", wait: bool = True) -> Server:
        arguments = (app, "--app-dir", str(APPS), "--hold", hold, *more)
        self.server = Server(self.folder, *arguments, http=self.http, fastcgi=self.fastcgi)
        times = self.server.log().count("ready to handle connections")
        if wait:
            self.server.wait_log("ready to handle connections", times + 1)
        return self.server

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal, and wait for the master's end."""
        assert self.server is not None
        self.server.signal(number)
        assert self.server.wait() == 0, self.server.everything()
        self.holder()

    def holder(self) -> int:
        """The pid of the last holder, or 0."""
        assert self.server is not None
        found = [int(pid) for pid in re.findall(r"holding \d+ listeners? for \S+ s, pid (\d+)", self.server.log())]
        self.holders.update(found)
        return found[-1] if found else 0

    def held(self) -> bool:
        """Whether a holder lives."""
        self.holder()
        return any(session(pid) for pid in self.holders)

    def end(self) -> None:
        if self.server is not None:
            self.holder()
            self.server.kill()
        for pid in self.holders:
            for member in session(pid):
                os.kill(member, signal.SIGKILL)


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """A service that has not been started yet; in the end nobody of it is left."""
    made = Service(folder)
    yield made
    made.end()


class Load:
    """Clients that ask one request after the other, over kept and new connections, HTTP and FastCGI."""

    def __init__(self, service: Service, each: int = 2) -> None:
        self.outcomes: Counter[str] = Counter()
        self._service = service
        self._over = threading.Event()
        asks = (self._http_kept, self._http_new, self._fastcgi_kept, self._fastcgi_new)
        self._threads = [threading.Thread(target=ask) for ask in asks * each]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _count(self, how: str) -> None:
        self.outcomes[how] += 1

    def _again(self, make: Callable[[], Made]) -> Made:
        """Connect, however often that fails; each failure counts."""
        while True:
            try:
                return make()
            except OSError as error:
                self._count(repr(error))

    def _http_kept(self) -> None:
        connection = http.Connection(self._service.http)
        while not self._over.is_set():
            try:
                answer = connection.request("POST", "/slow/5", b"order")
                self._count("200" if answer.status == 200 else f"http, kept: {answer.status}")
            except (http.Closed, OSError) as error:
                self._count(f"http, kept: {error!r}")
                connection.close()
                connection = self._again(lambda: http.Connection(self._service.http))
        connection.close()

    def _http_new(self) -> None:
        while not self._over.is_set():
            try:
                self._count(str(http.post(self._service.http, "/slow/5", b"order").status))
            except (http.Closed, OSError) as error:
                self._count(f"http: {error!r}")

    def _fastcgi_kept(self) -> None:
        sock = connect(self._service.fastcgi)
        while not self._over.is_set():
            try:
                self._count(fcgi.request(sock, VARIABLES, b"order", keep=True).status)
            except (fcgi.Cut, OSError) as error:
                self._count(f"fastcgi, kept: {error!r}")
                sock.close()
                sock = self._again(lambda: connect(self._service.fastcgi))
        sock.close()

    def _fastcgi_new(self) -> None:
        while not self._over.is_set():
            try:
                with connect(self._service.fastcgi) as sock:
                    self._count(fcgi.request(sock, VARIABLES, b"order").status)
            except (fcgi.Cut, OSError) as error:
                self._count(f"fastcgi: {error!r}")


@pytest.mark.parametrize("threads", ["1", "3"])
def test_stop_and_start_under_load_lose_nothing(service: Service, threads: str) -> None:
    """Five restarts by an init script, with kept and new connections on both protocols: not one error."""
    service.start("--threads", threads)
    with Load(service) as load:
        for number in range(5):
            before = sum(load.outcomes.values())
            eventually(lambda: sum(load.outcomes.values()) > before + 50, "the load is on")  # noqa: B023
            service.stop(signal.SIGQUIT if number % 2 else signal.SIGTERM)
            service.start("--threads", threads)
    assert set(load.outcomes) == {"200", "200 OK"}, f"{load.outcomes}\n{service.server and service.server.everything()}"
    assert service.server is not None
    assert "using inherited socket fd=" in service.server.log()
    eventually(lambda: not service.held(), "the holders have ended")


def test_without_a_hold_the_same_load_sees_errors(service: Service) -> None:
    """What the holder is for: kept connections are closed, new ones refused."""
    service.start(hold="0")
    with Load(service) as load:
        eventually(lambda: sum(load.outcomes.values()) > 50, "the load is on")
        service.stop()
        service.start(hold="0")
    refused = ("ConnectionRefusedError", "FileNotFoundError")  # TCP; UNIX, whose path is gone
    assert any(error in how for how in load.outcomes for error in refused), load.outcomes
    assert not service.holders


def test_a_kept_connection_and_a_queued_one_wait_for_the_next_start(service: Service) -> None:
    """The one lies with the holder, the other in the kernel's queue; both are served by the next master."""
    service.start()
    with http.Connection(service.http) as kept, http.Connection(service.http) as half:
        assert kept.request("GET", "/").status == 200
        half.send(b"GET / HTTP/1.1\r\nHo")
        service.stop()
        holder = service.holder()
        assert session(holder) == [holder]
        with http.Connection(service.http) as queued:
            queued.send(http.head("GET", "/"))
            kept.send(http.head("GET", "/"))
            service.start()
            assert queued.response().status == 200
            assert kept.response().status == 200
            half.send(b"st: test\r\n\r\n")
            assert half.response().status == 200
    eventually(lambda: not session(holder), "the holder has ended")
    assert service.server is not None
    assert service.server.log_lines(f"holding no more, pid {holder}: a new master serves")
    assert not (service.folder / "run" / "hold.sock").exists()


def test_meanwhile_status_says_who_holds_and_stop_ends_it(service: Service) -> None:
    """Nothing serves; the listeners are held; `lastcall stop` closes them."""
    server = service.start()
    service.stop()
    status = server.command("status")
    assert status.returncode == 69
    assert f"nothing serves; held by pid {service.holder()}, for 1" in status.stderr
    assert f"http {service.http}" in status.stderr
    assert server.command("stop", "--wait").returncode == 0
    eventually(lambda: not session(service.holder()), "the holder has ended")
    assert not accepting(service.http)
    assert not Path(service.fastcgi.removeprefix("unix:")).exists()
    assert server.command("status").returncode == 69


def test_a_hold_that_expires_answers_whoever_waits(service: Service) -> None:
    """503 for the queued ones and the kept ones, on both protocols; each is named."""
    service.start(hold="500ms")
    with http.Connection(service.http) as kept:
        assert kept.request("GET", "/").status == 200
        service.stop()
        with http.Connection(service.http) as queued, connect(service.fastcgi) as front:
            queued.send(http.head("GET", "/queued"))
            front.sendall(fcgi.message(VARIABLES, b"order"))
            kept.send(http.head("GET", "/kept"))
            for connection in (queued, kept):
                answer = connection.response()
                assert (answer.status, dict(answer.headers)["connection"]) == (503, "close")
            assert fcgi.receive(front).status == "503 Service Unavailable"
    eventually(lambda: not session(service.holder()), "the holder has ended")
    assert not accepting(service.http)
    assert not Path(service.fastcgi.removeprefix("unix:")).exists()
    assert service.server is not None
    assert service.server.log_lines("nobody has claimed it within 0.5 seconds")
    for request in ("GET /queued", "GET /kept", "POST /slow/5"):
        assert service.server.log_lines(f'request "{request}" from \\S+ was not begun, 503')


def test_sigterm_ends_the_holder_at_once(service: Service) -> None:
    """As if its time were up; the log says who sent it."""
    service.start()
    service.stop()
    with http.Connection(service.http) as queued:
        queued.send(http.head("GET", "/"))
        os.kill(service.holder(), signal.SIGTERM)
        assert queued.response().status == 503
    eventually(lambda: not session(service.holder()), "the holder has ended")
    assert service.server is not None
    assert service.server.log_lines(f"stopped by pid {os.getpid()} ")


@pytest.mark.parametrize("how", ["SIGINT", "--final", "second"])
def test_stops_that_leave_nothing_behind(service: Service, how: str) -> None:
    """Ctrl-C, `lastcall stop --final`, and a second stop."""
    server = service.start()
    busy = connect(service.http)
    busy.sendall(http.head("GET", f"/wait{service.folder}/end"))
    eventually((service.folder / "end.begun").exists, "a request is under way")
    match how:
        case "SIGINT":
            server.signal(signal.SIGINT)
        case "--final":
            assert server.command("stop", "--final").returncode == 0
        case _:
            server.signal(signal.SIGTERM)
            server.wait_log("holding 2 listeners")
            server.signal(signal.SIGTERM)
    server.wait_log("Terminating ...")
    (service.folder / "end").touch()
    assert server.wait() == 0
    eventually(lambda: not accepting(service.http), "nobody listens")
    eventually(lambda: not service.held(), "nobody holds")
    busy.close()


def test_a_start_that_fails_leaves_the_holder_holding(service: Service) -> None:
    """An application that does not load ends with 70; the next, good one serves who has waited all the time."""
    service.start()
    service.stop()
    holder = service.holder()
    with http.Connection(service.http) as queued:
        queued.send(http.head("GET", "/"))
        broken = service.start(app="apps:missing", wait=False)
        assert broken.wait() == 70
        assert session(holder) == [holder]
        service.start()
        assert queued.response().status == 200
    eventually(lambda: not session(holder), "the holder has ended")


def test_another_instance_at_the_same_address_hears_of_holders(service: Service, folder: Path) -> None:
    """With another run directory it cannot claim; the error says who may have the address."""
    service.start()
    service.stop()
    other = Server(folder / "other", "apps:app", "--app-dir", str(APPS), http=service.http)
    try:
        assert other.wait() == 78
        assert "address already in use" in other.process.text()
        assert "lastcall-holder" in other.process.text()
        assert Path(f"/proc/{service.holder()}/comm").read_text() == "lastcall-holder\n"
    finally:
        other.kill()


def test_a_listener_that_the_next_start_does_not_want_ends(service: Service) -> None:
    """Its queue is answered with 503 when the new master serves."""
    service.start()
    service.stop()
    with connect(service.fastcgi) as front:
        front.sendall(fcgi.message(VARIABLES, b"order"))
        path = service.fastcgi.removeprefix("unix:")
        service.fastcgi = f"unix:{service.folder}/other.sock"
        service.start()
        assert fcgi.receive(front).status == "503 Service Unavailable"
    eventually(lambda: not Path(path).exists(), "the old path is gone")
    assert http.get(service.http).status == 200


def test_many_kept_connections_outgrow_the_inbox_and_survive(service: Service) -> None:
    """More than the inbox's kernel buffer holds: they wait with the holder and come back."""
    service.start("--workers", "1")
    kept = [http.Connection(service.http) for _ in range(600)]
    for connection in kept:
        assert connection.request("GET", "/").status == 200
    service.stop()
    service.start("--workers", "1")
    for connection in kept:
        assert connection.request("GET", "/").status == 200
        connection.close()


def test_a_start_that_comes_while_the_holder_closes_waits_for_it(service: Service) -> None:
    """Too late to claim, it does not find the address in use: it listens when the holder has closed."""
    service.start()
    service.stop()
    holder = service.holder()
    os.kill(holder, signal.SIGTERM)
    service.start()
    assert http.get(service.http).status == 200
    eventually(lambda: not session(holder), "the holder has ended")
    assert http.get(service.http).status == 200
