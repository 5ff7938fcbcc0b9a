"""What the master's machine is told, and what it orders: its events and its actions, and what they are about.

Events are past participles, actions are imperatives; both are plain data. `lifecycle.py` decides what follows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lastcall.core import notes


class Word(enum.Enum):
    """What a worker can be told, over its control socket."""

    REST = "rest"
    """Take nothing new, finish what has begun, and stay: SERVE may follow, or DRAIN."""
    DRAIN = "drain"
    TRACE = "trace"


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of the settings that the machine needs. The settings have checked it; times are seconds."""

    pool: str = "app"
    workers: int = 2
    surge: int = 1
    """Workers beyond `workers` while generations overlap. One is allowed always, or nothing could be replaced."""
    boot_timeout: float = 60.0
    """0: none."""
    drain_timeout: float = 60.0
    """0: none, wait for ever."""
    critical_timeout: float = 10.0
    """How long the end of a drain waits for requests that are past a point of no return. 0: it does not."""
    trace_timeout: float = 1.0
    """From TRACE to SIGKILL. 0: no trace, SIGKILL at once."""
    min_uptime: float = 1.0
    """Dying sooner than this after READY counts as a failure."""
    trial: float = 0.5
    """How long a reload must go well before what it replaces is let go. 0: old workers go as they are replaced."""
    lame_duck: float = 0.0
    """How long the first stop is only announced. 0: it drains at once."""
    failures_max: int = 5
    """A release on trial is given up after more failures than this."""
    failures_window: float = 60.0
    """A failure of a proven release is forgotten after this."""
    backoff: float = 0.1
    """The first pause after a failure; it doubles with each further one, up to `backoff_max`."""
    backoff_max: float = 10.0

    def __post_init__(self) -> None:
        assert self.workers >= 1
        assert 0 < self.backoff <= self.backoff_max


# --- Events: what happened ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawned:
    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """fork() failed. The operating system's trouble, not the application's."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Booted:
    """The worker says that it is ready."""

    serial: int


@dataclass(frozen=True, slots=True)
class BootFailed:
    """The worker says that the application cannot be loaded: trying again will not help. Its exit follows."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Spent:
    """The worker is due for recycling. It serves on until it is told to drain."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """The worker runs a request that is older than the request timeout."""

    serial: int


@dataclass(frozen=True, slots=True)
class Committed:
    """The worker runs a request that is past a point of no return, at this moment.

    To be said whenever its drain is to end, and always while it is CUTTING.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class Traced:
    """The worker has written down where it is: SIGKILL need not wait."""

    serial: int


@dataclass(frozen=True, slots=True)
class Exited:
    """Reaped. `status` is the wait status."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Somebody wants a new generation. Ticket 0: nobody waits for the outcome."""

    policy: Policy
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Resize:
    delta: int
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the master to end. Each further one, of whatever kind, wants it sooner."""

    hurry: bool
    ticket: int = 0
    at_once: bool = False
    """Without the lame duck: nobody else is to be warned."""


AboutWorker = Spawned | SpawnFailed | Booted | BootFailed | Spent | Overdue | Committed | Traced
Event = AboutWorker | Exited | Reload | Resize | Stop


# --- Actions: what to do -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker; report Spawned or SpawnFailed in the next step."""

    serial: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Tell:
    serial: int
    word: Word


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL. The pid has not been reaped: it cannot be somebody else's."""

    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class Write:
    note: notes.Note


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell whoever holds the ticket how it ended. Exactly once for each ticket."""

    ticket: int
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Forget:
    """No worker of this generation is left, and none will be started: release its resources."""

    generation: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The last action."""

    code: int


Action = Spawn | Tell | Kill | Write | Answer | Forget | Exit
