"""The gift service, durable: the same two actions, and whatever dies between them, they are both done.

Beside `app.py`, which it is but for the steps: each order is written into lastcall's journal, `sendPresent` is given a key
under which the platform sends a present once, and a request that was cut is completed (docs/DURABLE.md).

    GIFT_IN_DOUBT   what is done when nobody knows whether a present was sent: retry (the default), or hold, for a platform
                    that does not honour keys
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lastcall import durable

from . import app as plain
from .orders import Order

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application: sending is durable, looking up need not be."""
    if environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == "/3/xx/vgift/send":
        return _send(environ, start_response)
    return plain.app(environ, start_response)


@durable.request(key="order")
def _send(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The present first, then the order, and a journal for the gap between them."""
    return plain.respond(start_response, lambda: _present_and_order(plain.fields(environ)))


def _present_and_order(fields: dict[str, str]) -> dict[str, object]:
    order_id, present, user = fields["order"], fields["present"], fields["user"]
    in_doubt = os.environ.get("GIFT_IN_DOUBT", "retry")
    receipt = durable.step("sendPresent", _send_present, order_id, present, user, in_doubt=in_doubt)
    # Writing the same order again changes nothing: no doubt is worth a question.
    durable.step("saveOrder", _save_order, order_id, present, user, receipt, in_doubt="retry")
    return {"order": order_id, "receipt": receipt}


def _send_present(order_id: str, present: str, user: str) -> int:
    return plain.send_present(order_id, present, user, durable.key())


def _save_order(order_id: str, present: str, user: str, receipt: int) -> None:
    plain.orders().write(Order(order_id, present, user, receipt, time.time()))
