"""php-fpm, php-cgi and their cache."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastcall.tools.doctor.facts import Facts, Kind
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import request_limit
from lastcall.tools.doctor.verdicts import Finding, Rule, Severity, Unclear, Verdict
from lastcall.tools.readers.fpmconf import FpmConf
from lastcall.tools.readers.text import FOREVER, Spot, seconds, span, template

PCT = "process_control_timeout"
USUAL = 30
"""Seconds that we propose where nothing says how long requests take."""


def _whole(facts: Facts) -> list[FpmConf]:
    """Configurations with a global section; a pool's file alone says nothing about its master."""
    return [conf for conf in facts.fpms if conf.globals.spot.line or conf.globals.values]


def no_grace(facts: Facts) -> Iterator[Verdict]:
    for conf in _whole(facts):
        value = conf.globals.values.get(PCT)
        spot = value.spot if value else Spot(conf.globals.spot.file, conf.globals.spot.line or 1)
        limit = request_limit(facts, conf)
        wanted = f"{max(USUAL, int(limit.seconds) + 5) if limit and limit.seconds != FOREVER else USUAL}s"
        if value is None:
            made = edits.ini_set(facts, spot.file, conf.globals.spot.line, PCT, wanted)
            yield Finding(spot, f"{PCT} is not set, and 0 is the default: QUIT and USR2 cut at once", made)
        elif template(value.text):
            yield Unclear(spot, f"{PCT} is filled in later")
        elif seconds(value.text) == 0:
            made = edits.valued(facts, spot, PCT, wanted)
            yield Finding(spot, f"{PCT} is 0: QUIT and USR2 cut at once", made)


def short_grace(facts: Facts) -> Iterator[Verdict]:
    for conf in _whole(facts):
        value, limit = conf.globals.values.get(PCT), request_limit(facts, conf)
        grace = seconds(value.text) if value else None
        if value is None or not grace or limit is None or limit.spot is None or grace >= limit.seconds:
            continue
        text = (
            f"{PCT} is {span(grace)}, but {limit.name} lets a request run for {span(limit.seconds)} ({limit.spot.file})"
        )
        yield Finding(value.spot, text, edits.valued(facts, value.spot, PCT, f"{int(limit.seconds) + 5}s"))


def emergency(facts: Facts) -> Iterator[Verdict]:
    for conf in _whole(facts):
        values = conf.globals.values
        limit, grace = values.get("emergency_restart_threshold"), values.get(PCT)
        on = limit is not None and limit.text.isdigit() and int(limit.text) > 0
        interval = values.get("emergency_restart_interval")
        armed = on and interval is not None and seconds(interval.text)
        if limit is not None and armed and (grace is None or seconds(grace.text) == 0):
            text = f"{limit.text} crashed workers reload php-fpm, and without {PCT} that cuts all the others"
            yield Finding(limit.spot, text)


_MAX_REQUESTS = re.compile(r"PHP_FCGI_MAX_REQUESTS[\"']?\s*[=:\s]\s*[\"']?(\d+)")
_STARTERS = (
    Kind.UNIT,
    Kind.SCRIPT,
    Kind.INIT,
    Kind.DOCKERFILE,
    Kind.COMPOSE,
    Kind.SUPERVISOR,
    Kind.KUBERNETES,
)


def php_cgi_limit(facts: Facts) -> Iterator[Verdict]:
    for source in facts.of(*_STARTERS):
        for number, line in enumerate(source.text.split("\n"), 1):
            found = _MAX_REQUESTS.search(line)
            if found and int(found[1]) and not line.lstrip().startswith(("#", ";")):
                spot = Spot(source.path, number)
                made = edits.worded(facts, spot, found[0], found[0].replace(found[1], "0"))
                yield Finding(
                    spot, f"php-cgi ends after {found[1]} requests, and closes the connection it is kept on", made
                )


_RESET = re.compile(r"\bopcache_reset\s*\(|\bopcache:reset\b|\bopcache_invalidate\s*\(|\bopcache:invalidate")


_OTHERS = (".py", ".js", ".ts", ".rb", ".go", ".java", ".pl", ".xml")
"""Languages that have no opcache to clear, and only speak of it."""


def cache_reset(facts: Facts) -> Iterator[Verdict]:
    for source in facts.of(
        *_STARTERS, Kind.TASKS, Kind.TEXT, Kind.CRON_SYSTEM, Kind.CRON_USER, Kind.CRON_ANY, Kind.CRON_SCRIPT
    ):
        if source.path.endswith(_OTHERS):
            continue
        for number, line in enumerate(source.text.split("\n"), 1):
            bare = line.lstrip()
            if _RESET.search(line) and not bare.startswith(("#", "//", "*", "/*", ";")):
                yield Finding(
                    Spot(source.path, number), "opcache is cleared while requests are running on what it holds"
                )


RULES = (
    Rule(
        "LC001", Severity.ERROR, "php-fpm has no grace: process_control_timeout is 0",
        "php-fpm's master sends QUIT to its workers and, when process_control_timeout is over, TERM, which they "
        "leave at its default. With 0 that is in the same turn of its loop: 13 microseconds later (measured, 55 "
        "stops). So `reload`, QUIT and USR2 cut every running request, as TERM does: a payment that is made and "
        "an order that is not written.",
        "The file has no [global] section and none includes it: then it is a pool, and says nothing about the "
        "master.",
        "`php-fpm -tt 2>&1 | grep process_control_timeout`; then `log_level = debug`, a reload under load, and "
        "the time between `sending signal 3 SIGQUIT` and `sending signal 15 SIGTERM` in the log.",
        "Set it in [global] to more than the slowest request takes. A reload then waits for that request: nothing "
        "is served meanwhile (PHP bug 60961).",
        "php-src sapi/fpm/fpm/fpm_process_ctl.c, fpm_pctl_action_next(); www.php.net/install.fpm.configuration; "
        "measured",
        no_grace,
    ),
    Rule(
        "LC002", Severity.WARNING, "php-fpm's grace is shorter than a request may take",
        "A stop or a reload cuts the requests that are still running when process_control_timeout is over. The "
        "pools let them run for longer than that.",
        "Neither request_terminate_timeout nor max_execution_time (of a pool, or of the php.ini beside it) is "
        "set: then nobody has said how long a request may run. max_execution_time counts CPU time on Linux; where "
        "both are set, request_terminate_timeout is meant.",
        "A request that takes as long as the pools allow, and a reload meanwhile: 502 in the web server's log.",
        "Raise process_control_timeout above request_terminate_timeout, or lower that.",
        "www.php.net/install.fpm.configuration; measured: 1 s of grace and requests of 1.5 s lose as many as none",
        short_grace,
    ),
    Rule(
        "LC003", Severity.WARNING, "An emergency restart of php-fpm cuts the healthy workers",
        "When emergency_restart_threshold workers have crashed within emergency_restart_interval, php-fpm reloads "
        "itself. Without process_control_timeout that cuts every request of every pool.",
        "process_control_timeout is set: then the reload waits.",
        "Kill that many workers with SEGV on a test machine: `initiating reload` in the error log, 502 in the web "
        "server's.",
        "Set process_control_timeout; and find out why the workers crash.",
        "php-src sapi/fpm/fpm/fpm_children.c:310; www.php.net/install.fpm.configuration",
        emergency,
    ),
    Rule(
        "LC004", Severity.WARNING, "php-cgi ends after a number of requests, on a kept connection",
        "A php-cgi process exits after exactly PHP_FCGI_MAX_REQUESTS requests. A web server that keeps its "
        "FastCGI connections has by then often sent the next one into it: a reset, and for a POST a 502.",
        "php-fpm, which does not read it (its pm.max_requests is another matter), or connections that are not kept.",
        "`PHP_FCGI_MAX_REQUESTS=20`, a kept connection, 21 requests.",
        "Set it to 0 and let what manages the processes recycle them between connections; the default is 500, not 0.",
        "php-src sapi/cgi/cgi_main.c; measured with php-cgi 8.2",
        php_cgi_limit,
    ),
    Rule(
        "LC005", Severity.WARNING, "A deploy clears opcache under running requests",
        "opcache_reset() throws away, under the workers' hands, the memory that holds the scripts and strings "
        "that they are running: under load that ends in crashes and in strings of other requests, and half of a "
        "request may run the old code and half the new.",
        "The command line's own cache (`php -r`) is another one: clearing it does nothing at all, which is a "
        "fault, too.",
        "php-src's reproducer: `ab` at a script, and opcache_reset() meanwhile.",
        "Deploy into a new folder, let the web server name it ($realpath_root for SCRIPT_FILENAME), and reload "
        "php-fpm with process_control_timeout set.",
        "php/php-src issues 8739 and 14471; gordalina/cachetool issue 22",
        cache_reset,
    ),
)  # fmt: skip
