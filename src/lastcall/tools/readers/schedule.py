"""When a schedule is due: cron's five fields and nicknames, and the calendar expressions of systemd that people write. Pure.

Times are wall clocks, without a zone: whoever asks knows the zone. What is not understood is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

NICKNAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
AHEAD = 366 * 9
"""Days that are looked at: the 29th of February may be eight years away."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?P<from>\*|\w+)(?:-(?P<to>\w+))?(?:/(?P<step>\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes at which it is due."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either: bool = False
    """cron: where both kinds of day are given, either will do (crontab(5))."""
    second: int = 0

    def on(self, day: date) -> bool:
        """Whether it is due on this day at all."""
        if day.month not in self.months:
            return False
        by_date, by_name = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_name if self.either else by_date and by_name

    def due(self, at: datetime) -> bool:
        """Whether it is due in this minute."""
        return at.minute in self.minutes and at.hour in self.hours and self.on(at.date())

    def after(self, at: datetime) -> datetime | None:
        """The next time it is due, later than this one."""
        for ahead in range(AHEAD):
            day = at.date() + timedelta(days=ahead)
            if not self.on(day):
                continue
            for hour in sorted(self.hours):
                for minute in sorted(self.minutes):
                    found = datetime.combine(day, time(hour, minute, self.second))
                    if found > at.replace(tzinfo=None):
                        return found
        return None


def cron(text: str) -> Schedule | None:
    """Five fields, or a nickname; None: it is none of them (`@reboot`, `every 7 days`, a template)."""
    fields = NICKNAMES.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        return None
    minutes, hours = _field(fields[0], 0, 59), _field(fields[1], 0, 23)
    days, months = _field(fields[2], 1, 31), _field(fields[3], 1, 12, _MONTHS, 1)
    weekdays = _field(fields[4], 0, 7, _DAYS)
    if None in (minutes, hours, days, months, weekdays):
        return None
    assert minutes is not None
    assert hours is not None
    assert days is not None
    assert months is not None
    assert weekdays is not None
    named = frozenset(day % 7 for day in weekdays)
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Schedule(minutes, hours, days, months, named, either)


def _field(text: str, low: int, high: int, names: tuple[str, ...] = (), first: int = 0) -> frozenset[int] | None:
    found = set[int]()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        begin = low if match["from"] == "*" else _number(match["from"], names, first)
        end = _number(match["to"], names, first) if match["to"] else begin
        if match["from"] == "*" or (match["step"] and not match["to"]):
            end = high
        step = int(match["step"] or 1)
        if begin is None or end is None or not low <= begin <= high or not low <= end <= high or step < 1:
            return None
        found |= set(range(begin, end + 1, step))
    return frozenset(found) or None


def _number(text: str, names: Iterable[str], first: int) -> int | None:
    if text.isdigit():
        return int(text)
    return next((at for at, name in enumerate(names, first) if text.lower()[:3] == name), None)


# --- systemd -----------------------------------------------------------------

_WORDS = {
    "minutely": "*:*", "hourly": "*:0", "daily": "0:0", "weekly": "Mon 0:0", "monthly": "*-*-1 0:0", "yearly": "*-1-1 0:0",
    "annually": "*-1-1 0:0", "quarterly": "*-1,4,7,10-1 0:0", "semiannually": "*-1,7-1 0:0",
}  # fmt: skip
_CALENDAR = re.compile(
    r"(?:(?P<names>[A-Za-z][A-Za-z,.-]*)\s+)?(?:(?:\*|\d{4})-(?P<months>[\d*,./-]+?)-(?P<days>[\d*,./]+)(?:\s+|$))?"
    r"(?:(?P<hours>[\d*,./]+):(?P<minutes>[\d*,./]+)(?::(?P<seconds>[\d*,./]+))?)?(?:\s+UTC)?"
)


def calendar(text: str) -> Schedule | None:
    """A calendar expression (systemd.time(7)); None: one that people do not write."""
    bare = text.strip()
    bare = _WORDS.get(bare.lower(), bare)
    match = _CALENDAR.fullmatch(bare)
    if match is None or not bare:
        return None
    names = _field((match["names"] or "*").replace("..", "-").lower(), 0, 7, _DAYS)
    months, days = _some(match["months"] or "*", 1, 12), _some(match["days"] or "*", 1, 31)
    hours, minutes = _some(match["hours"] or "0", 0, 23), _some(match["minutes"] or "0", 0, 59)
    if names is None or months is None or days is None or hours is None or minutes is None:
        return None
    second = match["seconds"] or "0"
    weekdays = frozenset(day % 7 for day in names)
    return Schedule(
        minutes, hours, days, months, weekdays, second=int(second) if second.isdigit() and int(second) < 60 else 0
    )


def _some(text: str, low: int, high: int) -> frozenset[int] | None:
    # systemd's ranges have two dots, and `0/15` is every 15 from 0 on
    return _field(text.replace("..", "-"), low, high)
