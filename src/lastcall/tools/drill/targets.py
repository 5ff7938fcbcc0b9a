"""The servers that a drill knows: how each is started, and what it understands.

A target is named as on the command line: `php-fpm`, `php-fpm:10s`, `gunicorn:gthread`. It is started in a folder of its
own, in the foreground, with the gift service.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lastcall import __version__
from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import format_duration, parse_duration
from lastcall.tools.drill import gift
from lastcall.tools.drill.processes import SBIN, environment
from lastcall.tools.drill.strategies import (
    QUIT,
    Broken,
    KillMaster,
    Misconfigured,
    Recycle,
    Reload,
    Slow,
    Strategy,
    Succeed,
    Way,
    ways,
)

HUP, USR1, USR2 = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2

GIFT = Path(gift.__file__).parent
HOLD_S = 10
"""Seconds that lastcall's listeners wait between a stop and the next start: a start takes less."""
MAX_REQUESTS = 50
"""Requests after which a worker ends, under `recycle`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run of a target happens."""

    folder: Path
    address: str
    workers: int
    max_requests: int = 0
    last: bool = False
    """Its next stop is the last one: nobody is to wait for another start."""

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]

    @property
    def config(self) -> Path:
        """The target's configuration file, where it has one."""
        return self.folder / "server.conf"


@dataclass(frozen=True)
class Target:
    """One server with its settings."""

    name: str
    kind: str
    protocol: str
    """HTTP or FastCGI."""
    ways: Mapping[Strategy, Way]
    command: Callable[[Place], list[str]]
    """Its command line; what it needs in the folder is written there."""
    program: Sequence[str]
    """What has to be there; the first one is asked for its version with `version`."""
    version: Sequence[str] = ("--version",)
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    """FastCGI variables that it needs besides the usual ones."""
    keeps: bool = True
    """Clients may keep connections to it: an idle one occupies no worker."""

    @property
    def fastcgi(self) -> bool:
        return self.protocol == "FastCGI"

    def missing(self) -> str:
        """Which program is not installed; "" when all are."""
        return next((program for program in self.program if not found(program)), "")

    def title(self) -> str:
        """`php-fpm 8.2.29, process_control_timeout = 10s`."""
        settings = ", ".join(f"{name} = {value}" for name, value in self.settings.items())
        return ", ".join(filter(None, [f"{self.kind} {self._version()}".strip(), settings]))

    def _version(self) -> str:
        if self.kind == "lastcall":
            return __version__
        if Path(found(self.program[0])).parent == Path(sys.executable).parent and (known := _distribution(self.kind)):
            return known
        try:
            done = subprocess.run(
                [found(self.program[0]), *self.version], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        return number[0] if number else ""


def _distribution(kind: str) -> str:
    """Of a server that is installed beside us, for not all of them say it themselves."""
    try:
        return importlib.metadata.version(kind)
    except importlib.metadata.PackageNotFoundError:
        return ""


def found(program: str) -> str:
    """Its path: beside our own Python, on the PATH, or where Debian keeps servers; "" when it is nowhere."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment()["PATH"]])
    return shutil.which(program, path=path) or ""


def parse(name: str) -> Target:
    """The target of that name. Raises Mistake."""
    kind, _, argument = name.partition(":")
    if kind not in KINDS:
        raise Mistake(f"{kind!r} is no target", f"choose of {', '.join(KINDS)}")
    return KINDS[kind](name, argument)


def _chosen(name: str, argument: str, *choices: str) -> str:
    """The argument, which is one of these; the first one is the default."""
    if argument and argument not in choices:
        kind = name.partition(":")[0]
        raise Mistake(f"{name!r}: there is no {argument!r}", f"write {', '.join(f'{kind}:{one}' for one in choices)}")
    return argument or choices[0]


# --- Each of them ----------------------------------------------------------------------------


def _lastcall(name: str, argument: str) -> Target:
    form = _chosen(name, argument, "http", "fastcgi", "durable")
    protocol = "fastcgi" if form == "fastcgi" else "http"

    def command(place: Place) -> list[str]:
        journal = ("--journal", str(place.folder / "journal")) if form == "durable" else ()
        return [
            sys.executable, "-m", "lastcall", "serve", "lasting:app" if journal else "wsgi:app", "--app-dir", str(GIFT),
            f"--{protocol}", place.address, "--workers", str(place.workers), *journal,
            "--run-dir", str(place.folder), "--error-log", str(place.folder / "lastcall.log"),
            *(("--max-requests", str(place.max_requests)) if place.max_requests else ()),
            *(() if place.last else ("--hold", str(HOLD_S))),
        ]  # fmt: skip

    known = ways(
        quit=QUIT, hup=Reload(HUP), usr2=Reload(USR2), recycle=Recycle(), kill_master=KillMaster(sweep=False),
        slow_boot=Slow(HUP), broken_code=Broken(HUP),
    )  # fmt: skip
    speaks = {"http": "HTTP", "fastcgi": "FastCGI"}[protocol]
    settings = {"requests": "durable"} if form == "durable" else {}
    return Target(name, "lastcall", speaks, known, command, (sys.executable,), settings=settings)


def _php_fpm(name: str, argument: str) -> Target:
    try:
        grace = parse_duration(argument) if argument else 0.0
    except Mistake:
        raise Mistake(f"{name!r}: {argument!r} is no duration", "write process_control_timeout: php-fpm:10s") from None
    program = _newest_fpm()

    def command(place: Place) -> list[str]:
        place.config.write_text(_fpm_config(place, grace))
        root = ["--allow-to-run-as-root"] if os.geteuid() == 0 else []
        return [found(program), "--nodaemonize", "--fpm-config", str(place.config), *root]

    known = ways(quit=QUIT, usr2=Reload(USR2), recycle=Recycle(), broken_code=Misconfigured(USR2))
    settings = {"process_control_timeout": format_duration(grace)}
    params = {"SCRIPT_FILENAME": str(GIFT / "gift.php")}
    return Target(name, "php-fpm", "FastCGI", known, command, (program,), ("-v",), settings, params, keeps=False)


def _newest_fpm() -> str:
    """`php-fpm8.2`, as Debian calls it, or `php-fpm`."""
    folders = [Path(folder) for folder in (*os.environ.get("PATH", "").split(os.pathsep), *SBIN.split(":")) if folder]
    named = {path.name for folder in folders for path in folder.glob("php-fpm*")}
    numbered = [(float(name[7:]), name) for name in named if re.fullmatch(r"php-fpm\d\.\d", name)]
    return max(numbered)[1] if numbered else "php-fpm"


def _fpm_config(place: Place, grace: float) -> str:
    user = "user = root\ngroup = root\n" if os.geteuid() == 0 else ""
    return (
        f"[global]\npid = {place.folder}/fpm.pid\nerror_log = {place.folder}/fpm.log\n"
        f"process_control_timeout = {int(grace)}s\n"
        f"[gift]\n{user}listen = {place.address}\npm = static\npm.max_children = {place.workers}\n"
        f"pm.max_requests = {place.max_requests}\nclear_env = no\ncatch_workers_output = yes\n"
    )


def _gunicorn(name: str, argument: str) -> Target:
    worker = _chosen(name, argument, "sync", "gthread", "asgi")
    app = "asgi:app" if worker == "asgi" else "wsgi:app"

    def command(place: Place) -> list[str]:
        return [
            found("gunicorn"), app, "--bind", place.address, "--workers", str(place.workers), "--worker-class", worker,
            "--pythonpath", str(GIFT), "--pid", str(place.folder / "pid"), "--no-control-socket",
            *(("--threads", "4") if worker == "gthread" else ()),
            *(("--max-requests", str(place.max_requests)) if place.max_requests else ()),
        ]  # fmt: skip

    known = ways(
        quit=QUIT, hup=Reload(HUP), usr2=Succeed(), recycle=Recycle(), slow_boot=Slow(HUP), broken_code=Broken(HUP)
    )
    return Target(name, "gunicorn", "HTTP", known, command, ("gunicorn",), settings={"worker class": worker})


def _uvicorn(name: str, argument: str) -> Target:
    _chosen(name, argument, "asgi")

    def command(place: Place) -> list[str]:
        return [
            found("uvicorn"), "asgi:app", "--app-dir", str(GIFT), "--host", "127.0.0.1", "--port", place.port,
            "--workers", str(place.workers), "--no-access-log",
            *(("--limit-max-requests", str(place.max_requests)) if place.max_requests else ()),
        ]  # fmt: skip

    known = ways(hup=Reload(HUP), recycle=Recycle(), slow_boot=Slow(HUP), broken_code=Broken(HUP))
    return Target(name, "uvicorn", "HTTP", known, command, ("uvicorn",))


def _granian(name: str, argument: str) -> Target:
    interface = _chosen(name, argument, "wsgi", "asgi")

    def command(place: Place) -> list[str]:
        return [
            found("granian"), f"{interface}:app", "--interface", interface, "--host", "127.0.0.1", "--port", place.port,
            "--workers", str(place.workers), "--working-dir", str(GIFT), "--no-access-log",
        ]  # fmt: skip

    # Its workers end by age only, after a minute at least: longer than a drill takes.
    known = ways(hup=Reload(HUP), slow_boot=Slow(HUP), broken_code=Broken(HUP))
    return Target(name, "granian", "HTTP", known, command, ("granian",), settings={"interface": interface})


def _hypercorn(name: str, argument: str) -> Target:
    _chosen(name, argument, "asgi")

    def command(place: Place) -> list[str]:
        return [
            found("hypercorn"), "asgi:app", "--bind", place.address, "--workers", str(place.workers),
            *(("--max-requests", str(place.max_requests)) if place.max_requests else ()),
        ]  # fmt: skip

    known = ways(hup=Reload(HUP), recycle=Recycle(), slow_boot=Slow(HUP), broken_code=Broken(HUP))
    return Target(name, "hypercorn", "HTTP", known, command, ("hypercorn",))


def _uwsgi(name: str, argument: str) -> Target:
    protocol = _chosen(name, argument, "http", "fastcgi")

    def command(place: Place) -> list[str]:
        return [
            found("uwsgi"), f"--{protocol}-socket", place.address, "--master", "--processes", str(place.workers),
            "--pythonpath", str(GIFT), "--module", "wsgi:app", "--need-app", "--die-on-term", "--disable-logging",
            *(("--max-requests", str(place.max_requests)) if place.max_requests else ()),
        ]  # fmt: skip

    known = ways(hup=Reload(HUP), recycle=Recycle(), slow_boot=Slow(HUP), broken_code=Broken(HUP))
    speaks = {"http": "HTTP", "fastcgi": "FastCGI"}[protocol]
    return Target(name, "uwsgi", speaks, known, command, ("uwsgi",), settings={"die-on-term": "true"})


def _puma(name: str, argument: str) -> Target:
    _chosen(name, argument, "cluster")

    def command(place: Place) -> list[str]:
        return [
            found("puma"), "--workers", str(place.workers), "--threads", "1:1", "--bind", f"tcp://{place.address}",
            "--no-config", str(GIFT / "config.ru"),
        ]  # fmt: skip

    # A phased restart is USR1, a hot one USR2.
    known = ways(usr1=Reload(USR1), usr2=Reload(USR2), slow_boot=Slow(USR1), broken_code=Broken(USR1))
    return Target(name, "puma", "HTTP", known, command, ("puma",))


KINDS: dict[str, Callable[[str, str], Target]] = {
    "lastcall": _lastcall,
    "php-fpm": _php_fpm,
    "gunicorn": _gunicorn,
    "uvicorn": _uvicorn,
    "granian": _granian,
    "hypercorn": _hypercorn,
    "uwsgi": _uwsgi,
    "puma": _puma,
}
FORMS = (
    "lastcall", "lastcall:fastcgi", "lastcall:durable", "php-fpm", "php-fpm:10s", "gunicorn", "gunicorn:gthread",
    "gunicorn:asgi", "uvicorn", "granian", "granian:asgi", "hypercorn", "uwsgi", "uwsgi:fastcgi", "puma",
)  # fmt: skip
"""What may be written, for help and documentation; of durations one example."""
