"""Locks that tell whether a process is alive: held as long as it is, whatever ends it.

Open-file-description locks (fcntl(2), F_OFD_SETLK): they belong to the descriptor's open file, not to the process. So a
worker that keeps an inherited copy keeps the lock, and must let go of it first thing. Unlike flock(2) they can be
asked about without being taken: who looks for instances never stands in the way of one that starts.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

_FLOCK: Final = struct.Struct("@hhqqi4x")
"""struct flock (fcntl.h): type, whence, start, length, pid."""


def take(fd: int) -> bool:
    """Lock the open file, without waiting; False when somebody else has. Raises OSError."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def is_held(fd: int) -> bool:
    """Whether somebody else has the lock. Raises OSError."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


def same_file(fd: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def holder(path: Path) -> int | None:
    """The pid that stands in a file whose lock is held; None where nobody holds it. Raises OSError but for no file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return read_pid(fd) if is_held(fd) else None
    finally:
        os.close(fd)


def read_pid(fd: int) -> int:
    """The file's digits as a pid; 0 for anything else."""
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0
