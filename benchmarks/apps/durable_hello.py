"""Two steps that do nothing: plain, durable, and as a workflow of DBOS, so that what is left is what keeping them costs."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

from lastcall import durable

HEADERS = [("Content-Type", "application/json"), ("Content-Length", "15")]
_numbers = itertools.count()


def pay() -> dict[str, int]:
    """What a platform answers."""
    return {"receipt": 17}


def save() -> None:
    """What a database answers."""


def respond(start_response: Callable[..., object]) -> Iterable[bytes]:
    """The same for all."""
    start_response("200 OK", HEADERS.copy())
    return [b'{"receipt": 17}']


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`/plain`, `/durable`, `/dbos`."""
    match environ["PATH_INFO"]:
        case "/durable":
            return kept(environ, start_response)
        case "/dbos":
            workflow()(f"{os.getpid()}-{next(_numbers)}")
            return respond(start_response)
        case _:
            pay()
            save()
            return respond(start_response)


@durable.request(key=lambda _: f"{os.getpid()}-{next(_numbers)}")
def kept(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Each request under a key of its own, as clients send them."""
    durable.step("pay", pay, in_doubt="retry")
    durable.step("save", save, in_doubt="retry")
    return respond(start_response)


@functools.cache
def workflow() -> Callable[[str], object]:
    """The same two steps in DBOS, launched at the first request, for it has threads. A database for each process."""
    from dbos import DBOS, SetWorkflowID  # noqa: PLC0415 - only one of the servers needs it

    url = f"sqlite:///{os.environ['DBOS_FOLDER']}/{os.getpid()}.db"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    first, second = DBOS.step()(pay), DBOS.step()(save)

    def both() -> object:
        receipt = first()
        second()
        return receipt

    kept_by_dbos = DBOS.workflow()(both)
    DBOS.launch()

    def run(key: str) -> object:
        with SetWorkflowID(key):
            return kept_by_dbos()

    return run
