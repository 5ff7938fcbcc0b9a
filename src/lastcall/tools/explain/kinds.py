"""Which kind of log a file is, by what its lines look like. Pure.

A file has one kind, that of most of its first lines; a line of it that is none of that kind is tried as each of the others,
for programs share files, and files are put together by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from lastcall.core import cuts
from lastcall.tools.explain import accesslines, actionlogs, fpmlog, nginxlog, serverlogs, syslog
from lastcall.tools.explain.records import NOTHING, Access, CutOff, Told, When

Reader = Callable[[str], Told | None]
SAMPLE: Final = 60
"""Lines that are looked at to find out what a file is."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is."""

    name: str
    read: Reader
    needles: tuple[bytes, ...] = ()
    """Where a file is large, only lines with one of these are looked at; (): all of them are."""
    access: bool = False
    """A line for each request: only what is near an incident is looked at, where the file is large."""
    service: str = ""
    """Whose log it is, where the kind says so."""


def cut(line: str) -> Told | None:
    """A record of lastcall's cut list; None: it is none."""
    if not line.startswith('{"at"') or '"request_id"' not in line:
        return None
    try:
        found = msgspec.json.decode(line, type=cuts.Cut)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    answered = found.done.startswith("run again") or bool(found.completed_at)
    said = f"{found.cause}; {found.done}" if found.done else found.cause
    step = f" at step {found.step}" if found.step else ""
    return Told(When(found.time, 0, 0.001), CutOff(
        found.time - found.elapsed, found.request_id, found.method, found.uri, found.client, f"{said}{step}", answered
    ))  # fmt: skip


CUTS: Final = Kind("cut list", cut)
FPM: Final = Kind("php-fpm log", fpmlog.read, (
    b" ...", b"execvp", b"is running, pid", b"bye-bye", b"ready to handle", b"re-opened", b"exited on signal", b"SIG",
    b"executing too slow", b"timed out", b"]  [pool", b"script_filename",
    b"initialization failed", b"failed processes", b"asked to stop",
))  # fmt: skip
NGINX: Final = Kind("nginx error log", nginxlog.read, nginxlog.NEEDLES)
ACCESS: Final = Kind("access log", accesslines.combined, access=True)
ACCESS_JSON: Final = Kind("access log (JSON)", accesslines.json, access=True)
ACCESS_FPM: Final = Kind("php-fpm access log", accesslines.fpm_default, access=True, service="php-fpm")
GUNICORN: Final = Kind("gunicorn log", serverlogs.gunicorn, service="gunicorn")
UWSGI: Final = Kind("uWSGI log", serverlogs.uwsgi, service="uwsgi")
UWSGI_REQUESTS: Final = Kind("uWSGI request log", accesslines.uwsgi, access=True, service="uwsgi")
SUPERVISOR: Final = Kind("supervisor log", serverlogs.supervisor)
UVICORN: Final = Kind("uvicorn log", serverlogs.uvicorn, service="uvicorn")
UVICORN_REQUESTS: Final = Kind("uvicorn request log", accesslines.uvicorn, service="uvicorn")
SYSLOG: Final = Kind("syslog", syslog.read, syslog.NEEDLES)
JOURNAL: Final = Kind("journal", syslog.journal, syslog.NEEDLES)
DPKG: Final = Kind("dpkg log", actionlogs.dpkg)
APT: Final = Kind("apt history", actionlogs.apt)
CERTBOT: Final = Kind("certbot log", actionlogs.certbot)
ROTATION: Final = Kind("logrotate state", actionlogs.logrotate_state)
AUDIT: Final = Kind("audit log", actionlogs.audit, (b"type=EXECVE",))
OTHER: Final = Kind("log", actionlogs.other, (b"restart", b"reload", b"stop", b"deploy", b"release"))


class _Packed(msgspec.Struct):
    """A line of a container, as dockerd keeps it."""

    log: str
    time: str


_docker = msgspec.json.Decoder(_Packed).decode
_CRI: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}(?:Z|[+-]\d\d:\d\d)) (?:stdout|stderr) [FP] (?P<log>.*)"
)


def container(line: str) -> Told | None:
    """A line of a container's log, as dockerd or Kubernetes keeps it; None: it is none.

    What the program says of itself counts; its time does only where it has none that says its zone: the outer one is exact.
    """
    if line.startswith('{"log"'):
        try:
            packed = _docker(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        inner, time = packed.log.rstrip("\n"), packed.time
    elif match := _CRI.fullmatch(line):
        inner, time = match["log"], match["time"]
    else:
        return None
    when = serverlogs.iso(re.sub(r"(\.\d{6})\d+", r"\1", time))
    told = next((told for kind in KINDS if kind is not CONTAINER and (told := kind.read(inner)) is not None), None)
    if when is None:
        return None
    if told is None:
        return Told(when, NOTHING)
    zoned = told.when is not None and told.when.offset is not None
    return told if zoned and isinstance(told.what, Access) else Told(when, told.what)


CONTAINER: Final = Kind("container log", container)

KINDS: Final = (
    CUTS, JOURNAL, CONTAINER, ACCESS_JSON, FPM, NGINX, GUNICORN, SUPERVISOR, UWSGI_REQUESTS, UWSGI, ACCESS_FPM, ACCESS,
    UVICORN_REQUESTS, UVICORN, DPKG, APT, CERTBOT, ROTATION, AUDIT, SYSLOG, OTHER,
)  # fmt: skip
"""Those that are sure of themselves first: each takes what the ones before it have not taken."""


def recognize(lines: Sequence[str], name: str) -> Kind | None:
    """The kind of a file with these first lines; None: it is none that we know."""
    counts: dict[str, int] = {}
    for line in lines:
        kind = of(line)
        if kind is not None:
            counts[kind.name] = counts.get(kind.name, 0) + (3 if kind is not OTHER else 1)
    if not counts:
        return next((kind for pattern, kind in _NAMES if pattern.search(name)), None)
    most = max(counts.values())
    return next(kind for kind in KINDS if counts.get(kind.name) == most)


def mixed(lines: Sequence[str], kind: Kind) -> bool:
    """Whether an access log holds lines of another kind as well: a file into which several write."""
    others = [found for line in lines if kind.read(line) is None and (found := of(line)) is not None]
    return any(not other.access and other is not OTHER for other in others)


def of(line: str) -> Kind | None:
    """The first kind that this line is one of."""
    return next((kind for kind in KINDS if kind.read(line) is not None), None)


_NAMES: Final = (
    (re.compile(r"fpm[^/]*access"), ACCESS_FPM),
    (re.compile(r"(?:^|[./_-])access"), ACCESS),
    (re.compile(r"php[^/]*fpm[^/]*\.log|fpm[^/]*slow"), FPM),
    (re.compile(r"nginx/[^/]*error"), NGINX),
)


def by_format(name: str, readers: Iterable[Reader], service: str = "") -> Kind:
    """An access log whose format is known from the configuration, or one of those."""
    listed = tuple(readers)

    def read(line: str) -> Told | None:
        for reader in listed:
            told = reader(line)
            if told is not None:
                return told
        return None

    return Kind(name, read if len(listed) > 1 else listed[0], access=True, service=service)
