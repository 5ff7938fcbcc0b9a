"""The kernel's queues, and MongoDB's promises."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lastcall.tools.doctor.facts import Facts, Kind
from lastcall.tools.doctor.rules import edits
from lastcall.tools.doctor.runs import instances
from lastcall.tools.doctor.verdicts import Edit, Finding, Rule, Severity, Verdict
from lastcall.tools.readers import servers
from lastcall.tools.readers.text import Spot


def _backlogs(facts: Facts) -> Iterator[tuple[int, Spot, str]]:
    """Queues that are asked for: how long, where, by whom."""
    for conf in facts.fpms:
        for pool in conf.pools:
            value = pool.values.get("listen.backlog")
            if value is not None and value.text.isdigit():
                yield int(value.text), value.spot, f"php-fpm's pool {pool.name}"
    for nginx in facts.nginxes:
        for directive, _ in nginx.walk():
            found = next((arg[8:] for arg in directive.args if arg.startswith("backlog=")), "")
            if directive.name == "listen" and found.isdigit():
                yield int(found), directive.spot, "nginx"
    for server, name in ((servers.GUNICORN, "backlog"), (servers.UWSGI, "listen"), (servers.LASTCALL, "backlog")):
        for it in instances(facts, server):
            value = it.get(name)
            if value is not None and value.text.isdigit():
                yield int(value.text), value.spot, server


def long_queue(facts: Facts) -> Iterator[Verdict]:
    limit = facts.sysctls.get("net.core.somaxconn")
    if limit is None or not limit.text.strip().isdigit():
        return
    seen = set[Spot]()
    for wanted, spot, who in _backlogs(facts):
        if wanted > int(limit.text) and spot not in seen:
            seen.add(spot)
            yield Finding(spot, f"{who} asks for a queue of {wanted}, and gets {limit.text} (net.core.somaxconn)")


def overflow(facts: Facts) -> Iterator[Verdict]:
    value = facts.sysctls.get("net.ipv4.tcp_abort_on_overflow")
    if value is not None and value.text.strip() == "1":
        made = edits.valued(facts, value.spot, "net.ipv4.tcp_abort_on_overflow", "0") if value.spot.line else ()
        yield Finding(
            value.spot, "a client that comes while a queue is full is reset, in place of being asked again", made
        )


# --- MongoDB -----------------------------------------------------------------

_URI = re.compile(r"mongodb(?:\+srv)?://[^\s\"'<>`;)]+")
_ELSEWHERE = (Kind.CRON_SYSTEM, Kind.CRON_USER, Kind.LOGROTATE, Kind.NGINX)


def _connections(facts: Facts) -> Iterator[tuple[Spot, str, dict[str, str]]]:
    """Each connection string that is no comment: where, itself, and its options in lower case."""
    for source in facts.of(*(kind for kind in Kind if kind not in _ELSEWHERE)):
        if "mongodb" not in source.text:
            continue
        for number, line in enumerate(source.text.split("\n"), 1):
            if line.lstrip().startswith(("#", "//", "*", ";", "<!--")):
                continue
            for found in _URI.finditer(line):
                _, _, query = found[0].rstrip(",.").partition("?")
                options = dict(part.lower().partition("=")[::2] for part in query.split("&") if part)
                yield Spot(source.path, number), found[0], options


def _majority(facts: Facts, spot: Spot, pattern: str, new: str) -> tuple[Edit, ...]:
    line = facts.line(spot)
    changed, times = re.subn(pattern, new, line)
    return (Edit(spot.file, spot.line, (changed,)),) if times == 1 else ()


def unacknowledged(facts: Facts) -> Iterator[Verdict]:
    for spot, _, options in _connections(facts):
        if options.get("w") == "0":
            made = _majority(facts, spot, r"([?&])w=0\b", r"\1w=majority")
            yield Finding(spot, "w=0: nobody hears whether a write was done at all", made)
        elif options.get("journal", options.get("j")) == "false":
            made = _majority(facts, spot, r"([?&])(journal|j)=false\b", r"\1\2=true")
            yield Finding(spot, "journal=false: a write is acknowledged that the end of mongod undoes", made)


def one_copy(facts: Facts) -> Iterator[Verdict]:
    for spot, _, options in _connections(facts):
        if options.get("w") == "1":
            made = _majority(facts, spot, r"([?&])w=1\b", r"\1w=majority")
            yield Finding(spot, "w=1: a write is acknowledged that a change of the primary undoes", made)


def no_journal(facts: Facts) -> Iterator[Verdict]:
    for source in facts.of(Kind.MONGOD):
        above = ""
        for number, line in enumerate(source.text.split("\n"), 1):
            bare = line.split("#")[0]
            if re.match(r"\s*journal:\s*$", bare):
                above = "journal"
            elif re.match(r"\s*(?:nojournal\s*=\s*true|journal\s*=\s*false)", bare) or (
                above == "journal" and re.match(r"\s*enabled:\s*false", bare)
            ):
                spot = Spot(source.path, number)
                made = edits.valued(facts, spot, "enabled", "true")
                yield Finding(spot, "without a journal a mongod that dies has lost the last minute", made)
            elif bare.strip():
                above = ""


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES = (
    Rule(
        "LC601", _W, "A queue is shorter than it was asked to be",
        "listen(2) silently cuts the backlog down to net.core.somaxconn. While a server reloads, clients wait in "
        "that queue; whoever finds it full waits for a second and more, or is refused.",
        "Nothing here says what somaxconn is (4096 since Linux 5.4, 128 before).",
        "`ss -ltn`: Send-Q of a listening socket is the queue that it has.",
        "net.core.somaxconn in /etc/sysctl.d, as large as the largest backlog.",
        "listen(2); Linux Documentation/networking/ip-sysctl.rst", long_queue,
    ),
    Rule(
        "LC602", _E, "A full queue resets its clients",
        "With tcp_abort_on_overflow the kernel answers with a reset where it would else stay silent, so that the "
        "client asks again: every burst, every reload of a busy server is 104 for somebody.",
        "It is 0, the default.",
        "`sysctl net.ipv4.tcp_abort_on_overflow`; `nstat -az TcpExtListenOverflows`.",
        "0, and a queue that is long enough (LC601).",
        "Linux Documentation/networking/ip-sysctl.rst", overflow,
    ),
    Rule(
        "LC603", _E, "MongoDB's writes are not acknowledged, or not on a disk",
        "With w=0 the application goes on without knowing whether the order was written; with journal=false "
        "mongod says yes before it is on a disk. When either dies, the order is gone and nobody was told.",
        "Data that may be lost. The line is a comment.",
        "kill -9 of a standalone mongod under load: 153 of 8,566 acknowledged writes were gone.",
        "w=majority (and journal=true), at least for what is money.",
        "mongodb.com/docs/manual/reference/write-concern; measured with mongod 6.0", unacknowledged,
    ),
    Rule(
        "LC604", _W, "MongoDB's writes are acknowledged by one server",
        "When the primary changes, what only it had is rolled back: acknowledged, and gone.",
        "w=majority, or no w at all, which is majority since MongoDB 5.0 (with an arbiter it may be 1). A "
        "standalone server has no other.",
        "`rs.stepDown()` under load, and the rollback folder.",
        "w=majority.",
        "mongodb.com/docs/manual/reference/write-concern", one_copy,
    ),
    Rule(
        "LC605", _E, "mongod has no journal",
        "Between two checkpoints, a minute apart, everything is in memory: a mongod that dies has lost it.",
        "The line is a comment. From MongoDB 6.1 on the journal is always there, and the setting an error.",
        "`db.serverStatus().wiredTiger.log`.",
        "Leave the setting out.",
        "mongodb.com/docs/manual/core/journaling", no_journal,
    ),
)  # fmt: skip
