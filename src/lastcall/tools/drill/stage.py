"""What a run happens on: a target with its ledgers behind it and, where that was asked for, nginx before it."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from lastcall.tools.drill import ledgers
from lastcall.tools.drill.engine import Client, Request
from lastcall.tools.drill.judge import Books
from lastcall.tools.drill.ledgers import Hold
from lastcall.tools.drill.nginx import Nginx
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.results import Settings
from lastcall.tools.drill.server import Done, Server, free_port
from lastcall.tools.drill.steps import Step
from lastcall.tools.drill.strategies import TITLES, Strategy
from lastcall.tools.drill.targets import HOLD_S, MAX_REQUESTS, Place, Target

WORKERS: Final = 8
"""As many requests as a server of sync workers has at once: twice what the default load keeps in flight."""
RUN_S_MAX: Final = 600.0
"""Seconds that a run may take."""
SLOW_CLIENT_S: Final = 1.0
"""Seconds that a slow client takes to send a request."""


class Stage(Protocol):
    """Where a run happens. `open` it, `operate`, `close` it whatever has happened."""

    name: str
    title: str
    protocol: str
    settings: dict[str, str]
    strategy: str
    strategy_title: str
    path: Way
    seconds: float
    """A load ends by itself after so many, whatever has become of the drill."""
    most: int
    """Requests that it may send; 0: as many as there is time for."""

    def open(self) -> None:
        """Start all that belongs to it; returns when it serves. Raises Failed."""

    def close(self) -> None:
        """End all that was started."""

    def operate(self, hold: Hold | None = None) -> Done:
        """The strategy, once; at the worker that is inside this request, where it is at one. Raises Failed."""

    def workers(self) -> set[int]:
        """The pids of the target's workers; none where they are not known."""

    def client(self, name: str) -> Client:
        """A client that goes its way."""

    def request(self) -> Request:
        """What it asks."""

    def books(self) -> Books | None:
        """Both ledgers; None where nobody has shown them to us."""

    def hold(self, order: str, step: Step) -> Hold | None:
        """Hold a request at one of the application's steps; None where it has none that we know of."""

    def errors(self) -> list[tuple[float, str, str]]:
        """What nginx has logged."""


class Builtin:
    """One of the targets that we know, with the gift service."""

    seconds, most = RUN_S_MAX, 0

    def __init__(self, target: Target, strategy: Strategy, path: Way, settings: Settings, folder: Path) -> None:
        self.name = target.name
        self.title = target.title()
        self.protocol = target.protocol
        self.strategy = str(strategy)
        self.strategy_title = TITLES[strategy]
        self.path = path
        self._way = target.ways[strategy]
        self._fastcgi = target.fastcgi and path is Way.DIRECT
        self._params = dict(target.params)
        self._keep = settings.keep and (target.keeps or path is not Way.DIRECT)
        self._body = settings.body
        dice = random.Random(settings.seed)  # noqa: S311 (which worker is killed)
        recycled = strategy is Strategy.RECYCLE
        self.settings = {**target.settings, "workers": str(WORKERS)}
        if recycled:
            self.settings["requests of a worker"] = str(MAX_REQUESTS)
        if target.kind == "lastcall" and strategy is not Strategy.STOP:
            self.settings["hold"] = f"{HOLD_S}s"
        place = Place(
            folder, f"127.0.0.1:{free_port()}", WORKERS, MAX_REQUESTS if recycled else 0,
            last=strategy is Strategy.STOP,
        )  # fmt: skip
        self._ledgers = ledgers.Ledgers(settings.work)
        self._server = Server(target, place, {"DRILL_LEDGERS": self._ledgers.url}, dice)
        self._nginx: Nginx | None = None
        self._address = place.address
        if path is not Way.DIRECT:
            self._address = f"127.0.0.1:{free_port()}"
            self._nginx = Nginx(
                folder, self._address, place.address,
                fastcgi=target.fastcgi, keep=path is Way.NGINX_KEPT, params=target.params,
            )  # fmt: skip
        self._stack = ExitStack()

    def open(self) -> None:
        """Ledgers, server, nginx."""
        self._stack.enter_context(self._ledgers)
        self._stack.callback(self._server.close)
        self._server.start()
        if self._nginx is not None:
            self._stack.callback(self._nginx.close)
            self._nginx.start()

    def close(self) -> None:
        """In the opposite order."""
        self._stack.close()

    def operate(self, hold: Hold | None = None) -> Done:
        """By the target's own way."""
        return self._server.operate(self._way, hold.port if hold is not None else self._ledgers.caller())

    def workers(self) -> set[int]:
        """Those that there are."""
        return self._server.workers()

    def client(self, name: str) -> Client:
        """To the target, or to nginx."""
        return Client(name, self._address, fastcgi=self._fastcgi, keep=self._keep)

    def request(self) -> Request:
        """An order, with its id where nginx logs it."""
        order = {"order": "{id}", "filling": "x" * self._body}
        return Request(
            "POST", "/send?id={id}", {"Content-Type": "application/json"}, json.dumps(order), self._params
        )  # fmt: skip

    def books(self) -> Books | None:
        """Ours."""
        return self._ledgers.books()

    def hold(self, order: str, step: Step) -> Hold | None:
        """In the ledgers."""
        return self._ledgers.hold(order, step)

    def errors(self) -> list[tuple[float, str, str]]:
        """Of our nginx, where there is one."""
        return self._nginx.errors() if self._nginx is not None else []
