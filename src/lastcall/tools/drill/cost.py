"""What restarts by the clock cost: estimated from an access log, without restarting anything.

A restart cuts what is in flight, and refuses what arrives while nobody listens. How much is in flight follows from the
log: the mean number of requests that run at the same time is the time that they take together, per time (Little's law);
here it is measured, minute by minute, from each request's own interval. Only the minutes around the scheduled one count,
for nights are not days. Memory is bounded by the days that a log spans, not by its lines.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from lastcall.core.mistakes import Mistake
from lastcall.tools import accesslogs
from lastcall.tools.accesslogs import EPOCH, Entry, Format

AROUND: Final = 2
"""Minutes before the scheduled one, and as many after it, that are looked at with it."""
DAYS_MAX: Final = 4000
"""Days that a log may span: 23 kB of memory each."""
LONGEST: Final = 86_400.0
"""Seconds. A request that took longer counts as long as that."""
BAD_SHOWN: Final = 3
MINUTES: Final = 1440
OCCURRENCES_MAX: Final = 600_000
"""A year of minutes."""
GAP: Final = 0.1
"""Seconds in which nobody listens, where nobody says how many."""
GAP_WORDS: Final = (
    "measured for php-fpm: 0.09 to 0.13 s between two answers when TERM or QUIT is followed by a start at once. An init "
    "script that looks every second whether the old one has gone adds up to 1 s; a server that imports its application "
    "first refuses for as long as that takes (gunicorn, uvicorn, granian with an import of 0.3 s: 1 to 4 s)"
)
_STUDENT: Final = (
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11, 2.10, 2.09,
    2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
)  # fmt: skip
"""Student's t for 1, 2, ... degrees of freedom, 97.5 %."""
NICKNAMES: Final = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip


class Question(msgspec.Struct, frozen=True):
    """What is asked."""

    files: list[str]
    restarts: list[str]
    """Cron expressions, or whole lines of a crontab: the first five fields count."""
    log_format: str = ""
    duration: float | None = None
    """Seconds that a request takes, where the log does not say."""
    gap: float | None = None
    """Seconds in which nobody listens."""
    zone: str = ""
    """Time zone that cron runs in; "": the log's own clock."""


class Interval(msgspec.Struct, frozen=True):
    """A mean, and between which bounds it lies with a confidence of 95 %."""

    mean: float
    low: float
    high: float

    def times(self, factor: float) -> Interval:
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


class Log(msgspec.Struct, frozen=True):
    """What was read."""

    files: list[str]
    lines: int
    requests: int
    bad: int
    """Lines that were not understood."""
    bad_shown: list[str]
    """The first of them: `access.log:17: ...`."""
    elsewhere: int
    """Requests that nginx answered by itself."""
    first: str
    """Begin of the first request, by the clock that counts."""
    last: str
    clock: str
    """Whose clock that is."""
    durations: str
    """Where durations come from."""
    assumed: int
    """Requests whose duration is the one that was given."""


class Cost(msgspec.Struct, frozen=True):
    """Of one schedule."""

    cron: str
    words: str
    """`At 05:28 every day`."""
    basis: str
    """What the means are of."""
    samples: int
    a_year: int
    """Restarts."""
    in_flight: Interval
    """Requests that a restart cuts."""
    single: tuple[int, int]
    """Between which bounds 95 % of single restarts lie."""
    refused: Interval
    """Requests that a restart refuses."""
    cut_a_year: Interval
    refused_a_year: Interval


class Estimate(msgspec.Struct, frozen=True):
    """The answer."""

    log: Log
    gap: float
    gap_words: str
    costs: list[Cost]
    hours: list[float]
    """Requests in flight, on average, in each hour of the day."""
    quietest: str
    """The minute of the day with the least in flight, `04:12`."""
    quietest_in_flight: float


def estimate(question: Question) -> Estimate:
    """The answer. Raises Mistake: for a schedule or format that cannot be meant, and for a log that does not say it."""
    schedules = [schedule(text) for text in question.restarts]
    if not schedules:
        raise Mistake("no schedule", 'say when it is restarted: --restarts "28 5 * * *"')
    form = accesslogs.compile(question.log_format)
    traffic = Traffic()
    log = _read(question, form, traffic)
    if not log.requests:
        shown = f" (the first line that was not understood: {log.bad_shown[0]})" if log.bad_shown else ""
        raise Mistake(f"no request was found in {log.lines:,} lines{shown}", "say how it is written: --log-format")
    gap = GAP if question.gap is None else question.gap
    quietest = traffic.quietest()
    return Estimate(
        log=log,
        gap=gap,
        gap_words=GAP_WORDS if question.gap is None else "as given",
        costs=[_cost(one, traffic, gap) for one in schedules],
        hours=[traffic.in_flight_at(hour * 60, 60) for hour in range(24)],
        quietest=f"{quietest // 60:02}:{quietest % 60:02}",
        quietest_in_flight=traffic.in_flight_at(quietest - AROUND, 2 * AROUND + 1),
    )


# --- Schedules ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Schedule:
    """When it is restarted."""

    cron: str
    words: str

    def between(self, first: datetime, last: datetime) -> Iterator[int]:
        """Every minute at which it strikes, as minutes of the wall clock since 1970."""
        from cronsim import CronSim  # noqa: PLC0415 (an extra: nobody else needs it)

        for many, when in enumerate(CronSim(self.cron, first - timedelta(minutes=1))):
            if when > last or many > OCCURRENCES_MAX:
                return
            yield int((when - EPOCH).total_seconds()) // 60


def schedule(text: str) -> Schedule:
    """A cron expression, `@daily` and its like, or a line of a crontab. Raises Mistake."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 (an extra: nobody else needs it)
    except ImportError:
        raise Mistake("cron expressions need cronsim", "install lastcall[drill]") from None
    words = text.split()
    cron = NICKNAMES.get(words[0].lower(), " ".join(words[:5])) if words else ""
    try:
        return Schedule(cron, CronSim(cron, EPOCH).explain())
    except CronSimError as error:
        raise Mistake(f"{text!r} is no cron expression: {error}", 'write five fields: "28 5 * * *"') from None


# --- Traffic, minute by minute -----------------------------------------------


@dataclass(slots=True)
class Traffic:
    """Per minute of the wall clock: seconds that requests spent together, and how many began."""

    busy: dict[int, array[float]] = field(default_factory=dict)
    begun: dict[int, array[int]] = field(default_factory=dict)
    first: float = math.inf
    last: float = -math.inf

    def add(self, began: float, duration: float) -> bool:
        """A request. False: it lies on a day that is one too many."""
        ended = began + min(duration, LONGEST)
        minute, final = int(began // 60), int(ended // 60)
        for day in range(minute // MINUTES, final // MINUTES + 1):
            if day not in self.busy:
                if len(self.busy) >= DAYS_MAX:
                    return False
                self.busy[day] = array("d", bytes(8 * MINUTES))
                self.begun[day] = array("q", bytes(8 * MINUTES))
        self.begun[minute // MINUTES][minute % MINUTES] += 1
        if minute == final:
            self.busy[minute // MINUTES][minute % MINUTES] += duration
        else:
            for at in range(minute, final + 1):
                inside = min(ended, (at + 1) * 60.0) - max(began, at * 60.0)
                self.busy[at // MINUTES][at % MINUTES] += inside
        self.first, self.last = min(self.first, began), max(self.last, ended)
        return True

    def around(self, minute: int) -> list[int]:
        """The minutes around this one that the log knows, itself among them; none where it does not."""
        whole = range(minute - AROUND, minute + AROUND + 1)
        known = [at for at in whole if self.first // 60 <= at <= self.last // 60 and at // MINUTES in self.busy]
        return known if minute in known else []

    def in_flight(self, minutes: list[int]) -> float:
        """How many requests ran at the same time in these minutes, on average."""
        return sum(self.busy[at // MINUTES][at % MINUTES] for at in minutes) / (60.0 * len(minutes))

    def rate(self, minutes: list[int]) -> float:
        """How many began a second."""
        return sum(self.begun[at // MINUTES][at % MINUTES] for at in minutes) / (60.0 * len(minutes))

    def mean_duration(self) -> float:
        """Seconds that a request takes, of all of them."""
        return sum(map(sum, self.busy.values())) / max(1, sum(map(sum, self.begun.values())))

    def in_flight_at(self, minute: int, minutes: int) -> float:
        """On average over the days, in the minutes from this one of the day on."""
        spans = [at for at in self._span() if (at % MINUTES - minute) % MINUTES < minutes]
        return self.in_flight(spans) if spans else 0.0

    def quietest(self) -> int:
        """The minute of the day around which the least is in flight."""
        sums, many = [0.0] * MINUTES, [0] * MINUTES
        for at in self._span():
            sums[at % MINUTES] += self.busy[at // MINUTES][at % MINUTES]
            many[at % MINUTES] += 1

        def mean(minute: int) -> float:
            near = [(minute + shift) % MINUTES for shift in range(-AROUND, AROUND + 1)]
            days = sum(many[at] for at in near)
            return sum(sums[at] for at in near) / days if days else math.inf

        return min(range(MINUTES), key=lambda minute: (mean(minute), minute))

    def _span(self) -> Iterator[int]:
        """Every minute that the log covers."""
        first, last = int(self.first // 60), int(self.last // 60)
        for day in sorted(self.busy):
            yield from range(max(first, day * MINUTES), min(last + 1, (day + 1) * MINUTES))


# --- Reading -----------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    lines: int = 0
    requests: int = 0
    bad: int = 0
    bad_shown: list[str] = field(default_factory=list)
    elsewhere: int = 0
    assumed: int = 0
    offsets: set[int | None] = field(default_factory=set)

    def misread(self, name: str, number: int, line: str | None) -> None:
        self.bad += 1
        if len(self.bad_shown) < BAD_SHOWN:
            text = "longer than a line may be" if line is None else line if len(line) <= 120 else line[:117] + "..."
            self.bad_shown.append(f"{name}:{number}: {text}")


def _read(question: Question, form: Format, traffic: Traffic) -> Log:
    tally = _Tally()
    clock = _Clock(question.zone)
    for name in question.files:
        for number, line in enumerate(accesslogs.lines(Path(name)), 1):
            tally.lines += 1
            entry = form.read(line) if line is not None else None
            if entry is None:
                tally.misread(name, number, line)
            elif not entry.here:
                tally.elsewhere += 1
            else:
                _count(entry, question, clock, traffic, tally)
    durations = form.durations if tally.assumed < tally.requests else ""
    given = f"{question.duration:g} s, as given" if question.duration is not None else ""
    return Log(
        files=question.files,
        lines=tally.lines,
        requests=tally.requests,
        bad=tally.bad,
        bad_shown=tally.bad_shown,
        elsewhere=tally.elsewhere,
        first=_told(traffic.first),
        last=_told(traffic.last),
        clock=question.zone or _zone_words(tally.offsets),
        durations=", else ".join(part for part in (durations, given if tally.assumed else "") if part),
        assumed=tally.assumed,
    )


def _count(entry: Entry, question: Question, clock: _Clock, traffic: Traffic, tally: _Tally) -> None:
    duration = entry.duration
    if duration is None:
        if question.duration is None:
            remedy = (
                "log $request_time, %d or %(D)s; until then say how long a request takes, on average: --duration 0.2"
            )
            raise Mistake("the log does not say how long its requests took", remedy)
        duration = question.duration
        tally.assumed += 1
    tally.offsets.add(entry.offset)
    if traffic.add(entry.began + clock.shift(entry), duration):
        tally.requests += 1
    else:
        tally.misread("a date", tally.lines, f"beyond {DAYS_MAX:,} days")


class _Clock:
    """From the log's wall clock to cron's."""

    def __init__(self, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone) if zone else None
        except (ValueError, OSError, KeyError):
            raise Mistake(f"{zone!r} is no time zone", "write one as Europe/Moscow") from None
        self._memo: dict[int, float] = {}

    def shift(self, entry: Entry) -> float:
        """Seconds between the two clocks at this moment; a line without a zone is by cron's clock already."""
        if self._zone is None or entry.offset is None:
            return 0.0
        quarter = int((entry.began - entry.offset) // 900)
        found = self._memo.get(quarter)
        if found is None:
            local = datetime.fromtimestamp(quarter * 900, UTC).astimezone(self._zone).utcoffset() or timedelta()
            if len(self._memo) > 100_000:
                self._memo.clear()
            found = self._memo[quarter] = local.total_seconds()
        return found - entry.offset


def _told(clock: float) -> str:
    return (EPOCH + timedelta(seconds=clock)).isoformat(" ", "seconds") if math.isfinite(clock) else ""


def _zone_words(offsets: Iterable[int | None]) -> str:
    known = sorted(offset for offset in offsets if offset is not None)
    shown = [f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02}{abs(offset) // 60 % 60:02}" for offset in known]
    return "the log's clock" + (f" ({', '.join(shown[:3])})" if shown else "")


# --- Arithmetic --------------------------------------------------------------


def _cost(one: Schedule, traffic: Traffic, gap: float) -> Cost:
    samples, basis = _samples(one, traffic)
    in_flight = [traffic.in_flight(minutes) for minutes in samples]
    looked = 60.0 * sum(map(len, samples))
    cut = _seen(interval(in_flight), 3 * traffic.mean_duration() / looked)
    refused = _seen(interval([traffic.rate(minutes) for minutes in samples]), 3 / looked).times(gap)
    begin = EPOCH + timedelta(seconds=traffic.last)
    a_year = sum(1 for _ in one.between(begin, begin + timedelta(days=365)))
    return Cost(
        cron=one.cron,
        words=one.words,
        basis=basis,
        samples=len(samples),
        a_year=a_year,
        in_flight=cut,
        single=spread(in_flight),
        refused=refused,
        cut_a_year=cut.times(a_year),
        refused_a_year=refused.times(a_year),
    )


def _samples(one: Schedule, traffic: Traffic) -> tuple[list[list[int]], str]:
    """The minutes to look at, for each time that it struck; where there are too few, the same time of other days."""
    first, last = (EPOCH + timedelta(seconds=moment) for moment in (traffic.first, traffic.last))
    struck = [minutes for at in one.between(first, last) if (minutes := traffic.around(at))]
    if len(struck) > 1:
        return struck, f"the {len(struck):,} times that it struck within the log"
    times = {at % MINUTES for at in one.between(first, first + timedelta(days=366))}
    days = range(int(traffic.first) // 86_400, int(traffic.last) // 86_400 + 1)
    same = [minutes for day in days for at in sorted(times) if (minutes := traffic.around(day * MINUTES + at))]
    if len(same) > 1:
        return same, f"the same time of day, {len(same):,} times: it struck {len(struck)} times within the log"
    single = [[minute] for minutes in same for minute in minutes]
    if len(single) < 2:
        when = f"from {_told(traffic.first)} to {_told(traffic.last)}"
        raise Mistake(f"the log ({when}) has no minute at which {one.cron!r} strikes", "name a log of at least a day")
    return single, f"the {len(single)} minutes around it, of one day: other days may differ by more than the bounds say"


def interval(values: list[float]) -> Interval:
    """The mean of two values or more, and where it lies with a confidence of 95 %, by Student; never below 0."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    degrees = len(values) - 1
    student = _STUDENT[degrees - 1] if degrees <= len(_STUDENT) else 1.96 + 2.4 / degrees
    half = student * math.sqrt(variance / len(values))
    return Interval(mean, max(0.0, mean - half), mean + half)


def _seen(found: Interval, rule_of_three: float) -> Interval:
    """That nothing was seen does not say that there is nothing: at most this, at 95 %."""
    return found if found.mean else Interval(0.0, 0.0, rule_of_three)


def spread(means: list[float]) -> tuple[int, int]:
    """Between which bounds single counts lie, 95 % of them: each is Poisson around the mean of its own time."""
    ordered = sorted(means)
    step = max(1, len(ordered) // 200)
    chosen = ordered[step // 2 :: step]
    low, total, at = -1, 0.0, 0
    while True:
        total += sum(_poisson(mean, at) for mean in chosen) / len(chosen)
        if low < 0 and total >= 0.025:
            low = at
        if total >= 0.975 - 1e-9 or at > 1_000_000:
            return max(low, 0), at
        at += 1


def _poisson(mean: float, count: int) -> float:
    if mean <= 0:
        return 1.0 if count == 0 else 0.0
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
