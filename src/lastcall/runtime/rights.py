"""Descriptors as passengers of a message (SCM_RIGHTS).

What `socket.send_fds` and `socket.recv_fds` promise: up to Python 3.13 they ignore flags and address, so that what is not to
wait does, and what is received is inherited by every program that the application starts.
"""

from __future__ import annotations

import array
import errno
import select
import socket
from collections.abc import Sequence
from typing import Final

NO_ROOM: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
"""The system has none now: for a message, or for more descriptors under way (unix(7))."""
AGAIN: Final = 0.02
"""Seconds until it may have some."""
TRIES: Final = 50


def send(sock: socket.socket, data: bytes, fds: Sequence[int], flags: int = 0, address: str | None = None) -> None:
    """Send a message, and copies of these descriptors with it. Raises OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    if address is None:
        sock.sendmsg([data], rights, flags)
    else:
        sock.sendmsg([data], rights, flags, address)


def insist(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """As `send`, and again while the system has no room: for somebody who has nothing else to do. Raises OSError."""
    for left in reversed(range(TRIES)):
        try:
            send(sock, data, fds)
        except OSError as error:
            if error.errno not in NO_ROOM or not left:
                raise
            select.select([], [], [], AGAIN)
        else:
            return


def receive(sock: socket.socket, size: int, count: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """The next message, and at most `count` descriptors, closed at exec. Raises OSError."""
    flags |= socket.MSG_CMSG_CLOEXEC
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(count * 4), flags)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)
