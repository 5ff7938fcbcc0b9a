"""Request bodies on their way to the application: kept in memory while small, on disk when not, or streamed."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from typing import BinaryIO


class Spool:
    """Collects a body before the application is called, so that a slow client never occupies a worker.

    Beyond `in_memory` bytes it goes to a temporary file that has no name. `add` raises OSError when the disk is full.
    """

    __slots__ = ("_file", "_in_memory", "_pieces", "_reader", "_tmp_dir", "size")

    def __init__(self, in_memory: int, tmp_dir: str) -> None:
        self.size = 0
        self._in_memory = in_memory
        self._tmp_dir = tmp_dir
        self._pieces: list[bytes] = []
        self._file: io.FileIO | None = None
        self._reader: BinaryIO | None = None

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self._file is None:
            self._pieces.append(data)
            if self.size <= self._in_memory:
                return
            # Unbuffered: what a buffer still held when the disk was full would make close() fail, too.
            self._file = tempfile.TemporaryFile(dir=self._tmp_dir, buffering=0)  # noqa: SIM115 - closed by close()
            data = b"".join(self._pieces)
            self._pieces = []
        while data:
            data = data[self._file.write(data) :]

    def open(self) -> BinaryIO:
        """The whole body, from its start: what the application gets as `wsgi.input`."""
        if self._file is None:
            return io.BytesIO(b"".join(self._pieces))
        self._file.seek(0)
        self._reader = io.BufferedReader(self._file)
        return self._reader

    def held(self) -> bytes | None:
        """What has come so far; None when it is on disk."""
        return b"".join(self._pieces) if self._file is None else None

    def close(self) -> None:
        """Give the room back. What `open` has given out is closed with it."""
        self._pieces = []
        for file in (self._reader, self._file):
            if file is not None:
                file.close()


class Stream(io.RawIOBase):
    """A body that is read from the client as the application asks for it (`body = "stream"`).

    `more` waits for the next bytes: b"" at the body's end; raises OSError when the client is gone or too slow.
    """

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest and not self._ended:
            self._rest = self._more()
            self._ended = not self._rest
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def stream(more: Callable[[], bytes]) -> io.BufferedReader:
    """`wsgi.input` over `more`, with everything that PEP 3333 asks of it."""
    return io.BufferedReader(Stream(more))
