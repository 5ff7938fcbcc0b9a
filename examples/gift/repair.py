"""What completes an order whose request was cut, at once or when the ledgers are compared.

    lastcall serve gift.app:app --on-cut gift.repair:complete
    lastcall reconcile PRESENTS ORDERS --compare present,user,receipt:number ... --repair gift.repair:write --apply

lastcall calls `complete` with the record of the cut, in a process of its own, and again until it has returned: after a
failure, after its own death, after the master's. So it must not matter how often it has been done before.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing

from lastcall import durable
from lastcall.core.cuts import Cut
from lastcall.tools.reconcile.repair import Off

from .app import PLATFORM_TIMEOUT_S
from .orders import Order, open_orders


def complete(cut: Cut) -> None:
    """Write the order, if its present has gone out. Never send a present: nobody waits for it any more."""
    if not cut.steps:
        return  # nothing had been sent
    if "steps" in cut.shortened:
        raise ValueError(f"the order's id is not known as a whole: {cut.steps[-1].about!r}")
    order_id = cut.steps[-1].about
    order = _sent(order_id)
    if order is not None:
        _write(order)
    elif time.time() - cut.time < PLATFORM_TIMEOUT_S:
        # The worker is dead, its call may live: a failure is how to be asked again later.
        raise TimeoutError(f"{order_id} has no present, and the platform may still be sending it")


def write(order: Off) -> str | None:
    """Write an order of which the platform's ledger has the present. A present that we owe is for people to send."""
    if order.wrong != "only_left" or order.left is None:
        return None
    row = order.left
    # Writing the same order again changes nothing: no doubt is worth a question.
    durable.step(
        "saveOrder", _save, order.key["order_id"], row["present"], row["user"], row["receipt"], in_doubt="retry"
    )
    return "the order is written"


def _save(order_id: str, present: str, user: str, receipt: str) -> None:
    _write(Order(order_id, present, user, int(receipt), time.time()))


def _write(order: Order) -> None:
    with closing(open_orders(os.environ["GIFT_STORE"], os.environ.get("GIFT_DATABASE"))) as orders:
        orders.write(order)


def _sent(order_id: str) -> Order | None:
    """The order as the platform's ledger has it; None: it has sent nothing for it."""
    url = f"{os.environ['GIFT_PLATFORM']}/present/{urllib.parse.quote(order_id, safe='')}"
    try:
        with urllib.request.urlopen(url, timeout=PLATFORM_TIMEOUT_S) as response:  # noqa: S310 (our platform's URL)
            found = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None
    return Order(order_id, found["present"], found["user"], found["receipt"], time.time())
