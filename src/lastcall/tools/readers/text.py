"""A file's bytes -> its lines, and the words that all readers share. Knows no file system."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

SIZE_MAX = 1 << 20
"""Bytes of a file that is read. Configuration is smaller; what is larger is data."""

LINE_MAX = 20_000
"""Characters of a line: no configuration has such lines, minified programs do."""

LINES_MAX = 50_000
"""Lines of a file that is read: a bound on the work, far above any configuration."""


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A place in a file. Line 0 is the file as a whole."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """A place that was not understood, and why."""

    line: int
    why: str


class NotText(Exception):
    """These bytes are no text, and why."""


def decode(data: bytes) -> tuple[str, str]:
    """The text, and "" or what is doubtful about it. Raises NotText."""
    text, doubt = _decoded(data)
    if text.count("\n") > LINES_MAX:
        raise NotText(f"it has more than {LINES_MAX} lines")
    if len(text) > LINE_MAX and max(map(len, text.split("\n"))) > LINE_MAX:
        raise NotText(f"it has a line of more than {LINE_MAX} characters")
    return text, doubt


def _decoded(data: bytes) -> tuple[str, str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), "it is UTF-16; programs that expect UTF-8 do not read it"
    if b"\0" in data:
        raise NotText("it is no text")
    text = data.decode("utf-8-sig", errors="surrogateescape") if data.startswith(b"\xef\xbb\xbf") else ""
    try:
        text = text or data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1"), "it is not UTF-8; read as Latin-1"
    return text.encode(errors="replace").decode(), ""


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines, as an editor numbers them; without what ends them."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.removesuffix("\r")


def joined(text: str, *, comments: str = "#") -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first: a backslash at the end joins; comment and empty lines are left out.

    A comment between two joined lines is skipped, as systemd and Docker do it.
    """
    begun, parts = 0, list[str]()
    for number, line in lines(text):
        bare = line.strip()
        if bare[:1] and bare[0] in comments:
            continue
        if not bare and not parts:
            continue
        begun = begun or number
        if bare.endswith("\\"):
            parts.append(bare[:-1])
            continue
        parts.append(bare)
        yield begun, " ".join(parts).strip()
        begun, parts = 0, []
    if parts:
        yield begun, " ".join(parts).strip()


def words(text: str) -> tuple[str, ...]:
    """A command line's words by the shell's quotes; by white space where the quotes do not close."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return tuple(text.split())


# --- Values ------------------------------------------------------------------

_TEMPLATE = re.compile(r"\{\{|\{%|<%|\$\{|\$\(|\$[A-Za-z_]|%\(|@[A-Z][A-Z_]+@|__[A-Z][A-Z_]+__")

_UNITS = {
    "us": 1e-6, "usec": 1e-6, "ms": 0.001, "msec": 0.001, "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0,
    "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0, "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
_PART = re.compile(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*([a-z]*)\s*")

FOREVER = float("inf")


def template(value: str) -> bool:
    """Whether somebody fills this value in later, so that nobody can say what it is: `{{ x }}`, `${X:-10}`, `$X`."""
    return _TEMPLATE.search(value) is not None


def seconds(value: str, unit: float = 1.0) -> float | None:
    """A time as systemd, nginx, php-fpm, Go and HAProxy write it; `unit` is a bare number's. None: it is no time."""
    text = value.strip().strip("\"'").lower()
    if text == "infinity":
        return FOREVER
    total, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or part[2] not in _UNITS:
            return None
        total += float(part[1]) * (_UNITS[part[2]] if part[2] else unit)
        at = part.end()
    return total if text else None


def span(value: float) -> str:
    """A time for people: `90 s`, `0.5 s`, `for ever`."""
    return "for ever" if value == FOREVER else f"{value:g} s"


def yes(value: str) -> bool:
    """Whether an option of an INI-like file is switched on."""
    return value.strip().strip("\"'").lower() in ("1", "yes", "true", "on", "enable", "enabled")


# --- Secrets -----------------------------------------------------------------

_CREDENTIALS = re.compile(r"(://[^/\s:@]*):[^@\s]*@")
_SECRET = re.compile(
    r"((?:passw(?:or)?d|secret|token|api_?key|pwd)[\w\"']*\s*[=:]\s*)(?:\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE
)


def redacted(line: str) -> str:
    """A line that may be shown: passwords in addresses and after their names are left out."""
    return _SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1:***@", line))
