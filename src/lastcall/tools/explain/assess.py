"""Which complaints and access lines belong to which incident, and what became of each of its requests. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from lastcall.tools.explain import collect, events, kinds, requests
from lastcall.tools.explain.collect import Heard, Read
from lastcall.tools.explain.records import (
    Access,
    Complaint,
    CutOff,
    Did,
    Fault,
    Found,
    Happening,
    Incident,
    Quote,
    Request,
    Slow,
)
from lastcall.tools.explain.setup import Setup
from lastcall.tools.readers import servers

BEFORE: Final = 30.0
"""Seconds of requests before an incident, to know how long they usually take."""
AFTER: Final = 15.0
NEAREST: Final = 2.0
"""Seconds between a worker's death and the front's complaint, by clocks that count whole seconds."""
LINES_APART: Final = 3600.0
ERRORS_APART: Final = 7 * 86400.0
"""Seconds for which a front may have nothing to log."""


class Times:
    """Records in the order of their times, to be cut out by time."""

    def __init__(self, found: Sequence[Found]) -> None:
        self._found = sorted(found, key=lambda one: one.at)
        self._times = [one.at for one in self._found]

    def between(self, begin: float, end: float) -> list[Found]:
        """Those in that time, both ends included."""
        return self._found[bisect.bisect_left(self._times, begin) : bisect.bisect_right(self._times, end)]


class Desk:
    """Where all that was heard about requests lies, sorted."""

    def __init__(self, heard: Heard, known: Setup) -> None:
        self._heard, self._known = heard, known
        self._own = {id(read): collect.own(read, known) for read in heard.reads}
        self._complaints = collect.complaints(heard)
        self._by_time = Times(self._complaints)
        self._whose = dict[int, Incident]()
        """Complaints and cuts that may be about several incidents -> the one that they are about."""
        self.unclear = 0
        """Answers of 502 of which no log says whose they were."""

    # --- Logs ---

    @property
    def fronts(self) -> list[Read]:
        """Access logs of fronts."""
        return [
            read for read in self._heard.reads if read.kind is not None and read.kind.access and not self._own[id(read)]
        ]

    def own_logs(self, service: str) -> list[Read]:
        """Access logs of a server's own."""
        return [read for read in self._heard.reads if service and self._own[id(read)] == service]

    @cached_property
    def blind(self) -> bool:
        """Whether there is no front's error log; one in which nothing stands is one."""
        if self._complaints or any(read.kind is kinds.NGINX for read in self._heard.reads):
            return False
        return not any(name in self._known.errors or "error" in name.rpartition("/")[2] for name in self._heard.empty)

    def _watched(self, at: float) -> bool:
        """Whether a front's logs have that time; an error log has long gaps."""
        errors = [read for read in self._heard.reads if read.kind is kinds.NGINX]
        near = any(read.covers(at, ERRORS_APART) for read in errors) or (not errors and not self.blind)
        return near or any(read.covers(at, LINES_APART) for read in self.fronts)

    # --- Incidents that only fronts have noticed ---

    def unexplained(self, told: Sequence[Incident]) -> Iterator[Incident]:
        """Bursts of complaints that are about none of these incidents."""
        taken = {id(found) for incident in told for found in self._of(incident)}
        places = {at for at, found in enumerate(self._complaints) if id(found) in taken}
        return events.bursts(self._complaints, places, self._known)

    def listed(self, told: Sequence[Incident]) -> list[Incident]:
        """Cuts of lastcall's list that are about none of these: its log is not here."""
        spans = collect.joined(_cut_reach(one) for one in told if one.service == servers.LASTCALL)
        found = list[Incident]()
        for cut in self._cuts.between(-1e18, 1e18):
            if collect.within(cut.at, cut.at, spans):
                continue
            if found and cut.at - found[-1].until <= events.BURST:
                found[-1].until = cut.until
            else:
                found.append(Incident(servers.LASTCALL, cut.at, cut.until, how="immediate", grain=cut.grain))
        return found

    def failures(self, told: Sequence[Incident]) -> list[Incident]:
        """Bursts of 502 in access logs that are about none of these, where no error log says what they were.

        An application may answer 502 by itself: only where no connection came about, a server must have been away.
        """
        if not self.blind:
            return []
        spans = collect.joined(events.reach(incident) for incident in told)
        alone = [
            found._replace(what=_as_complaint(found.what))
            for found in self._front.between(-1e18, 1e18)
            if isinstance(found.what, Access) and found.what.status == 502 and found.what.headed is not True
            and not collect.within(found.at, found.at, spans)
        ]  # fmt: skip
        self.unclear = sum(
            found.what.fault is not Fault.REFUSED for found in alone if isinstance(found.what, Complaint)
        )
        return list(events.bursts(alone, set(), self._known, resets=False))

    def _of(self, incident: Incident) -> list[Found]:
        """The complaints that are about an incident."""
        listed = self._by_time.between(*events.reach(incident))
        return [found for found in listed if isinstance(found.what, Complaint) and self._about(found.what, incident)]

    def _about(self, what: Complaint, incident: Incident) -> bool:
        service = self._known.service_at(what.upstream)
        return not service or not incident.service or incident.service in (service, servers.LASTCALL)

    def share(self, incidents: Sequence[Incident]) -> None:
        """Decide whose each complaint and each cut is: of incidents that are close, the nearest one's."""
        best = dict[int, float]()
        for incident in incidents:
            cuts = self._cuts.between(*_cut_reach(incident)) if incident.service == servers.LASTCALL else []
            for found in (*self._of(incident), *cuts):
                away = max(incident.at - found.at, found.at - incident.until, 0.0)
                if away < best.get(id(found), float("inf")):
                    best[id(found)], self._whose[id(found)] = away, incident

    # --- Requests ---

    @cached_property
    def _front(self) -> Times:
        return Times([found for read, found in self._heard.accesses if not self._own[id(read)]])

    @cached_property
    def _servers(self) -> dict[str, Times]:
        found = dict[str, list[Found]]()
        for read, one in self._heard.accesses:
            found.setdefault(self._own[id(read)], []).append(one)
        return {service: Times(listed) for service, listed in found.items()}

    @cached_property
    def _slow(self) -> Times:
        return Times([found for _, found in self._heard.told if isinstance(found.what, Slow)])

    @cached_property
    def _cuts(self) -> Times:
        return Times([found for _, found in self._heard.told if isinstance(found.what, CutOff)])

    def judge(self, incident: Incident) -> None:
        """Give an incident its requests."""
        begin, end = incident.at - BEFORE, incident.until + AFTER
        incident.dark = incident.service == servers.NGINX or not self._watched(incident.at)
        near = self._front.between(begin, end)
        hits = requests.pair([found for found in self._of(incident) if self._whose[id(found)] is incident], near)
        if self.blind:
            first, last = events.reach(incident)
            hits = requests.failed([found for found in near if first <= found.at <= last])
        theirs = self._servers.get(incident.service, Times(())).between(begin, end)
        requests.finished(hits, theirs, near)
        scene = requests.Scene(
            incident, lambda upstream: self._known.runs_at(upstream, incident.service), self._known.kept, near,
            deaths=_deaths(incident),
        )  # fmt: skip
        covered = any(read.covers(incident.at) for read in self.own_logs(incident.service))
        busy = requests.slow(hits, self._slow.between(begin, end))
        for hit, verdict in zip(hits, requests.judge(hits, scene), strict=True):
            said = f"{incident.service}'s own access log" if covered and requests.named(hit.uri) else ""
            made = requests.told(hit, verdict, covered=said)
            more = [*([busy[id(hit)]] if id(hit) in busy else ()), *_death(incident, hit)]
            made = replace(made, evidence=(*made.evidence, *more)) if more else made
            _add(incident, made)
        if incident.service == servers.LASTCALL:
            cuts = [found for found in self._cuts.between(*_cut_reach(incident)) if self._whose[id(found)] is incident]
            incident.dark = incident.dark and not cuts
            for found in cuts:
                _add(incident, requests.cut(found))
        for made in requests.late(scene):
            _add(incident, made)


def _cut_reach(incident: Incident) -> tuple[float, float]:
    """From when to when a cut may be this incident's: it is written down at once."""
    return incident.at - incident.grain, incident.until + incident.grain


def _as_complaint(what: Access) -> Complaint:
    fault = Fault.REFUSED if what.connected is False else Fault.RESET
    return Complaint(fault, what.client, what.method, what.uri, what.upstreams)


def _death(incident: Incident, hit: requests.Hit) -> list[Quote]:
    """The line about the worker that has taken this request along, as far as the time tells which."""
    if incident.how != "crash":
        return []
    dead = [m for m in incident.marks if isinstance(m.what, Happening) and m.what.did is Did.WORKER_DIED]
    nearest = min(dead, key=lambda mark: abs(mark.at - hit.at), default=None)
    return [nearest.quote] if nearest is not None and abs(nearest.at - hit.at) <= NEAREST else []


def _deaths(incident: Incident) -> int:
    """Workers that have died; a line without a pid is one of them."""
    dead = [m.what.pid for m in incident.marks if isinstance(m.what, Happening) and m.what.did is Did.WORKER_DIED]
    return len({pid for pid in dead if pid}) or min(len(dead), 1)


def _add(incident: Incident, made: Request) -> None:
    if len(incident.requests) < requests.KEPT_MAX:
        incident.requests.append(made)
    else:
        incident.more[made.kind] = incident.more.get(made.kind, 0) + 1
