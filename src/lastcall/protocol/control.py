"""What is said on the control socket: one JSON object a line, one request a connection, then replies.

The client sends one `Command`; the master sends any number of `Reply` with `final` False (progress), then one with
`final` True, and closes. A line is at most LINE_MAX bytes.
"""

from __future__ import annotations

import enum

import msgspec

LINE_MAX = 1 << 20
"""Bytes."""
STATUS_MAX = 128 << 10
"""Bytes of a status: what a socket's buffer takes at once (212,992 unless the system says otherwise), with room to spare.
Nobody waits for a client to read."""


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
    final: bool = False
    """For STOP: leave nothing behind for the next start."""


class StepStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a request has said that it was."""

    name: str
    at: float
    """Seconds since it had begun."""
    about: str = ""


class InFlight(msgspec.Struct, frozen=True):
    """A request that a worker is running."""

    id: str
    method: str
    uri: str
    client: str
    elapsed: float
    step: str
    """The last one of `steps`; empty if it has not said any."""
    where: str = ""
    """The line of code that it is in, or that its worker does not answer."""
    steps: list[StepStatus] = []
    steps_before: int = 0
    """Earlier ones, of which only the number is known."""
    critical: float = 0.0
    """Seconds for which it has been past a point of no return; 0: it is not."""


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
    waiting: list[str] = []
    """What else it has to finish: `1 request still arriving`, `2 responses not yet taken`. Known of those that were asked:
    who runs requests, and who drains."""


class LastReload(msgspec.Struct, frozen=True):
    """How the last reload ended."""

    generation: int
    ok: bool
    text: str
    at: float
    """Unix time."""


class LastTakeover(msgspec.Struct, frozen=True):
    """When another master had died, and what this one has found of it."""

    master: int
    """Its pid."""
    workers: int
    dead: int
    connections: int
    cuts: int
    seconds: float
    """For which there was no master."""
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
    uncompleted: int = 0
    """Cuts for which `on_cut` has not returned yet, as far as this master knows of them."""
    last_takeover: LastTakeover | None = None
    left_out: int = 0
    """Requests in flight that are not listed: the youngest, where all of them would be too many for one line."""
    journal: str = ""
    """Where durable requests are written down; "": nowhere."""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from the master."""

    ok: bool
    text: str = ""
    final: bool = True
    status: Status | None = None


def bounded(status: Status) -> Status:
    """The status with as many of its requests in flight, the oldest first, as STATUS_MAX allows."""
    listed = sorted((request.elapsed for worker in status.workers for request in worker.in_flight), reverse=True)
    keep = len(listed)
    bound = status
    while len(msgspec.json.encode(bound)) > STATUS_MAX and keep:
        keep //= 2
        bound = _oldest(status, keep, listed)
    return bound


def _oldest(status: Status, keep: int, elapsed: list[float]) -> Status:
    least = elapsed[keep - 1] if keep else float("inf")
    workers = [
        msgspec.structs.replace(worker, in_flight=[request for request in worker.in_flight if request.elapsed >= least])
        for worker in status.workers
    ]
    left = sum(len(worker.in_flight) for worker in workers)
    return msgspec.structs.replace(status, workers=workers, left_out=len(elapsed) - left)
