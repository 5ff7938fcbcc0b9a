"""The gift service: `POST /3/xx/vgift/send` sends a present, then writes the order.

Two actions in two places, and nothing that makes them one: a request that is cut between them leaves a present
without an order. Whoever serves this app must let a request finish that has begun. The two are marked, so that lastcall
spares whoever is between them, and can say of a request that was cut how far it had got, and with which order.

    GIFT_PLATFORM   where sendPresent is: http://127.0.0.1:8100
    GIFT_STORE      where orders go: sqlite:/var/lib/gift/orders.db, or mongodb://...
    GIFT_DATABASE   the MongoDB database, if it is not the one that the URI names
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

import lastcall

from .orders import Order, Orders, open_orders

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

BODY_MAX_BYTES = 64 * 1024
FIELD_MAX = 200
PLATFORM_TIMEOUT_S = 10.0

FORM = "application/x-www-form-urlencoded"


class Refused(Exception):
    """The request ends here, with a status and the reason in words for the client."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application: JSON out, whatever comes in."""
    return respond(start_response, lambda: _answer(environ))


def respond(start_response: StartResponse, what: Callable[[], dict[str, object]]) -> Iterable[bytes]:
    """Answer with what is returned, or with why not."""
    try:
        status, answer = HTTPStatus.OK, what()
    except Refused as refusal:
        status, answer = refusal.status, {"error": str(refusal)}
    body = json.dumps(answer).encode() + b"\n"
    start_response(
        f"{status.value} {status.phrase}",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]


def _answer(environ: WSGIEnvironment) -> dict[str, object]:
    match environ["REQUEST_METHOD"], environ["PATH_INFO"].split("/")[1:]:
        case "POST", ["3", "xx", "vgift", "send"]:
            return _send(fields(environ))
        case "GET", ["3", "xx", "vgift", "order", order_id]:
            return _look_up(order_id)
        case "GET", ["ready"]:
            orders().find("")
            return {"ready": True, "pid": os.getpid()}
        case _, ["3", "xx", "vgift", "send"] | ["3", "xx", "vgift", "order", _] | ["ready"]:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "not with this method")
        case _:
            raise Refused(HTTPStatus.NOT_FOUND, "nothing here")


def _send(fields: dict[str, str]) -> dict[str, object]:
    """The request of the incident: the present first, then the order, and the gap between them."""
    order_id, present, user = fields["order"], fields["present"], fields["user"]
    with lastcall.critical():  # a present that is out cannot be called back
        lastcall.step("sendPresent", order_id)
        receipt = send_present(order_id, present, user, order_id)
        lastcall.step("saveOrder", order_id)
        orders().write(Order(order_id, present, user, receipt, time.time()))
    return {"order": order_id, "receipt": receipt}


def _look_up(order_id: str) -> dict[str, object]:
    order = orders().find(order_id)
    if order is None:
        raise Refused(HTTPStatus.NOT_FOUND, "no such order")
    return {"order": order.id, "present": order.present, "user": order.user, "receipt": order.receipt}


# --- What comes in -----------------------------------------------------------


def fields(environ: WSGIEnvironment) -> dict[str, str]:
    """`order`, `present` and `user`, from a body in JSON or from a form."""
    body = _body(environ)
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == FORM:
        found: object = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace")))
    else:
        try:
            found = json.loads(body)
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is neither JSON nor a form") from None
    match found:
        case {"order": str(order), "present": str(present), "user": str(user)}:
            fields = {"order": order, "present": present, "user": user}
        case _:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "order, present and user are needed, as texts")
    for name, text in fields.items():
        if not 0 < len(text) <= FIELD_MAX:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: 1 to {FIELD_MAX} characters")
    return fields


def _body(environ: WSGIEnvironment) -> bytes:
    announced = environ.get("CONTENT_LENGTH", "")
    if not announced.isdecimal():
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "say how long the body is")
    length = int(announced)
    if length > BODY_MAX_BYTES:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {BODY_MAX_BYTES} bytes")
    body: bytes = environ["wsgi.input"].read(length)
    if len(body) < length:
        raise Refused(HTTPStatus.BAD_REQUEST, "the body ended early")
    return body


# --- What goes out -----------------------------------------------------------

_mine = threading.local()
"""This thread's kept connection to the platform."""


def send_present(order_id: str, present: str, user: str, key: str) -> int:
    """Call `sendPresent`, with a key under which it sends one present, and return the platform's receipt.

    Never a second time: of a call that broke off, nobody here knows whether the present went out.
    """
    asked = json.dumps({"order_id": order_id, "present": present, "user": user, "key": key})
    platform = _platform()
    try:
        platform.request("POST", "/sendPresent", asked.encode(), {"Content-Type": "application/json"})
        response = platform.getresponse()
        said = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        platform.close()  # the next request begins on a new connection
        why = f"the gift platform broke off, the present may have been sent: {error!r}"
        raise Refused(HTTPStatus.BAD_GATEWAY, why) from error
    match response.status, said:
        case HTTPStatus.OK, {"receipt": int(receipt)}:
            return receipt
        case _:
            raise Refused(HTTPStatus.BAD_GATEWAY, f"the gift platform said {response.status}: {said}")


def _platform() -> http.client.HTTPConnection:
    try:
        kept: http.client.HTTPConnection = _mine.platform
    except AttributeError:
        where = urllib.parse.urlsplit(os.environ["GIFT_PLATFORM"])
        kept = _mine.platform = http.client.HTTPConnection(
            where.hostname or "", where.port or 80, timeout=PLATFORM_TIMEOUT_S
        )
    return kept


_opened: Orders | None = None
_opening = threading.Lock()


def orders() -> Orders:
    """This process's store, opened at the first request: it must not be made before a fork."""
    global _opened  # noqa: PLW0603 (one store for each process is the point)
    with _opening:
        if _opened is None:
            _opened = open_orders(os.environ["GIFT_STORE"], os.environ.get("GIFT_DATABASE"))
        return _opened
