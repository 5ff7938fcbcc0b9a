"""What is served where the gift app is not what is tested: an app of one line, slow ones, and those that signals harm.

    /           at once: the worker's pid
    /slow/1.5   after so many seconds
    /crash/     never: a segmentation fault
    /wait/F     when the file F exists
    /flock/F    alone with the file F, or 500: takes flock(2), works, lets go
    /usleep/S   usleep(3), or 500 when it ends early
    /poll/S     poll(2) on nothing, or 500 when it is interrupted

The last three call the C library itself, as PHP does: Python repeats an interrupted call (PEP 475), and so would hide it.

What the file that `DRILL_BOOT` names contains is done when this module is imported: `sleep 4`, `raise`, `exit 2`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)

Environ = dict[str, object]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def boot() -> None:
    """Do what the file says."""
    file = os.environ.get("DRILL_BOOT")
    match Path(file).read_text().split() if file else []:
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["exit", seconds]:
            time.sleep(float(seconds))
            os._exit(3)
        case ["raise"]:
            raise RuntimeError("this application cannot be imported")
        case _:
            pass


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The application; its answer is short."""
    kind, _, argument = str(environ["PATH_INFO"]).removeprefix("/").partition("/")
    harm = WORK[kind](argument) if kind in WORK else ""
    body = (harm or str(os.getpid())).encode()
    start_response("500 Internal Server Error" if harm else "200 OK", [("Content-Length", str(len(body)))])
    return [body]


def slow(seconds: str) -> str:
    time.sleep(float(seconds))
    return ""


def crash(_argument: str) -> str:
    ctypes.string_at(0)
    return ""


def wait(path: str) -> str:
    while not Path(f"/{path}").exists():
        time.sleep(0.005)
    return ""


def alone(path: str) -> str:
    """The critical section: whoever is in it without the lock meets somebody else's mark."""
    fd = os.open(f"/{path}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if libc.flock(fd, 2) != 0:
            return f"flock: {errno.errorcode[ctypes.get_errno()]}"
        os.pwrite(fd, b"%-10d" % os.getpid(), 0)
        time.sleep(0.01)
        owner = int(os.pread(fd, 10, 0))
        return "" if owner == os.getpid() else f"{owner} is here, too"
    finally:
        os.close(fd)


def usleep(seconds: str) -> str:
    began = time.monotonic()
    code = libc.usleep(int(float(seconds) * 1e6))
    return "" if code == 0 else f"usleep: after {time.monotonic() - began:.3f} s"


def poll(seconds: str) -> str:
    code = libc.poll(None, 0, int(float(seconds) * 1e3))
    return "" if code == 0 else f"poll: {errno.errorcode[ctypes.get_errno()]}"


WORK: dict[str, Callable[[str], str]] = {
    "slow": slow, "crash": crash, "wait": wait, "flock": alone, "usleep": usleep, "poll": poll,
}  # fmt: skip

boot()
