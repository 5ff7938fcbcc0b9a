"""What the master leaves to its next image when it re-executes itself: one JSON document in an anonymous file. The same
document lies in the run directory, for the master after one that has died (docs/MASTER.md).

Descriptors cross the exec under their numbers; a dead master's are nobody's. Everything else is here. The reader may be a
newer or an older lastcall than the writer: fields that it does not know are ignored, those that are missing have defaults,
and what cannot be read at all is refused, before anything has changed.
"""

from __future__ import annotations

import msgspec

from lastcall.protocol.control import LastReload, LastTakeover
from lastcall.protocol.papers import Papers

VARIABLE = "_LASTCALL_HANDOVER"
"""The environment variable that names the document: `PURPOSE:DESCRIPTOR`."""
PROBE = "probe"
"""Say whether you could take over, and exit."""
TAKE_OVER = "take-over"
FORMAT = 1
"""Raised when a reader of the old format would misunderstand the new one."""
BYTES_MAX = 16 << 20
"""Of the document: 512 workers and 64 clients take less than a megabyte."""

Plain = str | int | float | bool | list[str] | None


class Unreadable(Exception):
    """The document cannot be taken over; the text says why."""


class Output(msgspec.Struct, frozen=True):
    """The master's end of a worker's stdout or stderr, and the unfinished line that was read from it."""

    fd: int
    stream: str
    rest: bytes = b""


class Worker(msgspec.Struct, frozen=True):
    """A worker, as the machine and the shell know it. Times are monotonic."""

    serial: int
    slot: int
    generation: int
    stage: str
    pid: int
    link: int
    """The descriptor of the master's end of its socket."""
    born: float
    since: float
    deadline: float | None = None
    ready_at: float | None = None
    spent: str = ""
    overdue: bool = False
    serving: bool = False
    reported: float = 0.0
    max_age: float = 0.0
    outputs: list[Output] = []
    custody: int = -1
    """The descriptor that its custodian reports to; -1: it has none."""
    keeper: int = 0
    """The custodian's pid, once it has said so."""
    limit: float | None = None
    pidfd: int = -1
    """Of a worker that is not the master's child; else -1."""
    ended: int | None = None
    """In an adoption: the worker has died since, with this wait status as far as it is known."""


class Release(msgspec.Struct, frozen=True):
    """A generation: what it was given."""

    generation: int
    settings: dict[str, Plain]
    workers: int
    """How many it should have, after scaling."""
    listeners: list[int]
    """By their numbers."""


class Listener(msgspec.Struct, frozen=True):
    """A listening socket."""

    fd: int
    papers: Papers
    source: str = ""
    """Where it came from in the first place; empty: it was our own."""


class Former(msgspec.Struct, frozen=True):
    """A listener that is closed, whose connections live on."""

    papers: Papers
    name: str
    port: str
    family: int


class Client(msgspec.Struct, frozen=True):
    """A client of the control socket that waits for an answer."""

    fd: int
    ticket: int
    received: bytes = b""


class Reign(msgspec.Struct, frozen=True):
    """What the master's loop knows."""

    current: int
    """The generation in force; `releases` has it, and all others that are named here or that workers belong to."""
    fallback: int | None
    overtaken: list[int]
    releases: list[Release]
    workers: list[Worker]
    serial: int
    generation: int
    failures: list[float]
    forks_failed: int
    spawn_after: float
    why: str
    waiting: list[int]
    """Tickets of a reload under way."""
    started: float
    """Unix time."""
    born: float
    requests: int
    cut: int
    deaths: int
    last_reload: LastReload | None = None
    last_takeover: LastTakeover | None = None
    calm_since: float | None = None
    first: int = 1
    untried: bool = False
    announced: bool = True


class Estate(msgspec.Struct, frozen=True):
    """What surrounds it."""

    run_dir: str
    keep_run_dir: bool
    lock: int
    pid_file: str
    pid_lock: int
    """-1: there is no pid file."""
    board: str
    """The layout of the board: both images must mean the same."""
    inbox: list[int]
    control: int
    clients: list[Client]
    listeners: list[Listener]
    notify: dict[str, str]
    """The service manager's environment variables, which were taken out of the environment."""
    former: list[Former] = []
    spoken_for: bool = False
    kept_before: bool = False
    delivered: bool = False
    """What the service manager is known to do with sockets: see `runtime/serve.py`."""
    boot: str = ""
    """Of the machine: pids and times of another one mean nothing."""
    pid: int = 0
    """The master's."""


class Handover(msgspec.Struct, frozen=True):
    """The whole document."""

    format: int
    version: str
    """The lastcall that wrote it."""
    estate: Estate
    reign: Reign
    tickets: list[int]
    """Of those who wait for the restart."""


class _Head(msgspec.Struct, frozen=True):
    format: int
    version: str = "?"


def encode(handover: Handover) -> bytes:
    return msgspec.json.encode(handover)


def decode(data: bytes) -> Handover:
    """Raises Unreadable."""
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != FORMAT:
            raise Unreadable(f"lastcall {head.version} hands over in format {head.format}, this one reads {FORMAT}")
        return msgspec.json.decode(data, type=Handover)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"what was handed over cannot be read: {error}") from error
