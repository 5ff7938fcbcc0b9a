"""Writes the error log and the access log, and reads what workers print.

One write(2) a line, so that lines of several processes stay whole. Nothing here raises for a full disk, a reader
that is gone or one that is too slow: what could not be written is counted, and the log says how much it was as soon as
something goes through again. A slow reader of a pipe is waited for PATIENCE once, and then no longer until it reads.

A line that begins with `[` is always a line of its own: continuation lines are indented, control characters escaped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import stat
import threading
import time
from typing import Final

from lastcall.core import accesslog, notes
from lastcall.core.notes import Level

PIPE_LINE_MAX: Final = 4096
"""Bytes that a pipe takes in one piece from several writers (PIPE_BUF)."""
TEXT_MAX: Final = 1 << 16
"""Bytes of one note. A traceback through a deep recursion is longer than anybody reads."""
PATIENCE: Final = 0.1
"""Seconds that the first line waits for a slow reader."""
FILE_MODE: Final = 0o640
"""Of a new log file: it holds addresses, and command lines of those who sent signals."""

_INHERITED: Final = {
    "/dev/stdout": 1,
    "/dev/fd/1": 1,
    "/proc/self/fd/1": 1,
    "/dev/stderr": 2,
    "/dev/fd/2": 2,
    "/proc/self/fd/2": 2,
}
"""Used as they are: opening them anew fails where they are sockets, or another user's."""
_RWF_NOWAIT: Final = 8
"""pwritev2(2): EAGAIN instead of waiting, whatever the descriptor's flags, which it may share with a terminal."""


def open_log(path: str) -> int:
    """A descriptor that appends to a log. A FIFO that nobody reads is ENXIO, not a wait. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, FILE_MODE)


def _duplicate(fd: int) -> int:
    """A descriptor of our own: 1 and 2 may be made to lead elsewhere, even into a pipe whose lines come here."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return open_log(os.devnull)  # started with `2>&-`, as some init scripts do


class _Output:
    """Where lines go: whole ones, in order, or counted as lost. Shared by the threads of a process."""

    def __init__(self, path: str, standard: int) -> None:
        inherited = standard if path == "-" else _INHERITED.get(path)
        self._path = "" if inherited is not None else path
        self._fd = open_log(path) if inherited is None else _duplicate(inherited)
        self._lock = threading.Lock()
        self._torn = False  # the last line went out in part
        self.lost = 0
        self.why = ""
        self._look()

    def _look(self) -> None:
        self.is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._can_ask = not self.is_file  # for RWF_NOWAIT

    def fileno(self) -> int:
        return self._fd

    def replace(self, fd: int) -> None:
        """Write to this file from now on; the descriptor is taken over. Its number stays what it was."""
        followers = [standard for standard in (1, 2) if self._path and _same_file(standard, self._fd)]
        # dup3 puts the new file in place at once: no thread ever sees a closed descriptor, or another's.
        os.dup2(fd, self._fd, inheritable=False)
        for standard in followers:  # a daemon's output is the log as well: it must not go on into the rotated file
            os.dup2(fd, standard)
        os.close(fd)
        with self._lock:
            self._torn = False
            self._look()

    def reopen(self) -> str:
        """Open the path anew, after logrotate has moved the file. What went wrong, or ""; the old file then stays."""
        if not self._path:
            return ""
        try:
            fd = open_log(self._path)
        except OSError as error:
            return f"unable to re-open {self._path}: {error.strerror}"
        self.replace(fd)
        return ""

    def put(self, data: bytes) -> bool:
        """Write whole lines, once. False: they are lost, and counted."""
        with self._lock:
            why = self._write(b"\n" + data if self._torn else data)
            if why:
                self.lost += 1
                self.why = why
            return not why

    def _write(self, data: bytes) -> str:
        """Why the data did not all go out, or "". A part that did is remembered, and the next line begins anew."""
        done = 0
        try:
            while done < len(data):
                done += self._write_some(data[done:])
        except OSError as error:
            if done:
                self._torn = data[done - 1 : done] != b"\n"
            return error.strerror or str(error)
        self._torn = False
        return ""

    def _write_some(self, data: bytes) -> int:
        if self.is_file:
            return os.write(self._fd, data)
        try:
            return self._write_now(data)
        except BlockingIOError:
            # The next one that is lost does not wait: a reader that hangs must not make everything slow.
            if self.lost or not _writable(self._fd, PATIENCE):
                raise
            return self._write_now(data)

    def _write_now(self, data: bytes) -> int:
        if self._can_ask:
            try:
                return os.pwritev(self._fd, [data], -1, _RWF_NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESPIPE):
                    raise
                self._can_ask = False  # a terminal, or Linux before 6.5
        if not _writable(self._fd, 0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.write(self._fd, data)


def _same_file(one: int, other: int) -> bool:
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False  # started without it
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _writable(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))


# --- The error log -----------------------------------------------------------

_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""C0 but tab and newline, C1, and what breaks a line or turns its direction in Unicode."""


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return _CONTROLS.sub(_hex, text)


def _hex(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02X}" if number < 256 else f"\\u{number:04X}"


def clean(text: str) -> str:
    """Text that cannot pass for a second line of the log, nor move a terminal's cursor."""
    return _escaped(text.rstrip("\n")).replace("\n", "\n    ")


class ErrorLog:
    """php-fpm's log: `[25-Jun-2017 05:28:01] NOTICE: Terminating ...`; with microseconds at level debug.

    `path` "-" is stderr. Raises OSError only when it is made.
    """

    def __init__(self, path: str, level: Level = Level.NOTICE) -> None:
        self.path = path
        self.level = level
        self._out = _Output(path, standard=2)
        self._stamp = (-1, "")

    def fileno(self) -> int:
        """Stays the same for the log's whole life."""
        return self._out.fileno()

    def replace(self, fd: int) -> None:
        """Write to this file from now on: the master has opened it anew. Takes the descriptor over."""
        self._out.replace(fd)

    def reopen(self) -> str:
        """Open the path anew. What went wrong, or ""; the old file then stays in use."""
        return self._out.reopen()

    def write(self, note: notes.Note) -> None:
        """Write a note, if its level is high enough."""
        level = note.level
        if level >= self.level:
            self.emit(level, note.text())

    def emit(self, level: Level, text: str) -> None:
        """Write a text, whatever its level."""
        head = f"{self._time()} {level.name}: "
        self._put(head, clean(text))

    def plain(self, text: str) -> None:
        """Write what a worker printed, as it is: no time, no level, and no promise about what it looks like."""
        self._put("", _escaped(text.rstrip("\n")))

    def _time(self) -> str:
        now = time.time()
        second = int(now)
        stamp = self._stamp  # one read: threads share this
        if stamp[0] != second:
            local = time.localtime(second)
            month = accesslog.MONTHS[local.tm_mon - 1]
            clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
            self._stamp = stamp = (second, f"{local.tm_mday:02d}-{month}-{local.tm_year} {clock}")
        return f"[{stamp[1]}.{int(now % 1 * 1e6):06d}]" if self.level is Level.DEBUG else f"[{stamp[1]}]"

    def _put(self, head: str, text: str) -> None:
        if self._out.lost:
            self._confess()
        data = (head + text).encode("utf-8", "backslashreplace")
        if len(data) > TEXT_MAX:
            data = data[:TEXT_MAX] + b"..."
        if self._out.is_file or len(data) < PIPE_LINE_MAX:
            self._out.put(data + b"\n")
            return
        # Longer than a pipe takes in one piece: several notes, each whole, rather than one with others inside it.
        for piece in _pieces(data, head.encode()):
            self._out.put(piece + b"\n")

    def _confess(self) -> None:
        lost, why = self._out.lost, self._out.why
        if self._out.put(f"{self._time()} WARNING: {_lines(lost)} lost: {why}\n".encode()):
            self._out.lost = 0
        else:
            self._out.lost = lost  # the confession itself was nobody's line


def _lines(count: int) -> str:
    return "1 line was" if count == 1 else f"{count} lines were"


def _pieces(data: bytes, head: bytes) -> list[bytes]:
    """Cut at line breaks where there are any; each piece but the first begins with `head` and `...`."""
    out: list[bytes] = []
    lead = b""
    while data:
        room = PIPE_LINE_MAX - 1 - len(lead)
        end = len(data)
        if end > room:
            end = data.rfind(b"\n", len(head) + 1, room) + 1 or whole_characters(data, room)
        out.append(lead + data[:end].rstrip(b"\n"))
        data = data[end:]
        lead = head + b"... "
    return out


def whole_characters(data: bytes, end: int) -> int:
    """`end`, or up to three bytes less, so that a UTF-8 character is not cut in two."""
    at = end
    while at > max(0, end - 4) and at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at or end


# --- The access log ----------------------------------------------------------


class AccessLog:
    """One line a request. `path` "-" is stdout.

    Its own lines are for programs to read; so that lines were lost is said in the error log. Raises OSError only when
    it is made.
    """

    def __init__(self, path: str, form: accesslog.Format, errors: ErrorLog) -> None:
        self.path = path
        self.form = form
        self._line = form.line
        self._errors = errors
        self._out = _Output(path, standard=1)

    def fileno(self) -> int:
        """Stays the same for the log's whole life."""
        return self._out.fileno()

    def replace(self, fd: int) -> None:
        """Write to this file from now on: the master has opened it anew. Takes the descriptor over."""
        self._out.replace(fd)

    def reopen(self) -> str:
        """Open the path anew. What went wrong, or ""; the old file then stays in use."""
        return self._out.reopen()

    def write(self, record: accesslog.Record) -> None:
        """Write the record's line."""
        lost = self._out.lost
        if self._out.put(self._line(record).encode("utf-8", "backslashreplace") + b"\n"):
            if lost:
                self._out.lost = 0
                self._errors.write(notes.Trouble(f"access log {self.path}: {_lines(lost)} lost: {self._out.why}"))
        elif not lost:
            self._errors.write(notes.Trouble(f"access log {self.path}: lines are being lost: {self._out.why}"))


# --- What workers print ------------------------------------------------------

SAID_MAX: Final = 8192
"""Bytes without a line break after which a line is ended all the same (php-fpm's log_limit)."""
PIPE_MAX: Final = 1 << 20
"""Bytes that a pipe holds at most (fs.pipe-max-size): what is worth reading from one that is given up."""
READ_MAX: Final = 65536
"""Bytes taken from a pipe at a time: a worker that never stops printing must not occupy the master."""


class Lines:
    """Bytes to lines, holding back at most SAID_MAX bytes."""

    def __init__(self, rest: bytes = b"") -> None:
        self.rest = rest

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *lines, rest = (self.rest + data).split(b"\n")
        while len(rest) > SAID_MAX:
            end = whole_characters(rest, SAID_MAX)
            lines.append(rest[:end])
            rest = rest[end:]
        self.rest = rest
        return [piece for line in lines for piece in _bounded(line)]

    def flush(self) -> list[str]:
        """What has no line break and will get none."""
        rest, self.rest = self.rest, b""
        return _bounded(rest) if rest else []


def _bounded(line: bytes) -> list[str]:
    pieces: list[str] = []
    line = line.removesuffix(b"\r")
    while len(line) > SAID_MAX:
        end = whole_characters(line, SAID_MAX)
        pieces.append(line[:end].decode("utf-8", "backslashreplace"))
        line = line[end:]
    return [*pieces, line.decode("utf-8", "backslashreplace")]


class OutputReader:
    """The master's end of a worker's stdout or stderr. Takes the descriptor over, and makes it non-blocking."""

    def __init__(self, fd: int, pool: str, pid: int, stream: str, rest: bytes = b"") -> None:
        """`rest`: what another reader of the pipe has read, and was no whole line yet."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._pool = pool
        self._pid = pid
        self.stream = stream
        self._lines = Lines(rest)
        self.closed = False
        """Every writer is gone, and what they wrote has been read."""

    def fileno(self) -> int:
        """Its number; -1 once it is closed, for by then the number may be somebody else's."""
        return self._fd

    @property
    def rest(self) -> bytes:
        """What was read and is no whole line yet."""
        return self._lines.rest

    def read(self) -> list[notes.Said]:
        """What has been said since the last call, READ_MAX bytes of it at most; at the end `closed` is true."""
        try:
            data = os.read(self._fd, READ_MAX)
        except BlockingIOError:
            return []
        if data:
            return self._notes(self._lines.feed(data))
        self.closed = True
        return self._notes(self._lines.flush())

    def leave(self) -> None:
        """In another process: close our copy of the pipe, without reading what is the master's to read."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self.closed = True

    def close(self) -> list[notes.Said]:
        """Let go of the pipe, whether or not it has ended. What was said and not yet reported."""
        said: list[notes.Said] = []
        for _ in range(PIPE_MAX // READ_MAX):
            if not self.closed:
                said += self.read()
        self.leave()
        return said + self._notes(self._lines.flush())

    def _notes(self, lines: list[str]) -> list[notes.Said]:
        return [notes.Said(self._pool, self._pid, self.stream, line) for line in lines]


def relay(log: ErrorLog, said: list[notes.Said], *, decorate: bool) -> None:
    """Write what a worker said: as notes, or as the lines that they were."""
    for note in said:
        if decorate:
            log.write(note)
        else:
            log.plain(note.said)
