"""Servers: how one is recognized, and what each signal does to the requests that it is running."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from lastcall.core.exits import SIGNALS

PHP_FPM, PHP_CGI, GUNICORN, UWSGI, UVICORN = "php-fpm", "php-cgi", "gunicorn", "uwsgi", "uvicorn"
HYPERCORN, GRANIAN, WAITRESS, PUMA, UNICORN = "hypercorn", "granian", "waitress", "puma", "unicorn"
NGINX, APACHE, HAPROXY, LASTCALL, NODE = "nginx", "apache", "haproxy", "lastcall", "node"

APP_SERVERS = frozenset({
    PHP_FPM, PHP_CGI, GUNICORN, UWSGI, UVICORN, HYPERCORN, GRANIAN, WAITRESS, PUMA, UNICORN, LASTCALL, NODE,
})  # fmt: skip
"""Those that run the application's code: what they cut is half-done."""

PREFORK = frozenset({PHP_FPM, GUNICORN, UWSGI, UVICORN, HYPERCORN, GRANIAN, PUMA, UNICORN, LASTCALL, APACHE})
"""Those that have a master and workers."""


class Effect(Enum):
    """What a signal to the master does."""

    CUT = "cuts every request that is running"
    DRAIN = "finishes what has begun, then ends"
    RELOAD = "reloads"
    REOPEN = "reopens the logs"
    OTHER = "does something else"


_C, _D, _R, _O = Effect.CUT, Effect.DRAIN, Effect.RELOAD, Effect.REOPEN

EFFECTS: dict[str, dict[str, Effect]] = {
    PHP_FPM: {"TERM": _C, "INT": _C, "QUIT": _D, "USR1": _O, "USR2": _R, "HUP": _R},
    PHP_CGI: {"TERM": _D, "USR1": _D, "INT": _C, "QUIT": _C, "HUP": _C, "USR2": _C},
    GUNICORN: {"TERM": _D, "INT": _C, "QUIT": _C, "HUP": _R, "USR1": _O, "USR2": _R},
    UWSGI: {"TERM": _C, "INT": _C, "QUIT": _C, "HUP": _R},
    UVICORN: {"TERM": _D, "INT": _D, "HUP": _R, "QUIT": _C},
    HYPERCORN: {"TERM": _D, "INT": _D, "HUP": _R, "QUIT": _C},
    GRANIAN: {"TERM": _D, "INT": _D, "HUP": _R, "QUIT": _C},
    WAITRESS: {"TERM": _C, "INT": _C, "HUP": _C, "QUIT": _C},
    PUMA: {"TERM": _D, "INT": _D, "USR1": _R, "USR2": _R, "HUP": _O},
    UNICORN: {"TERM": _C, "INT": _C, "QUIT": _D, "HUP": _R, "USR1": _O, "USR2": _R},
    NGINX: {"TERM": _C, "INT": _C, "QUIT": _D, "HUP": _R, "USR1": _O, "USR2": _R},
    APACHE: {"TERM": _C, "HUP": _C, "USR1": _R, "WINCH": _D},
    HAPROXY: {"TERM": _C, "USR1": _D, "USR2": _R},
    LASTCALL: {"TERM": _D, "INT": _D, "QUIT": _D, "HUP": _R, "USR2": _R, "USR1": _O},
}
"""What the signals do to a master, by their own documentation and as measured. KILL cuts, whoever gets it.

php-fpm's QUIT and USR2 only keep that promise with `process_control_timeout`; HUP is a reload in Debian's build only.
uvicorn's and hypercorn's HUP is one with several workers. Not in the table: nobody knows.
"""

GRACEFUL = {
    PHP_FPM: "QUIT", GUNICORN: "TERM", UVICORN: "TERM", HYPERCORN: "TERM", GRANIAN: "TERM", PUMA: "TERM",
    UNICORN: "QUIT", NGINX: "QUIT", APACHE: "WINCH", LASTCALL: "TERM", PHP_CGI: "TERM", HAPROXY: "USR1",
}  # fmt: skip
"""The signal that stops with the least loss. uWSGI and waitress have none."""

RELOADING = {
    PHP_FPM: "USR2", GUNICORN: "HUP", UWSGI: "HUP", UVICORN: "HUP", HYPERCORN: "HUP", GRANIAN: "HUP",
    PUMA: "USR1", UNICORN: "HUP", NGINX: "HUP", APACHE: "USR1", LASTCALL: "HUP", HAPROXY: "USR2",
}  # fmt: skip

REOPENING = {PHP_FPM: "USR1", GUNICORN: "USR1", PUMA: "HUP", UNICORN: "USR1", NGINX: "USR1", LASTCALL: "USR1"}


def effect(server: str, signal: str) -> Effect:
    """What this signal does to that server; OTHER where it is not known."""
    if signal == "KILL":
        return Effect.CUT
    return EFFECTS.get(server, {}).get(signal, Effect.OTHER)


_NAMES: tuple[tuple[str, str], ...] = (
    (PHP_FPM, r"php[\d.]*-?fpm[\d.]*|php-fpm"),
    (PHP_CGI, r"php[\d.]*-cgi[\d.]*|spawn-fcgi"),
    (GUNICORN, r"gunicorn3?"),
    (UWSGI, r"uwsgi(?:-core|_python3?)?"),
    (UVICORN, r"uvicorn"),
    (HYPERCORN, r"hypercorn"),
    (GRANIAN, r"granian"),
    (WAITRESS, r"waitress(?:-serve)?"),
    (PUMA, r"puma(?:ctl)?"),
    (UNICORN, r"unicorn(?:_rails)?"),
    (NGINX, r"nginx|openresty"),
    (APACHE, r"apache2?(?:ctl)?|httpd"),
    (HAPROXY, r"haproxy"),
    (LASTCALL, r"lastcall"),
    (NODE, r"node(?:js)?|pm2(?:-runtime)?"),
)
_OTHERS = r"[-_.](?:prometheus[-_])?(?:exporter|agent|logs?\b|backup|cleaner|stats|status|ui|docs)"
"""What follows in the names of programs that only look at a server."""

_EXACT = tuple((server, re.compile(rf"(?:{pattern})(?:@\S*)?")) for server, pattern in _NAMES)
_WITHIN = tuple(
    (server, re.compile(rf"(?<![A-Za-z0-9])\[?(?:{pattern})(?![A-Za-z])(?!{_OTHERS})".replace("php", r"p\]?hp")))
    for server, pattern in _NAMES
    if server != NODE
)

_RUNNERS = frozenset({
    "sudo", "exec", "nohup", "env", "nice", "ionice", "setsid", "timeout", "chronic", "command", "tini", "dumb-init",
    "catatonit", "stdbuf", "chrt", "taskset", "gosu", "su-exec", "setpriv", "runuser", "flock", "time", "/sbin/tini", "--",
    "opentelemetry-instrument", "ddtrace-run", "newrelic-admin", "numactl", "unshare", "chpst", "setuidgid", "doas",
})  # fmt: skip
"""Programs that start the one behind them, under the same or a related pid."""

_TAKES_VALUE = {
    "sudo": "ughpCTRrt", "nice": "n", "ionice": "cnpPu", "timeout": "ks", "env": "uCS", "runuser": "ugG", "flock": "wE",
    "tini": "pe", "chrt": "p", "taskset": "", "setpriv": "", "stdbuf": "ioe", "doas": "uC", "chpst": "uUb",
}  # fmt: skip
_POSITIONALS = {"timeout": 1, "flock": 1, "gosu": 1, "su-exec": 1, "taskset": 1, "chrt": 1, "setuidgid": 1}
_LAUNCHERS = {
    "poetry": "run",
    "pipenv": "run",
    "uv": "run",
    "pdm": "run",
    "hatch": "run",
    "bundle": "exec",
    "rye": "run",
}


def base(program: str) -> str:
    """A program's name without its folders."""
    return program.rsplit("/", 1)[-1]


def unwrapped(words: Sequence[str]) -> tuple[str, ...]:
    """A command without what only starts it: `sudo -u www nice -n 5 env A=1 X ...` is `X ...`."""
    left = list(words)
    while left:
        name = base(left[0])
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", left[0], re.DOTALL) or left[0] == "--":
            left.pop(0)
        elif name in _RUNNERS:
            left = _without_options(name, left[1:])
        elif name in _LAUNCHERS and _LAUNCHERS[name] in left[1:3]:
            left = _without_options(name, left[left.index(_LAUNCHERS[name]) + 1 :])
        else:
            break
    return tuple(left)


def _without_options(name: str, left: list[str]) -> list[str]:
    takes = _TAKES_VALUE.get(name, "")
    while left and left[0].startswith("-") and left[0] != "--":
        option = left.pop(0)
        if not option.startswith("--") and option[-1] in takes and left and len(option) == 2:
            left.pop(0)
    if left and left[0] == "--":
        left.pop(0)
    for _ in range(_POSITIONALS.get(name, 0)):
        if left:
            left.pop(0)
    return left


def shell_script(words: Sequence[str]) -> str | None:
    """The script of `sh -c SCRIPT`; None where the command is none."""
    if words and base(words[0]) in ("sh", "bash", "dash", "ash", "zsh", "ksh"):
        for at, word in enumerate(words[1:-1], 1):
            if re.fullmatch(r"-[a-z]*c", word):
                return words[at + 1]
    return None


def started(words: Sequence[str]) -> str:
    """The server that a command line starts; "" where it is none."""
    left = unwrapped(words)
    if not left or "/init.d/" in left[0] or "/rc.d/" in left[0]:
        return ""  # an init script is called like its server, and gives it its order
    program, rest = base(left[0]), left[1:]
    if re.fullmatch(r"python[\d.]*|pypy3?", program):
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            rest = rest[1:]
        if rest[:1] == ("-m",) and len(rest) > 1:
            return _exact(rest[1].split(".")[0])
        return _exact(base(rest[0])) if rest and not rest[0].endswith(".py") else ""
    if program in ("apachectl", "apache2ctl", "httpd-foreground", "apache2-foreground"):
        return APACHE
    return _exact(program)


def _exact(name: str) -> str:
    return next((server for server, pattern in _EXACT if pattern.fullmatch(name)), "")


def mentioned(text: str) -> str:
    """The server that a pid file, a service, a process pattern is called after; "" where none is."""
    return next((server for server, pattern in _WITHIN if pattern.search(text)), "")


_NUMBERS = {str(number): name.removeprefix("SIG") for number, name in SIGNALS.items()}


def signal_name(text: str) -> str:
    """`9`, `-9`, `SIGKILL`, `sigkill`, `KILL` -> `KILL`; "" where it is none."""
    bare = text.lstrip("-").upper()
    bare = _NUMBERS.get(bare, bare).removeprefix("SIG")
    return bare if bare in _NUMBERS.values() or bare in ("RTMIN+3", "RTMIN+4") else ""
