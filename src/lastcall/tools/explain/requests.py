"""Which requests an incident has hit, and what has become of each: half-done, never begun, answered late, tried again.

Pure. The evidence is the front's: its complaint, and the line of its access log that belongs to it. Two requests are reset,
and one was running while the other still waited to be taken: what tells them apart is the order. Whoever came first was
taken first, and a server takes no more than it has workers. Where not even the order is known, the confidence says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lastcall.tools.explain.order import Sign, order
from lastcall.tools.explain.records import (
    BEGUN,
    NOT_BEGUN,
    Access,
    Class,
    Complaint,
    CutOff,
    Fault,
    Found,
    Incident,
    Quote,
    Request,
    Slow,
)

BRIEF: Final = 0.005
"""Seconds. Who had been waiting for less than that may not have been taken yet."""
LATE_LEAST: Final = 0.2
"""Seconds that a request must have taken longer than others to be called late."""
USUAL_LEAST: Final = 10
"""Requests before the incident from which on it is known how long they take."""
KEPT_MAX: Final = 20_000
"""Requests of one incident that are listed; more are counted."""


@dataclass
class Hit:
    """A request that something has happened to, from all that is known of it."""

    complaint: Found | None
    access: Found | None
    own: Found | None = None
    """The server's own line about it."""
    order: int = 0
    """Its place among those that were complained of."""

    @property
    def said(self) -> Complaint | None:
        """What the front has complained of."""
        what = self.complaint.what if self.complaint is not None else None
        return what if isinstance(what, Complaint) else None

    @property
    def fault(self) -> Fault | None:
        return self.said.fault if self.said is not None else None

    @property
    def line(self) -> Access | None:
        found = self.access.what if self.access is not None else None
        return found if isinstance(found, Access) else None

    @property
    def client(self) -> str:
        source = self.said or self.line
        return source.client if source is not None else ""

    @property
    def method(self) -> str:
        source = self.said or self.line
        return source.method if source is not None else ""

    @property
    def uri(self) -> str:
        source = self.said or self.line
        return source.uri if source is not None else ""

    @property
    def connection(self) -> str:
        """The front's number of the client's connection."""
        return self.said.connection if self.said is not None else ""

    @property
    def upstream(self) -> str:
        """The server's address, as the front writes it."""
        if self.said is not None:
            return self.said.upstream
        return self.line.upstreams if self.line is not None else ""

    @property
    def at(self) -> float:
        """When it ended."""
        return self._best.at

    @property
    def grain(self) -> float:
        return self._best.grain

    @property
    def _best(self) -> Found:
        found = self.complaint or self.access
        assert found is not None
        if self.access is not None and self.access.grain < found.grain:
            return self.access
        return found

    @property
    def elapsed(self) -> float | None:
        """Seconds that it had been waiting for the server, or as near to that as is known."""
        line = self.line
        if line is None:
            return None
        return line.upstream if line.upstream is not None else line.took

    @property
    def began(self) -> float | None:
        line = self.line
        return self.at - line.took if line is not None and line.took is not None else None


# --- Which line belongs to which complaint -----------------------------------


def pair(complaints: Sequence[Found], accesses: Sequence[Found]) -> list[Hit]:
    """Each complaint with its access line, where there is one: same client, same request, same time."""
    lines = dict[tuple[str, str, str], list[Found]]()
    for found in accesses:
        if isinstance(found.what, Access):
            lines.setdefault((found.what.client, found.what.method, found.what.uri), []).append(found)
    used, hits = set[int](), list[Hit]()
    for place, complaint in enumerate(complaints):
        what = complaint.what
        assert isinstance(what, Complaint)
        listed = lines.get((what.client, what.method, what.uri), ())
        fitting = [found for found in listed if id(found) not in used and _fits(complaint, what, found)]
        if not fitting:
            hits.append(Hit(complaint, None, order=place))
            continue
        best = min(fitting, key=lambda found: _distance(complaint, what, found))
        # a request that was tried at several servers is complained of several times
        if not (isinstance(best.what, Access) and best.what.tried > 1):
            used.add(id(best))
        hits.append(Hit(complaint, best, order=place))
    return hits


def _fits(complaint: Found, what: Complaint, found: Found) -> bool:
    line = found.what
    assert isinstance(line, Access)
    if what.connection and line.connection and what.connection != line.connection:
        return False
    if line.status < 500 and line.tried == 1:
        return False
    # it is written when the answer has gone out, which may be a while after a try that failed
    latest = complaint.until + 1.0 if line.status >= 500 or line.took is None else complaint.until + line.took + 1.0
    return complaint.at - 1.0 <= found.at <= latest


def _distance(complaint: Found, what: Complaint, found: Found) -> tuple[bool, bool, float]:
    line = found.what
    assert isinstance(line, Access)
    refused = what.fault in NOT_BEGUN
    contrary = line.connected is not None and line.connected is refused
    return line.status < 500, contrary, abs(found.at - complaint.at)


def failed(accesses: Iterable[Found]) -> list[Hit]:
    """Access lines that say by themselves that no server has answered, where there is no error log to say it."""
    return [
        Hit(None, found, order=at)
        for at, found in enumerate(accesses)
        if isinstance(found.what, Access) and found.what.status in (502, 504) and found.what.headed is not True
    ]


# --- Judgement ---------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What has become of a request, how sure that is, and why."""

    kind: Class
    confidence: float
    why: str


@dataclass
class Scene:
    """What a judgement needs to know besides the request."""

    incident: Incident
    capacity: Callable[[str], int | None]
    """By the upstream's address: requests that are run there at a time, at most; None: nobody knows."""
    kept: bool
    """The front keeps its connections to the server."""
    answered: Sequence[Found]
    """Access lines of the front, near the incident."""
    deaths: int = 0
    """Workers that have died, in a crash."""

    @property
    def listener_lives(self) -> bool:
        """Whether whoever waits to be taken is taken later, by the next workers."""
        return self.incident.how == "reload" or (self.incident.how == "crash" and not self.incident.whole)

    @property
    def exhausted(self) -> bool:
        """Whether a grace was over before everybody had finished."""
        incident = self.incident
        if incident.how in ("immediate", "crash"):
            return True
        if incident.grace is None:
            return False  # nothing bounds it
        end = incident.gone.until if incident.gone is not None else incident.until
        return end - incident.at >= incident.grace - 0.5


def judge(hits: Sequence[Hit], scene: Scene) -> list[Verdict]:
    """A verdict for each, in their order."""
    verdicts = dict[int, Verdict]()
    reset = list[Hit]()
    for hit in hits:
        simple = _simple(hit)
        if simple is not None:
            verdicts[id(hit)] = simple
        else:
            reset.append(hit)
    for hit, verdict in zip(reset, _resets(reset, scene), strict=True):
        verdicts[id(hit)] = verdict
    return [_retried(hit, verdicts[id(hit)]) for hit in hits]


def _simple(hit: Hit) -> Verdict | None:
    """What needs no comparison with others."""
    line, fault = hit.line, hit.fault
    if hit.own is not None and fault in BEGUN:
        return Verdict(
            Class.UNTOLD, 0.9, "the server's own log has its line: it was finished, and its client was not told"
        )
    if fault is Fault.BROKEN:
        return Verdict(
            Class.HALF_DONE, 0.6, "its answer broke off: it was running, and may have been done but for the answer"
        )
    if fault in NOT_BEGUN:
        assert fault is not None
        return Verdict(Class.NEVER_BEGUN, 0.99, f"{fault.value}: nobody has had the request")
    if fault is Fault.LATE or (fault is None and line is not None and line.status == 504):
        return Verdict(
            Class.NEVER_BEGUN, 0.5, "no answer came in time: it may have waited in the queue, or been running"
        )
    if fault is None and line is not None and line.connected is False:
        return Verdict(Class.NEVER_BEGUN, 0.95, "no connection to the server came about")
    return None


def _retried(hit: Hit, verdict: Verdict) -> Verdict:
    line = hit.line
    if line is None or line.status >= 500 or hit.complaint is None:
        return verdict
    if verdict.kind is Class.NEVER_BEGUN:
        return Verdict(
            Class.RETRIED, verdict.confidence, f"{verdict.why}; another server was asked, and answered {line.status}"
        )
    if verdict.kind is Class.HALF_DONE:
        why = (
            f"{verdict.why}; then another server was asked, and answered {line.status}: what it does may be done twice"
        )
        return Verdict(Class.RETRIED, verdict.confidence, why)
    return verdict


def _resets(reset: list[Hit], scene: Scene) -> list[Verdict]:
    """Who was running, and who still waited, of those whose connection came about and broke."""
    incident = scene.incident
    if incident.how == "crash" and not incident.whole:
        return _crashed(reset, scene)
    if scene.listener_lives:
        return [_reloaded(hit, scene) for hit in reset]
    if not scene.exhausted:
        span = incident.gone.at - incident.at if incident.gone is not None else incident.until - incident.at
        bound = f" ({span:.0f} s of {incident.grace:g} s were used)" if incident.grace is not None else ""
        why = (
            f"whoever was running had time to finish{bound}; this one had been let in by the kernel, waited to be taken, "
            "and was reset when the server closed"
        )
        return [Verdict(Class.NEVER_BEGUN, 0.98 if bound else 0.8, why) for _ in reset]
    return _ranked(reset, scene)


def _crashed(reset: Sequence[Hit], scene: Scene) -> list[Verdict]:
    """A worker that dies takes along the one request that it runs."""
    deaths = scene.deaths or len(reset)
    sure = 0.98 if len(reset) <= deaths else max(0.3, deaths / len(reset))
    why = "its connection broke when a worker died"
    if len(reset) > deaths:
        why += f"; {len(reset)} broke, and {deaths} workers died"
    return [Verdict(Class.HALF_DONE, sure, why) for _ in reset]


def _reloaded(hit: Hit, scene: Scene) -> Verdict:
    """The listener lives on, so that nobody is reset who only waited to be taken."""
    incident, elapsed = scene.incident, hit.elapsed
    if incident.grace:
        # workers had time to finish; TERM came when it was over
        outlived = elapsed is None or elapsed >= incident.grace - 1.0
        if scene.exhausted and outlived and hit.at >= incident.at + incident.grace - 1.0:
            return Verdict(
                Class.HALF_DONE, 0.9, f"it ran for longer than the {incident.grace:g} s that it was given to finish"
            )
        if scene.kept:
            return Verdict(
                Class.NEVER_BEGUN, 0.8, "the server closed a kept connection while the request was on its way to it"
            )
        return Verdict(Class.HALF_DONE, 0.6, "its connection broke, though everybody was to finish")
    if scene.kept and elapsed is not None and elapsed < BRIEF:
        return Verdict(
            Class.NEVER_BEGUN, 0.6, "the server closed a kept connection while the request was on its way to it"
        )
    return Verdict(
        Class.HALF_DONE, 0.98,
        "it was running: the server kept its listener and whoever waited at it, and only killed those at work",
    )  # fmt: skip


# --- Who came first ----------------------------------------------------------


def _ranked(reset: list[Hit], scene: Scene) -> list[Verdict]:
    """By the order in which they came, or were reset: the first ones were running, as many as there are workers."""
    verdicts = dict[int, Verdict]()
    for upstream in dict.fromkeys(hit.upstream for hit in reset):
        there = [hit for hit in reset if hit.upstream == upstream]
        verdicts |= zip(map(id, there), _ranked_at(there, scene.capacity(upstream), scene), strict=True)
    return [verdicts[id(hit)] for hit in reset]


def _ranked_at(reset: list[Hit], capacity: int | None, scene: Scene) -> list[Verdict]:
    """The same, of those who came to one listener."""
    timed = all(hit.elapsed is not None for hit in reset)
    running, counted = (None, True) if capacity is None else _running(reset, capacity, scene)
    broken = sorted(reset, key=lambda hit: hit.order)
    signs = [Sign(hit.elapsed, hit.connection, later=hit.fault is not Fault.CLOSED) for hit in broken]
    came = order(signs, running or 0)
    place = {id(broken[at]): place for place, at in enumerate(came.places)}
    torn = {id(broken[at]) for at in came.torn}
    width = 0.05 if came.agreed else 0.25
    if not counted:
        width = max(2.5 * width, 0.6)
    return [
        _torn(hit, running) if id(hit) in torn
        else _by_place(hit, place[id(hit)], len(reset), running, timed=timed, width=width)
        for hit in reset
    ]  # fmt: skip


def _torn(hit: Hit, running: int | None) -> Verdict:
    """By its time it was running and by the order of the errors it was not, or the other way round: better to check it."""
    why = (
        f"it was reset {hit.elapsed or 0.0:.2f} s after it had been sent; the server was running {running}: whether "
        "this one was among them, its time and the order of the errors do not agree"
    )
    return Verdict(Class.HALF_DONE, 0.5, why)


_STATIC: Final = re.compile(
    r"\.(?:css|js|mjs|map|png|jpe?g|gif|svg|webp|avif|ico|woff2?|ttf|eot|mp[34]|webm|pdf|txt|xml)(?:\?|$)",
    re.IGNORECASE,
)


def _running(reset: Sequence[Hit], capacity: int, scene: Scene) -> tuple[int, bool]:
    """How many were running when it was over, and whether that is counted; else it is an estimate.

    As many as there are workers were running when the order to stop came, without those that were answered since. Of those
    that were answered in the second of the order, half were answered before it. But whoever had begun before another that
    was answered had been taken before it, and is one of those who were running.
    """
    incident = scene.incident
    if incident.how in ("immediate", "crash"):
        return capacity, incident.how == "immediate"
    answered = list(_answered(scene))
    since = sum(found.at >= incident.at + incident.grain for found, _ in answered)
    around = sum(
        found.at < incident.at + incident.grain and found.until > incident.at + incident.grain / 2
        for found, _ in answered
    )
    took = [(found.at, line.upstream if line.upstream is not None else line.took) for found, line in answered]
    last = max((at - seconds for at, seconds in took if seconds is not None), default=float("-inf"))
    taken = sum(hit.elapsed is not None and hit.at + hit.grain - hit.elapsed < last for hit in reset)
    most = max(capacity - since, 0)
    return min(max(most - around // 2, taken), most), around == 0 or taken >= most


def _answered(scene: Scene) -> Iterator[tuple[Found, Access]]:
    """What the server has answered until it was gone."""
    incident = scene.incident
    end = incident.gone.until if incident.gone is not None else incident.until
    lines = [(found, found.what) for found in scene.answered if isinstance(found.what, Access)]
    known = any(line.upstream is not None for _, line in lines)
    for found, line in lines:
        if line.status >= 500 or line.status == 499 or found.until > end:
            continue
        if line.upstream is None if known else _STATIC.search(line.uri):
            continue  # the front has answered it by itself
        yield found, line


def _by_place(hit: Hit, place: int, many: int, running: int | None, *, timed: bool, width: float) -> Verdict:
    elapsed = hit.elapsed
    waited = f" {elapsed:.2f} s after it had been sent" if elapsed is not None else ""
    if hit.fault is Fault.CLOSED:
        return Verdict(
            Class.HALF_DONE, 0.97, f"the server closed the connection{waited}, with the request read: it was running"
        )
    if running is None:
        sure = 0.8 if timed and elapsed is not None and elapsed >= BRIEF else 0.65
        return Verdict(
            Class.HALF_DONE, sure, f"it was reset{waited}; how many requests the server ran at a time is not known"
        )
    distance = place - running
    reset = f"it was reset{waited}" + (
        f", number {place + 1} of {many} by the time that it came" if timed else f", as number {place + 1} of {many}"
    )
    if distance < 0 and many <= running:
        brief = elapsed is not None and elapsed < BRIEF
        why = f"it was reset{waited}, and there was a worker for each of the {many} that were"
        return Verdict(Class.HALF_DONE, 0.6 if brief else 0.98, why)
    if distance < 0:
        return Verdict(
            Class.HALF_DONE,
            _sure(-distance - 0.5, width),
            f"{reset}; the server was running {running}",
        )
    sure = _sure(distance + 0.5, width)
    return Verdict(
        Class.NEVER_BEGUN, sure, f"{reset}; the server was running {running}, so that it still waited to be taken"
    )


def _sure(distance: float, width: float) -> float:
    """The further from the border, the surer; `width` is the distance at which a quarter of the doubt is left."""
    return round(min(0.98, 0.5 + 0.5 * distance / (distance + width)), 2)


# --- What is told of a request -----------------------------------------------


def told(hit: Hit, verdict: Verdict, *, covered: str = "") -> Request:
    """A request for the report."""
    line = hit.line
    quotes = [found.quote for found in (hit.complaint, hit.access, hit.own) if found is not None]
    why = verdict.why
    if covered and verdict.kind is Class.HALF_DONE and hit.own is None:
        why += f"; {covered} has no line of it"
    return Request(
        verdict.kind, verdict.confidence, why, hit.at, hit.began, hit.method, hit.uri, hit.client,
        line.status if line else None, line.id if line else "", line.ids if line else (), tuple(quotes),
    )  # fmt: skip


def cut(found: Found) -> Request:
    """A request of lastcall's cut list: nothing about it is a guess."""
    what = found.what
    assert isinstance(what, CutOff)
    kind = Class.RETRIED if what.answered else Class.HALF_DONE
    return Request(
        kind, 1.0, f"it is in the cut list: {what.said}", found.at, what.began, what.method, what.uri, what.client, None,
        what.id, (what.id,), (found.quote,),
    )  # fmt: skip


def late(scene: Scene) -> list[Request]:
    """Requests that were answered, and had waited for the next workers: where the listener lives on, nobody else waits."""
    incident = scene.incident
    if incident.how != "reload":
        return []
    lines = [(found, found.what) for found in scene.answered if isinstance(found.what, Access)]
    before = (line.took for found, line in lines if line.status < 500 and found.until < incident.at)
    usual = sorted(took for took in before if took is not None)
    if len(usual) < USUAL_LEAST:
        return []  # nobody knows what is usual
    most = usual[min(int(len(usual) * 0.99), len(usual) - 1)]
    made = list[Request]()
    for found, line in lines:
        if line.took is None or line.status >= 500 or line.status == 499 or line.took <= most + LATE_LEAST:
            continue
        began = found.at - line.took
        if began <= incident.until and found.at >= max(incident.at, incident.until - incident.grain):
            why = f"it took {line.took:.2f} s; 99 of a hundred took {most:.2f} s at most before"
            made.append(Request(
                Class.ANSWERED_LATE, 0.8, why, found.at, began, line.method, line.uri, line.client, line.status, line.id,
                line.ids, (found.quote,),
            ))  # fmt: skip
    return made


# --- Other lines about the same request --------------------------------------


def finished(hits: Sequence[Hit], own: Sequence[Found], front: Sequence[Found]) -> None:
    """Give each hit the line that the server itself has written about it, where its address names it.

    A client may have asked again, with the same address: as many lines as the front has answered are about those.
    """
    lines, answered = dict[tuple[str, str], list[Found]](), dict[tuple[str, str], int]()
    for found in own:
        if isinstance(found.what, Access) and found.what.status < 500:
            lines.setdefault((found.what.method, _name(found.what.uri)), []).append(found)
    for found in front:
        if isinstance(found.what, Access) and found.what.status < 500:
            key = (found.what.method, _name(found.what.uri))
            answered[key] = answered.get(key, 0) + 1
    for hit in hits:
        key = (hit.method, _name(hit.uri))
        fitting = [found for found in lines.get(key, ()) if _about(found, hit)]
        if named(hit.uri) and len(fitting) > answered.get(key, 0):
            hit.own = fitting[0]


def named(uri: str) -> bool:
    """Whether an address is one request's own, so that another log would show which it is."""
    return bool(re.search(r"\?.|/\d", uri))


def _name(uri: str) -> str:
    """What names a request in another log as well: php-fpm may write its script in place of the path."""
    return uri[uri.index("?") :] if "?" in uri else uri


def _about(found: Found, hit: Hit) -> bool:
    """Whether the times allow a server's own line to be about a request."""
    what = found.what
    assert isinstance(what, Access)
    if what.began:
        return found.at <= hit.at + hit.grain and (hit.began is None or abs(found.at - hit.began) <= 1.0 + found.grain)
    return abs(found.at - hit.at) <= 1.0 + found.grain


def slow(hits: Sequence[Hit], told: Sequence[Found]) -> dict[int, Quote]:
    """Hits of which php-fpm had said before that a worker was busy with them, and where it said so."""
    said = dict[tuple[str, str], Found]()
    for one in told:
        if isinstance(one.what, Slow) and named(one.what.uri):
            said[(one.what.method, _name(one.what.uri))] = one
    found = dict[int, Quote]()
    for hit in hits:
        busy = said.get((hit.method, _name(hit.uri)))
        if busy is not None and busy.at <= hit.at + hit.grain:
            found[id(hit)] = busy.quote
    return found
