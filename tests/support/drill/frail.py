"""The gift app, beside requests that end the worker that runs them.

    /segv/N     a segmentation fault
    /exit/N     exits in the middle
    /eat/N      takes memory until there is none: killed by the kernel, or aborted where a limit has been set

The number makes each of them another request: of one that was like them they would be poison.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from examples.gift.app import app as gift

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

PIECE: Final = 4 << 20


def segv() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def eat() -> None:
    eaten = []
    try:
        while True:
            eaten.append(b"x" * PIECE)
    except MemoryError:
        os.abort()


FAULTS: Final[dict[str, Callable[[], None]]] = {"segv": segv, "exit": leave, "eat": eat}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    fault = FAULTS.get(environ["PATH_INFO"].split("/")[1])
    if fault is not None:
        fault()
    return gift(environ, start_response)
