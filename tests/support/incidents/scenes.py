"""What happens on the machines, at the same minute on each: the incidents, and the controls on which nothing does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from support.incidents.machine import Machine
from support.incidents.shop import DEPLOY, OWN_INIT, Layout

FORMAT: Final = '%R - %u %t \\"%m %{REQUEST_URI}e\\" %s %{milliseconds}d %{kilobytes}M %C%%'

Sender = dict[str, Any]
"""Who orders it: its kind, and where that is written."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One incident, or a control without any."""

    name: str
    cause: str
    """As `explain` names it; "" for a control."""
    how: str
    layout: Layout
    ordered: Callable[[Machine, float], Sender] = lambda _machine, _at: {}
    """Writes what will restart it at that time."""
    act: Callable[[Machine], None] = lambda _machine: None
    """What somebody does, `after` seconds after that time."""
    after: float = 0.0
    own_init: bool = False
    clients: int = 12
    step: tuple[float, float] = (2.0, 4.0)
    """Seconds between the two ledgers, at least and at most: somebody is there at any time."""
    kinds: tuple[Mapping[str, Any], ...] = ()
    """Requests of another kind: `share` of all."""
    once: tuple[Mapping[str, Any], ...] = ()
    """Requests that come once: `after` seconds after the time of the incident."""
    late: float = 8.0
    """Seconds of load after it: the service is back by then."""
    memory: int = 0
    """Mebibytes that php-fpm may take, all in all: the kernel sees to it."""
    keep: bool = False
    """Clients keep their connections: nginx's number of a connection says nothing of when a request began."""
    before: tuple[str, ...] = ()
    """A command that executes the start of php-fpm."""
    days: tuple[datetime, ...] = ()
    """Not at the minute of all others, but at these, by a clock of the machine's own."""

    @property
    def control(self) -> bool:
        return not self.cause


# --- Who orders it -------------------------------------------------------------------------------


def _minute(machine: Machine, at: float) -> str:
    """The first fields of cron's line for that time of the day, in the machine's zone."""
    zone = machine.path("/etc/timezone").read_text().strip()
    then = datetime.fromtimestamp(at, ZoneInfo(zone))
    return f"{then.minute} {then.hour} * * *"


def crontab(command: str) -> Callable[[Machine, float], Sender]:
    """A line of the system's own table, after those that Debian has there."""

    def ordered(machine: Machine, at: float) -> Sender:
        path = machine.path("/etc/crontab")
        text = path.read_text()
        path.write_text(f"{text}{_minute(machine, at)}\troot\t{command}\n")
        return _cron("/etc/crontab", len(text.splitlines()) + 1, command)

    return ordered


def cron_d(command: str, name: str = "php-restart") -> Callable[[Machine, float], Sender]:
    """A file of a package's, or an administrator's."""

    def ordered(machine: Machine, at: float) -> Sender:
        machine.write(
            f"/etc/cron.d/{name}", f"# Memory grows over the night.\n\n{_minute(machine, at)} root {command}\n"
        )
        return _cron(f"/etc/cron.d/{name}", 3, command)

    return ordered


def users_crontab(command: str) -> Callable[[Machine, float], Sender]:
    """`crontab -e`, as root."""

    def ordered(machine: Machine, at: float) -> Sender:
        file = "/var/spool/cron/crontabs/root"
        machine.write(file, f'MAILTO=""\n{_minute(machine, at)} {command}\n', mode=0o600)
        return _cron(file, 2, command)

    return ordered


def _cron(file: str, line: int, command: str) -> Sender:
    return {"kind": "cron", "file": file, "line": line, "what": command, "user": "root"}


def reload_script(machine: Machine, at: float) -> Sender:
    """Cron calls a script, and the script sends the signal."""
    machine.write("/usr/local/sbin/php-reload", "#!/bin/sh\nkill -USR2 `cat /run/php/php8.2-fpm.pid`\n", mode=0o755)
    return cron_d("/usr/local/sbin/php-reload", "php-reload")(machine, at)


def logrotate(machine: Machine, at: float) -> Sender:
    """The daily jobs call logrotate, which rotates php-fpm's log and restarts it afterwards."""
    table = machine.path("/etc/crontab")
    table.write_text(table.read_text().replace("25 6\t* * *", f"{_minute(machine, at)[:-6]}\t* * *"))
    file = machine.path("/etc/logrotate.d/php8.2-fpm")
    lines = file.read_text().splitlines()
    first = lines.index("\tpostrotate")
    lines[first + 1 : lines.index("\tendscript")] = ["\t\tservice php8.2-fpm restart >/dev/null"]
    file.write_text("\n".join(lines).replace("weekly", "daily") + "\n")
    yesterday = time.strftime("%Y-%-m-%-d-6:25:1", time.localtime(at - 86400))
    logs = ("/var/log/php8.2-fpm.log", "/var/log/nginx/access.log", "/var/log/nginx/error.log", "/var/log/syslog")
    state = "".join(f'"{log}" {yesterday}\n' for log in logs)
    machine.write("/var/lib/logrotate/status", f"logrotate state -- version 2\n{state}", mode=0o640)
    return {
        "kind": "logrotate", "file": "/etc/logrotate.d/php8.2-fpm", "line": first + 2,
        "what": "service php8.2-fpm restart", "user": "root",
    }  # fmt: skip


_TIDY = "/usr/bin/find /var/tmp -mtime +7 -delete"


def deploys(machine: Machine, at: float) -> Sender:
    """Somebody deploys; in the same minute cron does something harmless."""
    cron_d(_TIDY, "tidy")(machine, at)
    return {"kind": "deploy", "file": DEPLOY, "line": 9, "what": DEPLOY, "user": "deploy"}


def deploy(machine: Machine) -> None:
    machine.run(DEPLOY, "42", user="deploy")


def anna(machine: Machine, at: float) -> Sender:
    """A colleague at a terminal; in the same minute cron does something harmless."""
    cron_d(_TIDY, "tidy")(machine, at)
    return {"kind": "person", "what": "service php8.2-fpm restart", "user": "anna"}


def anna_restarts(machine: Machine) -> None:
    machine.run("script", "-qec", "cd /home/anna && sudo service php8.2-fpm restart", "/dev/null", user="anna")


def kernel(_machine: Machine, _at: float) -> Sender:
    return {"kind": "kernel"}


# --- The scenes ----------------------------------------------------------------------------------

_TERM: Final = f"{OWN_INIT} restart >/dev/null 2>&1"
_QUIT: Final = "/usr/sbin/service php8.2-fpm restart >/dev/null"
_IN_UTC: Final = ("env", "TZ=UTC")
"""As in a container: php-fpm's clock has another zone than everybody else's."""
_LONG: Final = tuple({"after": after, "headers": {"X-Step": "26"}} for after in (-6.0, -5.5, -5.0, -4.5))
"""Requests that outlive a grace of ten seconds, so early that others, which came later, are answered within it."""
_EATERS: Final = tuple({"after": after, "headers": {"X-Eat": "400", "X-Step": "2"}} for after in (0.2, 1.4, 2.6))
"""Requests that take more memory than there is."""
_DIGGERS: Final = tuple({"after": after, "headers": {"X-Dig": "1"}} for after in (0.3, 2.2))
"""Requests of which PHP dies, by recursion without an end."""
_FAILING: Final = tuple({"share": 0.1, "headers": {"X-Fail": status}, "own": True} for status in ("500", "502"))
_AWAY: Final = {"share": 0.2, "patience": 0.3}
"""A client that goes away before it is answered."""


def scenes() -> list[Scene]:
    """All of them, each under a name."""
    return [*_ordered(), *_kept(), *_people(), *_crashes(), *_controls()]


def history() -> Scene:
    """Three mornings of the same, with logs that are rotated in between."""
    days = tuple(datetime(2017, 6, day, 5, 28, tzinfo=UTC) for day in (23, 24, 25))
    layout = Layout(tcp=True)
    return Scene("history", "TERM", "immediate", layout, crontab(_TERM), own_init=True, days=days)


def _ordered() -> list[Scene]:
    """By cron: in a table of its own, through a script, or through logrotate."""
    timed, plain = Layout(fpm_access=FORMAT), Layout(timed=False, plain_syslog=True)
    berlin = replace(timed, tcp=True, zone="Europe/Berlin")
    grace = replace(timed, grace=10), replace(plain, grace=10, tcp=True)
    long = replace(timed, grace=10, tcp=True), replace(plain, grace=10)
    return [
        Scene("term-cron-timed", "TERM", "immediate", berlin, crontab(_TERM), own_init=True),
        Scene("term-cron-plain", "TERM", "immediate", replace(plain, tcp=True), crontab(_TERM), own_init=True),
        Scene("quit0-cron-timed", "QUIT", "immediate", timed, cron_d(_QUIT)),
        Scene("quit0-cron-plain", "QUIT", "immediate", replace(plain, fpm_access="default"), cron_d(_QUIT)),
        Scene("quit10-cron-timed", "QUIT", "graceful", grace[0], users_crontab(_QUIT)),
        Scene("quit10-cron-plain", "QUIT", "graceful", grace[1], users_crontab(_QUIT)),
        Scene("quit10-long-timed", "QUIT", "graceful", long[0], cron_d(_QUIT), once=_LONG, late=14.0),
        Scene("quit10-long-plain", "QUIT", "graceful", long[1], cron_d(_QUIT), once=_LONG, late=14.0),
        Scene("usr2-cron-timed", "USR2", "reload", timed, reload_script),
        Scene("usr2-cron-plain", "USR2", "reload", replace(plain, tcp=True), reload_script),
        Scene("zones-timed", "USR2", "reload", replace(timed, zone="Europe/Berlin"), reload_script, before=_IN_UTC),
        Scene("logrotate-timed", "QUIT", "immediate", replace(timed, tcp=True), logrotate),
        Scene("logrotate-plain", "QUIT", "immediate", replace(plain, fpm_access=FORMAT), logrotate),
    ]


def _kept() -> list[Scene]:
    """Clients that keep their connections, as browsers do."""
    timed, plain = Layout(tcp=True), Layout(timed=False)
    term = replace(plain, tcp=True)
    return [
        Scene("kept-timed", "QUIT", "immediate", timed, cron_d(_QUIT), keep=True),
        Scene("kept-plain", "QUIT", "immediate", plain, cron_d(_QUIT), keep=True),
        Scene("kept-term-plain", "TERM", "immediate", term, crontab(_TERM), own_init=True, keep=True),
    ]


def _people() -> list[Scene]:
    """A deploy and a colleague: each some seconds after cron did something harmless."""
    timed, plain = Layout(fpm_access=FORMAT), Layout(timed=False, plain_syslog=True)
    deployed: dict[str, Any] = {"ordered": deploys, "act": deploy, "after": 3.4, "late": 10.0}
    by_hand: dict[str, Any] = {"ordered": anna, "act": anna_restarts, "after": 2.6, "late": 10.0, "clients": 6}
    return [
        Scene("deploy-timed", "QUIT", "immediate", timed, **deployed),
        Scene("deploy-plain", "QUIT", "immediate", replace(plain, tcp=True), **deployed),
        Scene("person-timed", "QUIT", "immediate", replace(timed, fpm_access=""), **by_hand),
        Scene("person-plain", "QUIT", "immediate", plain, **by_hand),
    ]


def _crashes() -> list[Scene]:
    """Workers that die by themselves, one by one."""
    timed, plain = Layout(fpm_access=FORMAT, tcp=True), Layout(timed=False)
    return [
        Scene("oom-timed", "oom", "crash", timed, kernel, once=_EATERS, memory=320, clients=5),
        Scene("oom-plain", "oom", "crash", plain, kernel, once=_EATERS, memory=320, clients=5),
        Scene("segfault-timed", "segfault", "crash", timed, once=_DIGGERS, clients=5),
        Scene("segfault-plain", "segfault", "crash", plain, once=_DIGGERS, clients=5),
    ]


def _controls() -> list[Scene]:
    """Nothing is cut: load only, cron's harmless work, a graceful reload, what the application itself answers."""
    timed, plain = Layout(fpm_access=FORMAT), Layout(timed=False, tcp=True)
    harmless = cron_d(_TIDY, "tidy")
    return [
        Scene("load-timed", "", "", timed),
        Scene("load-plain", "", "", plain),
        Scene("harmless-cron-timed", "", "", timed, harmless),
        Scene("harmless-cron-plain", "", "", plain, harmless),
        Scene("reload-timed", "", "", replace(timed, grace=10), reload_script, clients=5),
        Scene("reload-plain", "", "", replace(plain, grace=10), reload_script, clients=5),
        Scene("app-errors-timed", "", "", timed, kinds=(*_FAILING, _AWAY)),
        Scene("app-errors-plain", "", "", plain, harmless, kinds=(*_FAILING, _AWAY)),
    ]
