"""Descriptors as passengers of a message (SCM_RIGHTS).

What `socket.send_fds` and `socket.recv_fds` promise: up to Python 3.13 they ignore flags and address, so that what is not to
wait does, and what is received is inherited by every program that the application starts.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence


def send(sock: socket.socket, data: bytes, fds: Sequence[int], flags: int = 0, address: str | None = None) -> None:
    """Send a message, and copies of these descriptors with it. Raises OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    if address is None:
        sock.sendmsg([data], rights, flags)
    else:
        sock.sendmsg([data], rights, flags, address)


def receive(sock: socket.socket, size: int, count: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """The next message, and at most `count` descriptors, closed at exec. Raises OSError."""
    flags |= socket.MSG_CMSG_CLOEXEC
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(count * 4), flags)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)
