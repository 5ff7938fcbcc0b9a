"""Under systemd: sockets that it has opened, and sockets that it keeps between two starts. docs/SERVICE.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Server
from support.processes import connect, eventually, free_port
from support.systemd import Manager

APPS = Path(__file__).parent
VARIABLES = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "SCRIPT_NAME": "/"}


class Unit:
    """A service of the manager's: started and stopped, always in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manager = Manager(folder)
        self.server: Server | None = None

    def start(self, *more: str, listen: str | bool = False, fastcgi: str | bool = False, room: int = 0) -> Server:
        arguments = ("apps:app", "--app-dir", str(APPS), *more)
        server = self.server = Server(
            self.folder, *arguments, http=listen, fastcgi=fastcgi, env=self.manager.env(room=room),
            prefix=self.manager.before,
        )  # fmt: skip
        self.manager.give()
        times = server.log().count("ready to handle connections")
        server.wait_log("ready to handle connections", times + 1)
        self.manager.hear()
        return server

    def stop(self) -> None:
        assert self.server is not None
        assert self.server.stop() == 0, self.server.everything()
        self.manager.hear()


@pytest.fixture
def unit(folder: Path) -> Iterator[Unit]:
    """A service that has not been started yet."""
    made = Unit(folder)
    yield made
    if made.server is not None:
        made.server.kill()
    made.manager.close()


def test_sockets_that_say_what_they_are_for_need_no_configuration(unit: Unit) -> None:
    """FileDescriptorName=http and fastcgi: both are served, and the default address is not opened."""
    at, front = unit.manager.listen("http"), unit.manager.listen("fastcgi")
    server = unit.start()
    assert http.get(at).body == b"hello\n"
    with connect(front) as sock:
        assert fcgi.request(sock, VARIABLES).body == b"hello\n"
    assert sorted(server.status().listen) == sorted([f"http {at}", f"fastcgi {front}"])
    assert server.log().count("using inherited socket fd=") == 2
    assert server.command("reload", "--wait").returncode == 0
    assert sorted(server.status().listen) == sorted([f"http {at}", f"fastcgi {front}"])


def test_a_socket_is_matched_to_the_address_that_asks_for_it(unit: Unit) -> None:
    """Whatever it is called; what nobody asks for is named, and left alone."""
    at, other = unit.manager.listen("gift.socket"), unit.manager.listen("other.socket")
    server = unit.start(listen=at)
    assert http.get(at).body == b"hello\n"
    assert server.log_lines(f"systemd listens at {other} for us, which no --http and no --fastcgi asks for")


def test_the_application_does_not_see_what_was_meant_for_us(unit: Unit) -> None:
    """LISTEN_* and FDSTORE are taken out of the environment, as NOTIFY_SOCKET is."""
    unit.manager.listen("http")
    server = unit.start(room=16)
    at = server.bound("http")
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "FDSTORE", "NOTIFY_SOCKET"):
        assert http.get(at, f"/env/{name}").body == b"(none)\n"


def test_descriptors_for_another_process_are_not_ours(unit: Unit, folder: Path) -> None:
    """LISTEN_PID names somebody else: the variables are dropped, and the default is opened."""
    port = free_port()
    env = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
    server = Server(folder / "other", "apps:app", "--app-dir", str(APPS), http=f"127.0.0.1:{port}", env=env)
    try:
        server.wait_ready()
        assert http.get(f"127.0.0.1:{port}").body == b"hello\n"
        assert "inherited" not in server.log()
    finally:
        server.kill()


def test_an_activated_socket_outlives_every_stop(unit: Unit) -> None:
    """It is not shut, frozen or emptied: who comes between two starts waits in its queue."""
    at = unit.manager.listen("http")
    unit.start()
    for _ in range(3):
        with http.Connection(at) as kept:
            assert kept.request("GET", "/").status == 200
            unit.stop()
        with http.Connection(at) as queued:
            queued.send(http.head("GET", "/"))
            unit.start()
            assert queued.response().status == 200


@pytest.mark.parametrize("threads", ["1", "3"])
def test_what_is_stored_comes_back_at_the_next_start(unit: Unit, threads: str) -> None:
    """Our own listeners, and the inbox with the kept connections: nobody notices that there was a stop."""
    at, front = f"127.0.0.1:{free_port()}", f"unix:{unit.folder}/f.sock"
    unit.start("--threads", threads, listen=at, fastcgi=front, room=16)
    assert sorted(unit.manager.kept) == [
        "lastcall.fastcgi.1", "lastcall.http.0", "lastcall.inbox.in", "lastcall.inbox.out",
    ]  # fmt: skip
    with http.Connection(at) as kept, connect(front) as kept_front:
        for _ in range(3):
            assert kept.request("GET", "/").status == 200
            assert fcgi.request(kept_front, VARIABLES, keep=True).status == "200 OK"
            unit.stop()
            with http.Connection(at) as queued, connect(front) as queued_front:
                queued.send(http.head("GET", "/"))
                queued_front.sendall(fcgi.message(VARIABLES))
                unit.start("--threads", threads, listen=at, fastcgi=front, room=16)
                assert queued.response().status == 200
                assert fcgi.receive(queued_front).status == "200 OK"
    assert len(unit.manager.kept) == 4
    assert all(len(fds) == 1 for fds in unit.manager.kept.values())


def test_an_old_systemd_is_believed_when_hold_says_so(unit: Unit) -> None:
    """Before 254 it does not say whether it keeps anything: `hold` does, and no process of ours holds."""
    at = f"127.0.0.1:{free_port()}"
    server = unit.start("--hold", "10s", listen=at)
    unit.stop()
    assert "holding" not in server.log()
    with http.Connection(at) as queued:
        queued.send(http.head("GET", "/"))
        unit.start("--hold", "10s", listen=at)
        assert queued.response().status == 200


def test_without_a_store_a_stop_is_final(unit: Unit) -> None:
    """FileDescriptorStoreMax is not set: what systemd was sent is of no use, and is taken back."""
    at = f"127.0.0.1:{free_port()}"
    unit.start(listen=at)
    unit.stop()
    assert not unit.manager.kept
    with pytest.raises(ConnectionRefusedError):
        connect(at)


def test_a_reload_stores_what_is_new_and_removes_what_is_gone(unit: Unit) -> None:
    """The store has what a next start would need."""
    first, second = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = unit.folder / "lastcall.toml"
    config.write_text(f'http = ["{first}"]\n')
    server = unit.start("--config", str(config), room=16)
    config.write_text(f'http = ["{second}"]\n')
    assert server.command("reload", "--wait").returncode == 0

    def names() -> list[str]:
        unit.manager.hear()
        return sorted(name for name in unit.manager.kept if "inbox" not in name)

    eventually(lambda: names() == ["lastcall.http.1"], f"only the new listener is kept: {names()}")
    assert http.get(second).status == 200


def test_a_stop_by_sigint_is_final_and_empties_the_store(unit: Unit) -> None:
    """Somebody at a terminal means it."""
    at = f"127.0.0.1:{free_port()}"
    server = unit.start(listen=at, room=16)
    assert server.command("stop", "--final", "--wait").returncode == 0
    assert server.wait() == 0
    unit.manager.hear()
    assert not unit.manager.kept
    with pytest.raises(ConnectionRefusedError):
        connect(at)


def test_more_kept_connections_than_the_inbox_takes_are_closed_in_order(unit: Unit) -> None:
    """Nobody empties a stored inbox before the next start: the stop does not wait for the drain's deadline."""
    at = f"127.0.0.1:{free_port()}"
    unit.start("--workers", "1", listen=at, room=16)
    kept = [http.Connection(at) for _ in range(300)]
    for connection in kept:
        assert connection.request("GET", "/").status == 200
    unit.stop()
    unit.start("--workers", "1", listen=at, room=16)
    for connection in kept:
        assert connection.request("GET", "/").status == 200
        connection.close()


def test_a_descriptor_that_is_no_socket_is_named_and_closed(unit: Unit, tmp_path: Path) -> None:
    """Somebody has stored a file under this unit."""
    unit.manager.kept["notes"] = [os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)]
    server = unit.start(listen="127.0.0.1:0")
    assert server.log_lines(r"systemd has handed us notes \(fd 3\), which is no socket")
