"""The incident, from end to end: its workers are killed between the present and the order, and the ledgers tell."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest
from examples.gift.load import Load
from examples.gift.orders import Order, open_orders
from examples.gift.platform import Ledger, Present
from examples.gift.reconcile import ledger

from reconcile.conftest import Ask
from support.gift import EXAMPLES, Platforms
from support.lastcall import Servers
from support.processes import ROOT, eventually


def test_an_order_that_was_cut_is_found_and_explained(ask: Ask, serve: Servers, folder: Path) -> None:
    """By the two ledgers as they lie there, and the list of what was cut in the run directory."""
    presents, orders = folder / "presents.db", f"sqlite:{folder}/orders.db"
    platforms = Platforms(folder)
    try:
        platform = platforms.process("--latency", "2s", "--ledger", str(presents))
        env = {"GIFT_PLATFORM": platform, "GIFT_STORE": orders}
        server = serve("gift.app:app", "--app-dir", str(EXAMPLES), "--workers", "2", env=env)
        first = Load([f"http://{server.http_address}"], orders=1, connections=1, name="fine")
        first.start()
        assert first.answered(1, 60)
        load = Load([f"http://{server.http_address}"], orders=1, connections=1, name="order")
        load.start()
        eventually(lambda: len(ledger(platform)) == 2, "the present is sent")
        for worker in server.workers():  # one of them has it, and a second to be killed in
            os.kill(worker, signal.SIGKILL)
        assert load.answered(1, 60)
    finally:
        platforms.close()
    with closing(open_orders(orders)) as written:
        assert list(written.ids()) == ["fine-000000"]
    done = ask(
        f"sqlite:{presents}#presents", f"{orders}#orders", "--compare", "present,user", "--time", "made",
        "--right-column", "order_id=id", "--left-column", "made=to_timestamp(sent::double)",
        "--right-column", "made=to_timestamp(written::double)", "--cuts", str(server.run_dir), key="order_id",
    )  # fmt: skip
    assert (done.code, done.counts) == (1, {"matched": 1, "only_left": 1}), done.err
    explained = done.finding("order-000000")["explained"]
    assert explained["confidence"] == "certain"
    assert "its worker exited on signal 9 (SIGKILL)" in explained["text"]
    assert "(POST /3/xx/vgift/send, request " in explained["text"]


def test_a_missing_order_is_written_by_the_repair(ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's function: a present without an order gets one, with the platform's receipt."""
    monkeypatch.setenv("GIFT_STORE", f"sqlite:{folder}/orders.db")
    with (
        closing(Ledger(str(folder / "presents.db"))) as ledger,
        closing(open_orders(f"sqlite:{folder}/orders.db")) as orders,
    ):
        for number in range(3):
            receipt = ledger.send(Present(f"o-{number}", "rose", "ann", f"o-{number}"), 1_498_368_480.0).receipt
            if number != 1:
                orders.write(Order(f"o-{number}", "rose", "ann", receipt, 1_498_368_480.0))
    sides = (f"sqlite:{folder}/presents.db#presents", f"sqlite:{folder}/orders.db#orders")
    repair = ("--repair", "examples.gift.repair:write", "--app-dir", str(ROOT), "--journal", str(folder / "journal"))
    options = ("--compare", "present,user,receipt:number", "--right-column", "order_id=id", *repair)
    dry = ask(*sides, *options, key="order_id")
    assert (dry.code, dry.summary["repairs"]["outcomes"]) == (1, {"would be repaired": 1})
    done = ask(*sides, *options, "--apply", key="order_id")
    assert (done.code, done.counts, done.summary["repairs"]["outcomes"]) == (0, {"matched": 3}, {"repaired": 1})
    with closing(open_orders(f"sqlite:{folder}/orders.db")) as written:
        assert written.find("o-1") is not None
