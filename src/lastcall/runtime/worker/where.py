"""Where a worker's requests are, in one line each, and what else keeps the worker from ending.

Read by the attendant's thread while the others run: nothing is locked and nobody is interrupted, so what is said was true a
moment ago.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Final

import lastcall
from lastcall.protocol.link import Where, Whereabouts
from lastcall.runtime.worker.worker import Worker

OURS: Final = f"{Path(lastcall.__file__).parent}/"
"""Files below this are not the application's."""
_PYTHONS: Final = str(Path(os.__file__).parent)
"""Nor are these: `socket.py:706 in readinto` says less than the line that calls it."""
_INSTALLED: Final = ("site-packages", "dist-packages")
"""But these may be below Python's."""
LINE_MAX: Final = 200
"""Characters of a line; of a longer one the end is kept, which has the file's name, the number and the function."""
NO_FRAME: Final = "no Python frame"


def whereabouts(worker: Worker) -> Whereabouts:
    """What this worker is busy with. Callable from any thread."""
    inside = worker.inside()
    frames = sys._current_frames()  # noqa: SLF001 - the one way to see another thread's stack
    lanes = {lane.number: lane for lane, _ in worker.inside()}
    requests = tuple(
        Where(lane.number, lane.request_id, line(frames.get(thread)))
        for lane, thread in inside
        if lanes.get(lane.number) == lane  # else it has ended since, and the frame may be another request's
    )
    connections = list(worker.connections.values())
    begun = sum(connection.request is not None for connection in connections)
    waiting = [connection for connection in connections if connection.request is None]
    unsent = sum(bool(connection.out) for connection in waiting)
    heads = sum(not (c.out or c.lingering or c.codec.idle) for c in waiting)
    queued = worker.queued
    return Whereabouts(
        requests=requests,
        connections=max(0, len(connections) - len(inside)),
        arriving=max(0, begun - len(inside) - queued) + heads,
        queued=queued,
        unsent=unsent,
    )


def line(frame: FrameType | None) -> str:
    """`/srv/gift/app.py:12 in send`: the innermost frame of the application's code, or of what it has installed.

    Where there is none, the innermost that is not lastcall's own, else the innermost.
    """
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    others = [frame for frame in frames if not frame.f_code.co_filename.startswith(OURS)]
    theirs = [frame for frame in others if not _is_pythons(frame.f_code.co_filename)]
    frame = next(iter(theirs or others or frames), None)
    if frame is None:
        return NO_FRAME
    text = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= LINE_MAX else f"...{text[3 - LINE_MAX :]}"


def _is_pythons(file: str) -> bool:
    if file.startswith("<frozen "):
        return True
    return file.startswith(_PYTHONS) and not file[len(_PYTHONS) :].lstrip("/").startswith(_INSTALLED)
