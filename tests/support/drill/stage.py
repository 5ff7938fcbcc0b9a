"""The stage of a drill: a service with every way that leads to it, and what is needed to judge it afterwards."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from examples.gift.load import PATH
from examples.gift.orders import open_orders
from examples.gift.reconcile import ledger

from lastcall.tools.drill.engine import Plan, Request
from lastcall.tools.drill.judge import Mark
from lastcall.tools.drill.load import Load
from support.drill.fronts import ALL, Addresses, Front, Ways
from support.drill.judge import Ledgers, Verdict
from support.drill.operators import Operation
from support.gift import EXAMPLES, Platforms
from support.lastcall import Servers
from support.nginx import Nginx
from support.processes import ROOT, free_port

LIGHT: Final = "support.drill.apps:app"
GIFT: Final = "gift.app:app"
FRAIL: Final = "support.drill.frail:app"
ORDER: Final = Request(
    "POST", PATH, {"Content-Type": "application/json"}, '{"order": "{id}", "present": "rose", "user": "user-{client}"}'
)
"""One order of the gift app."""


class Stage:
    """A running service. `gift`: the gift app, with a platform and a store; else `support.drill.apps`.

    `app`: another one than this.
    """

    def __init__(
        self,
        serve: Servers,
        nginx: Nginx,
        platforms: Platforms,
        folder: Path,
        *arguments: str,
        fronts: Sequence[Front] = ALL,
        gift: bool = True,
        latency: str = "20ms",
        workers: int = 4,
        without: str = "",
        boot: str = "",
        app: str = "",
        addresses: Addresses | None = None,
        program: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.folder = folder
        self.workers = workers
        self.gift = gift
        self.boot = folder / "boot"
        self.boot.write_text(boot)
        self._store = f"sqlite:{folder}/orders.db"
        self._platform = platforms.process("--latency", latency, "--jitter", "5ms", "--no-idempotent") if gift else ""
        if addresses is None:
            tcp = [f"127.0.0.1:{free_port()}" for _ in range(2)]
            addresses = Addresses(tcp[0], f"unix:{folder}/http.sock", tcp[1], f"unix:{folder}/fcgi.sock")
        self.addresses = addresses
        self.server = serve(
            app or (GIFT if gift else LIGHT), "--app-dir", str(EXAMPLES if gift else ROOT / "tests"),
            "--workers", str(workers), "--http", addresses.http_unix, "--fastcgi", addresses.fastcgi_unix, *arguments,
            http=addresses.http_tcp, fastcgi=addresses.fastcgi_tcp, env=self._env(),
            program=program or lastcall(without), pass_fds=pass_fds,
        )  # fmt: skip
        self.ways = Ways(fronts, addresses, nginx)

    def _env(self) -> Mapping[str, str]:
        tests = str(ROOT / "tests")
        return {
            "GIFT_PLATFORM": self._platform,
            "GIFT_STORE": self._store,
            "DRILL_BOOT": str(self.boot),
            "PYTHONPATH": f"{ROOT / 'src'}:{tests}:{ROOT}",
        }

    def load(
        self, each: int = 1, pace: float = 0.05, target: str = "/", requests: int = 0,
        fronts: Sequence[Front] | None = None, timeout: float = 30.0,
    ) -> Load:  # fmt: skip
        """A load of so many clients for each front, on its way. `requests`: how many each of them asks."""
        chosen = None if fronts is None else {str(front) for front in fronts}
        clients = [client for client in self.ways.clients(each) if chosen is None or client.front in chosen]
        request = ORDER if self.gift else Request(target=target)
        plan = Plan(clients, request, pace, requests=requests, timeout=timeout)
        return Load(plan, self.folder)

    def judge(self, operation: str, load: Load, marks: Sequence[Mark]) -> Verdict:
        """What the clients of a load that has ended have seen, against the ledgers."""
        logged = {front: len(errors) for front, errors in self.ways.logged().items()}
        return Verdict(operation, tuple(load.seen()), tuple(marks), self._ledgers() if self.gift else None, logged)

    def _ledgers(self) -> Ledgers:
        with closing(open_orders(self._store)) as orders:
            return Ledgers(ledger(self._platform), tuple(orders.ids()))


def lastcall(without: str) -> Sequence[str]:
    """How lastcall is started: as it is, or without one of its mechanisms."""
    return (sys.executable, "-m", "support.drill.without", without) if without else (sys.executable, "-m", "lastcall")


def rehearse(
    stage: Stage, load: Load, operation: Operation, times: int, between: int, name: str, lost: int | None = None
) -> Verdict:
    """Repeat an operation under a load, with so many requests between two, and judge.

    `lost`: end as soon as so many requests have been lost, for a drill that is to find a loss.
    """
    marks = []
    load.more(between)
    for _ in range(times):
        began = time.monotonic()
        operation(stage.server, load)
        marks.append(Mark(began, time.monotonic()))
        load.more(between)
        if lost is not None and load.lost() >= lost:
            break
    load.stop()
    return stage.judge(name, load, marks)
