"""Warms an application up before its worker says that it is ready: requests made in-process, and functions called.

An ordinary GET goes the whole way of a request, through codec and gateway, with nobody at the other end. What fails here
fails the worker's boot, and with it a reload.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Final

from lastcall.gateway import loading, wsgi
from lastcall.protocol import http1
from lastcall.protocol.exchange import ProtocolError

REQUEST_ID: Final = "warm-up"
"""What the application's log lines about it go by."""


class WarmUpError(Exception):
    """The application is not fit to serve. The text is what the log shows."""


class _Nobody:
    """A client that takes everything and keeps nothing. Implements `wsgi.Sink`."""

    def write(self, data: bytes) -> None:
        pass

    def span(self, file: object) -> int | None:  # noqa: ARG002 - a file is read, as everything is
        return None

    def sendfile(self, head: bytes, file: object, count: int) -> None:  # noqa: ARG002 - as above
        raise AssertionError("span() has said that there is no file")


def base(errors: object, *, multithread: bool) -> wsgi.Environ:
    """What the environ of a warm-up holds besides the request: nothing tells it from one of this machine but its mark."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_SOFTWARE": "lastcall",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": wsgi.FileWrapper,
        "wsgi.input_terminated": True,
        "lastcall.request_id": REQUEST_ID,
        "lastcall.warmup": True,
    }


def warm_up(app: wsgi.Application, items: Iterable[str], environ: wsgi.Environ) -> list[str]:
    """Do each in its order: `/path` is requested, `module:callable` is called. Returns what is doubtful.

    Raises WarmUpError at the first that fails.
    """
    doubts = []
    for item in items:
        if not item.startswith("/"):
            _call(item)
        elif (status := _request(app, item, environ)) >= 400:
            doubts.append(f"warm-up GET {item} was answered with {status}")
    return doubts


def _request(app: wsgi.Application, target: str, environ: wsgi.Environ) -> int:
    """The status; below 500."""
    codec = http1.Connection(http1.Limits(), http1.Stamp())
    codec.receive(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("ascii"))
    try:
        request = codec.request()
    except ProtocolError as error:
        raise WarmUpError(f"warm-up GET {target} is no request: {error.detail}") from None
    assert request is not None
    outcome = wsgi.run(app, wsgi.environ(request, environ, BytesIO()), codec, _Nobody())
    if outcome.error.startswith("SystemExit"):
        raise WarmUpError(f"warm-up GET {target}: the application called exit()\n{outcome.error}")
    if outcome.error:
        raise WarmUpError(f"warm-up GET {target} failed: {outcome.error}")
    if outcome.status >= 500:
        raise WarmUpError(f"warm-up GET {target} was answered with {outcome.status}")
    return outcome.status


def _call(name: str) -> None:
    try:
        _found(name)()
    except SystemExit as error:
        raise WarmUpError(f"warm-up {name} called exit()\n{loading.readable(error, __file__)}") from error
    except BaseException as error:
        raise WarmUpError(f"warm-up {name} failed\n{loading.readable(error, __file__)}") from error


def _found(name: str) -> Callable[[], object]:
    module, _, path = name.partition(":")
    target: object = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    if not callable(target):
        raise TypeError(f"{name} is no function: {type(target).__name__} cannot be called")
    return target
