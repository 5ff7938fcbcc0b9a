"""How far the answer on a dead worker's connection had got, by what the kernel says of the connection.

A worker writes down what it is about to do before it does it. Between the last byte of an answer and the note that it was
the last there is a moment, and it is no short one: the client is woken by the answer, and often runs first. So the note
is compared with the kernel's own count of the bytes that were written.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Final

from lastcall.core.slot import Lane, State

_TCP_INFO: Final = struct.Struct("<144xI52xQQ")
"""struct tcp_info (linux/tcp.h, since 4.19): tcpi_notsent_bytes, tcpi_bytes_sent, tcpi_bytes_retrans."""
_WRAP: Final = 1 << 32


def written(sock: socket.socket) -> int | None:
    """Bytes that were ever written to a TCP connection, modulo 2^32; None where the kernel keeps no account."""
    if sock.family == socket.AF_UNIX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        not_sent, sent, again = _TCP_INFO.unpack(info)
    except (OSError, struct.error):
        return None
    return int(sent - again + not_sent) % _WRAP


def waiting(sock: socket.socket) -> int:
    """Bytes that have arrived and were not read."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


def judge(fd: int, lane: Lane, state: State) -> tuple[Lane | None, State]:
    """What is true of a connection whose slot says `lane` and `state`: no lane where the answer had gone out as a whole."""
    if lane.done:
        return None, State.TAKEN if state is State.TAKEN else State.WHOLE
    if state in (State.WHOLE, State.TAKEN):
        return lane, state
    with socket.socket(fileno=fd) as sock:
        try:
            if state is State.TAKING:
                return lane, State.WHOLE if waiting(sock) >= lane.unread else State.TAKEN
            return _answering(sock, lane, state)
        except OSError:
            return lane, state
        finally:
            sock.detach()


def _answering(sock: socket.socket, lane: Lane, state: State) -> tuple[Lane | None, State]:
    if not lane.length:
        return lane, state  # several writes: who knows which of them was the last
    now = written(sock)
    if now is not None:
        progress = (now - lane.written) % _WRAP
        if progress == lane.length:
            return None, State.WHOLE
        return (lane, State.TAKEN) if progress == 0 else (lane, state)
    # A UNIX socket, of which the kernel keeps no account. It was sent, and perhaps read; or the worker died between two
    # system calls that follow each other at once and wake nobody, which is a thousand times less likely.
    return None, State.WHOLE
