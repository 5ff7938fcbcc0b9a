"""Who has ordered it: whoever was seen to run something that comes to this, or whose schedule says that he did. Pure.

A command is followed to the signal that is really sent (`ways`): only who sends this server such a signal is suspected.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final

from lastcall.tools.doctor.facts import Facts, Source
from lastcall.tools.explain.clock import Zone
from lastcall.tools.explain.records import Did, Found, Happening, Incident, Orderer, Quote, Sighting
from lastcall.tools.explain.ways import DEPLOYS, Way, Ways, deploys
from lastcall.tools.readers import crontab, orders, schedule, servers
from lastcall.tools.readers.servers import Effect, base, mentioned
from lastcall.tools.readers.text import Spot

BEFORE: Final = 900.0
"""Seconds that may pass between somebody's being seen and what he does: an upgrade, a deploy, anacron's delay."""
SOON: Final = 90.0
"""Seconds within which a job that cron has started gives its order, most often."""
SAME_TIME: Final = 3
"""Minutes within which it is the same time of the day."""


# --- Whoever may have ordered it ---------------------------------------------


@dataclass
class Suspect:
    """Somebody, or a schedule, with all that speaks for it."""

    kind: str
    what: str
    user: str
    quote: Quote | None
    way: Way | None
    score: float
    why: list[str] = field(default_factory=list)
    schedule: schedule.Schedule | None = None
    command: str = ""
    seen: Found | None = None

    @property
    def audited(self) -> bool:
        """Whether the kernel's audit is all that is known of him."""
        return self.seen is not None and isinstance(self.seen.what, Sighting) and self.seen.what.kind == "audit"


class Inquiry:
    """Asks who has ordered incidents."""

    def __init__(self, ways: Ways, zone: Zone, told: Iterable[Found], incidents: Iterable[Incident]) -> None:
        self.ways, self.facts, self.zone = ways, ways.facts, zone
        self.seen = sorted((found for found in told if isinstance(found.what, Sighting)), key=lambda found: found.at)
        self._times = [found.at for found in self.seen]
        self._tables = list(_tables(self.facts))
        self._commands = dict[str, list[float]]()
        for found in self.seen:
            if isinstance(found.what, Sighting):
                self._commands.setdefault(found.what.command, []).append(found.at)
        self._by_minute = dict[tuple[str, int], set[date]]()
        self._ended = dict[str, list[float]]()
        """When each service had an incident."""
        for incident in sorted(incidents, key=lambda one: one.at):
            local = zone.local(incident.at)
            self._by_minute.setdefault((incident.service, local.hour * 60 + local.minute), set()).add(local.date())
            self._ended.setdefault(incident.service, []).append(incident.at)

    def suspects(self, incident: Incident) -> list[Suspect]:
        """All that there are, the likeliest first."""
        if incident.how == "crash" and incident.cause in ("oom", "segfault"):
            return [_kernel(incident)]
        found = [*self._lastcall(incident)]
        begin, end = incident.at - BEFORE, incident.at + incident.grain + 1.0
        for one in self.seen[bisect.bisect_left(self._times, begin) : bisect.bisect_right(self._times, end)]:
            found += self._seen(one, incident)
        found += [*self._scheduled(incident), *self._timers(incident)]
        best = dict[tuple[str, str, Quote | None], Suspect]()
        for suspect in found:
            key = (suspect.kind, suspect.what, suspect.quote)
            if key not in best or best[key].score < suspect.score:
                best[key] = suspect
        return sorted(best.values(), key=lambda suspect: -suspect.score)

    def orderer(self, incident: Incident, now: float) -> Orderer | None:
        """The likeliest, with on how many other days it was the same, and when it is next."""
        listed = self.suspects(incident)
        if not listed or listed[0].score < 0.3:
            return _unknown(incident)
        best = listed[0]
        # the audit tells of every program on the way: it is no rival of who has begun it
        rivals = [
            one for one in listed[1:] if one.score > best.score - 0.1 and one.what != best.what and not one.audited
        ]
        days = self._days(incident, best)
        score = best.score
        why = list(best.why)
        if days and best.seen is None:
            score = min(0.95, score + 0.1)
        if rivals:
            score = round(score * 0.8, 2)
            why.append(f"but it may have been {rivals[0].what!r} as well")
        steps = best.way.steps if best.way is not None else ()
        return Orderer(
            best.kind, best.what, best.quote, best.user, round(score, 2), tuple(why), steps,
            best.seen.quote if best.seen is not None else None, best.seen.at if best.seen is not None else 0.0, days,
            self._next(best, now),
        )  # fmt: skip

    # --- Those that were seen ---

    def _seen(self, one: Found, incident: Incident) -> Iterator[Suspect]:
        what = one.what
        assert isinstance(what, Sighting)
        gap = incident.at - one.at
        score = (0.97 if gap <= 5 else 0.93 if gap <= SOON else 0.6) - (0.1 if what.kind == "audit" else 0.0)
        when = self.zone.local(one.at).strftime("%H:%M:%S")
        if what.kind == "logrotate" and "/" in what.command:
            ways = tuple(self.ways.rotations())
            why = f"logrotate has rotated {what.command} at {when}"
        elif what.kind == "systemd":
            name = what.command
            ways = tuple(self.ways.unit(name))
            why = f"systemd has started {name} at {when}"
        elif what.kind == "anacron":
            ways = self.ways.of(f"run-parts /etc/{what.command}")
            why = f"anacron has started {what.command} at {when}"
        else:
            ways = self.ways.of(what.command)
            why = f"{_WHO.get(what.kind, what.kind)} has run it at {when}"
        fitting = [way for way in ways if _comes_to(way, incident)]
        for way in fitting:
            right = not way.signal or not _signal(incident) or way.signal == _signal(incident)
            told = [why, _words(way)] if right else [why, f"{_words(way)}; the log says SIG{_signal(incident)}"]
            yield self._suspect(one, what, way, score * (1.0 if right else 0.7) * (1.0 if way.sure else 0.9), told)
        if not fitting and what.kind in _HINTS and gap <= SOON:
            yield from self._hint(one, what, incident)

    def _hint(self, one: Found, what: Sighting, incident: Incident) -> Iterator[Suspect]:
        """Whoever spoke of it, or changed it, just before, though nobody can say that he restarted it."""
        about = mentioned(what.command)
        if not about and what.kind == "apt" and re.search(r"\bphp[\d.]*\b", what.command):
            about = servers.PHP_FPM
        why = f"it is in {one.quote.file}, {max(incident.at - one.at, 0):.0f} s before"
        if about == incident.service or (not about and what.kind == "deploy"):
            score = 0.7 if what.kind == "apt" else 0.5 if about else 0.35
            kind = _KINDS.get(what.kind, what.kind)
            yield Suspect(kind, what.command, what.user, one.quote, None, score, [why], seen=one)

    def _suspect(self, one: Found, what: Sighting, way: Way, score: float, why: list[str]) -> Suspect:
        kind = _KINDS.get(what.kind, what.kind)
        if way.kind:
            at = _rooted(way.at)
            return Suspect(
                way.kind,
                way.what or what.command,
                what.user,
                at,
                way,
                score,
                why,
                self._schedule(what),
                what.command,
                one,
            )
        if what.kind in ("sudo", "audit"):
            return self._person(one, what, way, score, why)
        if kind == "cron":
            place = self._line(what)
            quote = Quote(place[0], place[1], what.command) if place else one.quote
            if place is None:
                why = [*why, "no crontab that is here has this line any more"]
            return Suspect(
                "cron", what.command, what.user, quote, way, score, why, self._schedule(what), what.command, one
            )
        if kind == "timer":
            return self._timer(one, what, way, score, why)
        return Suspect(kind, what.command, what.user, one.quote, way, score, why, None, what.command, one)

    def _person(self, one: Found, what: Sighting, way: Way, score: float, why: list[str]) -> Suspect:
        """Somebody who has typed it, or a script that somebody has started."""
        wanted = {order.words() for order in orders.orders(what.command)}
        for source, script in self.facts.scripts:
            inside = what.folder and f"/{source.path}".startswith(what.folder.rstrip("/") + "/")
            if not inside and not DEPLOYS.search(what.user):
                continue
            given = [order for order in orders.of_commands(script.commands) if order.words() in wanted]
            if given:
                line = given[0].line
                path = f"/{source.path}"
                text = self.facts.line(Spot(source.path, line)).strip()
                steps = (Quote(source.path, line, text), *way.steps)
                told = [*why, f"{what.user} was in {what.folder}, and {path}:{line} orders just this"]
                kind = "deploy" if deploys(source) or DEPLOYS.search(what.user) else "script"
                return Suspect(
                    kind, path, what.user, Quote(path, line, text), replace(way, steps=steps), score, told, seen=one
                )
        kind = "deploy" if DEPLOYS.search(what.user) else "person"
        return Suspect(kind, what.command, what.user, one.quote, way, score, why, command=what.command, seen=one)

    def _timer(self, one: Found, what: Sighting, way: Way, score: float, why: list[str]) -> Suspect:
        name = what.command.removesuffix(".service")
        timer = self.facts.units.get(f"{name}.timer")
        entry = next(iter(timer.all("Timer", "OnCalendar")), None) if timer is not None else None
        if entry is None:
            return Suspect("unit", what.command, "", one.quote, way, score, why, command=what.command, seen=one)
        quote = Quote(f"/{entry.spot.file}", entry.spot.line, f"OnCalendar={entry.value}")
        return Suspect(
            "timer", f"{name}.timer", "", quote, way, score, why, schedule.calendar(entry.value), what.command, one
        )

    def _line(self, what: Sighting) -> tuple[str, int] | None:
        """Where cron has that command from."""
        for source, entry in self._tables:
            if _same_command(entry.command, what.command) and (
                not entry.user or not what.user or entry.user == what.user
            ):
                return f"/{source.path}", entry.line
        return None

    def _schedule(self, what: Sighting) -> schedule.Schedule | None:
        for _, entry in self._tables:
            if _same_command(entry.command, what.command):
                return schedule.cron(entry.when)
        return None

    def _lastcall(self, incident: Incident) -> Iterator[Suspect]:
        """Those of whom the server itself has written down that they sent the signal."""
        if incident.sender is not None:
            sender, quote = incident.sender
            kind = (
                "cron"
                if re.search(r"\bcron", sender)
                else "person"
                if "sudo" in sender or "bash" in sender
                else "unknown"
            )
            yield Suspect(kind, sender, "", quote, None, 0.99, ["the server has written down who sent the signal"])

    # --- Those whose time it was ---

    def _scheduled(self, incident: Incident) -> Iterator[Suspect]:
        local = self.zone.local(incident.at)
        for source, entry in self._tables:
            due = schedule.cron(entry.when)
            minute = next(
                (back for back in (0, 1) if due is not None and due.due(local - timedelta(minutes=back))), None
            )
            if due is None or minute is None:
                continue
            for way in self.ways.of(entry.command):
                if not _comes_to(way, incident):
                    continue
                right = not way.signal or not _signal(incident) or way.signal == _signal(incident)
                exact = local.second <= 10 and minute == 0
                rare = len(due.minutes) * len(due.hours) <= 24
                score = (0.85 if exact else 0.7) if rare else 0.4
                why = [f"it is due at that minute ({entry.when}); no log of cron's says that it ran", _words(way)]
                quote = Quote(f"/{source.path}", entry.line, entry.command)
                user = entry.user or base(source.path)
                if way.kind:
                    quote_ = _rooted(way.at) or quote
                    yield Suspect(
                        way.kind, way.what, user, quote_, way, score * (1 if right else 0.6), why, due, entry.command
                    )
                else:
                    yield Suspect(
                        "cron", entry.command, user, quote, way, score * (1 if right else 0.6), why, due, entry.command
                    )

    def _timers(self, incident: Incident) -> Iterator[Suspect]:
        local = self.zone.local(incident.at)
        for name, found in self.facts.units.items():
            if not name.endswith(".timer"):
                continue
            target = found.get("Timer", "Unit")
            for entry in found.all("Timer", "OnCalendar"):
                due = schedule.calendar(entry.value)
                if due is None or not any(due.due(local - timedelta(minutes=back)) for back in (0, 1)):
                    continue
                for way in self.ways.unit(target.value if target else name.removesuffix(".timer")):
                    if _comes_to(way, incident):
                        quote = Quote(f"/{entry.spot.file}", entry.spot.line, f"OnCalendar={entry.value}")
                        why = [f"it is due at that minute ({entry.value})", _words(way)]
                        yield Suspect("timer", name, "", quote, way, 0.75, why, due, name)

    # --- Other days, and the next one ---

    def _days(self, incident: Incident, best: Suspect) -> int:
        """On how many other days the service had an incident at this time of the day, or after the same command."""
        here = self.zone.local(incident.at)
        minute = here.hour * 60 + here.minute
        days = set[date]()
        for around in range(minute - SAME_TIME, minute + SAME_TIME + 1):
            days |= self._by_minute.get((incident.service, around % 1440), set())
        if best.command:
            for at in self._commands.get(best.command, ()):
                place = bisect.bisect_left(self._ended.get(incident.service, []), at - 2.0)
                after = self._ended.get(incident.service, [])[place : place + 1]
                if after and after[0] - at <= SOON:
                    days.add(self.zone.local(after[0]).date())
        return len(days - {here.date()})

    def _next(self, best: Suspect, now: float) -> float | None:
        if best.schedule is None:
            return None
        found = best.schedule.after(self.zone.local(now).replace(tzinfo=None))
        return found.replace(tzinfo=self.zone.zone).timestamp() if found is not None else None


_WHO: Final = {
    "cron": "cron",
    "sudo": "somebody with sudo",
    "ansible": "Ansible",
    "hook": "certbot",
    "monit": "monit",
    "audit": "somebody (the kernel's audit)",
}
_HINTS: Final = frozenset({"deploy", "log", "apt", "monit", "audit", "ansible"})
_KINDS: Final = {"systemd": "timer", "sudo": "person", "apt": "package"}


def _tables(facts: Facts) -> Iterator[tuple[Source, crontab.Entry]]:
    for source, table in facts.crontabs:
        for entry in table.entries:
            yield source, entry


def _same_command(one: str, other: str) -> bool:
    # cron logs the command as it stands; what follows a bare % is input
    return " ".join(one.split()) == " ".join(other.split())


def _comes_to(way: Way, incident: Incident) -> bool:
    """Whether a way leads to what has happened."""
    if incident.service and way.server != incident.service:
        return False
    if way.effect is Effect.REOPEN:
        return False
    if incident.how == "reload":
        return way.effect is Effect.RELOAD or not way.away
    if incident.how == "crash":
        return way.signal == "KILL"
    return way.away or way.effect in (Effect.CUT, Effect.DRAIN)


def _signal(incident: Incident) -> str:
    return incident.cause if incident.cause.isupper() else ""


def _words(way: Way) -> str:
    sent = f"it sends {way.server} SIG{way.signal}" if way.signal else f"it restarts {way.server}"
    return f"{sent}, which {way.effect.value}" + ("" if way.sure else " (as is usual: its unit or script is not here)")


def _rooted(quote: Quote | None) -> Quote | None:
    if quote is None or quote.file.startswith("/"):
        return quote
    return Quote(f"/{quote.file}", quote.line, quote.text)


def _kernel(incident: Incident) -> Suspect:
    mark = next(
        (m for m in incident.marks if isinstance(m.what, Happening) and m.what.cause == incident.cause),
        incident.marks[0],
    )
    said = (
        "the kernel killed it for want of memory"
        if incident.cause == "oom"
        else "it touched memory that is not its own"
    )
    return Suspect("kernel", said, "", mark.quote, None, 0.99, [f"{mark.quote.file} says so"])


def _unknown(incident: Incident) -> Orderer | None:
    """Nobody was seen."""
    asked = [
        m
        for m in incident.marks
        if isinstance(m.what, Happening) and m.what.did is Did.TOLD and m.what.cause == "systemd"
    ]
    if asked:
        why = "systemd stopped it; who asked systemd to is in no log that is here"
        return Orderer("unknown", "systemctl, or what calls it", asked[0].quote, "", 0.5, (why,))
    return None
