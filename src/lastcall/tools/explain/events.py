"""What servers say about themselves -> the restarts and deaths that there were. Pure.

A restart is told by several: the server's own log, systemd, supervisor. Their stories are put together where they are about
the same server at the same time. What nobody tells shows in the fronts' complaints: a burst of them is an incident as well.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Final

from lastcall.tools.doctor.runs import GRACES
from lastcall.tools.explain.collect import Heard
from lastcall.tools.explain.records import BEGUN, Complaint, Did, Fault, Found, Happening, Incident
from lastcall.tools.explain.setup import Setup, base
from lastcall.tools.readers import servers
from lastcall.tools.readers.servers import Effect, effect

TOGETHER: Final = 15.0
"""Seconds within which two logs tell of the same restart."""
STOP_MAX: Final = 900.0
"""Seconds after which whatever comes next does not belong to a stop any more: systemd kills after 90 by default."""
DEATHS: Final = 30.0
"""Seconds between two workers' deaths that have one reason."""
BURST: Final = 5.0
"""Seconds between two complaints of one burst."""
BURST_LEAST: Final = 3
"""Connections that were reset in one burst, from which on a server must have restarted; one refusal is enough."""
STARTED: Final = 60.0
"""Seconds after which somebody has started again what was killed, and nobody could ask for it meanwhile."""
AFTER: Final = 3.0
"""Seconds for which complaints go on after a server is ready, by clocks that count whole seconds."""

_RANK: Final = (
    "", "systemd", "supervisor", "exit", "kill", "KILL", "TERM", "INT", "QUIT", "HUP", "USR2", "emergency", "timeout",
    "ABRT", "BUS", "SEGV", "segfault", "oom",
)  # fmt: skip
"""Causes: the later ones say more."""


def incidents(heard: Heard, setup: Setup) -> list[Incident]:
    """All restarts and deaths that a log tells of, in the order of their times."""
    streams = dict[tuple[str, str], list[Found]]()
    for _, found in heard.told:
        if isinstance(found.what, Happening) and found.what.did is not Did.REOPENED:
            streams.setdefault((found.what.service, base(found.quote.file)), []).append(found)
    listed = [incident for marks in streams.values() for incident in _of_stream(marks)]
    return [_judged(incident, setup) for incident in _merged(listed)]


# --- One log -----------------------------------------------------------------


def _of_stream(marks: Sequence[Found]) -> Iterator[Incident]:
    """The restarts that one log tells of."""
    now: Incident | None = None
    up = False
    for mark in marks:
        what = mark.what
        assert isinstance(what, Happening)
        if now is not None and not _belongs(now, mark, what):
            yield now
            now = None
        if now is None and what.cause.startswith("worker "):
            continue  # one of its own workers, which were too many
        match what.did:
            case Did.TOLD | Did.RELOADING | Did.VANISHED | Did.WORKER_DIED:
                now = now or Incident(what.service, mark.at, mark.until, instance=mark.quote.file, grain=mark.grain)
                _told(now, mark, what)
            case Did.GONE:
                now = now or Incident(what.service, mark.at, mark.until, instance=mark.quote.file, grain=mark.grain)
                now.gone = mark
                now.cause = _better(now.cause, what.cause)
                up = False
            case Did.STARTING if now is None and up:
                # it starts, and has not said that it ended
                now = Incident(
                    what.service, mark.at, mark.until, "KILL", "crash", instance=mark.quote.file, grain=mark.grain
                )
            case Did.READY:
                up = True
                if now is not None and not now.back and (now.how != "crash" or _did(now.marks[-1]) is Did.STARTING):
                    now.until, now.back = mark.until, True
            case _:
                pass
        if now is not None:
            now.marks.append(mark)
            now.until = now.until if now.back else max(now.until, mark.until)
    if now is not None:
        yield now


def unannounced(marks: Sequence[Found]) -> list[float]:
    """When a server started of which its log has not told that it had ended."""
    return [incident.at for incident in _of_stream(marks) if incident.whole]


def _belongs(now: Incident, mark: Found, what: Happening) -> bool:
    """Whether a line goes on telling what is being told."""
    last = now.marks[-1].until
    if now.back:
        return what.did is Did.READY and mark.at - now.until <= AFTER
    if what.did is Did.WORKER_DIED:
        return mark.at - last <= (DEATHS if now.how == "crash" else STOP_MAX)
    if now.how == "crash" and all(_did(found) is Did.WORKER_DIED for found in now.marks):
        # a worker has died; what the master says of itself later is another story
        return False
    if (
        what.did in (Did.TOLD, Did.RELOADING)
        and _did(now.marks[-1]) in (Did.GONE, Did.STARTING)
        and now.gone is not None
    ):
        return mark.at - now.at <= TOGETHER
    return mark.at - last <= STOP_MAX


def _did(found: Found) -> Did | None:
    return found.what.did if isinstance(found.what, Happening) else None


def _told(now: Incident, mark: Found, what: Happening) -> None:
    if what.cause.startswith("worker "):
        return
    now.cause = _better(now.cause, what.cause)
    if what.sender:
        now.sender = (what.sender, mark.quote)
    if what.did is Did.RELOADING and not now.how:
        now.how = "reload"
    if what.did in (Did.VANISHED, Did.WORKER_DIED) and not now.how:
        now.how = "crash"
    if what.did is Did.TOLD and now.how in ("", "reload"):
        now.how = "stop"


def _better(one: str, other: str) -> str:
    rank = {cause: at for at, cause in enumerate(_RANK)}
    return one if rank.get(one, 3) >= rank.get(other, 3) else other


# --- Several logs ------------------------------------------------------------


def _merged(listed: Iterable[Incident]) -> list[Incident]:
    """Those that are about the same restart made one: the log that says more, and is more exact, leads."""
    kept = list[Incident]()
    for incident in sorted(listed, key=lambda found: found.at):
        same = next((found for found in _recent(kept, incident.at) if _same(found, incident)), None)
        if same is None:
            kept.append(incident)
        else:
            _merge(same, incident)
    return kept


def _recent(kept: Sequence[Incident], at: float) -> Iterator[Incident]:
    """Those that may not have ended at that time, the latest first."""
    return takewhile(lambda found: found.at >= at - STOP_MAX, reversed(kept))


def _same(one: Incident, other: Incident) -> bool:
    if one.service != other.service or base(one.instance) == base(other.instance):
        return False  # a log that tells of two means two
    crash = (one.how == "crash") == (other.how == "crash")
    return other.at <= (one.until if crash else one.at) + TOGETHER and (crash or abs(other.at - one.at) <= TOGETHER)


def _merge(into: Incident, more: Incident) -> None:
    into.marks = sorted([*into.marks, *more.marks], key=lambda found: found.at)
    into.cause = _better(into.cause, more.cause)
    if into.how == "crash" and more.how in ("stop", "reload"):
        into.how = more.how
    into.gone = into.gone or more.gone
    into.sender = into.sender or more.sender
    if more.grain < into.grain and abs(more.at - into.at) <= TOGETHER:
        # the exact one was written within the other's second, or a little after what it tells of
        into.at = max(into.at, min(more.at, into.at + into.grain))
        into.grain = more.grain
    into.back = into.back or more.back
    into.until = max(into.until, more.until)


def _judged(incident: Incident, setup: Setup) -> Incident:
    """What the signal did to requests that were running: cut them, or let them finish, and for how long."""
    grace = setup.grace.get(incident.service)
    incident.grace = grace[0] if grace is not None else GRACES.get(incident.service, ("", None))[1]
    if incident.how == "crash":
        if incident.cause in ("KILL", "SEGV"):
            incident.cause = {"KILL": "kill", "SEGV": "segfault"}[incident.cause]
        return incident
    done = effect(incident.service, incident.cause)
    if incident.how == "reload" or done is Effect.RELOAD:
        incident.how = "reload"
    elif done is Effect.DRAIN:
        incident.how = "graceful"
        if incident.service == servers.PHP_FPM and not incident.grace:
            # its default is 0, and then TERM follows QUIT at once
            incident.how, incident.grace = "immediate", 0.0
    elif done is Effect.CUT:
        incident.how = "immediate"
        incident.grace = 0.0
    else:
        incident.how = "immediate" if _at_once(incident) else "graceful"
    return incident


def _at_once(incident: Incident) -> bool:
    """Where nobody knows the signal: a server that was gone in the same second has waited for nobody."""
    return incident.gone is not None and incident.gone.at - incident.at < 1.0


# --- Bursts of complaints that no restart explains ---------------------------


def bursts(found: Sequence[Found], taken: set[int], setup: Setup, *, resets: bool = True) -> Iterator[Incident]:
    """Restarts that only the fronts have noticed: complaints, by their place in the list, that are nobody's yet.

    `resets`: several of them at once are one; else only refusals are.
    """
    left = dict[str, list[Found]]()
    for at, one in enumerate(found):
        what = one.what
        if at in taken or not isinstance(what, Complaint) or what.fault in (Fault.LATE, Fault.FULL, Fault.BROKEN):
            continue
        left.setdefault(setup.service_at(what.upstream) or "?", []).append(one)
    for service, listed in left.items():
        begun = list[Found]()
        for one in listed:
            if begun and one.at - begun[-1].at > BURST:
                if _tells(begun, resets=resets):
                    yield _burst(service, begun)
                begun = []
            begun.append(one)
        if _tells(begun, resets=resets):
            yield _burst(service, begun)


def _tells(burst: Sequence[Found], *, resets: bool) -> bool:
    """Whether a server must have been away: somebody was refused, or several were reset at once."""
    faults = [found.what.fault for found in burst if isinstance(found.what, Complaint)]
    return Fault.REFUSED in faults or (resets and sum(fault in BEGUN for fault in faults) >= BURST_LEAST)


def _burst(service: str, burst: Sequence[Found]) -> Incident:
    incident = Incident("" if service == "?" else service, burst[0].at, burst[-1].until, grain=burst[0].grain)
    faults = {found.what.fault for found in burst if isinstance(found.what, Complaint)}
    if faults & BEGUN:
        incident.how = "immediate"
    return incident


def absorbed(told: Sequence[Incident], seen: Sequence[Incident]) -> list[Incident]:
    """The bursts that are no part of what was told: not the beginning of a death of which only the next start was told, nor
    the time for which a server that was stopped stayed away.
    """
    left = list[Incident]()
    away = sorted((one for one in told if one.how != "crash" and not one.back), key=lambda one: one.at)
    deaths = sorted((one for one in told if one.whole), key=lambda one: one.at)
    times = [one.at for one in deaths]
    for burst in seen:
        first, last = bisect.bisect_left(times, burst.at), bisect.bisect_right(times, burst.until + STARTED)
        death = next((one for one in deaths[first:last] if burst.service in ("", one.service)), None)
        stop = next((one for one in reversed(away) if one.at <= burst.at), None)
        if death is not None:
            death.at = min(death.at, burst.at)
        elif stop is not None and burst.service in ("", stop.service) and burst.at - stop.until <= STARTED:
            stop.until = max(stop.until, burst.until)
        else:
            left.append(burst)
    return left


def reach(incident: Incident) -> tuple[float, float]:
    """From when to when a complaint may be this incident's."""
    return incident.at - incident.grain - 1.0, incident.until + AFTER
