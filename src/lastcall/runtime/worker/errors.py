"""`wsgi.errors`: what the application writes there goes to the error log, a line at a time, with the request's id."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from lastcall.core import notes
from lastcall.runtime.logs import ErrorLog

LINE_MAX: Final = 8192
"""Characters without a line break after which a line is written all the same."""


class ErrorStream(threading.local):
    """A text stream as PEP 3333 asks for it. Thread-local: threads that share a worker do not mix their lines."""

    def __init__(self, log: ErrorLog, pool: str, pid: int) -> None:
        self.request_id = "-"
        self._log = log
        self._pool = pool
        self._pid = pid
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)
        if len(self._rest) > LINE_MAX:
            self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, ""
            self._say(rest)

    def _say(self, line: str) -> None:
        if line:
            self._log.write(notes.AppSaid(self._pool, self._pid, self.request_id, line))
