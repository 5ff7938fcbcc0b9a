r"""Access-log formats: a format is compiled once, and is then a function from a finished request to its line.

Three spellings: names (`combined`, `json`, ...), php-fpm's fields (`%R`, `%{user}C`, `%{HTTP_HOST}e`), and gunicorn's
atoms (`%(h)s`; a format that contains `%(` is gunicorn's). A line holds nothing that a client could use to forge a
second one: whatever is not printable ASCII, and quotes and backslashes, are written as \xNN.

Time arrives in the record. The only state is a memo: a second's text is made once.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, TypeVar

import msgspec

LINE_MAX: Final = 4096
"""Bytes of a line, its newline included: what a pipe takes in one piece from several writers (PIPE_BUF)."""

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Ours, because strftime's follow the locale, which an application may set."""

_COMBINED: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

NAMED: Final[Mapping[str, str]] = {
    "combined": _COMBINED,
    "common": '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s',
    "fpm": '%R - %u %t "%m %r" %s',
    "gunicorn": _COMBINED,
}
"""The named formats. `json` is the fifth: it is no template."""


@dataclass(slots=True)
class Record:
    """A request that has ended. Text is latin-1, as WSGI has it.

    Not frozen, though nobody changes it: a frozen one costs a microsecond more to make, on every request. Fields with a
    default may be left out; what they stand for is then looked up in `environ`, and only if the format asks for it.
    """

    method: str
    target: str
    """As the client sent it."""
    path: str
    """Percent-decoded, without the query."""
    query: str
    protocol: str
    """`HTTP/1.1`"""
    status: int
    sent: int
    """Bytes of the response's body."""
    received: int
    """Bytes of the request's body."""
    client: str
    """REMOTE_ADDR."""
    began: float
    """Unix time at which the request began."""
    duration: float
    """Seconds."""
    request_id: str
    pid: int
    parent_pid: int
    pool: str
    environ: Mapping[str, object]
    headers: Sequence[tuple[str, str]]
    """Of the response."""
    user: str = ""
    host: str = ""
    script: str = ""
    """SCRIPT_NAME."""
    queued: float = -1.0
    """Seconds between the front server's X-Request-Start and the request's beginning; below 0: look in `environ`."""
    cpu_user: float = 0.0
    """Seconds; to be filled in where `Format.wants_usage`."""
    cpu_system: float = 0.0
    memory: int = 0
    """Bytes; to be filled in where `Format.wants_usage`."""


Value = str | int | float
Getter = Callable[[Record], Value]


@dataclass(frozen=True, slots=True)
class Format:
    """A compiled format: `line(record)` is the record's line, without newline, of less than LINE_MAX bytes."""

    line: Callable[[Record], str]
    wants_usage: bool = False
    """The format shows processor time or memory: measure them."""

    def __call__(self, record: Record) -> str:
        return self.line(record)


def compile(text: str) -> Format:  # noqa: A001 - what re.compile is to expressions
    """Make a format's function. Raises ValueError: php-fpm's words, and where in the text."""
    if text == "json":
        return Format(_json)
    text = NAMED.get(text, text)
    draft = _Draft()
    if "%(" in text:
        _parse_atoms(text, draft)
    else:
        _parse_fields(text, draft)
    return Format(_renderer(draft), draft.wants_usage)


# --- Lines -------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """What a parser makes of a format: a %-template, and a getter for each of its places."""

    template: list[str] = field(default_factory=list)
    getters: list[Getter] = field(default_factory=list)
    blanks: list[Value] = field(default_factory=list)
    """Something for each place, to see the template's own characters by."""
    wants_usage: bool = False

    def literal(self, text: str) -> None:
        self.template.append(text.replace("%", "%%"))

    def place(self, getter: Getter, spec: str = "s") -> None:
        self.template.append("%" + spec)
        self.getters.append(getter)
        self.blanks.append("" if spec.endswith("s") else 0)


_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")


def escape(text: str) -> str:
    r"""Printable ASCII without quotes and backslashes; anything else is \xNN, byte by byte."""
    return _UNSAFE.sub(_hex, text)


def _hex(match: re.Match[str]) -> str:
    character = match[0]
    try:
        data = character.encode("latin-1")
    except UnicodeEncodeError:
        data = character.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02X}" for byte in data)


def _renderer(draft: _Draft) -> Callable[[Record], str]:
    template, getters = "".join(draft.template), tuple(draft.getters)
    literal = template % tuple(draft.blanks)
    quotes, backslashes = literal.count('"'), literal.count("\\")

    def line(record: Record) -> str:
        values = tuple([get(record) for get in getters])
        text = template % values
        # One look at the whole line instead of one at each value: a quote more than the format has is a client's.
        if (
            text.isascii()
            and text.isprintable()
            and text.count('"') == quotes
            and text.count("\\") == backslashes
            and len(text) < LINE_MAX
        ):
            return text
        return cut(template % tuple([escape(value) if isinstance(value, str) else value for value in values]))

    return line


def cut(text: str) -> str:
    """At most LINE_MAX - 1 bytes of UTF-8; a line that was longer ends in `...`, as php-fpm's do."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) < LINE_MAX:
        return data.decode()
    return data[: LINE_MAX - 4].decode("utf-8", "ignore") + "..."


# --- What a record is asked for ----------------------------------------------


def header_key(name: str) -> str:
    """`User-Agent` -> `HTTP_USER_AGENT`."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def _variable(name: str) -> Getter:
    def get(record: Record) -> Value:
        value = record.environ.get(name)
        return "-" if value is None else str(value) or "-"

    return get


def _response_header(name: str) -> Getter:
    wanted = name.lower()

    def get(record: Record) -> Value:
        return next((value for key, value in record.headers if key.lower() == wanted), "-")

    return get


def _user(record: Record) -> str:
    """Who the request says it is from: REMOTE_USER, else the name of Basic authentication, which nobody has checked."""
    user = record.user or record.environ.get("REMOTE_USER")
    if not user:
        authorization = record.environ.get("HTTP_AUTHORIZATION")
        if authorization is None:
            return ""
        user = _basic_user(str(authorization))
    # The field stands between blanks, so it may hold none.
    return str(user).replace(" ", "%20")


def _user_or_dash(record: Record) -> str:
    return _user(record) or "-"


def _basic_user(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode("latin-1").partition(":")[0]
    except (binascii.Error, ValueError):
        return ""


def _host(record: Record) -> Value:
    return record.host or str(record.environ.get("HTTP_HOST") or "-")


def _script(record: Record) -> Value:
    return record.script or str(record.environ.get("SCRIPT_NAME") or "-")


def queue_time(stamp: str, began: float) -> float:
    """Seconds from X-Request-Start (`t=SECONDS`, in any unit, as nginx, Heroku and others write it); -1 if unknown."""
    try:
        start = float(stamp.strip().removeprefix("t="))
    except ValueError:
        return -1.0
    for unit in (1.0, 1e3, 1e6, 1e9):
        # Two clocks may differ a little; an hour is no difference of clocks, and no time to wait either.
        if abs(began - start / unit) < 3600:
            return max(0.0, began - start / unit)
    return -1.0


def queued(record: Record) -> float:
    """Seconds that the request waited for us; -1 where nobody says."""
    if record.queued >= 0:
        return record.queued
    stamp = record.environ.get("HTTP_X_REQUEST_START")
    return -1.0 if stamp is None else queue_time(str(stamp), record.began)


def _queue(record: Record) -> Value:
    seconds = queued(record)
    return "-" if seconds < 0 else f"{seconds:.3f}"


_request_parts = attrgetter("method", "target", "protocol")


def _request_line(record: Record) -> Value:
    return "%s %s %s" % _request_parts(record)  # noqa: UP031 - a third faster than an f-string of three attributes


def _ended(record: Record) -> float:
    return record.began + record.duration


def _stamp(form: str, moment: Callable[[Record], float], around: str = "%s") -> Getter:
    """The local time of a moment; one second's text is made once. Raises ValueError for a form that cannot be meant."""
    _strftime(form, 0)
    memo = (-1, "")

    def get(record: Record) -> Value:
        nonlocal memo
        second = int(moment(record))
        known = memo  # one read: threads share this
        if known[0] != second:
            known = memo = (second, around % _strftime(form, second))
        return known[1]

    return get


def _strftime(form: str, second: int) -> str:
    local = datetime.fromtimestamp(second, UTC).astimezone()
    month = MONTHS[local.month - 1]
    return local.strftime(re.sub(r"%(.)", lambda match: month if match[1] == "b" else match[0], form))


_TIME: Final = "%d/%b/%Y:%H:%M:%S %z"


# --- php-fpm's fields --------------------------------------------------------

_FIELDS: Final[Mapping[str, Getter]] = {
    "f": _variable("SCRIPT_FILENAME"),
    "l": attrgetter("received"),
    "m": attrgetter("method"),
    "n": attrgetter("pool"),
    "p": attrgetter("pid"),
    "P": attrgetter("parent_pid"),
    "q": attrgetter("query"),
    "Q": lambda record: "?" if record.query else "",
    "r": attrgetter("path"),
    "R": attrgetter("client"),
    "s": attrgetter("status"),
    "u": _user,  # nothing for nobody, as in php-fpm's own log
}
"""Fields that take no modifier."""

_CPU: Final[Mapping[str, Callable[[Record], float]]] = {
    "": lambda record: record.cpu_user + record.cpu_system,
    "total": lambda record: record.cpu_user + record.cpu_system,
    "user": attrgetter("cpu_user"),
    "system": attrgetter("cpu_system"),
}

_DURATIONS: Final[Mapping[str, tuple[float, str]]] = {
    "": (1.0, ".3f"),
    "seconds": (1.0, ".3f"),
    "milliseconds": (1e3, ".3f"),
    "milli": (1e3, ".3f"),
    "microseconds": (1e6, "d"),
    "micro": (1e6, "d"),
}

_MEMORY: Final[Mapping[str, int]] = {
    "": 1,
    "bytes": 1,
    "kilobytes": 1 << 10,
    "kilo": 1 << 10,
    "megabytes": 1 << 20,
    "mega": 1 << 20,
}

_EXTRAS: Final[Mapping[str, Getter]] = {
    "host": _host,
    "protocol": attrgetter("protocol"),
    "queue": _queue,
    "request_id": attrgetter("request_id"),
    "script": _script,
    "sent": attrgetter("sent"),
    "target": attrgetter("target"),
}
"""Ours: `%{NAME}x`, a letter that php-fpm does not use."""


def _parse_fields(text: str, draft: _Draft) -> None:
    at = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            percent = len(text)
        draft.literal(text[at:percent])
        at = percent + 1
        if percent < len(text):
            at = _parse_field(text, percent, draft)


def _parse_field(text: str, percent: int, draft: _Draft) -> int:
    """Take in the field that begins at `percent`; where the text goes on."""
    at, modifier = percent + 1, ""
    if text.startswith("{", at):
        end = text.find("}", at)
        if end < 0:
            raise _wrong("missing closing embrace in the access.format", percent)
        at, modifier = end + 1, text[at + 1 : end]
    letter = text[at : at + 1]
    try:
        _place_field(letter, modifier, draft)
    except ValueError as error:
        raise _wrong(str(error), percent) from None
    return at + 1


def _place_field(letter: str, modifier: str, draft: _Draft) -> None:
    if letter in _FIELDS or letter == "%":
        if modifier:
            raise ValueError(f"embrace is not allowed for modifier %{letter}")
        if letter == "%":
            draft.literal("%")
        else:
            draft.place(_FIELDS[letter])
        return
    match letter:
        case "C":
            seconds = _chosen(_CPU, modifier, "only 'total', 'user' or 'system' are allowed as a modifier for %C")
            draft.place(lambda record: 100 * seconds(record) / max(record.duration, 1e-6), ".2f")
            draft.wants_usage = True
        case "d":
            allowed = (
                "only 'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds' are allowed as a modifier for %d"
            )
            unit, spec = _chosen(_DURATIONS, modifier, allowed)
            draft.place(lambda record: record.duration * unit, spec)
        case "M":
            allowed = "only 'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes' are allowed as a modifier for %M"
            size = _chosen(_MEMORY, modifier, allowed)
            draft.place(lambda record: record.memory // size)
            draft.wants_usage = True
        case "e":
            draft.place(_variable(_named(modifier, "the name of the environment variable", "e")))
        case "o":
            draft.place(_response_header(_named(modifier, "the name of the header", "o")))
        case "t":
            draft.place(_stamp(modifier or _TIME, attrgetter("began")))
        case "T":
            draft.place(_stamp(modifier or _TIME, _ended))
        case "x":
            names = ", ".join(f"'{name}'" for name in _EXTRAS)
            draft.place(_chosen(_EXTRAS, modifier, f"only {names} are allowed as a modifier for %x"))
        case _:
            raise ValueError(f"Invalid token in the access.format (%{letter})")


_T = TypeVar("_T")


def _chosen(table: Mapping[str, _T], modifier: str, allowed: str) -> _T:
    found = table.get(modifier.lower())
    if found is None:
        raise ValueError(f"{allowed} ('{modifier}')")
    return found


def _named(modifier: str, what: str, letter: str) -> str:
    if not modifier:
        raise ValueError(f"{what} must be set between embraces for %{letter}")
    return modifier


def _wrong(text: str, position: int) -> ValueError:
    return ValueError(f"{text} at position {position + 1}")


# --- gunicorn's atoms --------------------------------------------------------

_ATOMS: Final[Mapping[str, Getter]] = {
    "h": attrgetter("client"),
    "l": lambda _: "-",
    "u": _user_or_dash,
    "t": _stamp(_TIME, _ended, "[%s]"),
    "r": _request_line,
    "m": attrgetter("method"),
    "U": attrgetter("path"),
    "q": attrgetter("query"),
    "H": attrgetter("protocol"),
    "s": attrgetter("status"),
    "B": attrgetter("sent"),
    "b": attrgetter("sent"),
    "f": _variable("HTTP_REFERER"),
    "a": _variable("HTTP_USER_AGENT"),
    "T": lambda record: int(record.duration),
    "M": lambda record: int(record.duration * 1e3),
    "D": lambda record: int(record.duration * 1e6),
    "L": lambda record: f"{record.duration:.6f}",
    "p": lambda record: f"<{record.pid}>",
}

_NUMBERS: Final = frozenset("sBbTMD")
"""Atoms that may also be written with `d`."""

_ATOM: Final = re.compile(r"%(?:%|\(([^)]*)\)([-0]?\d{0,3})([sd]))")


def _parse_atoms(text: str, draft: _Draft) -> None:
    at = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            percent = len(text)
        draft.literal(text[at:percent])
        at = percent
        if percent < len(text):
            match = _ATOM.match(text, percent)
            if match is None:
                raise _wrong(f"Invalid token in the access.format ({text[percent : percent + 12]})", percent)
            at = match.end()
            _place_atom(match, draft)


def _place_atom(match: re.Match[str], draft: _Draft) -> None:
    name, width, kind = match[1], match[2], match[3]
    if name is None:
        draft.literal("%")
        return
    getter = _ATOMS.get(name)
    if getter is None and name.startswith("{") and len(name) > 3:
        variable, tail = name[1:-2], name[-2:]
        match tail:
            case "}i":
                getter = _variable(header_key(variable))
            case "}o":
                getter = _response_header(variable)
            case "}e":
                getter = _variable(variable)
            case _:
                pass
    if getter is None or (kind == "d" and name not in _NUMBERS):
        raise _wrong(f"Invalid token in the access.format ({match[0]})", match.start())
    draft.place(getter, width + kind)


# --- JSON --------------------------------------------------------------------

_SECOND = _stamp("%Y-%m-%dT%H:%M:%S", attrgetter("began"))
_ZONE = _stamp("%z", attrgetter("began"))
_TEXT_LIMITS: Final = (1024, 256, 64, 16)
"""Characters of each text, tried in this order until the line is short enough; 16 always is."""


def _json(record: Record) -> str:
    """One object, in ASCII, whole even where its texts had to be cut."""
    environ = record.environ.get
    seconds = queued(record)
    fields: dict[str, Value | None] = {
        "time": f"{_SECOND(record)}.{int(record.began % 1 * 1000):03d}{_ZONE(record)}",
        "client": record.client,
        "user": _user_or_dash(record),
        "method": record.method,
        "target": record.target,
        "protocol": record.protocol,
        "status": record.status,
        "sent": record.sent,
        "received": record.received,
        "duration": round(record.duration, 6),
        "queue": None if seconds < 0 else round(seconds, 6),
        "request_id": record.request_id,
        "host": _host(record),
        "referer": str(environ("HTTP_REFERER") or "-"),
        "user_agent": str(environ("HTTP_USER_AGENT") or "-"),
        "pool": record.pool,
        "pid": record.pid,
    }
    try:
        data = _encode_json(fields)
    except UnicodeEncodeError:  # half a surrogate pair, from an application that sets REMOTE_USER
        data = b"\xff"
    if data.isascii() and len(data) < LINE_MAX and b"\x7f" not in data:
        return data.decode()
    texts = {name: _unicode(value) if isinstance(value, str) else value for name, value in fields.items()}
    line = _dumped(texts)
    for limit in _TEXT_LIMITS:
        if len(line) < LINE_MAX:
            break
        line = _dumped({name: _shortened(value, limit) for name, value in texts.items()})
    return line


def _dumped(texts: dict[str, Value | None]) -> str:
    """In ASCII, with DEL escaped as well: JSON does not ask for it, but a terminal acts on it."""
    return json.dumps(texts, separators=(",", ":")).replace("\x7f", "\\u007f")


_encode_json = msgspec.json.Encoder().encode


def _shortened(value: Value | None, limit: int) -> Value | None:
    return f"{value[:limit]}..." if isinstance(value, str) and len(value) > limit else value


def _unicode(text: str) -> str:
    r"""What latin-1 text says when its bytes are read as UTF-8; \xNN where they are none."""
    try:
        return text.encode("latin-1").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text
