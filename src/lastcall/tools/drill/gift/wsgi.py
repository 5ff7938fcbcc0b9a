"""The gift service for WSGI servers."""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

TIMEOUT_S = 30.0

_mine = threading.local()
"""This thread's kept connection to the ledgers."""


def boot() -> None:
    """Do what the file says."""
    file = os.environ.get("DRILL_BOOT")
    match Path(file).read_text().split() if file else []:
        case ["wait", seconds]:
            threading.Event().wait(float(seconds))
        case ["raise"]:
            raise RuntimeError("this code cannot be loaded")
        case _:
            pass


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application."""
    if is_ready(environ):
        return answer(start_response, b"ready\n")
    asked = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or "0")))
    call("/sendPresent", asked["order"])
    call("/order", asked["order"])
    return answer(start_response, b"sent\n")


def is_ready(environ: WSGIEnvironment) -> bool:
    """Whether it is asked if it serves."""
    return bool(environ["PATH_INFO"].endswith("/ready") or environ.get("SCRIPT_NAME", "").endswith("/ready"))


def answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    """200."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def call(path: str, order: str, key: str = "") -> None:
    """One of the two actions, once; with a key, once for all calls that have it."""
    ledgers = _ledgers()
    asked = {"order": order, **({"key": key} if key else {})}
    try:
        ledgers.request("POST", path, json.dumps(asked), {"Content-Type": "application/json"})
        response = ledgers.getresponse()
        response.read()
    except OSError:
        ledgers.close()  # the next request begins on a new connection
        raise
    if response.status != http.HTTPStatus.OK:
        raise RuntimeError(f"{path}: {response.status}")


def _ledgers() -> http.client.HTTPConnection:
    try:
        kept: http.client.HTTPConnection = _mine.ledgers
    except AttributeError:
        where = urllib.parse.urlsplit(os.environ["DRILL_LEDGERS"])
        kept = _mine.ledgers = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)
    return kept


boot()
