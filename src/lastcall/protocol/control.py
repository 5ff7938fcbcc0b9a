"""What is said on the control socket: one JSON object a line, one request a connection, then replies.

The client sends one `Command`; the master sends any number of `Reply` with `final` False (progress), then one with
`final` True, and closes. A line is at most LINE_MAX bytes.
"""

from __future__ import annotations

import enum

import msgspec

LINE_MAX = 1 << 20
"""Bytes. A status of 512 workers, the most there are, is about 200 kB."""


class Do(enum.Enum):
    """What the master can be asked for."""

    STATUS = "status"
    RELOAD = "reload"
    RESTART = "restart"
    STOP = "stop"
    REOPEN = "reopen"
    SCALE = "scale"


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request to the master."""

    do: Do
    wait: bool = False
    """Reply when it is done, not when it has begun."""
    delta: int = 0
    """For SCALE: workers to add, or to take away."""


class InFlight(msgspec.Struct, frozen=True):
    """A request that a worker is running."""

    id: str
    method: str
    uri: str
    client: str
    elapsed: float
    step: str


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker, as the master and its slot know it."""

    serial: int
    slot: int
    pid: int | None
    generation: int
    stage: str
    age: float
    requests: int
    connections: int
    in_flight: list[InFlight]


class LastReload(msgspec.Struct, frozen=True):
    """How the last reload ended."""

    generation: int
    ok: bool
    text: str
    at: float
    """Unix time."""


class Status(msgspec.Struct, frozen=True):
    """What `lastcall status` shows."""

    version: str
    pool: str
    pid: int
    phase: str
    started: float
    """Unix time."""
    uptime: float
    generation: int
    application: str
    listen: list[str]
    run_dir: str
    workers_wanted: int
    workers: list[WorkerStatus]
    requests: int
    """Finished since the master started, by living and by gone workers."""
    cut: int
    """Requests that were running when their worker died."""
    restarts: int
    """Workers that ended without being asked to."""
    last_reload: LastReload | None = None


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from the master."""

    ok: bool
    text: str = ""
    final: bool = True
    status: Status | None = None
