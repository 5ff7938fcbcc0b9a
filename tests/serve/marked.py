"""An application that says where it is."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import lastcall


def wait_for(file: Path) -> None:
    """Return when the file is there."""
    file.with_suffix(".begun").touch()
    while not file.exists():
        time.sleep(0.005)


def helped() -> None:
    """Steps of a thread that works for the request."""
    helper = threading.Thread(target=contextvars.copy_context().run, args=(lastcall.step, "helped"))
    helper.start()
    helper.join()


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """`/steps/FILE`: some steps, then wait. `/critical/FILE`: wait past a point of no return. `/passed/FILE`: behind it."""
    what, _, file = str(environ["PATH_INFO"]).removeprefix("/").partition("/")
    match what:
        case "steps":
            for number in range(20):
                lastcall.step(f"step {number}")
            helped()
            if os.fork() == 0:
                lastcall.step("forked")
                os._exit(0)
            lastcall.step("sendPresent", "order-17")
            wait_for(Path("/" + file))
        case "critical":
            with lastcall.critical():
                lastcall.step("saveOrder")
                wait_for(Path("/" + file))
        case "passed":
            with lastcall.critical():
                pass
            wait_for(Path("/" + file))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
