"""A command -> what it orders: which signal is sent to whom, or which service is started, stopped, restarted, reloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lastcall.tools.readers import shell
from lastcall.tools.readers.servers import base, mentioned, shell_script, signal_name, started, unwrapped

STOPPING = frozenset({"stop", "restart", "try-restart", "condrestart", "force-restart", "stop-start"})
RELOADING = frozenset({"reload", "force-reload", "try-reload-or-restart", "reload-or-restart", "graceful"})
DEPTH_MAX = 4
"""Shells within shells (`sh -c "bash -c ..."`) that are looked into."""

KILLPROC_WAIT = 3.0
"""Seconds that Red Hat's killproc waits between TERM and KILL; Debian's waits 5."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order. Either `signals` to `target`, or `verb` to the service or the server `target`."""

    by: str
    """The program that gives it: kill, killproc, systemctl."""
    target: str
    """As written: a pid file, a process's name, a service's name; it may hold a variable."""
    line: int = 0
    verb: str = ""
    signals: tuple[str, ...] = ()
    waits: tuple[float, ...] = ()
    """Seconds after each signal before the next one."""
    command: tuple[str, ...] = ()
    arm: tuple[str, ...] = field(default=())

    @property
    def server(self) -> str:
        """The server that the target is called after; "" where it is called after none."""
        return mentioned(self.target)

    def words(self) -> str:
        """`killproc sends TERM, then KILL after 3 s, to php-fpm`; `systemctl restart php-fpm`."""
        if not self.signals and self.by.startswith("/"):
            return f"{self.by} {self.verb}"
        if not self.signals:
            return f"{self.by} {self.verb} {self.target}".strip()
        said = f"{self.by} sends {self.signals[0]}"
        for signal, wait in zip(self.signals[1:], self.waits, strict=False):
            said += f", then {signal} after {wait:g} s"
        return f"{said} to {self.target}" if self.target else said


def orders(text: str, first_line: int = 1, variables: dict[str, str] | None = None) -> tuple[Order, ...]:
    """All orders of a script or a command line, in the order of the text; lines count from `first_line`."""
    return of_commands(shell.parse(text, variables).commands, first_line - 1)


def of_commands(commands: Sequence[shell.Command], offset: int = 0, depth: int = 0) -> tuple[Order, ...]:
    """The orders of these commands."""
    found = list[Order]()
    for command in commands:
        words = unwrapped(command.words)
        line = command.line + offset
        inner = shell_script(words)
        if inner is not None and depth < DEPTH_MAX:
            parsed = of_commands(shell.parse(inner).commands, 0, depth + 1)
            found += [_placed(order, line, command.arm) for order in parsed]
        elif words:
            found += [_placed(order, line, command.arm) for order in _orders(words, command.pipeline)]
    return tuple(found)


def _placed(order: Order, line: int, arm: tuple[str, ...]) -> Order:
    return Order(order.by, order.target, line, order.verb, order.signals, order.waits, order.command, arm)


def _orders(words: tuple[str, ...], pipeline: str) -> list[Order]:
    program = base(words[0])
    if program == "xargs":
        return _xargs(words, pipeline)
    if program in _GIVERS:
        return _GIVERS[program](words)
    if _INIT.search(words[0]) and len(words) > 1:
        return [Order(words[0], program, verb=words[1], command=words)]
    if program in ("apachectl", "apache2ctl"):
        verb = words[-1] if words[-1] != program else ""
        verb = {"graceful-stop": "drain"}.get(verb, verb)
        return [Order(program, "apache2", verb=verb, command=words)] if len(words) > 1 else []
    if started(words) == "nginx" and "-s" in words[:-1]:
        sent = {"stop": "TERM", "quit": "QUIT", "reload": "HUP", "reopen": "USR1"}.get(words[words.index("-s") + 1], "")
        return [Order("nginx -s", "nginx", signals=(sent,), command=words)] if sent else []
    if started(words) == "uwsgi" and len(words) > 1 and words[1] in ("--stop", "--reload"):
        sent = "INT" if words[1] == "--stop" else "HUP"
        return [Order(f"uwsgi {words[1]}", "uwsgi", signals=(sent,), command=words)]
    return []


_INIT = re.compile(r"/(?:init|rc)\.d/[^/]+$")


# --- Signals -----------------------------------------------------------------


def _kill(words: tuple[str, ...]) -> list[Order]:
    signal, targets, at = "TERM", list[str](), 1
    while at < len(words):
        word = words[at]
        if word in ("-s", "--signal", "-n") and at + 1 < len(words):
            signal, at = signal_name(words[at + 1]), at + 2
            continue
        if word in ("-0", "-l", "-L") or (word.startswith("-") and "$" in word):
            return []  # a question; or a signal that only the caller knows
        if word.startswith("-") and not targets and len(word) > 1 and word != "--":
            signal = signal_name(word) or signal
        elif word != "--":
            targets.append(word)
        at += 1
    if signal in ("", "0", "CONT", "STOP") or not targets:
        return []
    return [Order("kill", _target(" ".join(targets)), signals=(signal,), command=words)]


def _target(text: str) -> str:
    """`$(cat /run/x.pid)` and its like, without what only reads it."""
    inner = re.fullmatch(r"\"?(?:\$\((.*)\)|`(.*)`)\"?", text, re.DOTALL)
    bare = (inner[1] or inner[2] or "") if inner else text
    return re.sub(r"^(?:cat|<|head -n ?1|pidof|pgrep(?: -[a-z]+)*)\s+", "", bare.strip())


def _pkill(words: tuple[str, ...]) -> list[Order]:
    signal, targets, at = "TERM", list[str](), 1
    while at < len(words):
        word = words[at]
        if word in ("--signal", "-s") and base(words[0]) != "pkill" and at + 1 < len(words):
            signal, at = signal_name(words[at + 1]), at + 2
            continue
        if word == "--signal" and at + 1 < len(words):
            signal, at = signal_name(words[at + 1]), at + 2
            continue
        if word.startswith("--signal="):
            signal = signal_name(word.partition("=")[2])
        elif re.fullmatch(r"-(?:u|U|g|G|P|t|s|y|o)", word) and at + 1 < len(words):
            at += 1
        elif word.startswith("-") and "$" in word:
            return []
        elif word.startswith("-"):
            signal = signal_name(word) or signal if len(word) > 2 or word[1:].isdigit() else signal
        else:
            targets.append(word)
        at += 1
    if signal in ("", "0", "CONT", "STOP") or not targets:
        return []
    return [Order(base(words[0]), target, signals=(signal,), command=words) for target in targets]


def _xargs(words: tuple[str, ...], pipeline: str) -> list[Order]:
    """`ps aux | grep php-fpm | xargs kill -9`: who is meant stands before."""
    rest = unwrapped([word for word in words[1:] if word not in ("-r", "-n", "1", "-I", "{}", "-0")])
    if not rest or base(rest[0]) != "kill":
        return []
    signal = next((signal_name(word) for word in rest[1:] if word.startswith("-") and signal_name(word)), "TERM")
    return [Order("kill", pipeline, signals=(signal,), command=words)]


def _killproc(words: tuple[str, ...]) -> list[Order]:
    """Red Hat's, SUSE's and the LSB's: `killproc [-p pidfile] [-d delay] program [-SIGNAL]`; bare it ends in KILL."""
    target, signal, pidfile, at, wait = "", "", "", 1, KILLPROC_WAIT
    while at < len(words):
        word = words[at]
        if word in ("-p", "-d", "-b", "-t") and at + 1 < len(words):
            pidfile = words[at + 1] if word == "-p" else pidfile
            if word in ("-d", "-t") and words[at + 1].isdigit():
                wait = float(words[at + 1])
            at += 1
        elif word.startswith("-") and "$" in word:
            return []
        elif word.startswith("-"):
            signal = signal_name(word) or signal
        elif not target:
            target = word
        elif signal_name(word):
            signal = signal_name(word)
        at += 1
    named = target if mentioned(target) or not pidfile else pidfile if mentioned(pidfile) else target
    if signal:
        return [Order("killproc", named, signals=(signal,), command=words)]
    return [Order("killproc", named, signals=("TERM", "KILL"), waits=(wait,), command=words)]


def _start_stop_daemon(words: tuple[str, ...]) -> list[Order]:
    options = dict[str, str]()
    stop, at = False, 1
    names = {"-K": "--stop", "-s": "--signal", "-R": "--retry", "-p": "--pidfile", "-x": "--exec", "-n": "--name"}
    while at < len(words) and words[at] != "--":
        key, equals, value = words[at].partition("=")
        key = names.get(key, key)
        if key == "--stop":
            stop = True
        elif key in ("--signal", "--retry", "--pidfile", "--exec", "--name", "--startas", "--user"):
            if not equals and at + 1 < len(words):
                at += 1
                value = words[at]
            options[key] = value
        at += 1
    if not stop or "--test" in words or "-t" in words:
        return []
    target = next((options[key] for key in ("--name", "--exec", "--pidfile") if mentioned(options.get(key, ""))), "")
    target = target or options.get("--name") or options.get("--exec") or options.get("--pidfile", "")
    signal = signal_name(options.get("--signal", "TERM"))
    signals, waits = _schedule(options.get("--retry", ""), signal)
    if not signals or signals[0] in ("0", "CONT"):
        return []
    return [Order("start-stop-daemon", target, signals=signals, waits=waits, command=words)]


def _schedule(retry: str, signal: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """`--retry 5` is SIGNAL/5/KILL/5 (start-stop-daemon(8)); `QUIT/30/TERM/5/KILL/5` says it in full."""
    if not retry:
        return ((signal,) if signal else ()), ()
    if retry.isdigit():
        return (signal, "KILL"), (float(retry), float(retry))
    signals, waits = list[str](), list[float]()
    for part in retry.split("/"):
        if part.isdigit() and signals and len(waits) < len(signals):
            waits.append(float(part))
        elif part == "0":
            return (), ()  # signal 0 asks, and sends nothing; what follows is for who is left over
        elif part != "forever" and signal_name(part):
            signals.append(signal_name(part))
    return tuple(signals), tuple(waits)


# --- Services ----------------------------------------------------------------


def _systemctl(words: tuple[str, ...]) -> list[Order]:
    rest, signal = list[str](), "TERM"
    at = 1
    while at < len(words):
        word = words[at]
        if word in ("-s", "--signal", "-H", "-M", "-t", "-n", "-o", "--kill-who", "--kill-whom") and at + 1 < len(
            words
        ):
            signal = signal_name(words[at + 1]) if word in ("-s", "--signal") else signal
            at += 1
        elif word.startswith("--signal="):
            signal = signal_name(word.partition("=")[2])
        elif not word.startswith("-"):
            rest.append(word)
        at += 1
    if len(rest) < 2:
        return []
    verb, names = rest[0], rest[1:]
    if verb == "kill":
        return [Order("systemctl kill", name, signals=(signal,), command=words) for name in names if signal]
    return [Order("systemctl", name.removesuffix(".service"), verb=verb, command=words) for name in names]


def _service(words: tuple[str, ...]) -> list[Order]:
    rest = [word for word in words[1:] if not word.startswith("-")]
    return [Order(base(words[0]), rest[0], verb=rest[1], command=words)] if len(rest) > 1 else []


def _verb_first(words: tuple[str, ...]) -> list[Order]:
    """supervisorctl, initctl, monit, pm2: `restart NAME...`."""
    rest = [word for word in words[1:] if not word.startswith("-")]
    at = next((n for n, word in enumerate(rest) if word in STOPPING | RELOADING | _MORE_VERBS), None)
    if at is None:
        return []
    names = rest[at + 1 :] or ["all"]
    return [Order(base(words[0]), name, verb=rest[at], command=words) for name in names]


_MORE_VERBS = frozenset({"start", "kill", "delete", "shutdown", "update", "reread"})


def _docker(words: tuple[str, ...]) -> list[Order]:
    rest = list(words[1:])
    by = base(words[0])
    if rest[:1] == ["compose"]:
        by, rest = "docker compose", rest[1:]
    elif rest[:1] == ["container"]:
        rest = rest[1:]
    verbs = ("kill", "stop", "restart", "rm", "down", "up")
    at = next((n for n, word in enumerate(rest) if word in verbs), None)
    if at is None:
        return []
    verb, tail = rest[at], rest[at + 1 :]
    names = [word for n, word in enumerate(tail) if not word.startswith("-") and not (n and tail[n - 1] in _VALUED)]
    return [Order(by, " ".join(names), verb=verb, command=words)]


_VALUED = ("-t", "--time", "--timeout", "-s", "--signal")


def _kubectl(words: tuple[str, ...]) -> list[Order]:
    rest = [word for word in words[1:] if not word.startswith("-")]
    return [Order("kubectl", " ".join(rest[1:]), verb=rest[0], command=words)] if rest else []


def _pumactl(words: tuple[str, ...]) -> list[Order]:
    return [Order("pumactl", "puma", verb=words[-1], command=words)] if len(words) > 1 else []


_GIVERS = {
    "kill": _kill, "pkill": _pkill, "killall": _pkill, "killproc": _killproc, "start-stop-daemon": _start_stop_daemon,
    "systemctl": _systemctl, "service": _service, "invoke-rc.d": _service, "rc-service": _service,
    "supervisorctl": _verb_first, "initctl": _verb_first, "monit": _verb_first, "pm2": _verb_first,
    "docker": _docker, "docker-compose": _docker, "podman": _docker, "kubectl": _kubectl, "pumactl": _pumactl,
}  # fmt: skip
