"""The walk of an engineer after an incident, from the question to the incidents with everything that is known of each.

What is asked comes in as a `Question`; files are read, nothing is changed. The judgement is others': this only leads from
one to the next.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from lastcall.tools.doctor.facts import Facts
from lastcall.tools.doctor.files import gather
from lastcall.tools.explain import advise, assess, clock, collect, events, kinds, logs, setup, words
from lastcall.tools.explain.assess import Desk
from lastcall.tools.explain.clock import Zone
from lastcall.tools.explain.collect import Collector, Heard
from lastcall.tools.explain.records import Class, Did, Found, Happening, Incident, Request, Sighting
from lastcall.tools.explain.setup import Setup, base
from lastcall.tools.explain.ways import Ways
from lastcall.tools.explain.who import Inquiry
from lastcall.tools.readers import servers

AROUND: Final = 600.0
"""Seconds around a time that somebody names."""
SURE: Final = 0.9
"""The confidence from which on nothing more is wanted."""


@dataclass(frozen=True)
class Question:
    """What is asked."""

    root: Path = Path("/")
    host: bool = True
    """The root is this host's."""
    given: tuple[Path, ...] = ()
    """Logs that somebody has named: files or folders."""
    only_given: bool = False
    """Those, and no others."""
    at: str = ""
    since: str = ""
    """Times as somebody has written them; without a zone they are the machine's, whose logs these are."""
    begin: float | None = None
    end: float | None = None
    """Unix times that bound the incidents."""
    names: tuple[str, ...] = ()
    """What stands in a request's address or id."""


@dataclass
class Findings:
    """What was found."""

    question: Question
    facts: Facts
    setup: Setup
    zone: Zone
    heard: Heard
    incidents: list[Incident] = field(default_factory=list)
    """Those that have hit requests."""
    quiet: list[Incident] = field(default_factory=list)
    """Restarts that have hit nobody, or only let somebody wait."""
    elsewhere: list[Found] = field(default_factory=list)
    """Lines about what was asked for that belong to no incident."""
    unseen: list[str] = field(default_factory=list)

    @property
    def latest(self) -> float:
        """The time of the last line of all."""
        return max((read.last for read in self.heard.reads if read.last is not None), default=0.0)


def silent(_file: str, _size: int) -> None:
    """Nobody wants to know how far it is."""


def investigate(asked: Question, now: float, progress: collect.Progress = silent) -> Findings:
    """Everything, from the question to the answer. `now` is when the next restart is counted from, on this host."""
    findings = _surveyed(asked)
    heard, question = findings.heard, _bounded(asked, findings.zone, now)
    ways = Ways(findings.facts)
    collector = Collector(heard, findings.setup, progress, _matters(ways), _needles(question.names))
    for read in heard.reads:
        if read.told_first:
            collector.first(read)
    collect.date(heard)
    _set_clocks(heard, findings.setup)
    everything = events.incidents(heard, findings.setup)
    desk = Desk(heard, findings.setup)
    found = [*everything, *events.absorbed(everything, list(desk.unexplained(everything))), *desk.listed(everything)]
    chosen = [incident for incident in found if _asked(question, incident)]
    spans = collect.joined((i.at - assess.BEFORE, i.until + assess.AFTER) for i in chosen)
    for read in heard.reads:
        if read.kind is not None and not read.told_first and (spans or desk.blind or question.names):
            collector.near(read, spans, failures=desk.blind)
    alone = desk.failures(chosen)
    chosen += [incident for incident in alone if _asked(question, incident)]
    inquiry = Inquiry(ways, findings.zone, (one for _, one in heard.told), [*found, *alone])
    advisor = advise.Advisor(findings.facts)
    desk.share(chosen)
    for incident in sorted(chosen, key=lambda incident: incident.at):
        desk.judge(incident)
        incident.ordered_by = inquiry.orderer(incident, max(now if asked.host else findings.latest, incident.at))
        incident.advice = advisor.advise(incident)
        words.describe(incident, findings.zone)
        _unseen(findings, desk, incident)
        _sort(findings, incident)
    _look_elsewhere(findings)
    findings.unseen = _general(findings)
    if desk.unclear:
        findings.unseen.append(
            f"{desk.unclear} answers of 502 in the front's access log that no restart explains: its error log would tell "
            "whether a server was away, or the application has said so itself"
        )
    return findings


# --- Where to look -----------------------------------------------------------


def _surveyed(question: Question) -> Findings:
    """The configuration, and which logs there are."""
    facts = gather(question.root, host=question.host)
    known = setup.of(facts)
    machine = clock.of_machine(question.root)
    if question.only_given and not _of_this_host(question, known):
        # logs that somebody has sent: this host's files say nothing about them
        facts, known, machine = Facts({}), Setup(), None
    search = _search(question, known)
    heard = Heard(collect.survey(search, known, machine), troubles=list(search.troubles), empty=search.empty)
    zone = machine or (heard.reads[0].zone if heard.reads else clock.UTC_ASSUMED)
    _set_zones(heard)
    return Findings(question, facts, known, zone, heard)


def _bounded(question: Question, zone: Zone, now: float) -> Question:
    """The question with Unix times. Raises Mistake."""
    begin, end = question.begin, question.end
    if question.at:
        at = clock.moment(question.at, zone, now)
        begin, end = at - AROUND, at + AROUND
    if question.since:
        begin = clock.moment(question.since, zone, now)
    return replace(question, begin=begin, end=end)


def _of_this_host(question: Question, known: Setup) -> bool:
    """Whether logs that somebody has named are where this host has its logs."""
    places = {"/var/log", *known.logs, *(path.rpartition("/")[0] for path in known.logs)}
    named = [str(path.resolve()) for path in question.given]
    return any(path == place or path.startswith(f"{place}/") for path in named for place in places if place)


def _search(question: Question, known: Setup) -> logs.Search:
    search = logs.Search()
    if not question.only_given:
        logs.within(question.root, ("var/log",), known.logs, search)
    for path in question.given:
        logs.given(path, search)
    return search


def _needles(names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(form.encode() for name in names for form in (name, quote(name))))


def _matters(ways: Ways) -> Callable[[Sighting], bool]:
    """Whether it may have been he who ordered something: most of what cron runs orders nothing."""
    known = dict[str, bool]()

    def matters(what: Sighting) -> bool:
        if what.kind not in ("cron", "sudo", "systemd", "anacron", "audit"):
            return True
        if what.command not in known:
            if len(known) > 50_000:
                return True
            if what.kind == "systemd":
                known[what.command] = any(ways.unit(what.command))
            elif what.kind == "anacron":
                known[what.command] = True
            else:
                known[what.command] = bool(ways.of(what.command)) or bool(servers.mentioned(what.command))
        return known[what.command]

    return matters


# --- Clocks ------------------------------------------------------------------


def _set_zones(heard: Heard) -> None:
    """Both logs of nginx are written by one clock: where the one says its zone, the other is in it, too."""
    offsets = dict[str, int]()
    for read in heard.reads:
        if read.kind is None or not read.kind.access or read.kind.service:
            continue
        try:
            sample = logs.head(read.file)
        except (logs.Broken, OSError):
            continue
        for _, line in logs.lines(1, sample):
            told = read.kind.read(line)
            if told is not None and told.when is not None and told.when.offset is not None:
                offsets[read.file.shown.rpartition("/")[0]] = told.when.offset
                if read.zone.offset(told.when.wall) != told.when.offset:
                    _move(heard, read.file.shown.rpartition("/")[0], told.when.offset)
                break


def _move(heard: Heard, folder: str, offset: int) -> None:
    for read in heard.reads:
        if read.kind is kinds.NGINX and read.file.shown.rpartition("/")[0] == folder:
            read.zone = clock.fixed(offset, "the access log beside it says so")


_STRIKING: Final = (Did.TOLD, Did.RELOADING, Did.VANISHED, Did.WORKER_DIED, Did.GONE)
"""What a front notices."""
_SHARED: Final = (kinds.NGINX, kinds.SYSLOG, kinds.JOURNAL)
"""Logs in which many speak: their clock is the machine's."""


def _set_clocks(heard: Heard, known: Setup) -> None:
    """Move what was written by a clock that is off: a server's log whose restarts fall on no burst of complaints."""
    bursts = list(events.bursts(collect.complaints(heard), set(), known))
    if not bursts:
        return
    times, services = dict[str, list[float]](), dict[str, str]()
    for read, found in heard.told:
        what = found.what
        if isinstance(what, Happening) and what.did in _STRIKING and read.kind not in _SHARED:
            times.setdefault(base(read.file.shown), []).append(found.at)
            services[base(read.file.shown)] = what.service
    for name, listed in times.items():
        theirs = [burst.at for burst in bursts if burst.service in ("", services[name])]
        if _agrees(name, heard, theirs):
            continue
        starts = [at for n, at in enumerate(listed) if not n or at - listed[n - 1] > events.TOGETHER]
        by = clock.shift(starts, theirs)
        if not by:
            continue
        if by % clock.QUARTER and len(starts) < 2:
            continue  # a drift that is seen once may be an accident
        for read in heard.reads:
            if base(read.file.shown) == name:
                read.shift = by
    heard.told = [
        (read, found._replace(at=found.at + read.shift) if read.shift else found) for read, found in heard.told
    ]
    heard.told.sort(key=collect.order)


def _agrees(name: str, heard: Heard, bursts: Sequence[float]) -> bool:
    """Whether a log's clock is right: a burst ends in a start of it, or somebody was seen to order what it tells of."""
    told = [f for read, f in heard.told if isinstance(f.what, Happening) and base(read.file.shown) == name]
    if any(0.0 <= at - burst <= events.STARTED for at in events.unannounced(told) for burst in bursts):
        return True
    seen = sorted(
        f.at for _, f in heard.told if isinstance(f.what, Sighting) and f.what.kind in ("cron", "sudo", "systemd")
    )
    for one in told:
        place = bisect.bisect_right(seen, one.at + one.grain)
        if place and one.at - seen[place - 1] <= clock.NEAR:
            return True
    return False


# --- Which incidents ---------------------------------------------------------


def _asked(question: Question, incident: Incident) -> bool:
    if question.begin is not None and incident.until < question.begin:
        return False
    return question.end is None or incident.at <= question.end


# --- What could not be seen --------------------------------------------------


def _sort(findings: Findings, incident: Incident) -> None:
    """To those that have hit somebody, or to the others; where a request is asked for, only what has hit it."""
    names = findings.question.names
    if not names or any(_is_named(request, names) for request in incident.requests):
        (findings.incidents if incident.hit else findings.quiet).append(incident)


def _look_elsewhere(findings: Findings) -> None:
    """Lines about what was asked for that no incident has for evidence."""
    listed = (*findings.incidents, *findings.quiet)
    shown = {quote for incident in listed for request in incident.requests for quote in request.evidence}
    findings.elsewhere = [found for _, found in findings.heard.named if found.quote not in shown]


def _is_named(request: Request, names: Sequence[str]) -> bool:
    texts = (request.uri, request.id, *request.ids, *(quote.text for quote in request.evidence))
    return any(name in text for name in names for text in texts)


def _unseen(findings: Findings, desk: Desk, incident: Incident) -> None:
    heard, service = findings.heard, incident.service or "the server"
    say = incident.unseen.append
    if incident.service != servers.LASTCALL:
        if desk.blind:
            say("which requests failed, and how: there is no error log of a front (nginx) for that time")
        if not any(read.covers(incident.at) for read in desk.fronts):
            say(
                "which request each failure was in full, and how long it had run: no access log of the front has that time"
            )
        elif any(request.status is not None and request.began is None for request in incident.requests):
            say(
                "how long each request had been running: the front's access log has no times; add $upstream_response_time, "
                "$upstream_connect_time and $request_id to its log_format"
            )
    if incident.count(Class.HALF_DONE) and incident.service != servers.LASTCALL:
        if not desk.own_logs(incident.service):
            say(
                f"whether {service} had finished one of them: it has no access log of its own here (php-fpm: access.log)"
            )
        say("what each had done before it was cut: only its ledgers know; compare them for these (lastcall reconcile)")
    order = incident.ordered_by
    if (order is None or order.confidence < SURE) and (incident.how != "crash" or incident.cause == "kill"):
        cron = any(isinstance(f.what, Sighting) and f.what.kind == "cron" for _, f in heard.told)
        where = "auth.log (sudo), the journal" if cron else "cron's lines in syslog or the journal, auth.log (sudo)"
        say(f"who ordered it for sure: {where} of that time would tell, or the kernel's audit of kill(2)")


_ORDERING: Final = re.compile(r"cron|logrotate|systemd|init\.d|letsencrypt")
"""Files of those who order restarts: that one cannot be read is to be known."""


def _general(findings: Findings) -> list[str]:
    """What holds for the answer as a whole."""
    heard = findings.heard
    said = [f"{read.file.shown}: {read.trouble}" for read in heard.reads if read.trouble]
    said += heard.troubles
    said += [f"/{trouble.path}: {trouble.why}" for trouble in findings.facts.troubles if _ORDERING.search(trouble.path)]
    said += [
        f"{read.file.shown}: there was no room for {read.dropped} of its records; name a shorter time with --at"
        for read in heard.reads if read.dropped
    ]  # fmt: skip
    if not heard.reads:
        said.append("no log was found: name one with --logs")
    elif not any(read.kind is not None for read in heard.reads):
        said.append("none of the files is a log that we know")
    return said
