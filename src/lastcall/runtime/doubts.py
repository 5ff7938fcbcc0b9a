"""Connections that a dead worker was about to give away, of which nobody knows whether it has.

It says so before it does it (State.GIVEN), or what is in the inbox could be given to a second worker. Whether it has been
done is told by the connection's label: as soon as it changes, somebody has taken it out. While it stays as it was, the
connection may lie in the inbox; once that was seen to be empty, and a moment has passed for whoever had just taken it to say
so, it never got there, and is the master's to pass on.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Final

from lastcall.runtime import label, progress
from lastcall.runtime.custody import Rescued
from lastcall.runtime.inbox import Inbox

LOOK: Final = 0.02
"""Seconds between two looks."""
MOMENT: Final = 0.25
"""Seconds for a worker to write on a connection that it has taken it: two system calls that follow each other. Should it
take longer, it finds another label then, and lets go of its copy."""
PATIENCE: Final = 30.0
"""Seconds for an inbox to be empty once."""


@dataclass(slots=True)
class _Doubt:
    rescued: Rescued
    fd: int
    cookie: int
    label: int
    until: float
    empty_at: float | None = None
    """When nothing was in the inbox, for the first time since."""


class Doubts:
    """Those that are not settled yet. Their descriptors are ours."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._each: list[_Doubt] = []

    def __bool__(self) -> bool:
        return bool(self._each)

    def add(self, rescued: Rescued, fd: int, now: float) -> None:
        """A connection, as its custodian has found it."""
        number = label.read(fd)
        if label.is_on_its_way(number):
            self._each.append(_Doubt(rescued, fd, _cookie(fd), number, now + PATIENCE))
        else:
            os.close(fd)  # somebody has it

    def forget(self, fd: int) -> None:
        """The same connection has come from another dead worker, who had taken it out."""
        cookie = _cookie(fd)
        for doubt in [doubt for doubt in self._each if doubt.cookie == cookie]:
            self._each.remove(doubt)
            os.close(doubt.fd)

    def due(self, now: float) -> float | None:
        """When to look next."""
        return now + LOOK if self._each else None

    def look(self, now: float, *, last: bool = False) -> list[tuple[Rescued, int]]:
        """Those that turn out to have never been given away: they are the caller's. `last`: the inbox is done with."""
        ours = []
        for doubt in list(self._each):
            if doubt.empty_at is None and self._inbox.empty:
                doubt.empty_at = now
            if label.read(doubt.fd) != doubt.label:
                os.close(doubt.fd)
            elif last or (doubt.empty_at is not None and doubt.empty_at + MOMENT <= now):
                ours.append((doubt.rescued, doubt.fd))
            elif doubt.until <= now:
                os.close(doubt.fd)
            else:
                continue
            self._each.remove(doubt)
        return ours

    def let_go(self) -> None:
        """In a new process: close what is the master's."""
        for doubt in self._each:
            os.close(doubt.fd)


def _cookie(fd: int) -> int:
    with socket.socket(fileno=fd) as sock:
        try:
            return progress.cookie(sock)
        finally:
            sock.detach()
