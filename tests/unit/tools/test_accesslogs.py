"""Access logs as people have them: when each request began, how long it took, and which lines are none."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.core import accesslog
from lastcall.core.accesslog import Record
from lastcall.core.mistakes import Mistake
from lastcall.tools import accesslogs
from lastcall.tools.accesslogs import CLF, LINE_MAX, Entry, lines, moment

AT = 1_498_368_481.0
"""25-Jun-2017 05:28:01, by a clock two hours east of UTC, which stands at this number of seconds."""
EAST = 7200
STAMP = "25/Jun/2017:05:28:01 +0200"
AGENT = '"-" "Mozilla/5.0 (X11; Linux) 1.234"'


def read(line: str, form: str = "") -> Entry | None:
    return accesslogs.compile(form).read(line)


@pytest.mark.parametrize(
    ("line", "duration", "here"),
    [
        (f'10.0.0.9 - - [{STAMP}] "POST /3/xx/vgift/send HTTP/1.1" 200 12 {AGENT}', None, True),
        (f'10.0.0.9 - ann lee [{STAMP}] "GET / HTTP/1.1" 200 12', None, True),
        (f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 12 {AGENT} 0.250', 0.25, True),
        (f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 12 {AGENT} "10.1.1.1" 0.250 0.125', 0.125, True),
        (f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 12 {AGENT} 0.250 0.125, 0.100 : 0.025', 0.25, True),
        (f'10.0.0.9 - - [{STAMP}] "GET /a.png HTTP/1.1" 200 12 {AGENT} 0.000 -', None, False),
        (f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 12 {AGENT} rt=0.250 uct="0.001" urt="0.125"', 0.125, True),
        (f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 12 {AGENT} rt=0.250 uct="-" urt="-"', None, False),
        (f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 12 {AGENT} request_time=0.250', 0.25, True),
        (f'10.0.0.9 - - [{STAMP}] "-" 400 0 "-" "-"', None, True),
        (f'10.0.0.9 - - [{STAMP}] "GET /\\x22 HTTP/1.1" 200 - "-" "a \\" 9.999 b"', None, True),
    ],
)
def test_combined_with_whatever_follows(line: str, duration: float | None, here: bool) -> None:
    """The time is when the request ended; the server's own share of it counts, where there is one."""
    entry = read(line)
    assert entry == Entry(AT - (duration or 0.0), duration, EAST, here)


@pytest.mark.parametrize(
    ("form", "line", "expected"),
    [
        ("$time_iso8601|$request_time|$upstream_response_time|$uri", "2017-06-25T05:28:01+02:00|0.5|0.25|/a|b", 0.25),
        ("$remote_addr [$time_local] $request $request_time", f"::1 [{STAMP}] GET /a b HTTP/1.1 0.5", 0.5),
        ('[${time_local}] "$request" ut="$upstream_response_time"', f'[{STAMP}] "GET / HTTP/1.1" ut="0.1, 0.4"', 0.5),
        ('{"t":"$time_iso8601","ua":"$http_user_agent","d":$request_time}',
         '{"t":"2017-06-25T05:28:01+02:00","ua":"a \\"b\\"","d":0.5}', 0.5),
        ("%(t)s %(D)s", f"[{STAMP}] 250000", 0.25),
        ('%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(L)s',
         f'10.0.0.9 - - [{STAMP}] "GET / HTTP/1.1" 200 2 "-" "curl" 0.250000', 0.25),
        ("%(M)s %(t)s %%", f"250 [{STAMP}] %", 0.25),
    ],
)  # fmt: skip
def test_formats_of_people(form: str, line: str, expected: float) -> None:
    """Variables of nginx, atoms of gunicorn; the time is when the request ended."""
    assert read(line, form) == Entry(AT - expected, expected, EAST)


@pytest.mark.parametrize(
    ("form", "line", "entry"),
    [
        ("fpm", f'127.0.0.1 -  {STAMP} "POST /index.php" 200', Entry(AT, None, EAST)),
        ("", f'127.0.0.1 - ann {STAMP} "POST /index.php" 200 0.250', Entry(AT, 0.25, EAST)),
        ('%R - %u %t "%m %r" %s %d', f'127.0.0.1 -  {STAMP} "POST /index.php" 200 0.250', Entry(AT, 0.25, EAST)),
        ("%{%Y-%m-%dT%H:%M:%S%z}t %{milli}d %C%%", "2017-06-25T05:28:01+0200 250.000 12.5%", Entry(AT, 0.25, EAST)),
        ("%{micro}d %T %p", f"250000 {STAMP} 4711", Entry(AT - 0.25, 0.25, EAST)),
    ],
)
def test_php_fpm_logs_when_a_request_came(form: str, line: str, entry: Entry) -> None:
    """Its `%t`, unlike the others' times; `%T` is when it was logged."""
    assert read(line, form) == entry


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ('{"time_iso8601":"2017-06-25T05:28:01+02:00","request_time":"0.250"}', Entry(AT - 0.25, 0.25, EAST)),
        ('{"time":"2017-06-25T05:28:01+02:00","request_time":0.25}', Entry(AT - 0.25, 0.25, EAST)),
        ('{"msec":1498368481.500,"upstream_response_time":"-"}', Entry(AT + 0.5, None, 0, here=False)),
        (
            '{"@timestamp":"2017-06-25T05:28:01+02:00","upstream_response_time":"0.125, 0.125"}',
            Entry(AT - 0.25, 0.25, EAST),
        ),
        ('{"time":"yesterday"}', None),
        ('{"time":', None),
        ("[1]", None),
    ],
)
def test_json_of_nginx(line: str, entry: Entry | None) -> None:
    """By the names of its variables."""
    assert read(line) == entry


@pytest.mark.parametrize(
    "form", ["combined", "common", "gunicorn", "json", "fpm", '%R %t "%m %r" %s %d', "%(t)s %(D)s %(r)s"]
)
def test_what_lastcall_writes_is_read(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every format of its own: the second of its begin or end, and its duration where it has one."""
    monkeypatch.setenv("TZ", "Europe/Moscow")
    time.tzset()
    record = Record(
        method="POST", target="/send?a=1", path="/send", query="a=1", protocol="HTTP/1.1", status=200, sent=2, received=3,
        client="10.0.0.9", began=AT - 7200 + 0.25, duration=0.5, request_id="r", pid=1, parent_pid=2, pool="gift",
        environ={"HTTP_USER_AGENT": "1.234 5.678"}, headers=[],
    )  # fmt: skip
    try:
        line = accesslog.compile(form).line(record)
    finally:
        monkeypatch.undo()
        time.tzset()
    found = read(line, form)
    assert found is not None
    assert found.offset == 3 * 3600
    assert found.duration in (None, 0.5)
    assert found.began - found.offset == pytest.approx(record.began, abs=1.0)


@pytest.mark.parametrize(
    "line", ["", " ", "garbage", "\x00" * 40, '[99/Foo/2017:05:28:01 +0200] "x"', "{", f"[{STAMP}]"]
)
def test_what_is_no_line_is_none(line: str) -> None:
    """And raises nothing."""
    assert read(line) is None
    assert read(line, "$remote_addr [$time_local] $request_time") is None


@given(
    st.text(max_size=300), st.sampled_from(["", "$time_local $request $request_time", "%t %d %r", "%(t)s %(D)s %(a)s"])
)
def test_no_line_breaks_a_reader(line: str, form: str) -> None:
    """Logs hold what strangers send."""
    accesslogs.compile(form).read(line)


def test_a_line_made_to_cost_time_costs_none() -> None:
    """However many blanks, quotes and backslashes it has."""
    reader = accesslogs.compile(
        '$remote_addr - $remote_user [$time_local] "$request" "$http_user_agent" $request_time'
    ).read
    began = time.process_time()
    for evil in (
        " " * LINE_MAX,
        '"' * LINE_MAX,
        "\\" * LINE_MAX,
        "- " * (LINE_MAX // 2),
        f'a - [{STAMP}] "' + '\\"' * 8000,
    ):
        assert reader(evil) is None
        assert read(evil) is None
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("apache", "is no log format"),
        ("$remote_addr $request_time", "has no time"),
        ("%R %d", "has no time"),
        ("%{%Q}t", "%Q in a time"),
        ("%{%d %e}t", "says something twice"),
        ("%{hours}d %t", "is no duration"),
    ],
)
def test_a_format_that_cannot_be_meant(form: str, words: str) -> None:
    """Is named, with what to write instead."""
    with pytest.raises(Mistake, match=words):
        accesslogs.compile(form)


@given(st.integers(0, 4_000_000_000), st.integers(-14 * 4, 14 * 4))
def test_times_are_read_as_they_were_written(second: int, quarters: int) -> None:
    """In every zone there could be."""
    sign, minutes = ("-" if quarters < 0 else "+"), abs(quarters) * 15
    local = time.gmtime(second)
    text = time.strftime(f"%d/{accesslog.MONTHS[local.tm_mon - 1]}/%Y:%H:%M:%S", local)
    assert moment(f"{text} {sign}{minutes // 60:02}{minutes % 60:02}", CLF) == (second, quarters * 900)


def test_files_plain_and_packed(folder: Path) -> None:
    """Line by line; one that is too long is none, and the next is whole again."""
    text = b"one\r\n" + b"x" * (3 * LINE_MAX) + b"\ntw\xfco\nthree"
    (folder / "log").write_bytes(text)
    (folder / "log.gz").write_bytes(gzip.compress(text))
    assert list(lines(folder / "log")) == list(lines(folder / "log.gz")) == ["one", None, "tw\ufffdo", "three"]


def test_files_that_cannot_be_read(folder: Path) -> None:
    """Broken, or not there: one line that names it."""
    noise = random.Random(1).randbytes(100_000)
    (folder / "cut.gz").write_bytes(gzip.compress(noise)[:5000])
    (folder / "bad.gz").write_bytes(b"\x1f\x8bnonsense")
    for name in ("cut.gz", "bad.gz", "none"):
        with pytest.raises(Mistake, match=name):
            list(lines(folder / name))
