"""The words of an explanation: what a line of a log can tell, and where it stands.

Pure. A reader turns a line into something `Told`: when, by the clock that wrote it, and what. Whoever collects it knows that
clock, and makes Unix time of it. Times are floats, seconds since 1970; a span is in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Quote(NamedTuple):
    """A line that is relied on. Line 0 is the file as a whole."""

    file: str
    line: int
    text: str = ""


class When(NamedTuple):
    """A time as it is written."""

    wall: float
    """Seconds since 1970, as though the clock stood in UTC."""
    offset: int | None = None
    """Seconds east of UTC; None: the line does not say."""
    grain: float = 1.0
    """How exact it is: the time is in [wall, wall + grain)."""
    dated: bool = True
    """False: syslog's old form, which has no year; `wall` is in 1972."""


class Did(Enum):
    """What happened to a service."""

    TOLD = "was told to stop"
    RELOADING = "was told to reload"
    GONE = "has ended"
    STARTING = "starts"
    READY = "is ready"
    WORKER_DIED = "lost a worker"
    VANISHED = "was killed"
    REOPENED = "reopened its logs"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a service, or who runs it, says about the service."""

    service: str
    did: Did
    cause: str = ""
    """The signal without SIG, `oom`, `segfault`, `timeout`; "" where the line does not say."""
    pid: int = 0
    sender: str = ""
    """Who is said to have ordered it."""
    grace: float | None = None
    """Seconds that what runs is given, where the line says so."""


class Fault(Enum):
    """What a front says of a server behind it."""

    RESET = "the connection was reset while the answer was awaited"
    CLOSED = "the connection was closed while the answer was awaited"
    SENDING = "the connection broke while the request was sent"
    BROKEN = "the answer broke off"
    REFUSED = "nobody listened"
    FULL = "the queue was full"
    LATE = "no answer came in time"
    UNREACHED = "no connection came about in time"


BEGUN = frozenset({Fault.RESET, Fault.CLOSED, Fault.SENDING, Fault.BROKEN})
"""The request had been sent, or nearly: somebody may have begun it."""

NOT_BEGUN = frozenset({Fault.REFUSED, Fault.FULL, Fault.UNREACHED})
"""Nobody has had the request."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A line of a front's error log about a request that a server behind it has not answered."""

    fault: Fault
    client: str
    method: str
    uri: str
    upstream: str
    connection: str = ""
    """The front's number of the client's connection."""


@dataclass(frozen=True, slots=True)
class Access:
    """A line of an access log. What it does not say is None, or ""."""

    status: int
    method: str
    uri: str
    client: str = ""
    took: float | None = None
    """Seconds from the request's first byte to the answer's last."""
    upstream: float | None = None
    """Seconds that the last server behind the front was waited for."""
    connected: bool | None = None
    """Whether a connection to it came about; None: the line does not say."""
    headed: bool | None = None
    """Whether it had begun to answer."""
    tried: int = 0
    """How many servers were asked; 0: the line does not say."""
    upstreams: str = ""
    id: str = ""
    ids: tuple[str, ...] = ()
    """Values that may name the request: ids of requests, orders, traces."""
    connection: str = ""
    began: bool = False
    """The time of the line is when the request came, not when it was answered."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Somebody was seen to run something, or to be about to."""

    kind: str
    """cron, sudo, systemd, logrotate, certbot, apt, ansible, monit, anacron, deploy, log."""
    command: str
    user: str = ""
    folder: str = ""
    """Where it was run."""


@dataclass(frozen=True, slots=True)
class Slow:
    """php-fpm says which request a worker is busy with."""

    pid: int
    script: str
    method: str = ""
    uri: str = ""
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class CutOff:
    """A record of lastcall's cut list."""

    began: float
    id: str
    method: str
    uri: str
    client: str
    said: str
    answered: bool
    """Its client was answered by another worker: nothing is half-done."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The line is understood, and does not matter here."""


Content = Happening | Complaint | Access | Sighting | Slow | CutOff | Nothing
NOTHING = Nothing()


class Told(NamedTuple):
    """What a line says, by the clock that wrote it."""

    when: When | None
    """None: the line belongs to the one before it."""
    what: Content


class Found(NamedTuple):
    """What a line says, by one clock for all."""

    at: float
    grain: float
    what: Content
    quote: Quote

    @property
    def until(self) -> float:
        """The latest that it can have been."""
        return self.at + self.grain


# --- What is made of it ------------------------------------------------------


class Class(Enum):
    """What has become of a request that was hit."""

    HALF_DONE = "half-done"
    NEVER_BEGUN = "never-begun"
    ANSWERED_LATE = "answered-late"
    RETRIED = "retried"
    UNTOLD = "done-untold"
    """The server finished it; its client was not told."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was hit, with what speaks for it."""

    kind: Class
    confidence: float
    why: str
    at: float
    began: float | None
    method: str
    uri: str
    client: str
    status: int | None
    id: str
    ids: tuple[str, ...]
    evidence: tuple[Quote, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A step of the incident, for the timeline."""

    at: float
    source: str
    said: str
    quote: Quote


@dataclass(frozen=True, slots=True)
class Orderer:
    """Who has ordered it."""

    kind: str
    what: str
    quote: Quote | None
    user: str
    confidence: float
    why: tuple[str, ...]
    steps: tuple[Quote, ...] = ()
    """From the order to the signal: each file and line on the way, `text` in words."""
    seen: Quote | None = None
    """The line of a log in which he was seen."""
    seen_at: float = 0.0
    days: int = 0
    """On how many other days the same was seen."""
    next: float | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to change."""

    said: str
    file: str
    line: int
    diff: str


@dataclass
class Incident:
    """A restart, or a death, of a service, and what came of it."""

    service: str
    at: float
    until: float
    """When the service was there again, or the last that was seen of the incident."""
    cause: str = ""
    how: str = ""
    dark: bool = False
    """Whether no log of a front has that time, so that nobody can say whom it hit."""
    instance: str = ""
    """The log or the unit that it is known from: there may be two of a service."""
    grain: float = 1.0
    gone: Found | None = None
    back: bool = False
    """Whether `until` is when it was there again."""
    grace: float | None = None
    """Seconds that what runs is given, as far as is known."""
    sender: tuple[str, Quote] | None = None
    marks: list[Found] = field(default_factory=list)
    """The lines that tell of it, in the order of their times."""
    said: str = ""
    effect: str = ""
    ordered_by: Orderer | None = None
    requests: list[Request] = field(default_factory=list)
    more: dict[Class, int] = field(default_factory=dict)
    """Requests of each class that were counted and not kept."""
    events: list[Event] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)

    def count(self, kind: Class) -> int:
        """How many requests are of this class."""
        return sum(request.kind is kind for request in self.requests) + self.more.get(kind, 0)

    @property
    def whole(self) -> bool:
        """Whether the server was killed as a whole, master and all, and not a worker of it."""
        return self.how == "crash" and not any(
            isinstance(mark.what, Happening) and mark.what.did is Did.WORKER_DIED for mark in self.marks
        )

    @property
    def hit(self) -> bool:
        """Whether a request was hit worse than by waiting."""
        return any(self.count(kind) for kind in Class if kind is not Class.ANSWERED_LATE)
