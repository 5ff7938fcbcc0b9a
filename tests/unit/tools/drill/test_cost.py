"""What restarts by the clock cost: logs whose truth is known, and the estimate from them."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from lastcall.cli import main
from lastcall.core.accesslog import MONTHS
from lastcall.core.mistakes import Mistake
from lastcall.tools.drill import ask, cost
from lastcall.tools.drill.cost import Estimate, Question, Traffic, estimate, interval, schedule, spread

INCIDENT = "28 5 * * *"
FORM = "$remote_addr [$time_local] $request_time"
MONDAY = datetime(2017, 6, 19, tzinfo=timezone(timedelta(hours=4)))


def stamp(when: datetime) -> str:
    return f"{when:%d}/{MONTHS[when.month - 1]}/{when:%Y:%H:%M:%S %z}"


def written(when: datetime, took: float, client: str = "10.0.0.9") -> str:
    """A line of nginx's: its time is the end."""
    return f"{client} [{stamp(when + timedelta(seconds=took))}] {took:.3f}\n"


def log(folder: Path, text: Iterable[str], name: str = "access.log") -> str:
    (folder / name).write_text("".join(text))
    return str(folder / name)


def traffic(
    days: int, rate: float, took: float, *, every: int = 1, chance: random.Random | None = None
) -> Iterator[str]:
    """`rate` requests a second that take `took` each, day and night; of each hour only every n-th minute from 20 to 40."""
    for day in range(days):
        for second in itertools.chain(range(5 * 3600 + 1200, 5 * 3600 + 2400, every), range(0, 86_400, 3600)):
            when = MONDAY + timedelta(days=day, seconds=second)
            many = int(rate) if chance is None else sum(chance.random() < rate / 50 for _ in range(50))
            for _ in range(many):
                spent = took if chance is None else chance.expovariate(1 / took)
                yield written(when, spent)


def test_littles_law(folder: Path) -> None:
    """10 requests a second that take 0.4 s are 4 in flight, and a gap of half a second refuses 5."""
    found = estimate(Question([log(folder, traffic(7, 10, 0.4))], [INCIDENT], FORM, gap=0.5))
    (one,) = found.costs
    assert one.in_flight.mean == pytest.approx(4.0, rel=0.02)
    assert one.refused.mean == pytest.approx(5.0, rel=0.02)
    assert (one.a_year, one.samples, one.words) == (365, 7, "At 05:28 every day")
    assert one.cut_a_year.mean == pytest.approx(4 * 365, rel=0.02)
    assert one.single == (1, 8)
    assert found.log.durations == "$request_time"


def test_the_truth_is_within_the_bounds(folder: Path) -> None:
    """For traffic by chance: of twenty logs, nineteen in the long run; sixteen at least."""
    inside = 0
    for seed in range(20):
        chance = random.Random(seed)
        text = traffic(6, 3, 0.5, every=2, chance=chance)
        (one,) = estimate(Question([log(folder, text)], [INCIDENT], FORM)).costs
        inside += one.in_flight.low <= 0.75 <= one.in_flight.high
    assert inside >= 16


def test_a_request_counts_in_every_minute_in_which_it_runs(folder: Path) -> None:
    """Also where it ended hours later: its line stands there."""
    long = written(MONDAY + timedelta(hours=5), 7200.0)
    text = [written(MONDAY, 1.0), long, written(MONDAY + timedelta(days=1, hours=9), 1.0)]
    (one,) = estimate(Question([log(folder, text)], [INCIDENT], FORM)).costs
    assert one.in_flight.mean == pytest.approx(0.5)


def test_the_order_of_lines_and_files_does_not_matter(folder: Path) -> None:
    """Rotated logs, packed or not, in any order."""
    text = list(traffic(4, 2, 0.3, chance=random.Random(7)))
    whole = estimate(Question([log(folder, text)], [INCIDENT], FORM))
    newer = folder / "a.gz"
    newer.write_bytes(gzip.compress("".join(text[len(text) // 2 :]).encode()))
    parts = estimate(Question([str(newer), log(folder, reversed(text[: len(text) // 2]), "b")], [INCIDENT], FORM))
    assert parts.costs[0].in_flight.mean == pytest.approx(whole.costs[0].in_flight.mean)
    assert parts.log.requests == whole.log.requests


def test_nothing_seen_is_not_nothing(folder: Path) -> None:
    """Two days without a request at that time: the bound is what three requests would have been."""
    text = [written(MONDAY + timedelta(hours=12 * at), 2.0) for at in range(5)]
    (one,) = estimate(Question([log(folder, text)], [INCIDENT], FORM, gap=1.0)).costs
    assert (one.in_flight.mean, one.in_flight.low, one.refused.mean) == (0, 0, 0)
    assert one.in_flight.high == pytest.approx(3 * 2.0 / 600)
    assert one.refused.high == pytest.approx(3 * 1.0 / 600)


def test_what_nginx_answers_by_itself_is_not_cut(folder: Path) -> None:
    """A line without an upstream's time is counted apart."""
    dynamic = [
        f'a - - [{stamp(MONDAY + timedelta(hours=h))}] "GET / HTTP/1.1" 200 1 "-" "-" 0.500 0.400\n' for h in range(99)
    ]
    static = [f'a - - [{stamp(MONDAY)}] "GET /a.png HTTP/1.1" 200 1 "-" "-" 0.500 -\n'] * 5
    found = estimate(Question([log(folder, dynamic + static)], ["0 * * * *"]))
    assert (found.log.requests, found.log.elsewhere) == (99, 5)
    assert found.costs[0].in_flight.mean == pytest.approx(0.4 / 300, rel=0.05)


def test_the_clock_is_the_logs_unless_cron_has_another(folder: Path) -> None:
    """05:28 at +0400 is 01:28 in UTC, and 04:28 in Moscow (+0300)."""
    file = log(folder, traffic(3, 10, 0.4))
    assert estimate(Question([file], [INCIDENT], FORM)).log.clock == "the log's clock (+0400)"
    for zone, cron in (("UTC", "28 1 * * *"), ("Europe/Moscow", "28 4 * * *")):
        found = estimate(Question([file], [cron], FORM, zone=zone))
        assert found.costs[0].in_flight.mean == pytest.approx(4.0, rel=0.02)
        assert found.log.clock == zone


def test_summer_time_is_followed(folder: Path) -> None:
    """A log in UTC, cron in Berlin: 05:28 there is another hour of the log before and after the change."""
    text = []
    for day in range(24, 29):
        hour = 4 if day < 26 else 3
        for second in range(1200):
            when = datetime(2017, 3, day, hour, 20, tzinfo=UTC) + timedelta(seconds=second)
            text.append(written(when, 2.0))
    found = estimate(Question([log(folder, text)], [INCIDENT], FORM, zone="Europe/Berlin"))
    assert found.costs[0].in_flight.mean == pytest.approx(2.0, rel=0.02)
    assert found.costs[0].samples == 5


def test_a_rare_restart_is_estimated_from_the_same_time_of_other_days(folder: Path) -> None:
    """It says so: there is no Sunday in the log."""
    found = estimate(Question([log(folder, traffic(5, 10, 0.4))], ["28 5 * * 0"], FORM))
    (one,) = found.costs
    assert one.in_flight.mean == pytest.approx(4.0, rel=0.02)
    assert one.a_year in (52, 53)
    assert one.basis == "the same time of day, 5 times: it struck 0 times within the log"


def test_one_day_gives_minutes_and_a_warning(folder: Path) -> None:
    """What other days are like is not known from one."""
    (one,) = estimate(Question([log(folder, traffic(1, 10, 0.4))], [INCIDENT], FORM)).costs
    assert one.samples == 5
    assert "of one day: other days may differ" in one.basis


def test_without_durations_somebody_must_say_them(folder: Path) -> None:
    """And it is said that somebody did."""
    text = [line.rsplit(" ", 1)[0] + "\n" for line in traffic(3, 10, 0.4)]
    file, form = log(folder, text), "$remote_addr [$time_local]"
    with pytest.raises(Mistake, match="--duration"):
        estimate(Question([file], [INCIDENT], form))
    found = estimate(Question([file], [INCIDENT], form, duration=0.4))
    assert found.costs[0].in_flight.mean == pytest.approx(4.0, rel=0.02)
    assert (found.log.durations, found.log.assumed) == ("0.4 s, as given", found.log.requests)


def test_bad_lines_are_counted_and_shown(folder: Path) -> None:
    """The first three, with their numbers; an escape sequence in one is shown, not obeyed."""
    text = ["\x1b[2J\n", *traffic(2, 1, 0.4), "a\n", "b" * 200 + "\n", "c\n"]
    found = estimate(Question([log(folder, text)], [INCIDENT], FORM))
    assert found.log.bad == 4
    assert found.log.bad_shown[0].endswith(":1: \x1b[2J")
    assert found.log.bad_shown[2].endswith("b...")
    shown = "\n".join(ask.lines(found))
    assert "4 lines of " in shown
    assert "\x1b" not in shown


def test_a_log_without_requests_is_a_mistake(folder: Path) -> None:
    """Also an empty one."""
    with pytest.raises(Mistake, match=r"first line that was not understood: .*:1: nonsense"):
        estimate(Question([log(folder, ["nonsense\n"])], [INCIDENT]))
    with pytest.raises(Mistake, match="no request was found in 0 lines"):
        estimate(Question([log(folder, [])], [INCIDENT]))


def test_a_log_that_ends_before_the_restart_is_a_mistake(folder: Path) -> None:
    """An hour of the evening says nothing about the morning."""
    text = [written(MONDAY + timedelta(hours=20, seconds=at), 0.1) for at in range(600)]
    with pytest.raises(Mistake, match="has no minute at which"):
        estimate(Question([log(folder, text)], [INCIDENT], FORM))


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        (INCIDENT, INCIDENT),
        ("28 5 * * * root /etc/init.d/php-fpm restart > /dev/null", INCIDENT),
        ("@daily", "0 0 * * *"),
        ("@weekly root systemctl restart x", "0 0 * * 0"),
        ("*/5\t* * * mon", "*/5 * * * mon"),
    ],
)
def test_schedules_as_crontabs_have_them(text: str, cron: str) -> None:
    """A whole line of a crontab, or a nickname."""
    assert schedule(text).cron == cron


@pytest.mark.parametrize("text", ["", "28 5 * *", "99 5 * * *", "@reboot", "x y z a b"])
def test_what_is_no_schedule(text: str) -> None:
    """Is named."""
    with pytest.raises(Mistake, match="is no cron expression"):
        schedule(text)


def test_several_schedules_and_the_quietest_minute(folder: Path) -> None:
    """Each has an answer; the best minute of the day is named."""
    found = estimate(Question([log(folder, traffic(3, 10, 0.4))], [INCIDENT, "0 13 * * *"], FORM))
    assert found.costs[0].in_flight.mean > 10 * found.costs[1].in_flight.mean
    assert found.quietest_in_flight == 0
    assert found.hours[5] == pytest.approx(4.0 / 3, rel=0.05)
    assert found.hours[13] == pytest.approx(4.0 / 3600, rel=0.05)


def test_memory_is_bounded_by_days() -> None:
    """Dates without end, as a broken clock writes them, are refused beyond ten years."""
    found = Traffic()
    assert all(found.add(day * 86_400.0, 1.0) for day in range(cost.DAYS_MAX))
    assert not found.add(cost.DAYS_MAX * 86_400.0, 1.0)
    assert len(found.busy) == cost.DAYS_MAX


def test_arithmetic() -> None:
    """Student's bounds, never below nothing; single counts are Poisson's."""
    assert interval([4.0, 4.0, 4.0]) == cost.Interval(4.0, 4.0, 4.0)
    wide = interval([0.0, 0.0, 9.0])
    assert (wide.mean, wide.low) == (3.0, 0.0)
    assert wide.high == pytest.approx(3 + 4.30 * 3.0, rel=0.01)
    assert spread([0.0] * 9) == (0, 0)
    assert spread([100.0]) == (81, 120)
    assert spread([1.0] * 500 + [50.0] * 500)[0] == 0


# --- On the command line ------------------------------------------------------


def lastcall(*arguments: str) -> Result:
    """Run `lastcall drill` with this command line."""
    return CliRunner().invoke(main, ["drill", *arguments])


def test_the_answer_in_words(folder: Path) -> None:
    """What, how sure, of what, and what is to be understood by it."""
    file = log(folder, traffic(7, 10, 0.4))
    done = lastcall("--from-access-log", file, "--restarts", INCIDENT, "--log-format", FORM, "--gap", "500ms")
    assert done.exit_code == 0, done.output
    assert "28 5 * * *  At 05:28 every day: 365 restarts a year" in done.output
    assert "each cuts      4.0 (4.0 to 4.0) in flight; a single one: 1 to 8" in done.output
    assert "each refuses   5.0 (5.0 to 5.0) in 0.50 s" in done.output
    assert "in a year      1,460 (1,460 to 1,460) cut, 1,820 (1,820 to 1,820) refused" in done.output
    assert "85,680 requests from 2017-06-18 23:59:59 to 2017-06-25 23:00:00" in done.output
    assert all(len(line) <= 110 for line in done.output.splitlines())


def test_the_answer_as_json(folder: Path) -> None:
    """The same, whole."""
    file = log(folder, traffic(3, 10, 0.4))
    done = lastcall("--from-access-log", file, "--restarts", INCIDENT, "--log-format", FORM, "--json")
    found = msgspec.json.decode(done.stdout, type=Estimate)
    assert found.gap == cost.GAP
    assert "php-fpm" in found.gap_words
    assert json.loads(done.stdout)["costs"][0]["a_year"] == 365
    assert math.isfinite(found.costs[0].cut_a_year.high)


def test_without_a_log_restarts_are_counted() -> None:
    """The same option: how many, or when."""
    assert (ask.times(("7",)), ask.times(())) == (7, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--restarts", INCIDENT], "is not a number from 1 to 1000"),
        (["--zone", "UTC"], "--zone goes with --from-access-log"),
        (["--gap", "0s"], "--gap goes with --from-access-log"),
        (["--restarts", "1001"], "is not a number from 1 to 1000"),
        (["--from-access-log", "{file}"], "needs a schedule"),
        (["--from-access-log", "{file}", "--restarts", "never"], "is no cron expression"),
        (["--from-access-log", "{file}", "--restarts", INCIDENT, "--zone", "Mars/Base"], "is no time zone"),
        (["--from-access-log", "{file}", "--restarts", INCIDENT, "--gap", "long"], "is not a duration"),
        (["--from-access-log", "{file}", "--restarts", INCIDENT, "--log-format", "x"], "is no log format"),
    ],
)
def test_what_cannot_be_answered(folder: Path, arguments: list[str], words: str) -> None:
    """Is a line, not a traceback."""
    file = log(folder, traffic(2, 1, 0.4))
    done = lastcall(*(one.format(file=file) for one in arguments))
    assert done.exit_code == 2
    assert words in done.output
    assert "Traceback" not in done.output
