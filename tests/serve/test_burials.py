"""A worker is reaped and buried, and in the same turn of the master's loop something else happens that concerns it.

The machine hears of a burial after everything else of that turn: until then it counts on a worker that is no more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import http
from support.lastcall import Server
from support.processes import eventually, state

Shop = Callable[..., Server]
DIES_READY = """
import os, signal, time
from pathlib import Path
from lastcall.runtime.worker import boot

here = Path(__file__).parent
if (here / "trap").exists():
    (here / "booting").write_text(str(os.getpid()))
    while (here / "trap").exists():
        time.sleep(0.005)
    boot._may_serve = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
"""An application whose worker dies the moment that it has said that it is ready."""


@contextmanager
def held(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: state(pid) == "T", f"{pid} is stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("order", ["USR2", "HUP", "USR1", "TERM"])
def test_an_order_in_the_turn_in_which_a_worker_is_buried(shop: Shop, order: str) -> None:
    """Its custodian's last word and a signal: neither may make the master stumble."""
    server = shop("--workers", "1")
    (worker,) = server.workers()
    (keeper,) = set(server.processes()) - {worker}
    with held(keeper):
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: state(worker) == "", "the worker is reaped")
        os.kill(server.pid, signal.SIGSTOP)
    with held(server.pid):
        eventually(lambda: state(keeper) == "S", "the custodian has said what it had to say, and waits")
        server.signal(signal.Signals[f"SIG{order}"])
    if order == "TERM":
        assert server.process.wait() == 0, server.everything()
    else:
        server.wait_log(
            {"USR2": "reload finished", "HUP": "reload finished", "USR1": "error log file re-opened"}[order]
        )
        assert http.get(server.http_address).status == 200
    assert "Traceback" not in server.everything()


def test_a_worker_that_is_ready_and_dead_in_one_turn(shop: Shop, code: Path) -> None:
    """The master hears both at once: there is nobody left to be told to serve."""
    (code / "shop.py").write_text((code / "shop.py").read_text() + DIES_READY)
    server = shop("--workers", "1", "--custody", "off")
    (code / "trap").touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    eventually((code / "booting").exists, "the next one boots")
    worker = int(eventually((code / "booting").read_text, "it has said who it is"))
    with held(server.pid):
        (code / "trap").unlink()
        eventually(lambda: state(worker) == "Z", "it is ready, and dead")
    eventually(lambda: [each.stage for each in server.status().workers] == ["ready"], "another one serves")
    assert http.get(server.http_address).status == 200
    assert "Traceback" not in server.everything()
