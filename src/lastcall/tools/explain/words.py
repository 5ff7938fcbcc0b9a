"""Sentences: what has happened, and the steps of it for a timeline. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lastcall.tools.explain.clock import Zone
from lastcall.tools.explain.records import Class, Did, Event, Found, Happening, Incident, Quote
from lastcall.tools.readers.servers import LASTCALL

_CAUSES: Final = {
    "oom": "the kernel killed {workers} of it for want of memory",
    "segfault": "{workers} of it crashed on memory that is not theirs",
    "kill": "{workers} of it was killed with SIGKILL",
    "timeout": "{workers} of it had run for too long and was killed by its own master",
}
CLASSES: Final = {
    Class.HALF_DONE: "likely half-done", Class.NEVER_BEGUN: "never begun", Class.ANSWERED_LATE: "answered late",
    Class.RETRIED: "tried again elsewhere", Class.UNTOLD: "finished, and the client not told",
}  # fmt: skip


def describe(incident: Incident, zone: Zone) -> None:
    """Give the incident its sentence and its timeline."""
    incident.effect = _effect(incident)
    incident.said = _said(incident, zone)
    # of what is only known to the second, nobody knows whether it was before what is known exactly: the turn decides
    told = sorted(_events(incident), key=lambda pair: (pair[1].at // 1, pair[0], pair[1].at, pair[1].quote))
    incident.events = [event for _, event in told]


def clock(at: float, zone: Zone, *, grain: float = 1.0) -> str:
    """`05:28:01`, with thousandths where they are known."""
    local = zone.local(at)
    return local.strftime("%H:%M:%S") + (f".{local.microsecond // 1000:03}" if grain < 1 else "")


def date(at: float, zone: Zone) -> str:
    """`Sunday 25 June 2017`."""
    local = zone.local(at)
    return f"{local.strftime('%A')} {local.day} {local.strftime('%B %Y')}"


def _effect(incident: Incident) -> str:
    if incident.how == "crash":
        return "takes along the request that each dead worker was running"
    if incident.how == "immediate":
        if incident.cause == "QUIT" and incident.service == "php-fpm":
            return "cuts every request that is running: without process_control_timeout, TERM follows QUIT at once"
        return "cuts every request that is running"
    if incident.how == "reload":
        if incident.service == "php-fpm" and not incident.grace:
            return (
                "cuts every request that is running: without process_control_timeout, TERM follows at once; "
                "whoever waits is kept"
            )
        return (
            "lets what runs finish"
            + (f", for {incident.grace:g} s at most" if incident.grace else "")
            + ", and keeps whoever waits"
        )
    grace = f", for {incident.grace:g} s at most" if incident.grace else ""
    return f"lets what runs finish{grace}, and resets whoever waits to be taken"


def _said(incident: Incident, zone: Zone) -> str:
    name = incident.service or "a server behind the front"
    when = f"on {date(incident.at, zone)} at {clock(incident.at, zone, grain=incident.grain)}"
    away = incident.until - incident.at
    if incident.how == "crash":
        many = len(
            {m.what.pid for m in incident.marks if isinstance(m.what, Happening) and m.what.did is Did.WORKER_DIED}
        )
        workers = "a worker" if many <= 1 else f"{many} workers"
        if not many and _did(incident.marks[0]) is Did.STARTING:
            return f"{name} had ended without a word, as after SIGKILL or a power cut, and started again {when}"
        if not many:
            return f"{name} was killed as a whole ({_signal(incident.cause)}) {when}"
        said = _CAUSES.get(incident.cause, "{workers} of it died of " + _signal(incident.cause)).format(workers=workers)
        return f"{name}: {said.replace('was', 'were') if many > 1 else said}, {when}"
    if incident.service == LASTCALL and not incident.marks:
        return f"{name} has cut requests {when}, and its cut list says why"
    if not incident.cause and not incident.marks:
        return f"{name} was away {when}, and no log says why: only the front noticed"
    verb = "told to reload" if incident.how == "reload" else "stopped"
    by = f" with {_signal(incident.cause)}" if incident.cause else ""
    back = f", and was back {_seconds(away)}" if incident.back else ", and nothing says that it came back"
    return f"{name} was {verb}{by}, which {incident.effect}, {when}{back}"


def _signal(cause: str) -> str:
    if cause.isupper():
        return f"SIG{cause}"
    return {"systemd": "a signal that systemd chose", "supervisor": "a signal that supervisor chose"}.get(
        cause, cause or "something"
    )


def _seconds(span: float) -> str:
    return "within a second" if span <= 1.5 else f"{span:.0f} s later"


def counts(incident: Incident) -> str:
    """`3 likely half-done, 5 never begun`."""
    told = [f"{many} {CLASSES[kind]}" for kind in Class if (many := incident.count(kind))]
    return ", ".join(told) or "no request was hit"


_TURN: Final = {
    Did.TOLD: 2,
    Did.RELOADING: 2,
    Did.VANISHED: 2,
    Did.WORKER_DIED: 3,
    Did.GONE: 5,
    Did.STARTING: 6,
    Did.READY: 7,
}
_REQUESTS: Final = 4
"""What comes first within one second: who orders it, what the server is told, whom it hits, what the server does."""


def _events(incident: Incident) -> list[tuple[int, Event]]:
    """Each with its turn among those of the same second."""
    found = [
        (_turn(mark), Event(mark.at, _source(mark), f"{_source(mark)} {_happened(mark)}".strip(), mark.quote))
        for mark in _told_once(incident.marks)
    ]
    order = incident.ordered_by
    if order is not None and order.kind != "kernel" and order.seen is not None:
        who = f" ({order.user})" if order.user else ""
        found.append((0, Event(order.seen_at, order.kind, f"{order.kind}{who}: {order.what}", order.seen)))
    for kind in Class:
        listed = [request for request in incident.requests if request.kind is kind]
        for begin, many, quote in _groups([(r.at, r.evidence[0] if r.evidence else None) for r in listed]):
            if quote is not None:
                said = f"{many} request{'s' if many > 1 else ''} {CLASSES[kind]}"
                found.append((_REQUESTS, Event(begin, "requests", said, quote)))
    return found


def _turn(mark: Found) -> int:
    did = _did(mark)
    return _TURN.get(did, 1) if did is not None else 1


def _did(mark: Found) -> Did | None:
    return mark.what.did if isinstance(mark.what, Happening) else None


def _told_once(marks: Iterable[Found]) -> list[Found]:
    """Without what another line has said within a second: syslog writes the same into several files."""
    kept, last = list[Found](), dict[str, float]()
    for mark in marks:
        said = _happened(mark)
        if mark.at - last.get(said, -1e18) >= 1.0:
            kept.append(mark)
            last[said] = mark.at
    return kept


def _groups(listed: list[tuple[float, Quote | None]]) -> list[tuple[float, int, Quote | None]]:
    """Requests of the same second in one."""
    found = list[tuple[float, int, Quote | None]]()
    for at, quote in sorted(listed, key=lambda pair: pair[0]):
        if found and at - found[-1][0] < 1.0:
            found[-1] = (found[-1][0], found[-1][1] + 1, found[-1][2])
        else:
            found.append((at, 1, quote))
    return found


def _source(found: Found) -> str:
    return found.what.service if isinstance(found.what, Happening) else ""


def _happened(found: Found) -> str:
    what = found.what
    assert isinstance(what, Happening)
    if what.did is Did.WORKER_DIED:
        return f"worker {what.pid or '?'} died: {_signal(what.cause)}"
    if what.did in (Did.TOLD, Did.RELOADING) and what.cause:
        if what.cause.startswith("worker "):
            return f"sends SIG{what.cause.removeprefix('worker ')} to worker {what.pid}"
        return f"{what.did.value} ({_signal(what.cause)})"
    said: str = what.did.value
    return said
