"""How far an answer had got: what the kernel says of a connection, for `core/rescue.py`, which knows what it means.

A worker writes down what it is about to do before it does it. Between the last byte of an answer and the note that it was
the last there is a moment, and it is no short one: the client is woken by the answer, and often runs first. So the note
is compared with the kernel's own count of the bytes that were written and read.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from typing import Final

from lastcall.core import rescue
from lastcall.core.rescue import WRAP, Counts, Found
from lastcall.core.slot import Lane, State

_TCP_INFO: Final = struct.Struct("<128xQ8xI52xQQ")
"""struct tcp_info (linux/tcp.h, since 4.19): tcpi_bytes_received, tcpi_notsent_bytes, tcpi_bytes_sent,
tcpi_bytes_retrans."""
SO_COOKIE: Final = 57
_COOKIE: Final = struct.Struct("Q")
_PROMISED: Final = 6


def counts(sock: socket.socket) -> Counts | None:
    """What the kernel says now, if nobody else reads or writes; None when it does not answer."""
    try:
        unread = waiting(sock)
        if sock.family == socket.AF_UNIX:
            return Counts(None, 0, unread)
        received, written = _totals(sock)
        while True:  # what has arrived between the two questions would count as read
            before, unread = received, waiting(sock)
            received, written = _totals(sock)
            if received == before:
                return Counts(written % WRAP, (received - unread) % WRAP, unread)
    except (OSError, struct.error):
        return None


def _totals(sock: socket.socket) -> tuple[int, int]:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    received, not_sent, sent, again = _TCP_INFO.unpack(info)
    return received, sent - again + not_sent


def waiting(sock: socket.socket) -> int:
    """Bytes that have arrived and were not read. Raises OSError."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


def cookie(sock: socket.socket) -> int:
    """What tells this connection from all others that this machine has had; 0 when the kernel does not say."""
    try:
        (number,) = _COOKIE.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, _COOKIE.size))
    except (OSError, struct.error):
        return 0
    return int(number)


def promise(sock: socket.socket, *, given: bool) -> None:
    """Mark a UNIX connection for which a refusal is under way, or take the mark off: it is `given`.

    The mark is where all who have the connection see it, whoever of them is dead. Of a UNIX socket nobody asks for the
    priority (socket(7)), which is 0; up to 6 it needs no privilege.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 0 if given else _PROMISED)


def promised(sock: socket.socket) -> bool:
    """Whether it is marked."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == _PROMISED
    except OSError:
        return False


def examine(fd: int, lane: Lane | None, state: State) -> Found:
    """What is true of a dead worker's connection, of which its slot says `lane` and `state`."""
    if lane is None or lane.done or state <= State.TAKEN:
        return rescue.examine(lane, state, None)
    with socket.socket(fileno=fd) as sock:
        try:
            return rescue.examine(lane, state, counts(sock))
        finally:
            sock.detach()
