"""What is ordered by cron, timers, init scripts, logrotate, certbot, monit, deploy scripts and packages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lastcall.tools.doctor.chains import Given, ansible_orders, cron_orders, exec_orders, given, script_orders
from lastcall.tools.doctor.facts import Facts, Kind
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import By, command_of, request_limit, runs
from lastcall.tools.doctor.verdicts import Edit, Finding, Rule, Severity, Verdict
from lastcall.tools.readers import ini, servers, shell
from lastcall.tools.readers import orders as reading
from lastcall.tools.readers.servers import APP_SERVERS, GRACEFUL, RELOADING, REOPENING, Effect, effect
from lastcall.tools.readers.text import FOREVER, Spot, span, words

FRONTS = frozenset({servers.NGINX, servers.APACHE, servers.HAPROXY})
SHORT = 10.0
"""Seconds: a grace below this is short where nothing says how long requests take."""


def _cuts(item: Given) -> bool:
    return item.done is not None and item.done.effect is Effect.CUT and item.order.signals != ("KILL",)


def _gap(item: Given) -> bool:
    """Stopped (and started) without cutting: nobody is served meanwhile, and who waits in the queue is reset."""
    return item.done is not None and item.done.away and item.done.effect is not Effect.CUT


def _finding(item: Given, text: str, made: tuple[Edit, ...] = ()) -> Finding:
    steps = item.done.steps if item.done else ()
    inner = [step for step in steps if step.spot != item.spot]
    return Finding(item.spot, text, made, tuple(inner))


def _assumed(item: Given) -> str:
    return "" if item.done is None or item.done.sure else " (as its usual unit or script does; none is here)"


def _reloads(facts: Facts, item: Given) -> tuple[Edit, ...]:
    """The same line with `reload`: only where that is known to be one that does not cut."""
    if item.order.verb not in ("restart", "try-restart", "condrestart") or item.server not in RELOADING:
        return ()
    return edits.worded(facts, item.spot, item.order.verb, "reload")


# --- cron, timers, scripts ---------------------------------------------------


def _when(when: str) -> str:
    return "at each boot" if when == "@reboot" else f"({when})"


def cron_cuts(facts: Facts) -> Iterator[Verdict]:
    for when, item in cron_orders(facts):
        if _cuts(item) and item.done is not None:
            text = f"cron {_when(when)} gives {item.done.server} {item.done.words()}{_assumed(item)}"
            yield _finding(item, text, _reloads(facts, item))


def cron_gap(facts: Facts) -> Iterator[Verdict]:
    for when, item in cron_orders(facts):
        if _gap(item) and item.done is not None:
            text = f"cron {_when(when)} stops {item.done.server}: nobody is served until it has started again"
            yield _finding(item, text + _assumed(item), _reloads(facts, item))


def reboot_start(facts: Facts) -> Iterator[Verdict]:
    for source, table in facts.crontabs:
        for entry in table.entries:
            argv = command_of(words(entry.command))
            server = next(
                (servers.started(c.words) for c in shell.parse(entry.command).commands if servers.started(c.words)), ""
            )
            server = servers.started(argv) or server
            if entry.when == "@reboot" and server:
                yield Finding(Spot(source.path, entry.line), f"cron starts {server}, and nothing will stop it in order")


def _timed(facts: Facts) -> Iterator[tuple[str, Given]]:
    for name, timer in facts.units.items():
        if not name.endswith(".timer"):
            continue
        named = timer.get("Timer", "Unit")
        service = facts.units.get(named.value if named else name.removesuffix(".timer") + ".service")
        for entry in service.all("Service", "ExecStart") if service else ():
            for item in given(facts, tuple(exec_orders(entry, "")), entry.spot.file):
                yield name, item


def timer_cuts(facts: Facts) -> Iterator[Verdict]:
    for name, item in _timed(facts):
        if _cuts(item) and item.done is not None:
            yield _finding(
                item, f"{name} gives {item.done.server} {item.done.words()}{_assumed(item)}", _reloads(facts, item)
            )


def timer_gap(facts: Facts) -> Iterator[Verdict]:
    for name, item in _timed(facts):
        if _gap(item) and item.done is not None:
            text = f"{name} stops {item.done.server}: nobody is served until it has started again"
            yield _finding(item, text + _assumed(item), _reloads(facts, item))


def script_cuts(facts: Facts) -> Iterator[Verdict]:
    for item in script_orders(facts):
        quick = item.server == servers.GUNICORN and item.order.signals[:1] == ("QUIT",)
        if _cuts(item) and item.done is not None and not quick:
            made = _reloads(facts, item) if item.order.verb else _better_signal(facts, item)
            yield _finding(item, f"{item.done.server} gets {item.done.words()}{_assumed(item)}", made)


def _better_signal(facts: Facts, item: Given) -> tuple[Edit, ...]:
    best, sent = GRACEFUL.get(item.server, ""), "".join(item.order.signals[:1])
    line = facts.line(item.spot)
    found = re.search(rf"(?<![\w/])(-s\s+|-)(?:SIG)?({sent})\b", line) if sent else None
    if not best or not found:
        return ()
    return (Edit(item.spot.file, item.spot.line, (line[: found.start(2)] + best + line[found.end(2) :],)),)


def script_gap(facts: Facts) -> Iterator[Verdict]:
    for item in script_orders(facts):
        if (
            _gap(item)
            and item.done is not None
            and item.order.verb in ("restart", "try-restart")
            and item.server in APP_SERVERS
        ):
            text = f"{item.server} is stopped and started where it could be reloaded"
            yield _finding(item, text + _assumed(item), _reloads(facts, item))


def gunicorn_quit(facts: Facts) -> Iterator[Verdict]:
    everywhere = (*script_orders(facts), *(item for _, item in cron_orders(facts)), *_init_orders(facts))
    for item in everywhere:
        if item.server == servers.GUNICORN and item.order.signals[:1] == ("QUIT",):
            yield _finding(item, "QUIT is gunicorn's quick stop: it cuts", _better_signal(facts, item))


def _all_orders(facts: Facts) -> Iterator[Given]:
    yield from (item for _, item in cron_orders(facts))
    yield from script_orders(facts)
    yield from _init_orders(facts, everything=True)
    yield from (item for _, item in _rotations(facts))
    yield from (item for _, item in _hooks(facts))
    for run in runs(facts):
        if run.by is By.UNIT:
            for key in ("ExecStop", "ExecReload", "ExecStopPost"):
                for entry in facts.units[run.name].all("Service", key):
                    yield from given(facts, tuple(exec_orders(entry, run.server)), entry.spot.file, run.server)


def kill_nine(facts: Facts) -> Iterator[Verdict]:
    for item in _all_orders(facts):
        if item.order.signals == ("KILL",) and item.server:
            yield _finding(item, f"{item.order.words()}: {item.server} can finish nothing", _better_kill(facts, item))


def _better_kill(facts: Facts, item: Given) -> tuple[Edit, ...]:
    best = GRACEFUL.get(item.server)
    line = facts.line(item.spot)
    found = re.search(r"(?<![\w/])-(?:s\s+)?(?:9|KILL|SIGKILL)\b", line)
    if best is None or found is None:
        return ()
    return (Edit(item.spot.file, item.spot.line, (f"{line[: found.start()]}-{best}{line[found.end() :]}",)),)


def ansible_restarts(facts: Facts) -> Iterator[Verdict]:
    for item in ansible_orders(facts):
        if item.order.verb == "restart" and item.server in RELOADING and item.done is not None:
            what = item.done.words() if _cuts(item) else "a stop and a start"
            made = edits.worded(facts, item.spot, "restarted", "reloaded")
            yield _finding(item, f"Ansible gives {item.server} {what}{_assumed(item)}", made)


# --- init scripts ------------------------------------------------------------


def _init_orders(facts: Facts, *, everything: bool = False) -> Iterator[Given]:
    """What init scripts send when they stop; those that systemd has taken over are left out."""
    for name, (source, script) in facts.inits.items():
        if f"{name}.service" in facts.units and "lsb/init-functions" in source.text:
            continue
        seen = set[int]()
        for action, orders in sorted(script.actions.items(), key=lambda pair: (pair[0] != "stop", pair[0])):
            if everything or action in ("stop", "restart"):
                for item in given(facts, orders, source.path, script.server):
                    if item.order.line not in seen:
                        seen.add(item.order.line)
                        yield item


def init_cuts(facts: Facts) -> Iterator[Verdict]:
    for item in _init_orders(facts):
        quick = item.server == servers.GUNICORN and item.order.signals[:1] == ("QUIT",)
        if _cuts(item) and item.done is not None and not quick:
            made = _better_signal(facts, item)
            line = facts.line(item.spot)
            best = GRACEFUL.get(item.server)
            if not made and item.order.by == "killproc" and best and len(item.order.signals) > 1 and "|" not in line:
                made = (Edit(item.spot.file, item.spot.line, (f"{line.rstrip()} -{best}",)),)
            yield _finding(item, f"`stop` and `restart` give {item.server} {item.done.words()}", made)


def stop_hurry(facts: Facts) -> Iterator[Verdict]:
    stops = [*(("", item) for item in _init_orders(facts)), *_exec_stops(facts)]
    for unit, item in stops:
        signals, waits = item.order.signals, item.order.waits
        if not waits or effect(item.server, signals[0]) is not Effect.DRAIN:
            continue
        limits = [request_limit(facts, conf) for conf in facts.fpms] if item.server == servers.PHP_FPM else []
        need = max((limit.seconds for limit in limits if limit and limit.seconds != FOREVER), default=SHORT)
        if waits[0] >= need or (len(signals) > 1 and effect(item.server, signals[1]) is not Effect.CUT):
            continue
        line, wanted = facts.line(item.spot), max(60, int(need) + 5)
        new = re.sub(rf"\b{signals[0]}/{waits[0]:g}\b", f"{signals[0]}/{wanted}", line)
        made: tuple[Edit, ...] = ()
        if new != line:
            changed = Edit(item.spot.file, item.spot.line, (new,))
            made = edits.unit_stop(facts, unit, item.spot, new, wanted + 10) if unit else (changed,)
        after = signals[1] if len(signals) > 1 else "TERM"
        yield _finding(item, f"{item.server} has {span(waits[0])} to finish, then {after} cuts what is left", made)


def _exec_stops(facts: Facts) -> Iterator[tuple[str, Given]]:
    for run in runs(facts):
        if run.by is By.UNIT:
            for entry in facts.units[run.name].all("Service", "ExecStop"):
                for item in given(facts, tuple(exec_orders(entry, run.server)), entry.spot.file, run.server):
                    yield run.name, item


# --- logrotate ---------------------------------------------------------------


def _rotations(facts: Facts) -> Iterator[tuple[str, Given]]:
    for source, read in facts.rotations:
        for stanza in read.stanzas:
            default = servers.mentioned(" ".join(stanza.patterns))
            for script in stanza.scripts:
                for item in given(facts, reading.orders(script.text, script.line), source.path, default):
                    yield script.name, item


def rotate_stops(facts: Facts) -> Iterator[Verdict]:
    for name, item in _rotations(facts):
        if item.done is not None and item.order.signals != ("KILL",) and (_cuts(item) or _gap(item)):
            what = item.done.words() if _cuts(item) else "a stop and a start"
            yield _finding(
                item, f"{name} gives {item.server} {what}, to reopen a file{_assumed(item)}", _reopens(facts, item)
            )


def rotate_reloads(facts: Facts) -> Iterator[Verdict]:
    for name, item in _rotations(facts):
        done = item.done
        if (
            done is not None
            and done.effect is Effect.RELOAD
            and item.server in REOPENING
            and item.server in APP_SERVERS
        ):
            yield _finding(
                item, f"{name} reloads {item.server}, to reopen a file{_assumed(item)}", _reopens(facts, item)
            )


def _reopens(facts: Facts, item: Given) -> tuple[Edit, ...]:
    signal = REOPENING.get(item.server)
    line = facts.line(item.spot)
    if signal is None:
        return ()
    if item.order.by == "systemctl" and line.count(item.order.verb) == 1:
        new = line.replace(item.order.verb, f"kill --kill-who=main -s {signal}")
        return (Edit(item.spot.file, item.spot.line, (new,)),)
    found = re.search(rf"(?<![\w/])(-s\s+|-)(?:SIG)?({'|'.join(item.order.signals) or '-'})\b", line)
    if found:
        return (Edit(item.spot.file, item.spot.line, (line[: found.start(2)] + signal + line[found.end(2) :],)),)
    return ()


def copytruncate(facts: Facts) -> Iterator[Verdict]:
    for source, read in facts.rotations:
        for stanza in read.stanzas:
            server = servers.mentioned(" ".join(stanza.patterns))
            _, line = stanza.directives.get("copytruncate", ("", 0))
            if line and server:
                yield Finding(Spot(source.path, line), f"lines that {server} writes while its log is copied are lost")


# --- certbot, monit, packages ------------------------------------------------

_HOOK = re.compile(r"--(?:pre|post|deploy|renew)-hook[= ]+(\"[^\"]*\"|'[^']*'|\S+)")


def _hooks(facts: Facts) -> Iterator[tuple[str, Given]]:
    for source in facts.of(Kind.CERTBOT):
        for entry in ini.parse(source.text).entries:
            if entry.key.replace("-", "_") in ("pre_hook", "post_hook", "renew_hook", "deploy_hook"):
                for item in given(facts, reading.orders(entry.value, entry.line), source.path):
                    yield entry.key, item
    for source, script in facts.scripts:
        if "renewal-hooks/" in source.path:
            for item in given(facts, reading.of_commands(script.commands), source.path):
                yield "the hook", item
    for source, table in facts.crontabs:
        for line in table.entries:
            for found in _HOOK.finditer(line.command if "certbot" in line.command else ""):
                for item in given(facts, reading.orders(found[1].strip("\"'"), line.line), source.path):
                    yield "the hook", item


def certbot_stops(facts: Facts) -> Iterator[Verdict]:
    for name, item in _hooks(facts):
        if item.done is not None and (_cuts(item) or _gap(item)):
            what = item.done.words() if _cuts(item) else "a stop"
            yield _finding(item, f"{name} gives {item.server} {what}{_assumed(item)}", _reloads(facts, item))


_MONIT = re.compile(r"\s*(?:start|stop|restart)\s+program\s*=?\s*\"([^\"]+)\"")


def _monit(facts: Facts) -> Iterator[tuple[str, int, str, str]]:
    """File, line, the service that is checked, the text of each line that is no comment."""
    for source in facts.of(Kind.MONIT):
        service = ""
        for number, line in enumerate(source.text.split("\n"), 1):
            bare = line.split("#", 1)[0]
            if found := re.match(r"\s*check\s+(?:process|program|host|file)\s+(\S+)(.*)", bare, re.IGNORECASE):
                service = found[1] + found[2]
            yield source.path, number, service, bare


def monit_kills(facts: Facts) -> Iterator[Verdict]:
    for file, number, service, line in _monit(facts):
        found = _MONIT.match(line)
        if found is None or not re.match(r"\s*(?:stop|restart)", line):
            continue
        for item in given(facts, reading.orders(found[1], number), file, servers.mentioned(service)):
            if item.done is not None and item.done.effect is Effect.CUT:
                yield _finding(item, f"monit gives {item.done.server} {item.done.words()}{_assumed(item)}")


def monit_restarts(facts: Facts) -> Iterator[Verdict]:
    for file, number, service, line in _monit(facts):
        server = servers.mentioned(service)
        found = re.search(r"\bif\s+(.+?)\s+then\s+(?:restart|stop)\b", line, re.IGNORECASE)
        if (
            found
            and server in APP_SERVERS
            and not re.search(r"does\s+not\s+exist|not\s+exist", found[1], re.IGNORECASE)
        ):
            yield Finding(Spot(file, number), f"monit restarts {server} on its own: if {found[1]}")


def _matching(facts: Facts, kind: Kind, pattern: str) -> Iterable[tuple[Spot, re.Match[str]]]:
    for source in facts.of(kind):
        for number, line in enumerate(source.text.split("\n"), 1):
            if not line.lstrip().startswith(("//", "#")) and (found := re.search(pattern, line)):
                yield Spot(source.path, number), found


def automatic_reboot(facts: Facts) -> Iterator[Verdict]:
    for spot, _ in _matching(facts, Kind.APT, r"Unattended-Upgrade::Automatic-Reboot\s+\"true\""):
        yield Finding(
            spot, "the machine boots again whenever an update wants it", edits.worded(facts, spot, '"true"', '"false"')
        )


def automatic_restart(facts: Facts) -> Iterator[Verdict]:
    for spot, _ in _matching(facts, Kind.NEEDRESTART, r"\$nrconf\{restart\}\s*=\s*['\"]a['\"]"):
        line = facts.line(spot)
        made = (Edit(spot.file, spot.line, (re.sub(r"=\s*['\"]a['\"]", "= 'l'", line),)),)
        yield Finding(spot, "services are restarted in the middle of the day, whenever a library is updated", made)


# --- The table ---------------------------------------------------------------

_UNKNOWN = (
    "The command is about no server that we know, or its unit or script is here and says otherwise: we follow it."
)
_SIGNALS = (
    "The servers' own manuals on signals (docs/DOCTOR.md has the table); measured, one restart at a time, under load"
)


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES = (
    Rule(
        "LC101", _E, "A cron line restarts a server with a signal that cuts",
        "The incident that lastcall began with: `28 5 * * * root /etc/init.d/php-fpm restart`. Whatever is "
        "half-done at that second stays half-done, every night, and no log says so.",
        _UNKNOWN + " A reload is none, unless php-fpm has no grace (LC001).",
        "`grep CRON /var/log/syslog`, and the web server's errors (104, 502) in the same second of every day.",
        "Remove the line: nobody can say any more what it is for. Where something leaks, recycle workers one by "
        "one (pm.max_requests, --max-requests). Otherwise reload.",
        _SIGNALS, cron_cuts,
    ),
    Rule(
        "LC102", _W, "A cron line stops a server, and nobody is served meanwhile",
        "The server finishes what it has begun, but its listener closes: who waits in its queue is reset (104), "
        "and who comes before the next start is refused (111). 60 to 140 errors a restart at 120 requests a "
        "second (gunicorn, uvicorn, puma).",
        _UNKNOWN + " Something else holds the listener (a socket unit, lastcall's --hold).",
        "A load of requests, and the command: count what is refused.",
        "Reload in its place, or let something else hold the listener.",
        "Measured: stop and start of nine servers behind nginx", cron_gap,
    ),
    Rule(
        "LC103", _E, "An init script stops a server with a signal that cuts",
        "`killproc` and `start-stop-daemon` send TERM when they are told nothing else. php-fpm, unicorn, nginx "
        "and Apache take TERM for: at once.",
        "systemd has a unit of the same name and the script hands over to it (LSB's functions): then the unit "
        "counts.",
        "`strace -f -e kill -p MASTER`, and `service NAME restart`.",
        "Name the signal that finishes what has begun, with enough time before the next one: `start-stop-daemon "
        "--stop --retry QUIT/60/TERM/5`, `killproc -p PIDFILE php-fpm -QUIT`.",
        "start-stop-daemon(8); Red Hat's /etc/init.d/functions; " + _SIGNALS, init_cuts,
    ),
    Rule(
        "LC104", _E, "A server is stopped with SIGKILL",
        "Nobody can catch it: every request that is running is cut, in the middle of whatever it does; sockets "
        "and files stay.",
        "What is killed is no server that we know; or KILL only follows a signal that stops gently, after a time.",
        "It needs no proof.",
        "Send the signal that drains, wait for the process to end, and kill only what is left, after a time that "
        "is longer than the longest request.",
        "signal(7)", kill_nine,
    ),
    Rule(
        "LC105", _W, "A server gets too little time to finish",
        "An init script, or a unit's ExecStop (Debian's nginx: QUIT/5), sends the gentle signal, and too early "
        "after it one that cuts: a request that takes longer is half-done.",
        "The time is longer than php-fpm's request_terminate_timeout; or, where nothing says how long requests "
        "take, 10 s or more. systemd has taken the script over.",
        "A request that takes longer, and `service NAME stop`, `systemctl stop NAME`.",
        "Raise the time in --retry; for a unit, TimeoutStopSec as well.",
        "start-stop-daemon(8)", stop_hurry,
    ),
    Rule(
        "LC106", _E, "logrotate stops a server to reopen its log",
        "A log needs no restart: the server reopens it on a signal (USR1, puma: HUP). A restart costs the running "
        "requests, the queue and the time until it serves again, once a day or week.",
        _UNKNOWN,
        "`logrotate -f FILE` under load.",
        "Send the signal to the master: `kill -USR1 $(cat PIDFILE)`, `systemctl kill --kill-who=main -s USR1 NAME`.",
        _SIGNALS, rotate_stops,
    ),
    Rule(
        "LC107", _W, "logrotate reloads an application server to reopen its log",
        "A reload starts every worker anew (php-fpm: all at once, with nobody serving meanwhile; others import "
        "the application again), and picks up whatever code lies there. To reopen a file, USR1 is enough.",
        "Servers that only know reload (Apache), and nginx, whose reload does no harm.",
        "`logrotate -f FILE`, and the start times of the workers.",
        "As LC106.",
        _SIGNALS, rotate_reloads,
    ),
    Rule(
        "LC108", _N, "logrotate copies and truncates a server's log",
        "What is written between the copy and the truncation is lost: lines that the next inquiry will look for.",
        "The log is of no server that we know.",
        'logrotate(8): "some logging data might be lost".',
        "Rotate by name (`create`), and let the server reopen: LC106.",
        "logrotate(8), copytruncate", copytruncate,
    ),
    Rule(
        "LC109", _E, "A script stops a server with a signal that cuts",
        "As LC101, whenever the script runs: a deploy, most often.",
        _UNKNOWN + " The script asks (`kill -0`) or only prints. It installs packages: then it sets up a machine that "
        "serves nobody.",
        "The script, under load; 104 and 502 in the web server's log.",
        "Reload; or send the signal that finishes what has begun.",
        _SIGNALS, script_cuts,
    ),
    Rule(
        "LC110", _E, "SIGQUIT is sent to gunicorn",
        "QUIT is the gentle one for nginx, unicorn and php-fpm. For gunicorn it is the quick stop: sys.exit "
        "within the handler, in the middle of a request. 130 errors and 5 half-done orders a restart, where TERM "
        "leaves none half-done.",
        "The target is not called after gunicorn.",
        "`kill -QUIT MASTER` while a request sleeps.",
        "TERM, or HUP for a reload.",
        "gunicorn's documentation, Signal Handling; measured with gunicorn 27", gunicorn_quit,
    ),
    Rule(
        "LC111", _W, "A script restarts an application server that could be reloaded",
        "A stop and a start loses the queue and everybody who comes in between (LC102). A reload of the same "
        "server loses nobody.",
        _UNKNOWN + " The server knows no reload; the restart cuts (then it is LC109).",
        "As LC102.",
        "`systemctl reload NAME`; where the unit has no ExecReload, give it one.",
        "Measured: gunicorn HUP 0 of 51,011, puma phased restart 0 of 15,680", script_gap,
    ),
    Rule(
        "LC112", _W, "certbot's hook stops a server",
        "Twice a day certbot looks, and every two months its hook stops the server for a certificate that a "
        "reload would read.",
        _UNKNOWN,
        "`certbot renew --dry-run --run-deploy-hooks`.",
        "`systemctl reload nginx` as deploy hook; the webroot or nginx authenticator in place of standalone.",
        "eff-certbot.readthedocs.io, Renewing certificates", certbot_stops,
    ),
    Rule(
        "LC113", _W, "cron starts a server at boot",
        "Nothing supervises it: when it dies it is gone, and at shutdown it is killed with cron's control group, "
        "or last, with whatever it is doing.",
        "The line only tells a supervisor to start it (systemctl, supervisorctl).",
        "`systemctl status cron`: the server is in its control group.",
        "A unit, with the stop signal and the time that the server needs.",
        "systemd.kill(5); crontab(5)", reboot_start,
    ),
    Rule(
        "LC114", _E, "A systemd timer restarts a server with a signal that cuts",
        "As LC101; `systemctl list-timers` shows when.",
        _UNKNOWN,
        "As LC101.", "As LC101.", _SIGNALS, timer_cuts,
    ),
    Rule(
        "LC115", _W, "A systemd timer stops a server, and nobody is served meanwhile",
        "As LC102.", _UNKNOWN, "As LC102.", "As LC102.", "As LC102", timer_gap,
    ),
    Rule(
        "LC116", _E, "monit stops a server with a signal that cuts",
        "What monit's stop program sends, it sends whenever one of its conditions is met, at the worst moment: "
        "under load.",
        _UNKNOWN,
        "`monit restart NAME` under load.",
        "A stop program that drains, with a `with timeout` that is longer than the longest request.",
        "mmonit.com/monit/documentation; " + _SIGNALS, monit_kills,
    ),
    Rule(
        "LC117", _W, "monit restarts an application server on a condition",
        "Memory, load or a slow answer is worst when there is most to do; the restart then cuts or refuses the "
        "most, and the cause is gone with the process.",
        "The condition is that the process does not exist.",
        "monit's log: when, and how often.",
        "Let the server recycle its workers one by one (max requests, memory), and let monit alert.",
        "mmonit.com/monit/documentation", monit_restarts,
    ),
    Rule(
        "LC118", _W, "The machine boots again by itself after updates",
        "unattended-upgrades with Automatic-Reboot stops everything, with whatever grace the units have, and the "
        "machine is gone for minutes.",
        "It is commented out or false.",
        "`last reboot`.",
        "Boot on purpose, after the machine was taken out of the load balancer.",
        "/etc/apt/apt.conf.d/50unattended-upgrades", automatic_reboot,
    ),
    Rule(
        "LC119", _N, "Services are restarted when a library is updated",
        "needrestart with 'a' restarts every service that uses an updated library, in the midst of an apt run: a "
        "stop and a start, with the stop signal of each unit.",
        "It is set to 'l' (list) or 'i' (ask), or the service is excluded (override_rc).",
        "/var/log/apt/history.log next to the service's start times.",
        "'l', and reload or restart on purpose; or exclude the service in $nrconf{override_rc}.",
        "needrestart's documentation, /etc/needrestart/needrestart.conf", automatic_restart,
    ),
    Rule(
        "LC120", _W, "Ansible restarts a server that could be reloaded",
        "A handler runs when a file has changed, on one machine after the other, in the middle of the day: "
        "`state: restarted` is a stop and a start, with the stop signal of the unit.",
        _UNKNOWN + " The change needs a restart: another program, a listener that is new to php-fpm.",
        "`ansible-playbook --check --diff`, and the handlers that it would run.",
        "`state: reloaded`.",
        "docs.ansible.com, ansible.builtin.service and systemd_service; as LC102 and LC201", ansible_restarts,
    ),
)  # fmt: skip
