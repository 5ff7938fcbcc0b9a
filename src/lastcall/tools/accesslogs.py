"""Reads access logs of nginx, php-fpm, gunicorn and lastcall: when each request began, and how long it took.

A format is compiled once, to a reader of lines. Times are the log's own wall clock: seconds since 1970 as though the
clock stood in UTC, with the zone's offset beside them where a line has one. What a line says beyond that is not read.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from lastcall.core.accesslog import MONTHS
from lastcall.core.mistakes import Mistake

LINE_MAX: Final = 16 * 1024
"""Bytes of a line. nginx's are that long with a few large headers; a longer one is none of ours, and is not kept."""
EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 (a wall clock's)


class Entry(NamedTuple):
    """A request."""

    began: float
    duration: float | None
    """Seconds; None: the line does not say."""
    offset: int | None
    """Seconds east of UTC, of the clock that the line was written by; None: it does not say."""
    here: bool = True
    """False: nginx answered it by itself, and no application saw it."""


Reader = Callable[[str], Entry | None]
"""From a line, without its end. None: it is not understood."""


@dataclass(frozen=True, slots=True)
class Format:
    """How lines are read."""

    read: Reader
    durations: str
    """Where durations come from, in words; "" where there are none."""


def compile(text: str) -> Format:  # noqa: A001 - what re.compile is to expressions
    """A reader for `combined`, `common`, `fpm`, `gunicorn`, `json`, or for a format of nginx, php-fpm or gunicorn.

    "" finds out by itself, line by line. Raises Mistake.
    """
    if text in ("", "combined", "common", "gunicorn", "fpm", "json"):
        only = {"": (_json, _combined, _fpm), "fpm": (_fpm,), "json": (_json,)}.get(text, (_combined,))
        return Format(_first_of(only), _GUESSED)
    if "$" in text:
        return _compiled(_nginx_fields(text))
    if "%(" in text:
        return _compiled(_gunicorn_fields(text))
    if "%" in text:
        return _compiled(_fpm_fields(text))
    raise Mistake(f"{text!r} is no log format", "write the log_format of nginx, or combined, fpm, gunicorn, json")


def _first_of(readers: tuple[Reader, ...]) -> Reader:
    def read(line: str) -> Entry | None:
        for reader in readers:
            entry = reader(line)
            if entry is not None:
                return entry
        return None

    return read


# --- Files -------------------------------------------------------------------


def lines(path: Path) -> Iterator[str | None]:
    """Each line of a file, gzip or not, as it comes; None stands for one that is too long. Raises Mistake."""
    try:
        with path.open("rb") as plain:
            if plain.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=plain) as packed:
                    yield from _lines(packed)
            else:
                yield from _lines(plain)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Mistake(f"{path}: the gzip file is broken: {error}", "name one that is whole") from None
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror or error}", "name a file that can be read") from None


def _lines(stream: BufferedReader | gzip.GzipFile) -> Iterator[str | None]:
    while line := stream.readline(LINE_MAX):
        if len(line) == LINE_MAX and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_MAX)
            yield None
        else:
            yield line.decode("utf-8", "replace").rstrip("\r\n")


# --- Times and durations -----------------------------------------------------

_MONTH: Final = {name: number for number, name in enumerate(MONTHS, 1)}
_STRFTIME: Final = {
    "Y": r"(?P<Y>\d{4})", "y": r"(?P<y>\d\d)", "m": r"(?P<m>\d\d)", "d": r"(?P<d>\d\d)", "e": r"(?P<d>[ \d]\d)",
    "b": r"(?P<b>[A-Z][a-z]{2})", "H": r"(?P<H>\d\d)", "M": r"(?P<M>\d\d)", "S": r"(?P<S>\d\d(?:[.,]\d{1,9})?)",
    "z": r"(?P<z>Z|[+-]\d\d:?\d\d)", "s": r"(?P<s>\d{1,11}(?:\.\d{1,9})?)", "F": r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)",
    "T": r"(?P<H>\d\d):(?P<M>\d\d):(?P<S>\d\d(?:[.,]\d{1,9})?)", "%": "%", "Z": r"[A-Za-z+-]\w*", "a": "[A-Z][a-z]{2}",
}  # fmt: skip
"""What strftime's letters write."""

CLF: Final = "%d/%b/%Y:%H:%M:%S %z"
ISO: Final = "%Y-%m-%dT%H:%M:%S%z"
UNIX: Final = "%s"


@lru_cache(maxsize=64)
def _time_pattern(form: str) -> re.Pattern[str]:
    """Matches what strftime writes for this form. Raises Mistake."""

    def letter(match: re.Match[str]) -> str:
        found = _STRFTIME.get(match[1])
        if found is None:
            raise Mistake(f"%{match[1]} in a time cannot be read back", "use %Y %m %d %b %H %M %S %z %s, or %F and %T")
        return found

    parts = re.split(r"(%.)", form)
    try:
        return re.compile(
            "".join(re.sub("%(.)", letter, part) if part[:1] == "%" else re.escape(part) for part in parts)
        )
    except re.error:
        raise Mistake(f"the time {form!r} says something twice", "write each letter once") from None


@lru_cache(maxsize=4096)
def moment(text: str, form: str) -> tuple[float, int | None] | None:
    """The wall clock's seconds, and the zone's offset; None: it is no such time. A second's text is read once."""
    match = _time_pattern(form).fullmatch(text)
    if match is None:
        return None
    said = match.groupdict()
    offset = _offset(said.get("z"))
    if said.get("s") is not None:
        # Unix time has no wall clock but UTC's
        return float(said["s"]), 0
    month = _MONTH.get(said["b"]) if said.get("b") else int(said.get("m") or 0)
    year = int(said.get("Y") or 0) or 2000 + int(said.get("y") or -2000)
    try:
        day = datetime(year, month or 0, int(said.get("d") or 0), int(said.get("H") or 0), int(said.get("M") or 0))  # noqa: DTZ001
    except ValueError:
        return None
    second = float((said.get("S") or "0").replace(",", "."))
    return (day - EPOCH).total_seconds() + second, offset


def _offset(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "Z":
        return 0
    seconds = 3600 * int(text[1:3]) + 60 * int(text[-2:])
    return -seconds if text[0] == "-" else seconds


def _total(text: str) -> float | None:
    """Seconds of `0.012`, and of nginx's lists of them: one for each server that was asked; None for `-`."""
    found = [float(part) for part in re.split(r"[,:\s]+", text) if part and part != "-" and _DECIMAL.fullmatch(part)]
    return sum(found) if found else None


_DECIMAL: Final = re.compile(r"\d{1,12}(?:\.\d{1,9})?")


# --- Formats that are compiled -----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    """A place in a format."""

    name: str = ""
    """What it tells: `end`, `begin`, `upstream`, `duration`; "": nothing that we read."""
    pattern: str = ""
    """"": whatever stands before the next literal."""
    form: str = ""
    """Of a time, as strftime has it."""
    unit: float = 1.0
    """Of a duration, in seconds."""
    wordy: bool = False
    """Its value may hold blanks."""
    source: str = ""
    """As it is written in the format."""


_Piece = str | _Field
_NUMBER: Final = r"\d{1,18}(?:\.\d{1,9})?|-"
_SEVERAL: Final = r"(?:[\d.]{1,24}|-)(?:(?:, | : )(?:[\d.]{1,24}|-)){0,32}"


def _compiled(pieces: list[_Piece]) -> Format:
    """A reader of lines of these pieces. Raises Mistake."""
    known: dict[str, _Field] = {}
    pattern = ""
    for at, piece in enumerate(pieces):
        if isinstance(piece, str):
            pattern += re.escape(piece)
        elif piece.name and piece.name not in known:
            known[piece.name] = piece
            pattern += f"(?P<{piece.name}>{piece.pattern})"
        else:
            following = pieces[at + 1] if at + 1 < len(pieces) else None
            pattern += f"(?:{piece.pattern})" if piece.pattern else _anything(piece, following)
    clock = known.get("end") or known.get("begin")
    if clock is None:
        raise Mistake(
            "the log format has no time", "a log without times says nothing about restarts: add $time_iso8601"
        )
    measure = known.get("upstream") or known.get("duration")
    return Format(_reader(re.compile(pattern), clock, measure), measure.source if measure else "")


def _anything(piece: _Field, following: _Piece | None) -> str:
    """Up to the next literal, and without going back where that cannot be needed: a bad line costs one look."""
    if following is None:
        return ".*+"
    if isinstance(following, _Field) or (following[0] == " " and piece.wordy):
        return ".*?"
    if following[0] == '"':
        return r'(?:[^"\\]|\\.)*+'
    return f"[^{re.escape(following[0])}]*+"


def _reader(pattern: re.Pattern[str], clock: _Field, measure: _Field | None) -> Reader:
    match_whole = pattern.fullmatch

    def read(line: str) -> Entry | None:
        match = match_whole(line)
        when = moment(match[clock.name], clock.form) if match is not None else None
        if match is None or when is None:
            return None
        duration = _total(match[measure.name]) if measure is not None else None
        here = duration is not None or measure is None or measure.name != "upstream"
        if duration is not None and measure is not None:
            duration *= measure.unit
        return _entry(when, duration, ended=clock.name == "end", here=here)

    return read


def _entry(when: tuple[float, int | None], duration: float | None, *, ended: bool, here: bool = True) -> Entry | None:
    clock, offset = when
    if duration is not None and not math.isfinite(duration):
        return None
    return Entry(clock - (duration or 0.0) if ended else clock, duration, offset, here)


def _time_field(name: str, form: str, source: str) -> _Field:
    shape = re.sub(r"\(\?P<\w>", "(?:", _time_pattern(form).pattern)
    return _Field(name, shape, form, source=source)


def _split(text: str, token: str, field: Callable[[re.Match[str]], _Piece]) -> list[_Piece]:
    """Literals and fields; neighbouring literals are one."""
    pieces: list[_Piece] = []
    at = 0
    for match in (*re.finditer(token, text), None):
        end = len(text) if match is None else match.start()
        for piece in (text[at:end], field(match) if match is not None else ""):
            if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
                pieces[-1] += piece
            elif piece:
                pieces.append(piece)
        at = end if match is None else match.end()
    return pieces


def _nginx_fields(text: str) -> list[_Piece]:
    """Of a log_format, as in nginx.conf but without its quotes."""
    clocks = {"time_local": CLF, "time_iso8601": ISO, "msec": UNIX}
    wordy = ("http_", "upstream_", "sent_", "arg_", "cookie_", "request", "remote_user", "uri", "args", "query")

    def field(match: re.Match[str]) -> _Piece:
        name, source = match[1] or match[2], f"${match[1] or match[2]}"
        if name in clocks:
            return _time_field("end", clocks[name], source)
        if name == "request_time":
            return _Field("duration", _NUMBER, source=source)
        if name == "upstream_response_time":
            return _Field("upstream", _SEVERAL, source=source)
        return _Field(wordy=name.startswith(wordy), source=source)

    return _split(text, r"\$(?:(\w+)|\{(\w+)\})", field)


def _fpm_fields(text: str) -> list[_Piece]:
    """Of php-fpm's access.format. `%t` is when the request came, `%T` when it was logged."""
    units = {"": 1.0, "seconds": 1.0, "milli": 1e-3, "milliseconds": 1e-3, "micro": 1e-6, "microseconds": 1e-6}

    def field(match: re.Match[str]) -> _Piece:
        modifier, letter = match[1] or "", match[2]
        if letter == "%":
            return "%"
        if letter in "tT":
            form = modifier or CLF
            return _time_field("begin" if letter == "t" else "end", form, match[0])
        if letter == "d":
            if modifier.lower() not in units:
                raise Mistake(f"{match[0]} is no duration of php-fpm's", "write %d, %{milli}d or %{micro}d")
            return _Field("duration", _NUMBER, unit=units[modifier.lower()], source=match[0])
        return _Field(wordy=letter in "ruqeox", source=match[0])

    return _split(text, r"%(?:\{([^}]*)\})?([A-Za-z%])", field)


def _gunicorn_fields(text: str) -> list[_Piece]:
    """Of gunicorn's access_log_format, which lastcall knows, too. `%(t)s` is when it was logged."""
    units = {"T": 1.0, "M": 1e-3, "D": 1e-6, "L": 1.0}

    def field(match: re.Match[str]) -> _Piece:
        name = match[1]
        if name is None:
            return "%"
        if name == "t":
            return _time_field("end", f"[{CLF}]", match[0])
        if name in units:
            return _Field("duration", _NUMBER, unit=units[name], source=match[0])
        return _Field(wordy=name in "raf" or name.startswith("{"), source=match[0])

    return _split(text, r"%(?:%|\(([^)]*)\)[-0-9]*[sd])", field)


# --- Formats that are known --------------------------------------------------

_GUESSED: Final = "guessed from the lines ($upstream_response_time where they have it); --log-format is surer"
_COMBINED: Final = re.compile(
    r'\S{1,256} \S{1,256} .{0,256}?\[(?P<time>[^\]]{20,40})\] "(?:[^"\\]|\\.)*+" (?:\d{3}|-) (?:\d+|-)(?P<tail>.*)'
)
_LABELLED: Final = (
    ("upstream", re.compile(rf'\b(?:urt|upstream_response_time|upstream_time)[=:]\s?"?(?P<v>{_SEVERAL})')),
    ("duration", re.compile(r'\b(?:rt|request_time|duration|time_taken)[=:]\s?"?(?P<v>\d+\.\d+)')),
)
_BARE: Final = re.compile(rf'(?:^|\s)"?(?P<request>\d+\.\d{{3}})"?(?:\s+"?(?P<upstream>{_SEVERAL})"?)?(?=\s|$)')
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+"')
_FPM: Final = re.compile(
    r'\S* - \S{0,256} ?(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}) "[^"]*" (?:\d{3})(?P<tail>.*)'
)


def _combined(line: str) -> Entry | None:
    """Combined or common, of nginx and Apache, with whatever durations follow."""
    match = _COMBINED.fullmatch(line)
    when = moment(match["time"], CLF) if match is not None else None
    if match is None or when is None:
        return None
    duration, here = _tail(match["tail"])
    return _entry(when, duration, ended=True, here=here)


def _tail(tail: str) -> tuple[float | None, bool]:
    """The duration behind a combined line, and whether an upstream server was asked.

    With labels, as nginx's own examples have them (`rt=0.012 urt="0.010"`); else the first number with three decimals
    that is not in a longer text is `$request_time`, and what follows may be `$upstream_response_time`.
    """
    found = {name: match["v"] for name, pattern in _LABELLED if (match := pattern.search(tail)) is not None}
    if "upstream" in found:
        upstream = _total(found["upstream"])
        return upstream, upstream is not None
    if "duration" in found:
        return _total(found["duration"]), True
    # referer and user agent are the client's words, and may look like anything
    bare = _BARE.search(_QUOTED.sub(lambda quoted: quoted[0] if _NUMBERS.fullmatch(quoted[0]) else "", tail))
    if bare is None:
        return None, True
    if bare["upstream"] is None or not ("." in bare["upstream"] or bare["upstream"] == "-"):
        return float(bare["request"]), True
    upstream = _total(bare["upstream"])
    return upstream, upstream is not None


_NUMBERS: Final = re.compile(rf'"(?:{_SEVERAL})"')


def _fpm(line: str) -> Entry | None:
    """php-fpm's default: the time is when the request came."""
    match = _FPM.fullmatch(line)
    when = moment(match["time"], CLF) if match is not None else None
    if match is None or when is None:
        return None
    bare = _BARE.search(match["tail"])
    return _entry(when, float(bare["request"]) if bare is not None else None, ended=False)


_decode = msgspec.json.Decoder(dict[str, object]).decode
_ENDS: Final = ("time_iso8601", "@timestamp", "time_local", "msec", "timestamp")


def _json(line: str) -> Entry | None:
    """Our own object (`time` is when the request began), or an object with nginx's names (when it ended)."""
    if not line.startswith("{"):
        return None
    try:
        fields = _decode(line)
    except msgspec.DecodeError:
        return None
    name = next((name for name in ("time", *_ENDS) if name in fields), "")
    when = next(
        (found for form in (ISO, CLF, UNIX) if (found := moment(str(fields.get(name)), form)) is not None), None
    )
    if when is None:
        return None
    if "upstream_response_time" in fields:
        upstream = _total(str(fields["upstream_response_time"]))
        return _entry(when, upstream, ended=True, here=upstream is not None)
    ended = name != "time" or "request_time" in fields
    said = fields.get("duration", fields.get("request_time"))
    duration = float(said) if isinstance(said, int | float) else _total(str(said))
    return _entry(when, duration, ended=ended)
