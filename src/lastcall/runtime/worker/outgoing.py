"""What a client has not taken yet: a bounded queue of bytes, spilling to a temporary file, and of pieces of files.

So a slow client never occupies a worker: the application is done, its answer lies here, and the loop sends it on as the
client reads.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections import deque
from dataclasses import dataclass
from typing import Final

SPOOL_MAX: Final = 1 << 30
"""Bytes of one response that may lie on disk (nginx's proxy_max_temp_file_size: the same)."""
_PIECE: Final = 1 << 20
_DONT_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class NoRoom(Exception):
    """Neither memory nor disk takes more: the caller has to wait for the client."""


@dataclass(slots=True)
class _Span:
    """A piece of an open file that is ours to close."""

    fd: int
    offset: int
    left: int
    spool: bool


class Outgoing:
    """Bytes in order. Not thread-safe: it belongs to whoever has the connection."""

    __slots__ = ("_in_memory", "_limit", "_queue", "_tmp_dir")

    def __init__(self, limit: int, tmp_dir: str) -> None:
        self._queue: deque[bytes | _Span] = deque()
        self._in_memory = 0
        self._limit = limit
        self._tmp_dir = tmp_dir

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, data: bytes) -> None:
        """Keep `data`. Raises NoRoom, with nothing kept, when memory and disk are full."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Span) and last.spool:
            self._spill(last, data)
        elif self._in_memory + len(data) > self._limit:
            spool = self._new_spool()
            try:
                self._queue.append(self._spill(spool, data))
            except NoRoom:
                os.close(spool.fd)
                raise
        else:
            self._queue.append(data)
            self._in_memory += len(data)

    def add_file(self, fd: int, offset: int, count: int) -> None:
        """Send a piece of a file; the descriptor is duplicated, so that its owner may close it. Raises OSError."""
        self._queue.append(_Span(os.dup(fd), offset, count, spool=False))

    def _new_spool(self) -> _Span:
        try:
            with tempfile.TemporaryFile(dir=self._tmp_dir, buffering=0) as file:
                return _Span(os.dup(file.fileno()), 0, 0, spool=True)
        except OSError as error:
            raise NoRoom from error

    def _spill(self, span: _Span, data: bytes) -> _Span:
        if span.offset + span.left + len(data) > SPOOL_MAX:
            raise NoRoom
        try:
            written = os.pwrite(span.fd, data, span.offset + span.left)
        except OSError as error:
            raise NoRoom from error
        if written < len(data):
            raise NoRoom  # the disk is full; the part that went in is overwritten by the next try
        span.left += written
        return span

    def flush(self, sock: socket.socket) -> bool:
        """Send what the socket takes without waiting; True when nothing is left. Raises OSError when the peer is gone."""
        queue = self._queue
        try:
            while queue:
                first = queue[0]
                if isinstance(first, bytes):
                    sent = sock.send(first, _DONT_WAIT)
                    self._in_memory -= sent
                    if sent < len(first):
                        queue[0] = first[sent:]
                        return False
                    queue.popleft()
                elif self._flush_span(sock, first):
                    os.close(first.fd)
                    queue.popleft()
        except BlockingIOError:
            return False
        return True

    @staticmethod
    def _flush_span(sock: socket.socket, span: _Span) -> bool:
        while span.left:
            sent = os.sendfile(sock.fileno(), span.fd, span.offset, min(span.left, _PIECE))
            if sent == 0:
                raise ConnectionAbortedError("the file became shorter while it was sent")
            span.offset += sent
            span.left -= sent
        return True

    def close(self) -> None:
        """Drop what is left."""
        for item in self._queue:
            if isinstance(item, _Span):
                os.close(item.fd)
        self._queue.clear()
