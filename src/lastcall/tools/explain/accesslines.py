"""Lines of access logs, by the format that the configuration names or by what most of them look like. Pure.

nginx's log_format, php-fpm's access.format, gunicorn's access_log_format; combined with whatever durations follow; objects
of JSON with nginx's names or ours. A value that a format has and that we have no use for may still name the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from lastcall.core.mistakes import Mistake
from lastcall.tools.accesslogs import CLF, ISO, UNIX, moment
from lastcall.tools.explain.records import Access, Told, When

Reader = Callable[[str], Told | None]

_CLOCKS: Final = {
    "time_local": CLF, "time_iso8601": ISO, "msec": UNIX, "@timestamp": ISO, "timestamp": ISO, "time": ISO,
}  # fmt: skip
_ORDER: Final = ("msec", "time_iso8601", "time_local", "@timestamp", "timestamp", "time")
"""The most exact one first."""
_NAMING: Final = re.compile(
    r"(?:^|_)(?:id|uuid|trace|span|order|key|traceparent|reqid|requestid|txn)(?:_|$)|request_?id", re.IGNORECASE
)
"""Names of variables whose values name requests."""
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,9})?")
_PARTS: Final = re.compile(r", | : |,|:(?= )")


def fields(said: Mapping[str, str]) -> Told | None:
    """A line's values by nginx's names for them; None: there is no time, or no request."""
    when = _when(said)
    status = said.get("status", "")
    if when is None or not status.isdigit():
        return None
    method, uri = _request(said)
    names = [value for key, value in said.items() if value not in ("", "-") and _NAMING.search(key)]
    id_ = next((said[key] for key in ("request_id", "http_x_request_id") if said.get(key, "-") not in ("", "-")), "")
    return Told(when, Access(
        int(status), method, uri, _first(said, "http_x_forwarded_for", "realip_remote_addr", "remote_addr"),
        _seconds(said.get("request_time")),
        _last(said.get("upstream_response_time")),
        _connected(said), _headed(said), _tried(said.get("upstream_addr", "")), said.get("upstream_addr", ""),
        id_ or (names[0] if names else ""), tuple(names), said.get("connection", ""),
    ))  # fmt: skip


def _when(said: Mapping[str, str]) -> When | None:
    for name in _ORDER:
        text = said.get(name)
        if not text:
            continue
        for form in dict.fromkeys((_CLOCKS[name], ISO, CLF, UNIX)):
            found = moment(text, form)
            if found is not None:
                # a time that is written with its thousandths is exact to that
                dot = re.search(r"\d[.,](\d{1,9})", text)
                offset = found[1]
                if form == UNIX and (zone := said.get("time_local") or said.get("time_iso8601")):
                    other = moment(zone, CLF) or moment(zone, ISO)
                    if other is not None and other[1] is not None:
                        return When(found[0] + other[1], other[1], 10.0 ** -len(dot[1]) if dot else 1.0)
                return When(found[0], offset, 10.0 ** -len(dot[1]) if dot else 1.0)
    return None


def _request(said: Mapping[str, str]) -> tuple[str, str]:
    if "request" in said:
        return request(said["request"])
    uri = said.get("request_uri") or said.get("uri") or ""
    if "request_uri" not in said and said.get("args", "-") not in ("", "-"):
        uri += f"?{said['args']}"
    return said.get("request_method", ""), uri


def request(text: str) -> tuple[str, str]:
    """Method and URI of a request line."""
    method, _, rest = text.partition(" ")
    return method, re.sub(r" HTTP/[\d.]+$", "", rest)


def _first(said: Mapping[str, str], *names: str) -> str:
    # whom nginx's error log calls the client is $remote_addr
    return next((said[name] for name in reversed(names) if said.get(name, "-") not in ("", "-")), "")


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _values(text: str | None) -> list[str]:
    return [part.strip() for part in _PARTS.split(text)] if text else []


def _last(text: str | None) -> float | None:
    """The time of the server that was asked last; nginx lists one for each."""
    values = _values(text)
    return _seconds(values[-1]) if values else None


def _connected(said: Mapping[str, str]) -> bool | None:
    values = _values(said.get("upstream_connect_time"))
    return values[-1] != "-" if values and values[-1] else None


def _headed(said: Mapping[str, str]) -> bool | None:
    values = _values(said.get("upstream_header_time"))
    return values[-1] != "-" if values and values[-1] else None


def _tried(text: str) -> int:
    return len(_values(text)) if text not in ("", "-") else 0


# --- Formats of the configuration --------------------------------------------


@dataclass(frozen=True, slots=True)
class _Hole:
    name: str
    pattern: str = ""


def nginx(text: str) -> Reader:
    """A reader for a log_format of nginx's, without its quotes. Raises Mistake where it has no time or no status."""

    def hole(match: re.Match[str]) -> _Hole:
        return _Hole(match[1] or match[2], _SHAPES.get(match[1] or match[2], ""))

    return _reader(_pieces(text, r"\$(?:(\w+)|\{(\w+)\})", hole), "status", lambda said: said)


_TIME: Final = r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"
_SHAPES: Final = {
    "time_local": _TIME, "time_iso8601": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)", "msec": r"\d+\.\d{3}",
    "status": r"\d{3}|-", "request_time": r"[\d.]+|-", "body_bytes_sent": r"\d+|-", "bytes_sent": r"\d+|-",
    "connection": r"\d+", "connection_requests": r"\d+", "request_length": r"\d+", "pid": r"\d+",
    **{f"upstream_{name}": r"(?:[\d.]+|-)?(?:(?:, | : )(?:[\d.]+|-))*"
       for name in ("response_time", "connect_time", "header_time", "status", "response_length", "bytes_received")},
}  # fmt: skip


def _pieces(text: str, token: str, hole: Callable[[re.Match[str]], _Hole | str]) -> list[str | _Hole]:
    pieces: list[str | _Hole] = []
    at = 0
    for match in re.finditer(token, text):
        pieces += [text[at : match.start()], hole(match)]
        at = match.end()
    return [piece for piece in (*pieces, text[at:]) if piece != ""]


def _reader(pieces: list[str | _Hole], needed: str, named: Callable[[dict[str, str]], dict[str, str]]) -> Reader:
    """Possessive where that loses nothing, so that a line that does not fit costs one look."""
    names: dict[str, str] = {}
    pattern = ""
    for at, piece in enumerate(pieces):
        if isinstance(piece, str):
            pattern += re.escape(piece)
            continue
        shape = piece.pattern or _up_to(pieces[at + 1] if at + 1 < len(pieces) else None)
        if piece.name and piece.name not in names.values():
            names[f"v{at}"] = piece.name
            pattern += f"(?P<v{at}>{shape})"
        else:
            pattern += f"(?:{shape})"
    known = set(names.values())
    if not known & set(_CLOCKS) or needed not in known:
        raise Mistake("the log format has no time, or no status", "add $time_iso8601 and $status")
    whole = re.compile(pattern)

    def read(line: str) -> Told | None:
        match = whole.fullmatch(line)
        return fields(named({names[key]: value for key, value in match.groupdict().items()})) if match else None

    return read


def _up_to(following: str | _Hole | None) -> str:
    if following is None:
        return ".*+"
    if isinstance(following, _Hole):
        return ".*?"
    if following[0] == '"':
        return r'(?:[^"\\]|\\.)*+'
    return ".*?" if following[0] == " " else f"[^{re.escape(following[0])}]*+"


_FPM_NAMES: Final = {"R": "remote_addr", "m": "request_method", "r": "script", "s": "status", "q": "args", "d": "took"}
_FPM_SHAPES: Final = {
    "s": r"\d{3}", "d": r"[\d.]+", "p": r"\d+", "P": r"\d+", "m": r"[A-Z-]*", "C": r"[\d.]+%?", "l": r"\d+", "M": r"\d+",
    "Q": r"\??", "r": r'[^?"]*',
}  # fmt: skip
_FPM_PLACE: Final = r"%(?:\{([^}]*)\})?([A-Za-z%])"
_UNITS: Final = {"milli": 1e-3, "milliseconds": 1e-3, "micro": 1e-6, "microseconds": 1e-6}


def fpm(text: str) -> Reader:
    """A reader for php-fpm's access.format. Raises Mistake."""
    measured = re.search(r"%\{(\w+)\}d", text)
    unit = _UNITS.get(measured[1].lower(), 1.0) if measured is not None else 1.0
    inner = _reader(_pieces(text, _FPM_PLACE, _fpm_hole), "status", _of_fpm)

    def read(line: str) -> Told | None:
        told = inner(line)
        return _from_its_begin(told, unit) if told is not None else None

    return read


def _fpm_hole(match: re.Match[str]) -> _Hole | str:
    modifier, letter = match[1] or "", match[2]
    if letter == "%":
        return "%"
    if letter in "tT":
        # %t is when the request came
        return _Hole("time_local" if letter == "t" else "logged", _TIME if not modifier else "")
    if letter == "e":
        return _Hole("request_uri" if modifier == "REQUEST_URI" else f"env_{modifier.lower()}")
    return _Hole(_FPM_NAMES.get(letter, ""), _FPM_SHAPES.get(letter, ""))


def _from_its_begin(told: Told, unit: float = 1.0) -> Told:
    """The same line, whose time is when the request came, with its duration in seconds."""
    if not isinstance(told.what, Access):
        return told
    took = told.what.took * unit if told.what.took is not None else None
    return told._replace(what=replace(told.what, took=took, began=True))


def _of_fpm(said: dict[str, str]) -> dict[str, str]:
    named = {**said, "request_time": said.get("took", "-")}
    if "request_uri" not in said:
        query = said.get("args", "")
        named["request_uri"] = said.get("script", "") + (f"?{query}" if query not in ("", "-") else "")
    return named


def gunicorn(text: str) -> Reader:
    """A reader for gunicorn's access_log_format. Raises Mistake."""
    names = {"h": "remote_addr", "t": "time_local", "r": "request", "s": "status", "m": "request_method", "U": "uri",
             "q": "args",              "L": "request_time", "T": "request_time"}  # fmt: skip
    shapes = {"t": rf"\[{_TIME}\]", "s": r"\d{3}", "L": r"[\d.]+", "T": r"\d+", "p": r"<\d+>"}

    def hole(match: re.Match[str]) -> _Hole | str:
        name = match[1]
        if name is None:
            return "%"
        if name.startswith("{"):
            return _Hole("http_" + re.sub(r"\W", "_", name[1:].partition("}")[0].lower()))
        return _Hole(names.get(name, ""), shapes.get(name, ""))

    def bare(said: dict[str, str]) -> dict[str, str]:
        return {**said, "time_local": said.get("time_local", "").strip("[]")}

    return _reader(_pieces(text, r"%(?:%|\(([^)]*)\)[-0-9]*[sd])", hole), "status", bare)


# --- What most of them look like ---------------------------------------------

_COMBINED: Final = re.compile(
    r'(?P<client>\S{1,256}) \S{1,256} .{0,256}?\[(?P<time>[^\]]{20,40})\] "(?P<request>(?:[^"\\]|\\.)*+)" '
    r"(?P<status>\d{3}) (?:\d+|-)(?P<tail>.*)"
)
_LABEL: Final = re.compile(r'\b(?P<key>[a-z_]{1,30})[=:]\s?(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s",;]+(?:, [\d.-]+)*))')
_LABELS: Final = {
    "rt": "request_time", "request_time": "request_time", "duration": "request_time",
    "urt": "upstream_response_time", "uct": "upstream_connect_time", "uht": "upstream_header_time", "ua": "upstream_addr",
    "us": "upstream_status", "upstream_time": "upstream_response_time",
}  # fmt: skip
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+"')
_BARE: Final = re.compile(
    r'(?:^|\s)"?(?P<request>\d+\.\d{3})"?(?:\s+"?(?P<upstream>(?:\d+\.\d{3}|-)(?:(?:, | : )(?:[\d.]+|-))*)"?)?(?=\s|$)'
)


def combined(line: str) -> Told | None:
    """Combined or common, with whatever follows; None: it is none."""
    match = _COMBINED.fullmatch(line)
    if match is None:
        return None
    said = {
        "time_local": match["time"],
        "status": match["status"],
        "request": match["request"],
        "remote_addr": match["client"],
    }
    tail = match["tail"]
    if tail:
        _labelled(tail, said)
    return fields(said)


def _labelled(tail: str, said: dict[str, str]) -> None:
    """`rt=0.012 urt="0.010"`, as nginx's own examples have it; else the first two numbers with three decimals."""
    # the referer and the agent are the client's words, and may look like anything
    quoted = 0

    def blank(found: re.Match[str]) -> str:
        nonlocal quoted
        quoted += 1
        return '""' if quoted <= 2 and not _NUMBER.fullmatch(found[0].strip('"')) else found[0]

    bare = _QUOTED.sub(blank, tail)
    for found in _LABEL.finditer(bare):
        value = found["quoted"] if found["quoted"] is not None else found["bare"]
        key = _LABELS.get(found["key"], found["key"])
        if key not in said:
            said[key] = value
    if "request_time" not in said and (numbers := _BARE.search(bare)):
        said["request_time"] = numbers["request"]
        if numbers["upstream"]:
            said.setdefault("upstream_response_time", numbers["upstream"])


_FPM: Final = re.compile(
    r"(?P<remote_addr>\S*) - \S{0,256} ?(?P<time_local>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}) "
    r'"(?P<request>[^"]*)" (?P<status>\d{3})(?P<tail>.*)'
)


def fpm_default(line: str) -> Told | None:
    """php-fpm's default, with whatever follows; None: it is none."""
    match = _FPM.fullmatch(line)
    if match is None:
        return None
    numbers = _BARE.search(match["tail"])
    told = fields({
        "time_local": match["time_local"], "status": match["status"], "request": match["request"],
        "remote_addr": match["remote_addr"], "request_time": numbers["request"] if numbers else "-",
    })  # fmt: skip
    return _from_its_begin(told) if told is not None else None


_decode = msgspec.json.Decoder(dict[str, object]).decode
_ALSO: Final = {
    "method": "request_method", "uri": "request_uri", "target": "request_uri", "path": "request_uri",
    "client": "remote_addr", "remote_ip": "remote_addr",
    "duration": "request_time", "response_time": "request_time", "code": "status", "status_code": "status",
}  # fmt: skip


def json(line: str) -> Told | None:
    """An object with nginx's names, or ours (whose time is when the request began); None: it is none."""
    if not line.startswith("{"):
        return None
    try:
        found = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    said: dict[str, str] = {}
    for key, value in found.items():
        if isinstance(value, str | int | float):
            said.setdefault(_ALSO.get(key, key), str(value))
    told = fields(said)
    if told is not None and isinstance(told.what, Access) and "duration" in found and "request_time" not in found:
        return _from_its_begin(told)
    return told


_UWSGI: Final = re.compile(
    r"\[pid: (?P<pid>\d+)\|app: \S+\|req: \S+\] (?P<client>\S*) \([^)]*\) \{[^}]*\} \[(?P<time>[^\]]+)\] "
    r"(?P<method>\S+) (?P<uri>.*) => generated (?:-?\d+) bytes in (?P<took>\d+) (?P<unit>msecs|micros|secs) "
    r".*?\(HTTP/\S+ (?P<status>\d{3})\).*"
)


def uwsgi(line: str) -> Told | None:
    """A line of uWSGI's about a request; None: it is none. Its time is when the request came."""
    match = _UWSGI.fullmatch(line)
    when = moment(match["time"], "%a %b %e %H:%M:%S %Y") if match else None
    if match is None or when is None:
        return None
    took = float(match["took"]) * {"msecs": 1e-3, "micros": 1e-6, "secs": 1.0}[match["unit"]]
    return Told(
        When(when[0]), Access(int(match["status"]), match["method"], match["uri"], match["client"], took, began=True)
    )


_UVICORN: Final = re.compile(r'INFO: +(?P<client>\S+):\d+ - "(?P<request>[^"]*)" (?P<status>\d{3})\b.*')


def uvicorn(line: str) -> Told | None:
    """A line of uvicorn's about a request, which has no time; None: it is none."""
    match = _UVICORN.fullmatch(line)
    if match is None:
        return None
    method, uri = request(match["request"])
    return Told(None, Access(int(match["status"]), method, uri, match["client"]))
