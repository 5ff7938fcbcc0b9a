"""A reload takes a listener out of the configuration: nobody who has reached it is lost."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from support import http
from support.lastcall import Server, Servers
from support.processes import eventually, free_port

REFUSED = ("ConnectionRefusedError", "FileNotFoundError")


class Callers:
    """Clients that connect anew for each request, until they are refused."""

    def __init__(self, address: str, count: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._address = address
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self) -> None:
        while True:
            try:
                self.outcomes[str(http.get(self._address, "/slow/3").status)] += 1
            except (http.Closed, OSError) as error:
                self.outcomes[type(error).__name__] += 1
                if type(error).__name__ in REFUSED:
                    return

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def configure(code: Path, *addresses: str) -> Path:
    config = code / "lastcall.toml"
    listed = ", ".join(f'"{address}"' for address in addresses)
    config.write_text(f'app = "shop:app"\napp_dir = "{code}"\nworkers = 2\nhttp = [{listed}]\n')
    return config


def start(serve: Servers, code: Path, *addresses: str) -> Server:
    return serve("-c", str(configure(code, *addresses)), http=False)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_listener_that_is_removed_is_closed_to_new_clients_only(serve: Servers, code: Path, kind: str) -> None:
    """With a queue in front of it: all who are in it are served, whoever comes later is refused."""
    stays = f"127.0.0.1:{free_port()}"
    goes = f"127.0.0.1:{free_port()}" if kind == "tcp" else f"unix:{code}/goes.sock"
    server = start(serve, code, stays, goes)
    callers = Callers(goes, 24)
    eventually(lambda: callers.outcomes["200"] > 50, "the load is on")
    configure(code, stays)
    assert server.command("reload", "--wait").returncode == 0
    callers.join()
    assert set(callers.outcomes) - {"200"} <= set(REFUSED), callers.outcomes
    assert http.get(stays).status == 200
    assert "was cut" not in server.log()


def test_its_kept_connections_live_on(serve: Servers, code: Path) -> None:
    """Through this reload, the next one, and another image of the master."""
    stays, goes = (f"127.0.0.1:{free_port()}" for _ in range(2))
    server = start(serve, code, stays, goes)
    with http.Connection(goes) as kept:
        seen = {kept.request("GET", "/pid").body}
        configure(code, stays)
        for command in ("reload", "reload", "restart", "reload"):
            assert server.command(command, "--wait").returncode == 0
            seen.add(kept.request("GET", "/pid").body)
    assert len(seen) == 5


def test_an_address_that_comes_back_is_opened_anew(serve: Servers, code: Path) -> None:
    """Removed, and wanted again."""
    stays, goes = (f"127.0.0.1:{free_port()}" for _ in range(2))
    server = start(serve, code, stays, goes)
    configure(code, stays)
    assert server.command("reload", "--wait").returncode == 0
    eventually(lambda: server.status().listen == [f"http {stays}"], "it is gone")
    configure(code, stays, goes)
    eventually(lambda: server.command("reload", "--wait").returncode == 0, "it is there again")
    assert http.get(goes).status == 200
