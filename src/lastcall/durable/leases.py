"""Claims in a database that several machines share: leases, which run out when their holder no longer renews them.

A worker that is dead for all to see need not be waited for: a holder says which process it is, and who shares its kernel
and its namespace of processes looks whether that one is still there. All other deaths take LEASE to be believed. A holder
that is alive, but was away for longer than that (stopped, swapped, cut off), finds out at its next write: each of them
names the attempt that it belongs to, and writes nothing when another attempt has begun (`Lost`).
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lastcall.durable.journal import JournalError

LEASE: Final = 15.0
"""Seconds by the database's clock."""
RENEWALS: Final = 3
"""In the time of a lease: one that is late, or two that fail, cost nobody anything."""
SOMEBODY: Final = "\n\n0\n\n"
"""A holder of whom nothing is known."""
LOOK_AGAIN: Final = (0.01, 0.2)
"""Seconds between two tries to claim a key: the first, and the longest."""


def _begun(pid: int) -> str:
    """When a process was started, in ticks since the machine was; "" when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _kernel() -> str:
    """What two processes share that can see one another in /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return secrets.token_hex(8)  # nobody


def holder() -> str:
    """This process, and this journal of it: host, kernel, pid, start, chance."""
    return "\n".join((socket.gethostname(), _kernel(), str(os.getpid()), _begun(os.getpid()), secrets.token_hex(6)))


def is_dead(other: str) -> bool:
    """Whether a holder is certainly no more."""
    _, kernel, pid, begun, _ = other.split("\n")
    return kernel == _kernel() and _begun(int(pid)) != begun


class Leases:
    """The leases of one process. `take(key)` gets one, or says who has it; `steal` gets one from that holder."""

    def __init__(
        self, me: str, lease: float, *, take: Callable[[str], str | None], steal: Callable[[str, str], bool],
        renew: Callable[[list[str]], None], give: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._me = me
        self._lease = lease
        self._take, self._steal, self._renew, self._give = take, steal, renew, give
        self._changed = threading.Condition()
        self._held: set[str] = set()
        self._end = threading.Event()
        self._renewing = False

    def claim(self, key: str, patience: float) -> bool:
        deadline, pause = time.monotonic() + patience, LOOK_AGAIN[0]
        while not self._try(key):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                self._changed.wait(min(pause, left))
            pause = min(pause * 2, LOOK_AGAIN[1])
        return True

    def _try(self, key: str) -> bool:
        with self._changed:
            if key in self._held:
                return False
            self._held.add(key)  # first, for the database is asked without the lock
        mine = False
        try:
            other = self._take(key)
            mine = other is None or (is_dead(other) and self._steal(key, other))
        finally:
            if not mine:
                with self._changed:
                    self._held.discard(key)
        if mine and not self._renewing:
            self._renewing = True
            threading.Thread(target=self._keep, name="lastcall-leases", daemon=True).start()
        return mine

    def release(self, key: str) -> None:
        try:
            self._give(key)
        except JournalError:
            pass  # it runs out
        with self._changed:
            self._held.discard(key)
            self._changed.notify_all()

    def is_left(self, key: str, other: str | None, *, ended: bool) -> bool:
        """Whether a request that has not ended is for somebody to adopt; `other` has, or had, the lease on it."""
        if key in self._held:
            return False
        return ended or other is None or other == self._me or is_dead(other)

    def _keep(self) -> None:
        while not self._end.wait(self._lease / RENEWALS):
            with self._changed:
                held = sorted(self._held)
            try:
                if held:
                    self._renew(held)
            except JournalError:
                continue  # the next one may reach it; else our writes say that they are lost

    def close(self) -> None:
        self._end.set()
