"""The application that the tests of the master serve: it says who it is, waits when asked, and dies when asked."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast


def wait(name: str) -> None:
    """Say that we are here, and wait until the file exists."""
    file = Path(name)
    file.with_suffix(".begun").write_text(str(os.getpid()))
    while not file.exists():
        time.sleep(0.005)


def stream(name: str) -> Iterator[bytes]:
    """Half of an answer, and the rest when the file exists."""
    yield b"half"
    wait(name)
    yield b" and half"


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """What the path says: `/pid`, `/body` (who has read what), `/wait/FILE` (until it exists), `/exit/N`; else: hello."""
    path = str(environ["PATH_INFO"])
    body = b"hello\n"
    if path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/body":
        given = cast("BinaryIO", environ["wsgi.input"]).read()
        body = f"{os.getpid()} {hashlib.sha256(given).hexdigest()}".encode()
    elif path.startswith("/wait/"):
        wait("/" + path.removeprefix("/wait/"))
        body = b"waited\n"
    elif path.startswith("/say-later/"):
        wait("/" + path.removeprefix("/say-later/"))
        print("said later", flush=True)
    elif path.startswith("/slow/"):
        time.sleep(int(path.removeprefix("/slow/")) / 1000)
    elif path.startswith("/keep-the-gil/"):
        ctypes.PyDLL(None).usleep(int(path.removeprefix("/keep-the-gil/")) * 1000)
        print("gave it back", flush=True)
    elif path.startswith("/env/"):
        body = (os.environ.get(path.removeprefix("/env/"), "(none)") + "\n").encode()
    elif path.startswith("/exit/"):
        os._exit(int(path.removeprefix("/exit/")))
    elif path == "/segv":
        ctypes.string_at(0)
    elif path == "/abort":
        os.abort()
    elif path.startswith("/stream/"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream("/" + path.removeprefix("/stream/"))
    elif path.startswith("/print/"):
        print(path.removeprefix("/print/"), flush=True)
    elif path == "/hush":
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - as little as can be
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
    attempt = str(environ.get("lastcall.attempt", 1))
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("X-Attempt", attempt)]
    start_response("200 OK", headers)
    return [body]
