"""Application servers' own settings, and the supervisors that run them: supervisor and PM2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lastcall.tools.doctor.facts import Facts, Value
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import By, Instance, Run, grace, instances, longest, option, runs
from lastcall.tools.doctor.verdicts import Edit, Finding, Rule, Severity, Unclear, Verdict
from lastcall.tools.readers import servers, text
from lastcall.tools.readers.pyconf import UNKNOWN
from lastcall.tools.readers.servers import GRACEFUL, Effect, effect, shell_script, unwrapped
from lastcall.tools.readers.text import Spot, seconds, span

SHORT = 10.0
"""Seconds: a grace below this is short where nothing says how long requests take."""


def _number(value: Value | None, default: float) -> float | None:
    """A setting as seconds; None where nobody can say."""
    if value is None:
        return default
    return None if value.text == UNKNOWN else seconds(value.text)


def _unknown(value: Value | None, name: str) -> Iterator[Unclear]:
    if value is not None and (value.text == UNKNOWN or text.template(value.text)):
        yield Unclear(value.spot, f"{name} is computed, or filled in later")


# --- gunicorn, uWSGI ---------------------------------------------------------


def gunicorn_grace(facts: Facts) -> Iterator[Verdict]:
    for it in instances(facts, servers.GUNICORN):
        given, limit = it.get("graceful_timeout"), it.get("timeout")
        yield from _unknown(given, "graceful_timeout")
        yield from _unknown(limit, "timeout")
        have, may = _number(given, 30.0), _number(limit, 30.0)
        if have is None or may is None or have >= may:
            continue
        spot = given.spot if given else limit.spot if limit else it.head
        said = f"graceful_timeout is {span(have)}" + ("" if given else ", its default")
        made = edits.valued(facts, spot, "graceful_timeout", str(int(may) + 5)) if given else ()
        made = made or _option(facts, it, "graceful-timeout", int(may) + 5, given)
        yield Finding(spot, f"{said}, but a worker may be busy for {span(may)} (timeout)", made)


def _option(facts: Facts, it: Instance, name: str, value: int, given: Value | None) -> tuple[Edit, ...]:
    """The same on a command line: another value, or one more option behind the program's name."""
    if it.run is None or not it.run.argv:
        return ()
    line = facts.line(it.run.spot)
    if given is not None and given.spot == it.run.spot:
        found = re.search(rf"--{name}[= ]+(\S+)", line)
        return (
            (Edit(it.run.spot.file, it.run.spot.line, (line[: found.start(1)] + str(value) + line[found.end(1) :],)),)
            if found
            else ()
        )
    program = it.run.argv[0]
    if line.count(f"{program} ") != 1:
        return ()
    return edits.worded(facts, it.run.spot, f"{program} ", f"{program} --{name} {value} ")


def gunicorn_together(facts: Facts) -> Iterator[Verdict]:
    for it in instances(facts, servers.GUNICORN):
        limit, jitter = it.get("max_requests"), it.get("max_requests_jitter")
        if limit is not None and limit.text.isdigit() and int(limit.text) and (jitter is None or jitter.text == "0"):
            wanted = max(1, int(limit.text) // 10)
            line = facts.line(limit.spot)
            made: tuple[Edit, ...] = ()
            if re.match(r"\s*max_requests\s*=", line) and jitter is None:
                made = edits.added(facts, limit.spot, f"max_requests_jitter = {wanted}")
            yield Finding(
                limit.spot, f"all workers are recycled at about the same time, after {limit.text} requests each", made
            )


_VASSALS = ("vassals/", "apps-enabled/", "apps-available/", "usr/share/")
"""Folders of files that an emperor starts and stops, or that others include."""


def uwsgi_term(facts: Facts) -> Iterator[Verdict]:
    emperor = any(run.server == servers.UWSGI and option(run, "--emperor") is not None for run in runs(facts))
    for it in instances(facts, servers.UWSGI):
        if any(it.get(name) is not None for name in ("die-on-term", "hook-master-start")):
            continue
        if it.run is not None and it.run.stop[0] != "TERM":
            continue
        master = it.get("master")
        if it.run is None and (emperor or master is None or not text.yes(master.text)):
            continue
        if it.run is None and any(part in it.spot.file for part in _VASSALS):
            continue
        head = _section(it)
        spot = Spot(it.source.path, head) if it.source and head else it.spot
        made = edits.added(facts, spot, "die-on-term = true") if head else ()
        by = f"{it.run.by.value} stops it with SIGTERM" if it.run else "SIGTERM is what stops a service"
        yield Finding(spot, f"{by}, which uWSGI takes for: reload at once", made)


def _section(it: Instance) -> int:
    """The line of [uwsgi] in its file; 0 where there is none."""
    lines = it.source.text.split("\n") if it.source else []
    return next((number for number, line in enumerate(lines, 1) if line.strip() == "[uwsgi]"), 0)


def uwsgi_mercy(facts: Facts) -> Iterator[Verdict]:
    for it in instances(facts, servers.UWSGI):
        limit = it.get("harakiri")
        may = _number(limit, 0.0)
        mercies = [(name, it.get(name)) for name in ("worker-reload-mercy", "reload-mercy")]
        short = [(name, value) for name, value in mercies if (_number(value, 60.0) or 0.0) < (may or 0.0)]
        if limit is None or may is None or not short:
            continue
        name, given = short[0]
        made: tuple[Edit, ...] = ()
        for key, value in short:
            if value is not None:
                made += edits.valued(facts, value.spot, key, str(int(may) + 5))
            elif it.source is not None and limit.spot.file == it.source.path:
                made += edits.added(facts, limit.spot, f"{key} = {int(may) + 5}")
        said = f"{name} is {span(_number(given, 60.0) or 0.0)}" + ("" if given else ", its default")
        yield Finding(
            given.spot if given else limit.spot, f"{said}, but a request may run for {span(may)} (harakiri)", made
        )


# --- One setting that is short -----------------------------------------------


def _short(server: str, name: str, default: float | None) -> Callable[[Facts], Iterator[Verdict]]:
    """A grace of a server that is below SHORT, by its default or because somebody has set it so."""

    def check(facts: Facts) -> Iterator[Verdict]:
        for it in instances(facts, server):
            given = it.get(name)
            yield from _unknown(given, name)
            have = None if given is None and default is None else _number(given, default or 0.0)
            if have is None or have >= SHORT:
                continue
            said = f"{name} is {span(have)}" + ("" if given else ", its default")
            spot = given.spot if given else it.spot
            made = edits.valued(facts, spot, name, "60") if given else ()
            made = made or _option(facts, it, name.replace("_", "-"), 60, given)
            yield Finding(spot, f"{said}: what takes longer is cut", made)

    return check


def _recycles(server: str, name: str, what: str) -> Callable[[Facts], Iterator[Verdict]]:
    def check(facts: Facts) -> Iterator[Verdict]:
        for it in instances(facts, server):
            given = it.get(name)
            if given is not None and given.text not in ("0", UNKNOWN):
                yield Finding(given.spot, f"{server} {what}")

    return check


def reloader(facts: Facts) -> Iterator[Verdict]:
    for run in runs(facts):
        flag = {servers.GRANIAN: "--reload"}.get(run.server, "--reload")
        if run.by is By.COMPOSE or run.server not in (
            servers.GUNICORN,
            servers.UVICORN,
            servers.HYPERCORN,
            servers.GRANIAN,
        ):
            continue
        if option(run, flag) is not None:
            made = edits.worded(facts, run.spot, f" {flag}", "") if facts.line(run.spot).count(flag) == 1 else ()
            yield Finding(run.spot, f"{run.server} restarts whenever a file changes, in the middle of a deploy", made)


# --- supervisor, PM2 ---------------------------------------------------------


def _by(facts: Facts, by: By) -> Iterator[Run]:
    return (run for run in runs(facts) if run.by is by)


def supervisor_signal(facts: Facts) -> Iterator[Verdict]:
    for run in _by(facts, By.SUPERVISOR):
        signal, where = run.stop
        if effect(run.server, signal) is not Effect.CUT or (run.server == servers.UWSGI and signal == "TERM"):
            continue
        best = GRACEFUL.get(run.server)
        said = f"stopsignal is {signal}" if where else "stopsignal is not set, and TERM is the default"
        made = () if best is None else edits.valued(facts, where, "stopsignal", best) if where else ()
        if best is not None and not made and run.head is not None and not where:
            made = edits.added(facts, run.head, f"stopsignal={best}")
        yield Finding(where or run.spot, f"{said}: {run.server} cuts what is running", made)


def supervisor_hurry(facts: Facts) -> Iterator[Verdict]:
    for run in _by(facts, By.SUPERVISOR):
        limit, where = run.kill
        needed = grace(facts, run) or longest(facts, run)
        if limit is None and where is not None:
            yield Unclear(where, "stopwaitsecs is filled in later, or no time")
        elif limit is not None and needed is not None and limit < needed.seconds:
            said = f"stopwaitsecs is {span(limit)}" + ("" if where else ", its default")
            wanted = str(int(needed.seconds) + 10)
            made = edits.valued(facts, where, "stopwaitsecs", wanted) if where else ()
            if not where and run.head is not None:
                made = edits.added(facts, run.head, f"stopwaitsecs={wanted}")
            yield Finding(
                where or run.spot, f"{said}, but {run.server} may take {span(needed.seconds)} ({needed.name})", made
            )


def supervisor_shell(facts: Facts) -> Iterator[Verdict]:
    for source, read in facts.supervisors:
        for section, _ in read.sections:
            command = read.get(section, "command")
            if not section.startswith("program:") or command is None:
                continue
            script = shell_script(unwrapped(text.words(command.value)))
            group = read.get(section, "stopasgroup")
            compound = script is not None and re.search(r"&&|;|\|", script) is not None and "exec " not in script
            if compound and not (group is not None and text.yes(group.value)):
                spot = Spot(source.path, command.line)
                yield Finding(spot, "supervisor's signal ends the shell, and the server behind it goes on by itself")


def pm2_hurry(facts: Facts) -> Iterator[Verdict]:
    for run in _by(facts, By.PM2):
        limit, where = run.kill
        if limit is None and where is not None:
            yield Unclear(where, "kill_timeout is no number")
        elif limit is not None and limit < SHORT:
            said = f"kill_timeout is {span(limit)}" + ("" if where else ", its default")
            made = edits.valued(facts, where, "kill_timeout", "60000") if where else ()
            if where is None:
                made = edits.added(facts, run.spot, edits.indented(facts, run.spot, "kill_timeout: 60000,"))
            yield Finding(where or run.spot, f"{said}: what takes longer is cut with SIGKILL", made)


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

_SET_LONG = "Nothing below 10 s is judged short, unless a request is known to take longer."

RULES = (
    Rule(
        "LC301", _W, "gunicorn stops before its workers need to be done",
        "A sync worker may be busy with one request for `timeout` seconds. On a stop or a reload it is given only "
        "`graceful_timeout`, then SIGKILL: a request that would have been finished is cut.",
        "The timeout is as short as the grace, or 0. For gthread and async workers `timeout` is no request's "
        "limit, and still the best that is known.",
        "A request that takes longer than graceful_timeout, and `kill -HUP`.",
        "graceful_timeout above timeout; and above both the time that systemd, supervisor or the container gives.",
        "docs.gunicorn.org, Settings; benoitc/gunicorn issue 1493",
        gunicorn_grace,
    ),
    Rule(
        "LC302", _N, "gunicorn's workers are recycled all at once",
        "With max_requests and no jitter, workers that began together are recycled together, and gunicorn "
        "replaces a worker only when it is gone: for as long as the application takes to import, there is hardly "
        "anybody.",
        "max_requests_jitter is set. There is one worker.",
        "A steady load, and the time of the slowest answer around the recycling (measured: up to 1.4 s).",
        "max_requests_jitter, a tenth of max_requests.",
        "docs.gunicorn.org, Settings; measured",
        gunicorn_together,
    ),
    Rule(
        "LC303", _E, "SIGTERM makes uWSGI reload at once",
        "Without die-on-term, uWSGI takes TERM for a brutal reload: running requests are cut, the stack starts "
        "again, and whoever wanted it to end kills it some time later, with SIGKILL.",
        "What starts it stops it with another signal (QUIT and INT cut as well, LC202). The file has no `master`: "
        "it is a part of another.",
        "`kill -TERM MASTER`: `...brutally killing workers...` in its log.",
        "die-on-term = true, so that it ends at least. It cuts even so (measured: 4 to 5 half-done a stop): for a "
        "gentle stop, `q` through master-fifo.",
        "uwsgi-docs, Managing the uWSGI server, Signals; measured with uWSGI 2.0.31",
        uwsgi_term,
    ),
    Rule(
        "LC304", _W, "uWSGI's mercy is shorter than a request may take",
        "On a reload a worker has worker-reload-mercy and the stack reload-mercy (60 s each) to finish; harakiri "
        "lets a request run for longer. `NO MERCY !!!` in the log is such a request.",
        "No harakiri is set: then nobody has said how long a request may run.",
        "A request of that length, and `kill -HUP MASTER`.",
        "Mercy above harakiri.",
        "uwsgi-docs, Options; apm-agent-python issue 2304",
        uwsgi_mercy,
    ),
    Rule(
        "LC305", _E, "supervisor stops a server with a signal that cuts",
        "stopsignal is TERM by default: php-fpm and unicorn take it for: at once. QUIT is the gentle one for "
        "them, and a quick kill for gunicorn.",
        "uWSGI with TERM is LC303.",
        "`supervisorctl restart NAME` while a request sleeps.",
        "stopsignal with the signal that finishes what has begun.",
        "supervisord.org/configuration.html; the servers' manuals",
        supervisor_signal,
    ),
    Rule(
        "LC306", _E, "supervisor kills before the server's own grace is over",
        "stopwaitsecs is 10 s by default, then SIGKILL. gunicorn alone takes up to 30.",
        "The server's own bound is not known, or there is none.",
        "`supervisorctl stop NAME` while a request takes longer: `killing 'NAME' (PID) with SIGKILL` in its log.",
        "stopwaitsecs above the server's own limit.",
        "supervisord.org/configuration.html",
        supervisor_hurry,
    ),
    Rule(
        "LC307", _W, "supervisor's signal reaches only the shell",
        "`sh -c 'a && b'` dies of the signal, and the server that it had started stays: it holds the port, and "
        "the next start fails.",
        "stopasgroup is true; the command ends in `exec`; it is one simple command, for which shells replace "
        "themselves.",
        "`supervisorctl stop NAME; pgrep -f SERVER`.",
        "`exec` before the server, or stopasgroup=true and killasgroup=true.",
        "supervisord.org/configuration.html; supervisor's subprocess page",
        supervisor_shell,
    ),
    Rule(
        "LC308", _W, "PM2 kills after 1.6 seconds",
        "PM2 sends INT, waits kill_timeout (1600 ms) and sends SIGKILL, on each stop, restart and reload.",
        _SET_LONG,
        "A request of 3 s, and `pm2 reload NAME`.",
        "kill_timeout above the longest request, and a handler of SIGINT that finishes what has begun.",
        "pm2.keymetrics.io, Graceful Start/Shutdown; Unitech/pm2 lib/API/schema.json",
        pm2_hurry,
    ),
    Rule(
        "LC309", _W, "uvicorn's grace is short",
        "Without timeout_graceful_shutdown uvicorn waits until everything is done. With it, what is left is "
        "cancelled.",
        "It is not set. " + _SET_LONG,
        "A request that takes longer, and `kill -TERM`: `Cancel N running task(s), timeout graceful shutdown "
        "exceeded`.",
        "Leave it out, or set it above the longest request, and the supervisor's time above it.",
        "uvicorn.org, Settings",
        _short(servers.UVICORN, "timeout_graceful_shutdown", None),
    ),
    Rule(
        "LC310", _W, "hypercorn gives requests three seconds",
        "graceful_timeout is 3 s by default; what takes longer on a stop or a reload is cut.",
        _SET_LONG,
        "A request of 5 s, and `kill -TERM`.",
        "graceful_timeout above the longest request.",
        "hypercorn's documentation, Configuring; measured with hypercorn 0.18",
        _short(servers.HYPERCORN, "graceful_timeout", 3.0),
    ),
    Rule(
        "LC311", _W, "granian kills its workers early",
        "workers-kill-timeout ends a graceful stop with SIGKILL.",
        "It is not set: then granian waits, also for clients that keep an idle connection open (its issues 548, "
        "568). " + _SET_LONG,
        "A request that takes longer, and `kill -HUP`.",
        "A time above the longest request.",
        "granian's README; emmett-framework/granian issues 548, 568, 611",
        _short(servers.GRANIAN, "workers_kill_timeout", None),
    ),
    Rule(
        "LC312", _W, "puma gives requests little time",
        "worker_shutdown_timeout (30 s) is how long a worker may take to stop before it is killed.",
        _SET_LONG,
        "A request that takes longer, and `pumactl phased-restart`.",
        "A time above the longest request.",
        "puma's DSL documentation, worker_shutdown_timeout",
        _short(servers.PUMA, "worker_shutdown_timeout", 30.0),
    ),
    Rule(
        "LC313", _W, "uvicorn loses requests when it recycles a worker",
        "limit_max_requests closes connections that are accepted and not read, or kept: about one request in a "
        "thousand. In 4 of 12 runs nothing at all was answered for 5 s meanwhile.",
        "It is not set, or 0.",
        "`--limit-max-requests 50`, 24 kept connections, and the count of resets.",
        "Leave it out; restart at night does not do either (LC101). What leaks should be found, or recycled by a "
        "server that hands over.",
        "Kludex/uvicorn issue 2757; measured with uvicorn 0.54",
        _recycles(servers.UVICORN, "limit_max_requests", "closes connections under a request when it recycles a worker"),
    ),
    Rule(
        "LC314", _W, "hypercorn loses requests when it recycles a worker",
        "max_requests: 44 errors in 7,116 requests, two of them half-done and nine done without telling the client.",
        "It is not set, or 0.",
        "`--max-requests 50` under load.",
        "As LC313.",
        "Measured with hypercorn 0.18",
        _recycles(servers.HYPERCORN, "max_requests", "closes connections under a request when it recycles a worker"),
    ),
    Rule(
        "LC315", _W, "The server restarts whenever a file changes",
        "--reload is for development: a deploy that copies files restarts the workers with half of the new code, "
        "again and again, and without any grace.",
        "Compose files, which are most often for development.",
        "`touch` a file of the application.",
        "Leave it out; reload on purpose, after the deploy.",
        "The servers' documentation on --reload",
        reloader,
    ),
)  # fmt: skip
