"""An application that keeps its worker busy in every way that a drain has to explain."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

leaked: list[bytes] = []


def wait_for(file: Path) -> None:
    """Return when the file is there."""
    file.with_suffix(".begun").touch()
    while not file.exists():
        time.sleep(0.005)


def stuck_in_c(fifo: Path) -> None:
    """Hold the GIL until somebody opens the FIFO: PyDLL, unlike CDLL, lets nobody else run."""
    fifo.with_suffix(".begun").touch()
    os.close(ctypes.PyDLL(None).open(bytes(fifo), os.O_RDONLY))


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """`/wait/FILE`, `/stuck/FIFO`, `/big` (32 MiB), `/leak/MIB`; anything else, and every body, is answered with a pid."""
    path = str(environ["PATH_INFO"])
    body = str(os.getpid()).encode()
    if path.startswith("/wait/"):
        wait_for(Path("/" + path.removeprefix("/wait/")))
    elif path.startswith("/stuck/"):
        stuck_in_c(Path("/" + path.removeprefix("/stuck/")))
    elif path.startswith("/leak/"):
        leaked.append(b"x" * (int(path.removeprefix("/leak/")) << 20))
    elif path == "/big":
        body = bytes(32 << 20)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
