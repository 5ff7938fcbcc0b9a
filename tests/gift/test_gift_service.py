"""The main job: the gift service behind a real nginx, with a real MongoDB, operated by signals while orders flow."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from examples.gift import repair
from examples.gift.load import Load
from examples.gift.orders import open_orders
from examples.gift.platform import Manners, Present
from examples.gift.reconcile import Findings, ledger, reconcile

from lastcall.core.cuts import Cut, Kind, Step
from lastcall.tools.drill.processes import session
from support import http
from support.gift import EXAMPLES, Platforms
from support.lastcall import Server, Servers
from support.mongod import Mongod
from support.nginx import Nginx
from support.processes import ROOT, Process, eventually

FLOWS_S = 60.0
"""Within which orders that flow have all been answered, on a slow machine too."""


def gift_service(serve: Servers, platform: str, store: str, database: str, *arguments: str) -> Server:
    """The gift service, in four workers, over HTTP and FastCGI."""
    env = {"GIFT_PLATFORM": platform, "GIFT_STORE": store, "GIFT_DATABASE": database}
    return serve("gift.app:app", "--app-dir", str(EXAMPLES), "--workers", "4", *arguments, fastcgi="unix", env=env)


@pytest.mark.xdist_group("mongod")
def test_reloads_scaling_and_a_stop_by_signals_lose_no_order(
    serve: Servers, nginx: Nginx, mongod: Mongod, platforms: Platforms
) -> None:
    """Over HTTP and FastCGI, kept connections and new ones: no error anywhere, and the ledgers agree."""
    platform = platforms.process("--latency", "20ms", "--jitter", "10ms")
    server = gift_service(serve, platform, mongod.uri, "test_gift_service")
    sites = [
        nginx.http(server.http_address),
        nginx.http(server.http_address, keepalive=False),
        nginx.fastcgi(server.fastcgi_address),
        nginx.fastcgi(server.fastcgi_address, keep_conn=False),
    ]
    nginx.start()
    load = Load([f"http://{site}" for site in sites], orders=600, connections=8)
    load.start()
    assert load.answered(80, FLOWS_S)
    server.signal(signal.SIGHUP)
    server.wait_log("reload finished")
    server.signal(signal.SIGTTIN)
    assert load.answered(280, FLOWS_S)
    server.signal(signal.SIGUSR2)
    server.wait_log("reload finished", times=2)
    server.signal(signal.SIGTTOU)
    server.signal(signal.SIGUSR1)
    assert load.last_ones(2, FLOWS_S)
    code = server.stop()
    assert load.answered(600, FLOWS_S)
    with closing(open_orders(mongod.uri, "test_gift_service")) as orders:
        written = list(orders.ids())
    findings = reconcile(ledger(platform), written, load.seen)
    assert findings == Findings(), server.everything()
    assert len(written) == 600
    assert nginx.errors() == []
    assert code == 0
    assert server.log_lines("Terminating ...")
    assert server.log_lines(r"SIGTERM from pid \d+")


def test_a_request_killed_between_its_two_actions_is_found(serve: Servers, folder: Path, platforms: Platforms) -> None:
    """The incident itself, by SIGKILL: the present is sent, the order is not, and the reconciliation names it."""
    platform = platforms.process("--latency", "2s")
    store = f"sqlite:{folder}/orders.db"
    server = gift_service(serve, platform, store, "")
    load = Load([f"http://{server.http_address}"], orders=1, connections=1)
    load.start()
    eventually(lambda: ledger(platform), "the present is sent")
    server.kill()
    assert load.answered(1, FLOWS_S)
    with closing(open_orders(store)) as orders:
        findings = reconcile(ledger(platform), orders.ids(), load.seen)
    assert findings == Findings(half_done=("order-000000",))


def test_a_request_killed_between_its_two_actions_is_repaired(
    serve: Servers, folder: Path, platforms: Platforms
) -> None:
    """The incident again, with `on_cut`: the order is written, and the client has been told that it must ask."""
    platform = platforms.process("--latency", "4s")
    store = f"sqlite:{folder}/orders.db"
    server = gift_service(serve, platform, store, "", "--on-cut", "gift.repair:complete")
    load = Load([f"http://{server.http_address}"], orders=1, connections=1)
    load.start()
    (worker,) = eventually(lambda: _inside(server), "the request is inside")
    os.kill(worker, signal.SIGKILL)  # before the present is sent: the platform is already at it
    assert load.answered(1, FLOWS_S)
    server.wait_log("on_cut has completed")
    assert "at try 1: it exited with code 70" in server.log()
    assert "the platform may still be sending it" in server.log()
    with closing(open_orders(store)) as orders:
        findings = reconcile(ledger(platform), orders.ids(), load.seen)
    assert findings == Findings(done_not_told=("order-000000",))
    assert server.stop() == 0


def test_an_order_that_was_not_sent_needs_no_repair(serve: Servers, folder: Path, platforms: Platforms) -> None:
    """The time in which the platform may still send it is over; and a request without an order has sent nothing."""
    platform = platforms.here(Manners())
    platform.ledger.send(Present("order-2", "rose", "ann"), now=1.0)
    environ = {"GIFT_PLATFORM": platform.url, "GIFT_STORE": f"sqlite:{folder}/orders.db"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        repair.complete(cut())
        repair.complete(cut(Step("sendPresent", 0.1, "order-1")))
        repair.complete(cut(Step("sendPresent", 0.1, "order-2"), Step("saveOrder", 0.2, "order-2")))
        repair.complete(cut(Step("sendPresent", 0.1, "order-2"), Step("saveOrder", 0.2, "order-2")))
        with pytest.raises(ValueError, match="the order's id is not known as a whole"):
            repair.complete(msgspec.structs.replace(cut(Step("sendPresent", 0.1, "order-2")), shortened=("steps",)))
    with closing(open_orders(environ["GIFT_STORE"])) as orders:
        assert list(orders.ids()) == ["order-2"]
        found = orders.find("order-2")
    assert found is not None
    assert (found.present, found.user, found.receipt) == ("rose", "ann", 1)


def cut(*steps: Step) -> Cut:
    """A record from long ago."""
    return Cut(
        at="", time=0.0, request_id="r-1", method="POST", uri="/3/xx/vgift/send", client="", elapsed=0.3, pid=1, serial=1,
        generation=1, kind=Kind.DIED, cause="", steps=steps,
    )  # fmt: skip


def _inside(server: Server) -> list[int]:
    """The workers that run a request."""
    return [worker.pid for worker in server.status().workers if worker.in_flight and worker.pid]


@pytest.fixture
def demo(folder: Path) -> Iterator[Callable[..., Process]]:
    """Starts the demonstration, as scripts/demo does."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Process:
            env = {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
            command = [sys.executable, "-m", "examples.gift.demo", *arguments]
            process = Process(command, folder / "demo.log", env=env, cwd=ROOT)
            stack.callback(process.kill)
            return process

        yield start


@pytest.mark.parametrize("arguments", [(), ("--no-nginx",)])
def test_the_demonstration_ends_well(folder: Path, demo: Callable[..., Process], arguments: tuple[str, ...]) -> None:
    """Exit code 0, as in 2017 and under lastcall what is told of them, and nothing left behind."""
    process = demo("--orders", "160", *arguments)
    code = process.wait(2 * FLOWS_S)
    assert code == 0, process.text()
    first, second = process.text().split("Act two:")
    assert re.search("a manager that cuts as php-fpm does is ready" if arguments else r"php-fpm[\d.]* is ready", first)
    assert "THE LEDGERS DO NOT AGREE: " in first
    assert ("by SIGTERM to php-fpm" in first) == (not arguments)
    assert re.search(r"\d+ repaired\.\n\n +The ledgers agree\.\n", first)
    assert "The ledgers agree, and no client saw an error." in second
    assert re.search(r"presents without an order +[1-9]\d* +0\n", second)
    assert session(process.pid) == []
    assert [path.name for path in folder.iterdir()] == ["demo.log"]


@pytest.mark.parametrize(
    ("act", "number"), [("one", signal.SIGINT), ("two", signal.SIGINT), ("two", signal.SIGTERM)], ids=str
)
def test_an_interrupted_demonstration_leaves_nothing_behind(
    folder: Path, demo: Callable[..., Process], act: str, number: signal.Signals
) -> None:
    """Ctrl-C in the middle of it; SIGTERM, which also ends one that a shell has started in the background."""
    process = demo("--orders", "200")
    process.wait_until(lambda: "restart 2: " in process.text().partition(f"Act {act}:")[2], "orders flow", 2 * FLOWS_S)
    process.signal(number)
    assert process.wait(FLOWS_S) == 130
    eventually(lambda: not session(process.pid), "whoever had to be killed is gone")
    assert [path.name for path in folder.iterdir()] == ["demo.log"]


def test_the_service_is_ready_over_both_protocols(
    serve: Servers, nginx: Nginx, folder: Path, platforms: Platforms
) -> None:
    """`GET /ready`, through nginx."""
    server = gift_service(serve, platforms.process(), f"sqlite:{folder}/orders.db", "")
    sites = [nginx.http(server.http_address), nginx.fastcgi(server.fastcgi_address)]
    nginx.start()
    assert [http.get(site, "/ready").status for site in sites] == [200, 200]
