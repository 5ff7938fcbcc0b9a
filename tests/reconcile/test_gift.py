"""The incident, from end to end: its workers are killed between the present and the order, and the ledgers tell."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

from examples.gift.load import Load
from examples.gift.orders import open_orders
from examples.gift.reconcile import ledger

from reconcile.conftest import Ask
from support.gift import EXAMPLES, Platforms
from support.lastcall import Servers
from support.processes import eventually


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
    assert explained["confidence"] == "likely"
    assert "its worker exited on signal 9 (SIGKILL)" in explained["text"]
    assert "(POST /3/xx/vgift/send, request " in explained["text"]
