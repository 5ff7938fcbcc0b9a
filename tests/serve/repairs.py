"""An application whose requests are cut, and what repairs them. What is to happen stands in the URI: `/WHAT/...`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import lastcall
from lastcall.core.cuts import Cut

FOLDER = Path(os.environ.get("REPAIRS", "."))


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Its first run takes its worker with it, but for `/wait/...`, which waits to be cut."""
    uri = str(environ["PATH_INFO"])
    lastcall.step("sendPresent", uri.rpartition("/")[2])
    if uri.startswith("/wait/"):
        (FOLDER / "waits").touch()
        time.sleep(60)
    elif "lastcall.attempt" not in environ and uri != "/":
        os.kill(os.getpid(), signal.SIGKILL)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]


def note(file: str, cut: Cut) -> int:
    """Write it down, and say how often it stands there."""
    with (FOLDER / file).open("a") as lines:
        lines.write(f"{cut.steps[-1].about}\n")
    return (FOLDER / file).read_text().split().count(cut.steps[-1].about)


def complete(cut: Cut) -> None:
    """The repair."""
    times = note("begun", cut)
    match cut.uri.split("/")[1]:
        case "fails" if times < 3:
            print("no database today", file=sys.stderr)
            raise ConnectionError("the database is away")
        case "hangs" if times == 1:
            os.system("sleep 60")  # noqa: S605 - a process of its own, and nothing to import for it
        case "waits":
            while not (FOLDER / "go").exists():
                time.sleep(0.005)
        case "is-killed" if times == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "kills-the-master" if times == 1:
            note("done", cut)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        case "leaves" if times == 1:
            sys.exit(3)
        case "tells":
            print(f"{cut.method} {cut.uri} of {cut.client}: {cut.done}, {len(list(Path('/proc/self/fd').iterdir()))}")
    note("done", cut)


not_a_function = 3
