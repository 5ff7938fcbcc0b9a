"""Doors: listening SEQPACKET sockets in the run directory, for our own user only.

A path in a run directory may be longer than the 107 bytes that `sun_path` holds: the directory is named by a descriptor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def bind(directory: Path, name: str) -> socket.socket:
    """A socket that is there, and that nobody reaches until it listens. Raises OSError."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = os.umask(0o077)
    try:
        (directory / name).unlink(missing_ok=True)
        with _named(directory) as folder:
            door.bind(f"{folder}/{name}")
    except OSError:
        door.close()
        raise
    finally:
        os.umask(mask)
    return door


def knock(directory: Path, name: str, patience: float) -> socket.socket | None:
    """A connection to whoever listens there, which waits for `patience` at most; None where nobody does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(patience)
    try:
        with _named(directory) as folder:
            sock.connect(f"{folder}/{name}")
    except OSError:
        sock.close()
        return None
    return sock


@contextmanager
def _named(directory: Path) -> Iterator[str]:
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}"
    finally:
        os.close(folder)
