"""A steady load while the operator does what operators do. Nothing fails, and nothing is cut."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from support import fcgi, http
from support.lastcall import Server, Servers
from support.processes import connect

APPS = Path(__file__).parents[1] / "serve"
CLIENTS = 6


class Load:
    """Clients that ask one request after the other, over kept or new connections, until they are told to stop."""

    def __init__(self, server: Server) -> None:
        self.outcomes: Counter[str] = Counter()
        self._server = server
        self._over = threading.Event()
        asks = [self._http_kept, self._http_new, self._fastcgi_kept, self._fastcgi_new]
        self._threads = [threading.Thread(target=asks[number % len(asks)]) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _http_kept(self) -> None:
        connection = http.Connection(self._server.http_address)
        while not self._over.is_set():
            try:
                self.outcomes[str(connection.request("POST", "/pid", b"order").status)] += 1
            except (http.Closed, OSError) as error:
                self.outcomes[f"http, kept: {error!r}"] += 1
                connection = http.Connection(self._server.http_address)
        connection.close()

    def _http_new(self) -> None:
        while not self._over.is_set():
            try:
                self.outcomes[str(http.post(self._server.http_address, "/pid", b"order").status)] += 1
            except (http.Closed, OSError) as error:
                self.outcomes[f"http: {error!r}"] += 1

    def _fastcgi_kept(self) -> None:
        self._fastcgi(keep=True)

    def _fastcgi_new(self) -> None:
        self._fastcgi(keep=False)

    def _fastcgi(self, *, keep: bool) -> None:
        variables = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/pid", "SCRIPT_NAME": "/pid", "CONTENT_LENGTH": "5"}
        sock = connect(self._server.fastcgi_address)
        while not self._over.is_set():
            try:
                answer = fcgi.request(sock, variables, b"order", keep=keep)
                self.outcomes["200" if b"Status: 200" in answer.stdout else repr(answer)] += 1
            except (fcgi.Cut, OSError) as error:
                self.outcomes[f"fastcgi, keep={keep}: {error!r}"] += 1
                keep_now = False
            else:
                keep_now = keep
            if not keep_now:
                sock.close()
                sock = connect(self._server.fastcgi_address)
        sock.close()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_reloads_recycling_and_scaling_lose_nothing(serve: Servers, threads: str) -> None:
    """Reloads as fast as they finish, workers recycled every 20 requests, the pool scaled up and down meanwhile."""
    arguments = ("apps:app", "--app-dir", str(APPS), "--workers", "3", "--threads", threads, "--max-requests", "20")
    server = serve(*arguments, http=True, fastcgi=True)
    with Load(server) as load:
        for number in range(20):
            server.signal(signal.SIGTTIN if number % 4 == 0 else signal.SIGTTOU if number % 4 == 2 else signal.SIGCONT)
            assert server.command("reload", "--wait").returncode == 0, server.everything()
    assert set(load.outcomes) == {"200"}, load.outcomes
    assert load.outcomes["200"] > 200
    assert "was cut" not in server.log()
    assert "broke" not in server.log()
