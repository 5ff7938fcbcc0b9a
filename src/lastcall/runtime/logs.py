"""Stand-in; being written."""
from __future__ import annotations
import os, time
from collections.abc import Callable
from lastcall.core import notes
from lastcall.core.accesslog import Record
class ErrorLog:
    def __init__(self, path: str, level: notes.Level) -> None:
        self.level = level
        self.path = path
        self.fd = 2 if path == "-" else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    def write(self, note: notes.Note) -> None:
        if note.level >= self.level:
            try:
                os.write(self.fd, f'[{time.strftime("%d-%b-%Y %H:%M:%S")}] {note.level.name}: {note.text()}\n'.encode())
            except OSError:
                pass
    def fileno(self) -> int: return self.fd
    def replace(self, fd: int) -> None: self.fd = fd
    def reopen(self) -> bool: return self.path != "-"
class AccessLog:
    def __init__(self, path: str, compiled: Callable[[Record], str]) -> None:
        self.compiled = compiled
        self.fd = 1 if path == "-" else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    def write(self, record: Record) -> None:
        try:
            os.write(self.fd, (self.compiled(record) + "\n").encode())
        except OSError:
            pass
    def fileno(self) -> int: return self.fd
    def replace(self, fd: int) -> None: self.fd = fd
    def reopen(self) -> bool: return True
class OutputReader:
    def __init__(self, fd: int, *, pool: str, pid: int, stream: str, decorate: bool) -> None: self.fd = fd
    def fileno(self) -> int: return self.fd
    def read(self, log: ErrorLog) -> bool: return not os.read(self.fd, 65536)
    def close(self) -> None: os.close(self.fd)
