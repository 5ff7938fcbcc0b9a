"""Every setting once: its name, type, default, words, bounds and where it stands in the help.

The command line, the environment (`LASTCALL_<NAME>`), the keys of the TOML file and docs/CONFIGURATION.md are all
derived from this table. How a value is written is `values.py`'s; where it came from, and whether a directory exists
or a user is known, is not known here.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from lastcall.core import address, replay, slot
from lastcall.core.mistakes import Mistake

ENV_PREFIX = "LASTCALL_"
DEFAULT_HTTP = "127.0.0.1:8000"
"""Where we listen when nobody says where."""

Value = str | int | float | bool | tuple[str, ...] | None
"""What a setting's value can be. None is `leave it as it is`."""


class Kind(enum.Enum):
    """How a value is written. The value is the word that the documentation uses."""

    TEXT = "text"
    CHOICE = "one of"
    FLAG = "yes or no"
    COUNT = "number"
    LIMIT = "number or unlimited"
    DURATION = "duration"
    SIZE = "size"
    MODE = "octal mode"
    PATH = "path"
    LOG = "path or -"
    ADDRESSES = "addresses"
    NETWORKS = "addresses and networks"
    TEXTS = "texts"


class Group(enum.Enum):
    """The sections of `--help` and of the documentation, in order."""

    APPLICATION = "Application"
    LISTEN = "Listen"
    WORKERS = "Workers"
    TIMEOUTS = "Timeouts"
    LIMITS = "Limits"
    LOGS = "Logs"
    PROCESS = "Process"
    DURABLE = "Durable requests"


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known about one setting."""

    doc: str
    """One sentence."""
    kind: Kind
    group: Group
    metavar: str = ""
    zero: str = ""
    """What 0, or nothing, stands for; for the documentation."""
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = float("inf")
    check: Callable[[str], None] | None = None
    """For texts, each of several: raises Mistake."""
    name: str = ""
    default: Value = None

    @property
    def option(self) -> str:
        """`--max-requests`; the application is the command's argument."""
        return "APP" if self.name == "app" else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """`LASTCALL_MAX_REQUESTS`."""
        return ENV_PREFIX + self.name.upper()

    @property
    def many(self) -> bool:
        """The option may be repeated, the TOML value may be a list."""
        return self.kind in (Kind.ADDRESSES, Kind.NETWORKS, Kind.TEXTS)


_T = TypeVar("_T")


def _setting(
    default: _T,
    group: Group,
    kind: Kind,
    doc: str,
    *,
    metavar: str = "",
    zero: str = "",
    choices: tuple[str, ...] = (),
    least: float = 0,
    most: float = float("inf"),
    check: Callable[[str], None] | None = None,
) -> _T:
    spec = Spec(doc, kind, group, metavar, zero, choices, least, most, check)
    return dataclasses.field(default=default, metadata={"spec": spec})


# --- Checks of texts ---------------------------------------------------------

_APP = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?)?")
_WARMUP = re.compile(r"/[!-~]*|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_POOL = re.compile(r"[A-Za-z0-9_.-]{1,32}")


def _is_app(text: str) -> None:
    if text and not _APP.fullmatch(text):
        remedy = "write module:callable, module:factory() or module, with dots in the module: gift.app:app"
        if text.endswith(".py") or "/" in text:
            remedy = "write the module, not its file: gift.app:app for gift/app.py, with --app-dir for where it is"
        raise Mistake(f"{text!r} does not name an application", remedy)


def _is_warmup(text: str) -> None:
    if not _WARMUP.fullmatch(text):
        remedy = "write a path, /warm?all=1, with other than ASCII's letters as %XX, or module:callable"
        raise Mistake(f"{text!r} is nothing that an application can be warmed up with", remedy)


def _is_pool(text: str) -> None:
    if not _POOL.fullmatch(text):
        raise Mistake(f"{text!r} cannot be a pool's name", "use 1 to 32 letters, digits, dots, dashes, underscores")


def _is_function(text: str) -> None:
    if text and not _FUNCTION.fullmatch(text):
        raise Mistake(f"{text!r} does not name a function", "write module:function, as in gift.repair:complete")


def _is_route(text: str) -> None:
    replay.parse(text)


def _is_header(text: str) -> None:
    if not _HEADER.fullmatch(text):
        remedy = "write a header's name, in letters, digits and dashes: X-Amzn-Trace-Id"
        raise Mistake(f"{text!r} cannot be a header's name", remedy)


_JOURNAL = re.compile(r"/.*|memory:|(postgres|postgresql|mongodb|mongodb\+srv)://.+")


def _is_journal(text: str) -> None:
    if text and not _JOURNAL.fullmatch(text):
        remedy = "name a directory, beginning with a slash, or write postgresql://... or mongodb://..."
        raise Mistake(f"{text!r} names no journal", remedy)


def _is_path(text: str) -> None:
    if text and not text.startswith("/"):
        raise Mistake(f"{text!r} is no path of a request", f"begin it with a slash: /{text}")


# --- The table ---------------------------------------------------------------

APPLICATION, LISTEN, WORKERS, TIMEOUTS, LIMITS, LOGS, PROCESS, DURABLE = Group


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, checked one by one. Their names are an interface: removing one is a breaking change."""

    # fmt: off
    app: str = _setting(
        "", APPLICATION, Kind.TEXT,
        "The application: module:callable, module:factory() or module.",
        metavar="APP", zero="the only obvious candidate in the application's directory", check=_is_app,
    )
    factory: bool = _setting(
        False, APPLICATION, Kind.FLAG,
        "The callable makes the application, and is called once per worker.",
    )
    app_dir: str = _setting(
        "", APPLICATION, Kind.PATH,
        "The directory that the application is imported from.",
        metavar="DIR", zero="the working directory",
    )
    chdir: str = _setting(
        "", APPLICATION, Kind.PATH,
        "The working directory of master and workers.",
        metavar="DIR", zero="as started",
    )

    warmup: tuple[str, ...] = _setting(
        (), APPLICATION, Kind.TEXTS,
        "Before a worker is ready: a path to GET from it (/warm), or module:callable to call; may be repeated.",
        metavar="WHAT", zero="nothing", check=_is_warmup,
    )

    on_cut: str = _setting(
        "", APPLICATION, Kind.TEXT,
        "module:function to call with the record of each request that was cut, in a process of its own, until it returns.",
        metavar="FUNCTION", zero="nothing is called", check=_is_function,
    )

    http: tuple[str, ...] = _setting(
        (), LISTEN, Kind.ADDRESSES,
        "Speak HTTP/1.1 at this address; may be repeated.",
        metavar="ADDR", zero=f"{DEFAULT_HTTP} where nothing else says where to listen",
    )
    fastcgi: tuple[str, ...] = _setting(
        (), LISTEN, Kind.ADDRESSES,
        "Speak FastCGI at this address; may be repeated.",
        metavar="ADDR", zero="none",
    )
    backlog: int = _setting(
        511, LISTEN, Kind.COUNT,
        "Connections that may wait in the kernel to be accepted, per listener.",
        metavar="N", least=1, most=2**31 - 1,
    )
    socket_mode: int = _setting(0o660, LISTEN, Kind.MODE, "Permissions of UNIX sockets.", metavar="MODE")
    socket_owner: str = _setting("", LISTEN, Kind.TEXT, "Owner of UNIX sockets.", metavar="USER", zero="as created")
    socket_group: str = _setting("", LISTEN, Kind.TEXT, "Group of UNIX sockets.", metavar="GROUP", zero="as created")
    forwarded_allow_ips: tuple[str, ...] = _setting(
        ("127.0.0.1", "::1", "unix"), LISTEN, Kind.NETWORKS,
        "Peers whose X-Forwarded-* and X-Request-Id are believed: addresses, networks, unix, or * for all.",
        metavar="NET", zero="nobody",
    )

    ready_path: str = _setting(
        "", LISTEN, Kind.TEXT,
        "Answer GET of this path without the application: 200 while in service, 503 once a stop is announced.",
        metavar="PATH", zero="none", check=_is_path,
    )

    pool: str = _setting(
        "app", WORKERS, Kind.TEXT,
        "The pool's name in logs and status.",
        metavar="NAME", check=_is_pool,
    )
    workers: int = _setting(
        2, WORKERS, Kind.COUNT,
        "Worker processes.",
        metavar="N", least=1, most=slot.WORKERS_MAX,
    )
    threads: int = _setting(
        1, WORKERS, Kind.COUNT,
        "Threads that run requests in each worker.",
        metavar="N", least=1, most=slot.LANES,
    )
    worker: str = _setting(
        "auto", WORKERS, Kind.CHOICE,
        "The worker's loop: auto is threads where --threads is above 1, else sync.",
        choices=("auto", "sync", "threads"),
    )
    surge: int = _setting(
        1, WORKERS, Kind.COUNT,
        "Workers beyond --workers while two generations overlap.",
        metavar="N", least=1, most=slot.SURGE_MAX,
    )
    max_requests: int = _setting(
        0, WORKERS, Kind.COUNT,
        "A worker is recycled after this many requests; its successor is ready first.",
        metavar="N", zero="never",
    )
    max_requests_jitter: int = _setting(
        0, WORKERS, Kind.COUNT,
        "Up to this many requests more, so that not all workers are recycled at once.",
        metavar="N",
    )
    max_age: float = _setting(
        0.0, WORKERS, Kind.DURATION,
        "A worker is recycled after it has served for this long; its successor is ready first.",
        metavar="TIME", zero="never",
    )
    max_age_jitter: float = _setting(
        0.0, WORKERS, Kind.DURATION,
        "Up to this much longer, so that not all workers are recycled at once.",
        metavar="TIME", zero="none",
    )
    max_memory: int = _setting(
        0, WORKERS, Kind.SIZE,
        "A worker is recycled when it holds this much memory, files apart (RSS less shared); its successor is ready first.",
        metavar="SIZE", zero="never",
    )
    max_connections: int = _setting(
        1000, WORKERS, Kind.COUNT,
        "Connections that one worker keeps.",
        metavar="N", least=1, most=1_000_000,
    )

    custody: str = _setting(
        "on", WORKERS, Kind.CHOICE,
        "on: the clients of a worker that dies are answered on the connection that they have; off: it is closed.",
        choices=("on", "off"),
    )
    replay: str = _setting(
        "safe", WORKERS, Kind.CHOICE,
        "Which requests are run again when their worker has died: safe methods (GET, HEAD, OPTIONS), idempotent ones "
        "(PUT and DELETE as well), or none.",
        choices=tuple(replay.METHODS),
    )

    replay_routes: tuple[str, ...] = _setting(
        (), WORKERS, Kind.TEXTS,
        "Another rule for some paths: POST|PUT /search/* always, or /once/* none; the first match decides; may be repeated.",
        metavar="ROUTE", zero="replay is for all", check=_is_route,
    )

    orphan_timeout: float = _setting(
        300.0, TIMEOUTS, Kind.DURATION,
        "When the master dies its workers serve on, and wait for the next one for this long; then they drain.",
        metavar="TIME", zero="they drain at once",
    )
    boot_timeout: float = _setting(
        60.0, TIMEOUTS, Kind.DURATION,
        "A worker must be ready within this.",
        metavar="TIME", zero="wait for ever",
    )
    trial: float = _setting(
        0.5, TIMEOUTS, Kind.DURATION,
        "A reload's new workers must serve for this long before the old ones, which rest meanwhile, are let go.",
        metavar="TIME", zero="old workers are let go as they are replaced",
    )
    lame_duck: float = _setting(
        0.0, TIMEOUTS, Kind.DURATION,
        "A stop is announced (--ready-path says 503), and everything goes on for this long; then it drains.",
        metavar="TIME", zero="a stop drains at once",
    )
    drain_timeout: float = _setting(
        60.0, TIMEOUTS, Kind.DURATION,
        "A draining worker may finish what it has begun for this long.",
        metavar="TIME", zero="wait for ever",
    )
    critical_timeout: float = _setting(
        10.0, TIMEOUTS, Kind.DURATION,
        "How long drain_timeout and request_timeout wait for a request past a point of no return (lastcall.critical).",
        metavar="TIME", zero="they do not wait",
    )
    request_timeout: float = _setting(
        0.0, TIMEOUTS, Kind.DURATION,
        "A request may run for this long; then its worker is cut, stack trace first.",
        metavar="TIME", zero="for ever",
    )
    on_cut_timeout: float = _setting(
        30.0, TIMEOUTS, Kind.DURATION,
        "on_cut may run for this long; then it is killed, and run again later.",
        metavar="TIME", least=0.1, most=3600,
    )
    header_timeout: float = _setting(
        10.0, TIMEOUTS, Kind.DURATION,
        "A request's head must arrive within this.",
        metavar="TIME", zero="wait for ever",
    )
    body_timeout: float = _setting(
        30.0, TIMEOUTS, Kind.DURATION,
        "Pause allowed between two pieces of a request's body.",
        metavar="TIME", zero="wait for ever",
    )
    send_timeout: float = _setting(
        60.0, TIMEOUTS, Kind.DURATION,
        "Pause allowed in which a client takes nothing of its response.",
        metavar="TIME", zero="wait for ever",
    )
    keepalive_timeout: float = _setting(
        75.0, TIMEOUTS, Kind.DURATION,
        "A kept connection may idle for this long.",
        metavar="TIME", zero="connections are not kept",
    )

    max_body: int = _setting(
        1 << 30, LIMITS, Kind.SIZE,
        "Bytes of a request's body; 413 beyond.",
        metavar="SIZE", zero="no limit",
    )
    body: str = _setting(
        "spool", LIMITS, Kind.CHOICE,
        "spool: take the body in before the application runs; stream: while it runs.",
        choices=("spool", "stream"),
    )
    body_buffer: int = _setting(
        64 << 10, LIMITS, Kind.SIZE,
        "Bytes of a request's body held in memory; an unlinked file beyond.",
        metavar="SIZE",
    )
    response_buffer: int = _setting(
        256 << 10, LIMITS, Kind.SIZE,
        "Bytes of a response held in memory for a slow client; an unlinked file beyond.",
        metavar="SIZE",
    )
    max_head: int = _setting(
        64 << 10, LIMITS, Kind.SIZE,
        "Bytes of a request's head; 431 beyond.",
        metavar="SIZE", least=512, most=16 << 20,
    )
    max_headers: int = _setting(
        100, LIMITS, Kind.COUNT,
        "Header fields of a request; 431 beyond.",
        metavar="N", least=1, most=100_000,
    )
    max_request_line: int = _setting(
        8190, LIMITS, Kind.SIZE,
        "Bytes of a request's first line; 414 beyond.",
        metavar="SIZE", least=64, most=16 << 20,
    )
    tmp_dir: str = _setting(
        "", LIMITS, Kind.PATH,
        "Where bodies are spooled.",
        metavar="DIR", zero="the system's temporary directory (TMPDIR, /tmp, /var/tmp), else the run directory",
    )

    error_log: str = _setting("-", LOGS, Kind.LOG, "The error log; - is stderr.", metavar="FILE")
    log_level: str = _setting(
        "notice", LOGS, Kind.CHOICE,
        "The least level that is logged.",
        choices=("debug", "notice", "warning", "error", "alert"),
    )
    access_log: str = _setting("", LOGS, Kind.LOG, "The access log; - is stdout.", metavar="FILE", zero="none")
    access_format: str = _setting(
        "combined", LOGS, Kind.TEXT,
        "combined, common, json, fpm or gunicorn, or a format of php-fpm's fields (%R) or gunicorn's (%(h)s).",
        metavar="FORMAT",
    )
    trace_header: str = _setting(
        "traceparent", LOGS, Kind.TEXT,
        "The request header that names its trace, for the cut list.",
        metavar="NAME", check=_is_header,
    )
    catch_output: bool = _setting(
        False, LOGS, Kind.FLAG,
        "What the application writes to stdout and stderr goes to the error log.",
    )
    decorate_output: bool = _setting(
        True, LOGS, Kind.FLAG,
        "Caught output says which worker said it; without, it is logged as it is.",
    )

    pid: str = _setting("", PROCESS, Kind.PATH, "The file to write the master's pid to.", metavar="FILE", zero="none")
    hold: float = _setting(
        0.0, PROCESS, Kind.DURATION,
        "After a stop the listeners and kept connections wait this long for the next start.",
        metavar="TIME", zero="they do not wait",
    )
    run_dir: str = _setting(
        "", PROCESS, Kind.PATH,
        "The directory for the control socket, the slots and the cut list.",
        metavar="DIR", zero="one of its own under /run, the user's run directory or the system's temporary one",
    )
    user: str = _setting(
        "", PROCESS, Kind.TEXT,
        "The user that workers run as; needs root.",
        metavar="USER", zero="as started",
    )
    group: str = _setting(
        "", PROCESS, Kind.TEXT,
        "The group that workers run as; needs root.",
        metavar="GROUP", zero="the user's",
    )
    umask: int | None = _setting(
        None, PROCESS, Kind.MODE,
        "The file mode creation mask.",
        metavar="MODE", zero="as started", most=0o777,
    )
    rlimit_files: int | None = _setting(
        None, PROCESS, Kind.LIMIT,
        "Open files per process.",
        metavar="N", zero="as many as allowed, up to 65536", least=16,
    )
    rlimit_core: int | None = _setting(
        None, PROCESS, Kind.LIMIT,
        "Bytes of a core dump.",
        metavar="N", zero="as started",
    )
    supervise: bool = _setting(
        False, PROCESS, Kind.FLAG,
        "Start the next master when this one dies. Not under systemd, whose Restart= does it.",
    )
    daemon: bool = _setting(False, PROCESS, Kind.FLAG, "Go to the background once ready.")

    journal: str = _setting(
        "", DURABLE, Kind.TEXT,
        "Where durable requests are written down: a directory on a disk that stays, postgresql://... or mongodb://...",
        metavar="WHERE", zero="nowhere: durable requests are refused", check=_is_journal,
    )
    durability: str = _setting(
        "power", DURABLE, Kind.CHOICE,
        "What a journal in a directory survives: the death of every process, or a power cut as well.",
        choices=("process", "power"),
    )
    journal_size: int = _setting(
        1 << 30, DURABLE, Kind.SIZE,
        "Bytes of a journal in a directory; beyond, durable requests are refused.",
        metavar="SIZE", zero="no limit",
    )
    journal_keep: float = _setting(
        7 * 86400.0, DURABLE, Kind.DURATION,
        "A finished durable request is remembered, and answered again, for this long.",
        metavar="TIME", zero="it is forgotten at once",
    )
    durable_wait: float = _setting(
        5.0, DURABLE, Kind.DURATION,
        "A durable request waits this long for another one with the same key that is running; 409 beyond.",
        metavar="TIME", zero="it does not wait",
    )
    # fmt: on

    @property
    def listeners(self) -> tuple[tuple[str, address.Address], ...]:
        """`("http" | "fastcgi", address)` of each, in the order given."""
        return tuple((name, address.parse(text)) for name in ("http", "fastcgi") for text in getattr(self, name))


SPECS: dict[str, Spec] = {
    field.name: dataclasses.replace(field.metadata["spec"], name=field.name, default=field.default)
    for field in dataclasses.fields(Settings)
}
"""Every setting by its name, in the table's order."""


def build(values: Mapping[str, Value]) -> Settings:
    """Settings of these values, which `values.read` or `values.take` made, and defaults for the rest."""
    return Settings(**values)  # type: ignore[arg-type]  # each kind yields its field's type; a test compares them
