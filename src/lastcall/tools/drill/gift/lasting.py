"""The gift service with durable requests (docs/DURABLE.md): a request whose worker is killed is finished by another one.

The ledgers know each call by its key, as those of a careful platform do: a call that is repeated counts once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lastcall import durable
from lastcall.tools.drill.gift import wsgi

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application."""
    return (wsgi.app if wsgi.is_ready(environ) else _send)(environ, start_response)


@durable.request(key="order")
def _send(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    order = json.loads(environ["wsgi.input"].read())["order"]
    durable.step("sendPresent", _call, "/sendPresent", order, in_doubt="retry")
    durable.step("saveOrder", _call, "/order", order, in_doubt="retry")
    return wsgi.answer(start_response, b"sent\n")


def _call(path: str, order: str) -> None:
    wsgi.call(path, order, durable.key())
