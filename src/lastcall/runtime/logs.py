"""Writes the logs: one write a line, never waiting, never failing the caller.

All processes of the server write into the same files, which the master opened with O_APPEND: the kernel keeps the lines
whole. A log that cannot be written (a full disk, a reader that is gone) costs lines, never a request; how many is said
as soon as a line goes through again.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from typing import Final

from lastcall.core import notes
from lastcall.core.accesslog import MONTHS, Format, Record

LINE_MAX: Final = 8192
"""Bytes of an application's output without a line break after which it counts as a line."""
PATIENCE: Final = 0.1
"""Seconds that a line waits for a pipe whose reader is slow. Then it is lost, and counted."""
READ_BYTES: Final = 65536
_MODE: Final = 0o640


class _File:
    """An append-only descriptor that may be replaced while others write."""

    def __init__(self, path: str, standard: int) -> None:
        """`-` is the standard descriptor given: a duplicate, for a worker's own may become a pipe. Raises OSError."""
        self._path = path
        self._fd = os.dup(standard) if path == "-" else _open(path)
        self._lost = 0
        self._why = ""

    def fileno(self) -> int:
        return self._fd

    def replace(self, fd: int) -> None:
        """Write into `fd` from now on; it is ours. The number stays the same, so that nobody meets a closed one."""
        if fd != self._fd:
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)

    def reopen(self) -> bool:
        """A new file under the old name; False where there is none to open, or it cannot be opened."""
        if self._path == "-":
            return False
        try:
            self.replace(_open(self._path))
        except OSError:
            return False
        return True

    def put(self, data: bytes, lost_line: Callable[[int, str], bytes]) -> None:
        """Write a whole line. `lost_line` words how many lines before it were lost, and why."""
        if self._lost:
            data = lost_line(self._lost, self._why) + data
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                self._finish(data[written:])
        except OSError as error:
            self._lose(error)
        else:
            self._lost = 0

    def _finish(self, rest: bytes) -> None:
        """A pipe has taken a part of a long line: the rest belongs right behind it."""
        deadline = time.monotonic() + PATIENCE
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([], [self._fd], [], left)[1]:
                    raise

    def _lose(self, error: OSError) -> None:
        self._lost += 1
        self._why = os.strerror(error.errno) if error.errno else str(error)


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, _MODE)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        # A named pipe that nobody reads yet: keep it open for both, so that opening does not wait.
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)


class ErrorLog(_File):
    """The error log, in php-fpm's format: `[25-Jun-2017 05:28:01] NOTICE: Terminating ...` (zlog.c).

    At level debug the time has microseconds, as php-fpm's.
    """

    def __init__(self, path: str, level: notes.Level) -> None:
        super().__init__(path, 2)
        self.level = level

    def write(self, note: notes.Note) -> None:
        if note.level >= self.level:
            self.emit(note.level, note.text())

    def emit(self, level: notes.Level, text: str) -> None:
        """Write text of any number of lines, as one write."""
        self.put(self._line(level, text), lambda lost, why: self._line(notes.Level.WARNING, _lost(lost, why)))

    def raw(self, text: str) -> None:
        """Write a line as it is: an application's output that is not to be decorated."""
        self.put(_encode(text + "\n"), lambda lost, why: self._line(notes.Level.WARNING, _lost(lost, why)))

    def _line(self, level: notes.Level, text: str) -> bytes:
        now = time.time()
        t = time.localtime(now)
        micro = f".{int(now % 1 * 1e6):06}" if self.level is notes.Level.DEBUG else ""
        stamp = f"{t.tm_mday:02}-{MONTHS[t.tm_mon - 1]}-{t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}{micro}"
        return _encode(f"[{stamp}] {level.name}: {text}\n")


class AccessLog(_File):
    """The access log: a line for each request that was answered."""

    def __init__(self, path: str, form: Format) -> None:
        super().__init__(path, 1)
        self._line = form.line
        self.wants_usage = form.wants_usage
        """The format shows processor time or memory: the records have to say."""

    def write(self, record: Record) -> None:
        self.put(_encode(self._line(record) + "\n"), lambda lost, why: _encode(f"# {_lost(lost, why)}\n"))


def _lost(lost: int, why: str) -> str:
    return f"{lost} line{'s were' if lost > 1 else ' was'} lost: {why}"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


class OutputReader:
    """One stream of a worker's output: cut into lines, each of which becomes a note. The descriptor is ours."""

    def __init__(self, fd: int, *, pool: str, pid: int, stream: str, decorate: bool) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._pool = pool
        self._pid = pid
        self._stream = stream
        self._decorate = decorate
        self._rest = b""

    def fileno(self) -> int:
        return self._fd

    def read(self, log: ErrorLog) -> bool:
        """Log what has arrived; True when the stream has ended, its last line logged."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > LINE_MAX):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._say(line, log)
        return not data

    def _say(self, line: bytes, log: ErrorLog) -> None:
        text = line.rstrip(b"\r").decode("utf-8", "backslashreplace")
        if self._decorate:
            log.write(notes.Said(self._pool, self._pid, self._stream, text))
        else:
            log.raw(text)

    def close(self) -> None:
        os.close(self._fd)
