"""systemd's units."""

from __future__ import annotations

from collections.abc import Iterator

from lastcall.tools.doctor.chains import exec_orders, outcome
from lastcall.tools.doctor.facts import Facts
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import By, Run, Span, grace, option, runs
from lastcall.tools.doctor.verdicts import Finding, Rule, Severity, Unclear, Verdict
from lastcall.tools.readers import servers, unit
from lastcall.tools.readers.servers import APP_SERVERS, GRACEFUL, PREFORK, Effect, effect, shell_script, unwrapped
from lastcall.tools.readers.text import FOREVER, seconds, span


def _runs(facts: Facts, *only: str) -> Iterator[tuple[Run, unit.Unit]]:
    for run in runs(facts):
        if run.by is By.UNIT and (not only or run.server in only):
            yield run, facts.units[run.name]


def _stopped_by_command(found: unit.Unit, server: str) -> bool:
    """Whether an ExecStop sends something of its own; then the KillSignal only meets what is left."""
    return any(exec_orders(entry, server) for entry in found.all("Service", "ExecStop"))


def fpm_signal(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, servers.PHP_FPM):
        signal, where = run.stop
        if effect(run.server, signal) is not Effect.CUT or _stopped_by_command(found, run.server):
            continue
        said = f"KillSignal is SIG{signal}" if where else "KillSignal is not set, so systemd sends SIGTERM"
        made = edits.unit_set(facts, run.name, "KillSignal", "SIGQUIT")
        yield Finding(where or run.spot, f"{said}: every running request of {run.name} is cut", made)


def stop_signal(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *(APP_SERVERS - {servers.PHP_FPM}), servers.NGINX, servers.APACHE, servers.HAPROXY):
        signal, where = run.stop
        term = run.server == servers.UWSGI and signal == "TERM"  # LC303's
        if effect(run.server, signal) is not Effect.CUT or _stopped_by_command(found, run.server) or term:
            continue
        best = GRACEFUL.get(run.server)
        made = edits.unit_set(facts, run.name, "KillSignal", f"SIG{best}") if best else ()
        yield Finding(where or run.spot, f"{run.server} takes SIG{signal} for: at once", made)


def group(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *(PREFORK - {servers.APACHE})):
        mode = found.get("Service", "KillMode")
        if mode is None or mode.value == "control-group":
            said = "KillMode=control-group" if mode else "KillMode is not set, and control-group is the default"
            made = edits.unit_set(facts, run.name, "KillMode", "mixed")
            yield Finding(
                mode.spot if mode else run.spot,
                f"{said}: programs that a request has started get the signal, too",
                made,
            )


def hurry(facts: Facts) -> Iterator[Verdict]:
    for run, _ in _runs(facts):
        limit, where = run.kill
        needed = grace(facts, run)
        if where is not None and limit is None:
            yield Unclear(where, "TimeoutStopSec is filled in later, or no time")
        elif limit is not None and needed is not None and limit < needed.seconds:
            said = f"systemd waits {span(limit)}" + ("" if where else ", its default")
            made = edits.unit_set(facts, run.name, "TimeoutStopSec", str(int(needed.seconds) + 10))
            yield Finding(where or run.spot, f"{said}, but {run.server} may take {_told(needed)}: then SIGKILL", made)


def _told(needed: Span) -> str:
    where = f", {needed.spot.file}:{needed.spot.line}" if needed.spot else ", its default"
    return f"{span(needed.seconds)} ({needed.name}{where})"


def bare_reload(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *PREFORK):
        kind = found.get("Service", "Type")
        if kind is not None and kind.value == "notify-reload":
            continue
        for entry in found.all("Service", "ExecReload"):
            orders = exec_orders(entry, run.server)
            if orders and orders[0].by == "kill" and effect(run.server, orders[0].signals[0]) is Effect.RELOAD:
                text = "`systemctl reload` returns before the reload is done, and does not hear that it failed"
                yield Finding(entry.spot, text)


def reload_ends(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *APP_SERVERS):
        for entry in found.all("Service", "ExecReload"):
            for order in exec_orders(entry, run.server):
                if order.signals and _ends(run, order.signals[0]):
                    yield Finding(
                        entry.spot,
                        f"SIG{order.signals[0]} is no reload for {run.server}: {_what(run, order.signals[0])}",
                    )


def _ends(run: Run, signal: str) -> bool:
    if run.server == servers.UVICORN and signal == "HUP":
        return option(run, "--workers") in (None, "1") and "WEB_CONCURRENCY" not in run.environment
    if run.server == servers.PHP_FPM and signal == "HUP":
        # Debian's build has it (/usr/sbin/php-fpm8.2); upstream's leaves it at its default
        return not any(character.isdigit() for character in servers.base(run.argv[0]))
    return effect(run.server, signal) in (Effect.CUT, Effect.DRAIN)


def _what(run: Run, signal: str) -> str:
    done = effect(run.server, signal)
    return done.value if done in (Effect.CUT, Effect.DRAIN) else "it ends the process"


def lifetime(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts):
        entry = found.get("Service", "RuntimeMaxSec")
        limit = seconds(entry.value) if entry else None
        if entry is not None and limit and limit != FOREVER:
            yield Finding(entry.spot, f"systemd stops {run.name} after {span(limit)}, whatever it is doing")


def oom(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *PREFORK):
        policy = found.get("Service", "OOMPolicy")
        if policy is None or policy.value in ("stop", "kill"):
            said = f"OOMPolicy={policy.value}" if policy else "OOMPolicy is not set, and stop is the default"
            made = edits.unit_set(facts, run.name, "OOMPolicy", "continue")
            text = f"{said}: one worker that the kernel kills for its memory takes all the others with it"
            yield Finding(policy.spot if policy else run.spot, text, made)


def pulled_along(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *APP_SERVERS):
        for key in ("Requires", "BindsTo", "PartOf"):
            for entry in found.all("Unit", key):
                names = [name for name in entry.value.split() if name.endswith(".service")]
                if names:
                    yield Finding(entry.spot, f"{key}={' '.join(names)}: a restart there restarts {run.name}, too")


_NO_KEEPALIVE = frozenset({servers.GUNICORN, servers.UVICORN, servers.HYPERCORN, servers.WAITRESS, servers.UNICORN})
"""Servers that never send WATCHDOG=1 (their sources)."""


def watchdog(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts, *_NO_KEEPALIVE):
        entry, access = found.get("Service", "WatchdogSec"), found.get("Service", "NotifyAccess")
        limit = seconds(entry.value) if entry else None
        if entry is not None and limit and not (access is not None and access.value in ("all", "exec")):
            yield Finding(
                entry.spot, f"{run.server} never says WATCHDOG=1: systemd kills it with SIGABRT every {span(limit)}"
            )


def shell_between(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts):
        mode = found.get("Service", "KillMode")
        entry = next((e for e in found.all("Service", "ExecStart") if e.spot == run.spot), None)
        script = shell_script(unwrapped(unit.command(entry.value))) if entry else None
        if script is None or mode is None or mode.value == "control-group":
            continue
        if ("&&" in script or ";" in script or "|" in script) and "exec " not in script:
            text = f"the main process is the shell: with KillMode={mode.value}, {run.server} does not hear the stop"
            line = facts.line(run.spot)
            program = run.argv[0]
            made = edits.worded(facts, run.spot, f" {program} ", f" exec {program} ") if line else ()
            yield Finding(run.spot, text, made)


def stop_command(facts: Facts) -> Iterator[Verdict]:
    for run, found in _runs(facts):
        for entry in found.all("Service", "ExecStop"):
            for order in exec_orders(entry, run.server):
                done = outcome(facts, order, entry.spot.file, run.server)
                if done is not None and done.effect is Effect.CUT and order.signals != ("KILL",) and order.signals:
                    yield Finding(entry.spot, f"ExecStop gives {run.server} {done.words()}")


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES = (
    Rule(
        "LC201", _E, "The unit stops php-fpm with SIGTERM",
        "Debian's unit has no KillSignal, so `systemctl stop` and `restart` send TERM to every process of the "
        "service: each running request is cut, whatever process_control_timeout says. An update of the package "
        "restarts it, too.",
        "KillSignal=SIGQUIT is set, in the unit or in a drop-in; or an ExecStop sends something itself.",
        "`systemctl show -p KillSignal php8.2-fpm` (15 is TERM, 3 is QUIT); a restart while a request sleeps.",
        "KillSignal=SIGQUIT, with process_control_timeout set (LC001) and TimeoutStopSec above it. What waits in "
        "the queue is reset even so; a socket unit or a reload avoids that.",
        "Debian's php8.2-fpm.service; systemd.kill(5); measured: 4.9 half-done orders a restart with TERM, 0 with "
        "QUIT and 10 s",
        fpm_signal,
    ),
    Rule(
        "LC202", _E, "The unit stops a server with a signal that cuts",
        "The stop signals of servers have opposite meanings: QUIT is gentle for nginx, unicorn and php-fpm, and a "
        "quick kill for gunicorn and uWSGI; TERM the other way round.",
        "An ExecStop sends something itself. uWSGI with TERM is LC303.",
        "`systemctl show -p KillSignal NAME`; a restart while a request sleeps.",
        "KillSignal with the gentle one. uWSGI and waitress have none: uWSGI's `q` through its master-fifo comes "
        "closest (`ExecStop=/bin/sh -c 'echo q >/run/app/fifo'`).",
        "The servers' manuals; systemd.kill(5); measured",
        stop_signal,
    ),
    Rule(
        "LC203", _W, "The stop signal reaches more than the master",
        "With KillMode=control-group, systemd signals every process of the service at once: workers that the "
        "master would have told in order, and programs that a request has started (a converter, a mailer). They "
        "die, and the request with them.",
        "KillMode=mixed or process. Servers that we do not know as a master with workers.",
        "`systemctl show -p KillMode NAME`; a request that runs `sleep 5` as a program, and a stop.",
        "KillMode=mixed: the master gets the signal, and what is left at the end gets SIGKILL.",
        "systemd.kill(5); gunicorn's deployment page has KillMode=mixed",
        group,
    ),
    Rule(
        "LC204", _E, "systemd kills before the server's own grace is over",
        "When TimeoutStopSec is over, what is left gets SIGKILL: a request that the server would have finished is "
        "cut.",
        "The server's own bound is not known, or there is none. TimeoutStopSec=0 and infinity mean: no limit.",
        "`systemctl show -p TimeoutStopUSec NAME`; a request that takes longer, and a stop: `State 'stop-sigterm' "
        "timed out. Killing.` in the journal.",
        "TimeoutStopSec above the server's own limit, with some seconds to spare.",
        "systemd.service(5), systemd-system.conf(5)",
        hurry,
    ),
    Rule(
        "LC205", _N, "ExecReload only sends a signal",
        "systemd takes the reload for done when `kill` has returned. A deploy script that goes on then goes on "
        "too early, and a reload that fails looks like one that went well.",
        "Type=notify-reload, which waits for the service's word. The command waits itself.",
        "`time systemctl reload NAME` returns at once.",
        "Type=notify-reload where the server speaks it (lastcall, systemd 253); or a command that waits: "
        "`lastcall reload --wait`.",
        'systemd.service(5), ExecReload=: "usually not a good choice"',
        bare_reload,
    ),
    Rule(
        "LC206", _E, "ExecReload ends the server",
        "The signal that reloads one server ends another: HUP ends uvicorn without --workers, waitress, and a "
        "php-fpm that Debian has not built.",
        "uvicorn has several workers. The program is called php-fpmN.N, which is Debian's and takes HUP for a "
        "reload.",
        "`systemctl reload NAME; systemctl status NAME`.",
        "The server's own reload signal; where it has none, no ExecReload.",
        "uvicorn/server.py, HANDLED_SIGNALS; php-src fpm_signals.c; signal(7)",
        reload_ends,
    ),
    Rule(
        "LC207", _W, "The service is ended after a time",
        "RuntimeMaxSec terminates the service, as a failure, when its time is over: at any moment of any day, "
        "with a stop and a start.",
        "It is infinity. The unit runs no server that we know.",
        "The journal: `Service reached runtime time limit. Stopping.`",
        "Recycle workers one by one in the server (max requests, max age).",
        "systemd.service(5)",
        lifetime,
    ),
    Rule(
        "LC208", _W, "One worker that is killed for its memory stops the whole service",
        "With OOMPolicy=stop, the default, systemd stops the unit when the kernel's OOM killer has taken one of "
        "its processes: the master would have replaced one worker, and all are lost.",
        "OOMPolicy=continue; DefaultOOMPolicy= says so for the machine; Delegate= is on.",
        "`systemctl show -p OOMPolicy NAME`; the journal: `A process of this unit has been killed by the OOM "
        "killer.`",
        "OOMPolicy=continue, as Apache's unit has it in Debian.",
        "systemd.service(5), OOMPolicy= (systemd 243)",
        oom,
    ),
    Rule(
        "LC209", _N, "A restart of another service restarts this one",
        "Requires=, BindsTo= and PartOf= pass stops and restarts on: an update of the database stops the "
        "application in the middle of its requests.",
        "Wants=, and After= alone, which pass nothing on.",
        "`systemctl list-dependencies --reverse NAME`; restart the other one on a test machine.",
        "Wants= and After=; and an application that connects again.",
        "systemd.unit(5)",
        pulled_along,
    ),
    Rule(
        "LC210", _E, "systemd's watchdog kills a server that does not know it",
        "WatchdogSec expects WATCHDOG=1 from the service. This server never says it, and is killed with SIGABRT "
        "each time.",
        "NotifyAccess=all or exec, where something else says it.",
        "The journal: `Watchdog timeout (limit ...)! Killing process ... with signal SIGABRT.`",
        "No WatchdogSec, or a server that speaks it (lastcall, puma).",
        "systemd.service(5); the sources of gunicorn, uvicorn, hypercorn, waitress, unicorn",
        watchdog,
    ),
    Rule(
        "LC211", _W, "The main process is a shell, and the server does not hear the stop",
        "With KillMode=mixed or process the signal goes to the main process alone. That is the shell of `sh -c 'a "
        "&& b'`, which dies; the server behind it is killed, or stays without anybody who knows it.",
        "The shell's last command is `exec`. One simple command: shells replace themselves then. "
        "KillMode=control-group reaches all.",
        "`systemctl show -p MainPID NAME`, and `ps` of it.",
        "`exec` before the server's name.",
        "systemd.kill(5)",
        shell_between,
    ),
    Rule(
        "LC212", _E, "ExecStop sends a signal that cuts",
        "ExecStop replaces systemd's own signal, and this one is taken for: at once.",
        "It sends the gentle signal, or calls the server's own command.",
        "`systemctl stop NAME` while a request sleeps.",
        "Leave ExecStop out and set KillSignal; or send the gentle signal and wait.",
        "systemd.service(5), ExecStop=; the servers' manuals",
        stop_command,
    ),
)  # fmt: skip
