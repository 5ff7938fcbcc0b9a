"""When a schedule is due, as crontab(5) and systemd.time(7) say."""

from __future__ import annotations

from datetime import datetime

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from lastcall.tools.readers import schedule

NIGHT = datetime(2017, 6, 25, 5, 28)  # noqa: DTZ001 - schedules are wall clocks; a Sunday


@pytest.mark.parametrize(
    ("text", "due", "after"),
    [
        ("28 5 * * *", True, "2017-06-26 05:28"),
        ("28 5 * * 0", True, "2017-07-02 05:28"),
        ("28 5 * * 7", True, "2017-07-02 05:28"),
        ("28 5 * * mon-fri", False, "2017-06-26 05:28"),
        ("28 5 1 * *", False, "2017-07-01 05:28"),
        ("28 5 1 * 0", True, "2017-07-01 05:28"),
        ("28 5 29 2 *", False, "2020-02-29 05:28"),
        ("*/7 */5 * * *", True, "2017-06-25 05:35"),
        ("3,28 5-6 * jun *", True, "2017-06-25 06:03"),
        ("@daily", False, "2017-06-26 00:00"),
        ("@monthly", False, "2017-07-01 00:00"),
    ],
)
def test_cron_is_read_as_cron_reads_it(text: str, due: bool, after: str) -> None:
    """Both kinds of day at once mean either; names, steps, ranges, nicknames."""
    read = schedule.cron(text)
    assert read is not None
    assert read.due(NIGHT) is due
    assert read.after(NIGHT) == datetime.fromisoformat(after)


@pytest.mark.parametrize(
    "text", ["@reboot", "every 7 days", "28 5 * *", "61 5 * * *", "a b c d e", "28 5 * * 8", "", "*/0 * * * *"]
)
def test_what_is_no_schedule_is_none(text: str) -> None:
    """Nobody can say when that is due."""
    assert schedule.cron(text) is None


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "28", "5,59", "*/7", "3-40/5"]), st.sampled_from(["*", "5", "0-6", "*/5", "23"]),
    st.sampled_from(["*", "1", "29", "31", "10-20"]), st.sampled_from(["*", "2", "jan,jun", "6-8"]),
    st.sampled_from(["*", "0", "1-5", "sun", "6"]),
).map(" ".join)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(FIELDS)
def test_it_agrees_with_another_reading_of_cron(text: str) -> None:
    """cronsim's, which agrees with Debian's cron."""
    if text.split()[2:4] == ["31", "2"]:
        return
    mine = schedule.cron(text)
    assert mine is not None
    assert mine.after(NIGHT) == next(CronSim(text, NIGHT))


@pytest.mark.parametrize(
    ("text", "due", "after"),
    [
        ("daily", False, "2017-06-26 00:00"),
        ("05:28", True, "2017-06-26 05:28"),
        ("*-*-* 05:28:30", True, "2017-06-25 05:28:30"),
        ("Sun 5:28", True, "2017-07-02 05:28"),
        ("Mon..Fri 05:28", False, "2017-06-26 05:28"),
        ("*-*-01 05:28:00", False, "2017-07-01 05:28"),
        ("*:0/14", True, "2017-06-25 05:42"),
        ("Mon,Sun *-*-* 05:28", True, "2017-06-26 05:28"),
        ("weekly", False, "2017-06-26 00:00"),
    ],
)
def test_a_calendar_is_read_as_systemd_reads_it(text: str, due: bool, after: str) -> None:
    """The forms that people write."""
    read = schedule.calendar(text)
    assert read is not None
    assert read.due(NIGHT) is due
    assert read.after(NIGHT) == datetime.fromisoformat(after)


@pytest.mark.parametrize("text", ["", "sometimes", "*-*~01 05:00", "25:00", "{{ time }}"])
def test_what_is_no_calendar_is_none(text: str) -> None:
    """Rather than a guess."""
    assert schedule.calendar(text) is None
