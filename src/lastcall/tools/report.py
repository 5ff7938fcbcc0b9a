"""`lastcall status` in words: a Status as lines for a terminal."""

from __future__ import annotations

import time

from lastcall.protocol.control import InFlight, LastTakeover, Status, WorkerStatus
from lastcall.protocol.hold import Held
from lastcall.runtime.orphanage import Orphaned

_HEAD = ("SLOT", "PID", "GEN", "STAGE", "AGE", "REQUESTS", "CONNS", "IN FLIGHT")


def lines(status: Status, journal: str = "") -> list[str]:
    """The whole report. `journal`: what there is to say of it."""
    facts = [
        ("pool", status.pool),
        ("pid", f"{status.pid}, {status.phase} for {age(status.uptime)}"),
        ("version", status.version),
        ("generation", str(status.generation)),
        ("application", status.application),
        ("listen", ", ".join(status.listen)),
        ("run dir", status.run_dir),
        ("requests", f"{status.requests} finished, {status.cut} cut{_uncompleted(status)}"),
        ("workers", f"{len(status.workers)} of {status.workers_wanted}, {status.restarts} restarted unasked"),
        ("last reload", _last_reload(status)),
        *([("taken over", _taken_over(status.last_takeover))] if status.last_takeover else []),
    ]
    if journal:
        facts.append(("journal", journal))
    said = [f"{name:<12} {printable(value)}" for name, value in facts]
    more = [f"... and {status.left_out} younger requests in flight"] if status.left_out else []
    return [*said, "", *_table([row for worker in status.workers for row in _rows(worker)]), *more]


def _uncompleted(status: Status) -> str:
    return f", {status.uncompleted} not completed yet" if status.uncompleted else ""


def held(found: Held) -> list[str]:
    """What is said instead where nothing serves, but the listeners are held."""
    until = "a start is under way" if found.claimed else f"for {age(found.left)} more"
    waiting = f", and {found.connections} connections" if found.connections else ""
    return [f"nothing serves; held by pid {found.pid}, {until}: {', '.join(found.listeners)}{waiting}"]


def orphaned(found: Orphaned) -> list[str]:
    """What is said instead where workers serve without a master."""
    going_on = f"serve {', '.join(found.listen)} without it, for {age(found.left)} more"
    said = [
        f"no master: it was pid {found.master}, and has been gone for {age(found.seconds)}",
        f"{len(found.workers)} workers {going_on if found.left else 'finish what they have, and end'}",
    ]
    for slot in found.workers:
        said.append(
            f"  pid {slot.pid}, generation {slot.generation}: {slot.requests} requests, {slot.connections} connections"
        )
        said += [
            printable(f"    {lane.request} ({lane.request_id}){'' if lane.step is None else f', at {lane.step.words}'}")
            for lane in slot.lanes
        ]
    return [*said, "the next `lastcall serve` with this run directory takes them over"] if found.left else said


def _taken_over(last: LastTakeover) -> str:
    when = time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(last.at))
    died = (
        f"; {last.dead} had died: {last.connections} connections rescued, {last.cuts} requests cut" if last.dead else ""
    )
    return f"{when}, {last.workers} workers of pid {last.master}, after {age(last.seconds)} without a master{died}"


def _last_reload(status: Status) -> str:
    last = status.last_reload
    if last is None:
        return "none"
    when = time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(last.at))
    how = "went well" if last.ok else "FAILED"
    # a traceback's last line is its reason; all of it is in the error log
    reason = last.text.strip().rpartition("\n")[2]
    return f"{when}, generation {last.generation} {how}" + (f": {reason}" if reason else "")


def _rows(worker: WorkerStatus) -> list[tuple[str, ...]]:
    """One for each thing that the worker is busy with, under one another; one for a worker that is idle."""
    first, *others = [*map(_request, worker.in_flight), *map(printable, worker.waiting)] or ["-"]
    facts = (
        str(worker.slot),
        str(worker.pid or "-"),
        str(worker.generation),
        worker.stage,
        age(worker.age),
        str(worker.requests),
        str(worker.connections),
    )
    return [(*facts, first), *((*[""] * len(facts), other) for other in others)]


def _request(request: InFlight) -> str:
    at = f", at {request.step}" if request.step else ""
    if request.steps:
        last = request.steps[-1]
        about = f" ({last.about})" if last.about else ""
        at = f", at {last.name}{about} for {age(max(0.0, request.elapsed - last.at))}"
    critical = f", past a point of no return for {age(request.critical)}" if request.critical else ""
    where = f", {request.where}" if request.where else ""
    return printable(f"{request.method} {request.uri} ({request.id}) for {age(request.elapsed)}{at}{critical}{where}")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (_HEAD, *rows)]


def age(seconds: float) -> str:
    """`0.25s`, `12s`, `3m20s`, `5h02m`, `12d4h`."""
    if seconds < 10:
        return f"{seconds:.2f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 86400}d{whole // 3600 % 24}h"


def printable(text: str) -> str:
    """The text without anything a client could steer a terminal with."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
