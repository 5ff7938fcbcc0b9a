"""One clock for all logs: which zone each of them is written in, and by how much one that is off is moved.

A log that says its zone is believed. Others are in the zone of the machine, as /etc/localtime has it; where that is not
known, in the one that the access logs say. Pure, but for the two links that name a zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lastcall.core.mistakes import Mistake
from lastcall.core.quantities import parse_duration
from lastcall.tools.explain.records import When

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = 86400.0
QUARTER: Final = 900.0
"""Zones differ by multiples of it."""
NEAR: Final = 3.0
"""Seconds within which two logs speak of the same thing: whole seconds on both sides, and what lies between."""
SKEW_MAX: Final = 300.0
"""Seconds by which clocks of two machines differ that nobody has noticed."""


@dataclass(frozen=True)
class Zone:
    """A zone, and how it is known."""

    zone: tzinfo
    name: str
    why: str

    def unix(self, when: When) -> float:
        """Unix time of a time as it is written."""
        if when.offset is not None:
            return when.wall - when.offset
        return when.wall - self.offset(when.wall)

    def offset(self, wall: float) -> float:
        """Seconds east of UTC when this zone's clocks show that."""
        shown = EPOCH + timedelta(seconds=wall)
        there = shown.replace(tzinfo=self.zone)
        return (there.utcoffset() or timedelta()).total_seconds()

    def local(self, at: float) -> datetime:
        """What the zone's clocks show at that time."""
        return datetime.fromtimestamp(at, self.zone)


def fixed(offset: int, why: str) -> Zone:
    """A zone that is an offset."""
    return Zone(timezone(timedelta(seconds=offset)), named(offset), why)


def named(offset: float) -> str:
    """`+02:00`."""
    minutes = round(abs(offset) / 60)
    return f"{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


UTC_ASSUMED: Final = Zone(UTC, "UTC", "no file says which zone the machine is in: taken for UTC")


def of_machine(root: Path) -> Zone | None:
    """The zone that a machine's files name."""
    link = root / "etc/localtime"
    try:
        target = str(link.readlink())
    except OSError:
        target = ""
    name = re.sub(r"^.*zoneinfo/(?:posix/|right/)?", "", target) if "zoneinfo/" in target else ""
    why = f"/etc/localtime leads to {target}" if name else "/etc/timezone"
    if not name:
        try:
            name = (root / "etc/timezone").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = ""
    if name:
        try:
            return Zone(ZoneInfo(name), name, why)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    try:
        with link.open("rb") as file:
            return Zone(ZoneInfo.from_file(file), "local", "/etc/localtime")
    except (OSError, ValueError):
        return None


# --- Times that people write -------------------------------------------------

_DAYS: Final = {"today": 0, "yesterday": 1}


def moment(written: str, zone: Zone, now: float) -> float:
    """Unix time of `2017-06-25 05:28`, of `2h` (ago), `yesterday`; without a zone it is the machine's. Raises Mistake."""
    try:
        return now - parse_duration(written)
    except Mistake:
        pass
    if written == "now":
        return now
    if written in _DAYS:
        day = zone.local(now - DAY * _DAYS[written])
        return day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    try:
        found = datetime.fromisoformat(written.replace("/", "-"))
        return (found if found.tzinfo is not None else found.replace(tzinfo=zone.zone)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise Mistake(
            f"{written!r} is no time", "write when: '2017-06-25 05:28', yesterday; or how long ago: 2h"
        ) from None


# --- Years that are not written ----------------------------------------------


def year_of(wall: float, latest: float) -> float:
    """A time in 1972 moved to the latest year in which it is not after `latest`, by more than a day."""
    shown = EPOCH + timedelta(seconds=wall)
    year = (EPOCH + timedelta(seconds=latest + DAY)).year
    for candidate in range(year, year - 9, -1):
        try:
            moved = (shown.replace(year=candidate) - EPOCH).total_seconds()
        except ValueError:  # the 29th of February
            continue
        if moved <= latest + DAY:
            return moved
    return wall


# --- Clocks that are off -----------------------------------------------------


def shift(times: Sequence[float], truth: Sequence[float]) -> float | None:
    """By how much `times` are to be moved so that they fall on `truth`; 0 where they do already; None: nobody can say.

    Zones explain multiples of a quarter of an hour, machines that drift a few minutes. What fits only one of several is no
    reason to move a clock.
    """
    if not times or not truth:
        return None
    known = sorted(truth)
    if _fitting(times, known, 0.0):
        return 0.0
    candidates: dict[float, int] = {}
    for here in times:
        for there in known:
            difference = there - here
            if abs(difference) > 14.5 * 3600:
                continue
            rounded = round(difference / QUARTER) * QUARTER
            if rounded and abs(difference - rounded) <= NEAR:
                candidates[rounded] = 0
            elif abs(difference) <= SKEW_MAX:
                candidates[round(difference)] = 0
    for candidate in candidates:
        candidates[candidate] = _fitting(times, known, candidate)
    if not candidates:
        return None
    best = max(candidates, key=lambda found: (candidates[found], -abs(found)))
    # there are restarts that hit nobody, and bursts for which nobody was restarted: half of the fewer ones must fit
    return best if candidates[best] * 2 > min(len(times), len(known)) else None


def _fitting(times: Iterable[float], known: Sequence[float], by: float) -> int:
    return sum(any(abs(there - here - by) <= NEAR for here in times) for there in known)
