"""Access-log formats: php-fpm's fields, gunicorn's atoms, the names, and lines that nobody can forge."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lastcall.core import accesslog
from lastcall.core.accesslog import LINE_MAX, Record

BEGAN = 1498368481.25
"""25 June 2017, 05:28:01 UTC."""


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def record(environ: Mapping[str, object] | None = None, **changes: object) -> Record:
    made = Record(
        method="POST", target="/3/xx/vgift/send?to=7", path="/3/xx/vgift/send", query="to=7", protocol="HTTP/1.1",
        status=200, sent=12, received=34, client="192.0.2.1", began=BEGAN, duration=1.5, request_id="r-1", pid=42,
        parent_pid=41, pool="app", environ={} if environ is None else environ, headers=[("X-Kind", "gift")],
        cpu_user=0.3, cpu_system=0.15, memory=3 << 20,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


AGENT = {"HTTP_USER_AGENT": "curl/8", "HTTP_REFERER": "http://example.org/", "HTTP_HOST": "gift.example"}


# --- Names -------------------------------------------------------------------


def test_combined_is_what_every_log_analyser_reads() -> None:
    """Client, user, local time, request line, status, bytes, referer, agent."""
    assert accesslog.compile("combined")(record(AGENT)) == (
        '192.0.2.1 - - [25/Jun/2017:05:28:02 +0000] "POST /3/xx/vgift/send?to=7 HTTP/1.1" 200 12 '
        '"http://example.org/" "curl/8"'
    )


def test_common_is_combined_without_referer_and_agent() -> None:
    """The format that CERN's server began with."""
    assert accesslog.compile("common")(record()) == (
        '192.0.2.1 - - [25/Jun/2017:05:28:02 +0000] "POST /3/xx/vgift/send?to=7 HTTP/1.1" 200 12'
    )


def test_fpm_is_php_fpms_default() -> None:
    """With nothing at all where the user would be, as php-fpm has it."""
    assert accesslog.compile("fpm")(record()) == '192.0.2.1 -  25/Jun/2017:05:28:01 +0000 "POST /3/xx/vgift/send" 200'


def test_gunicorn_is_gunicorns_default() -> None:
    """It is the combined format."""
    assert accesslog.compile("gunicorn")(record(AGENT)) == accesslog.compile("combined")(record(AGENT))


def test_json_is_one_object_a_line() -> None:
    """With numbers as numbers, and null for a queue time that nobody told."""
    line = accesslog.compile("json")(record(AGENT))
    assert json.loads(line) == {
        "time": "2017-06-25T05:28:01.250+0000", "client": "192.0.2.1", "user": "-", "method": "POST",
        "target": "/3/xx/vgift/send?to=7", "protocol": "HTTP/1.1", "status": 200, "sent": 12, "received": 34,
        "duration": 1.5, "queue": None, "request_id": "r-1", "host": "gift.example", "referer": "http://example.org/",
        "user_agent": "curl/8", "pool": "app", "pid": 42,
    }  # fmt: skip


# --- php-fpm's fields --------------------------------------------------------

FIELDS = {
    "%%": "%",
    "%C": "30.00",
    "%{total}C": "30.00",
    "%{user}C": "20.00",
    "%{system}C": "10.00",
    "%d": "1.500",
    "%{seconds}d": "1.500",
    "%{milliseconds}d": "1500.000",
    "%{milli}d": "1500.000",
    "%{microseconds}d": "1500000",
    "%{micro}d": "1500000",
    "%{HTTP_HOST}e": "gift.example",
    "%{NOBODY}e": "-",
    "%f": "-",
    "%l": "34",
    "%m": "POST",
    "%M": "3145728",
    "%{bytes}M": "3145728",
    "%{kilobytes}M": "3072",
    "%{kilo}M": "3072",
    "%{megabytes}M": "3",
    "%{mega}M": "3",
    "%n": "app",
    "%{x-kind}o": "gift",
    "%{X-None}o": "-",
    "%p": "42",
    "%P": "41",
    "%q": "to=7",
    "%Q": "?",
    "%r": "/3/xx/vgift/send",
    "%R": "192.0.2.1",
    "%s": "200",
    "%t": "25/Jun/2017:05:28:01 +0000",
    "%T": "25/Jun/2017:05:28:02 +0000",
    "%{%Y-%m-%dT%H:%M:%S%z}t": "2017-06-25T05:28:01+0000",
    "%{%H:%M:%S}T": "05:28:02",
    "%u": "",
    "%{request_id}x": "r-1",
    "%{queue}x": "-",
    "%{sent}x": "12",
    "%{target}x": "/3/xx/vgift/send?to=7",
    "%{protocol}x": "HTTP/1.1",
    "%{host}x": "gift.example",
    "%{script}x": "-",
}


@pytest.mark.parametrize(("field", "value"), FIELDS.items())
def test_every_field_of_php_fpm_is_known(field: str, value: str) -> None:
    """All of fpm_log.c's, with all of their modifiers, and ours (`x`)."""
    assert accesslog.compile(f"<{field}>")(record(AGENT)) == f"<{value}>"


MISTAKES = {
    "%s %Z": "Invalid token in the access.format (%Z) at position 4",
    "%": "Invalid token in the access.format (%) at position 1",
    "%{user": "missing closing embrace in the access.format at position 1",
    "%s %{x}m": "embrace is not allowed for modifier %m at position 4",
    "%{x}%": "embrace is not allowed for modifier %% at position 1",
    "%{x}C": "only 'total', 'user' or 'system' are allowed as a modifier for %C ('x') at position 1",
    "%{x}d": "only 'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds' are allowed as a modifier for %d "
    "('x') at position 1",
    "%{x}M": "only 'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes' are allowed as a modifier for %M ('x') "
    "at position 1",
    "%e": "the name of the environment variable must be set between embraces for %e at position 1",
    "%o": "the name of the header must be set between embraces for %o at position 1",
    "%x": "only 'host', 'protocol', 'queue', 'request_id', 'script', 'sent', 'target' are allowed as a modifier "
    "for %x ('') at position 1",
    "%(h)s %(z)s": "Invalid token in the access.format (%(z)s) at position 7",
    "%(h)s %s": "Invalid token in the access.format (%s) at position 7",
    "%(h)d": "Invalid token in the access.format (%(h)d) at position 1",
    "%({x}y)s": "Invalid token in the access.format (%({x}y)s) at position 1",
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.items())
def test_a_mistake_in_a_format_is_told_in_php_fpms_words_with_its_place(text: str, words: str) -> None:
    """php-fpm 8.2 says the same, but for the place."""
    with pytest.raises(ValueError) as caught:
        accesslog.compile(text)
    assert str(caught.value) == words


def test_a_format_says_whether_it_wants_processor_time_or_memory() -> None:
    """So that they are measured only where they are shown."""
    wants = {text: accesslog.compile(text).wants_usage for text in ("%C", "%M", "%R %s", "combined", "json")}
    assert wants == {"%C": True, "%M": True, "%R %s": False, "combined": False, "json": False}


# --- gunicorn's atoms --------------------------------------------------------

ATOMS = {
    "%(h)s": "192.0.2.1",
    "%(l)s": "-",
    "%(u)s": "-",
    "%(t)s": "[25/Jun/2017:05:28:02 +0000]",
    "%(r)s": "POST /3/xx/vgift/send?to=7 HTTP/1.1",
    "%(m)s": "POST",
    "%(U)s": "/3/xx/vgift/send",
    "%(q)s": "to=7",
    "%(H)s": "HTTP/1.1",
    "%(s)s": "200",
    "%(B)s": "12",
    "%(B)d": "12",
    "%(b)s": "12",
    "%(f)s": "http://example.org/",
    "%(a)s": "curl/8",
    "%(T)s": "1",
    "%(M)s": "1500",
    "%(D)s": "1500000",
    "%(D)09d": "001500000",
    "%(L)s": "1.500000",
    "%(p)s": "<42>",
    "%({user-agent}i)s": "curl/8",
    "%({x-kind}o)s": "gift",
    "%({HTTP_HOST}e)s": "gift.example",
    "%({None}i)s": "-",
    "%(h)-12s|": "192.0.2.1   |",
    "%(s)s%%": "200%",
}


@pytest.mark.parametrize(("atom", "value"), ATOMS.items())
def test_every_atom_of_gunicorn_is_known(atom: str, value: str) -> None:
    """A format with `%(` in it is read as gunicorn's."""
    assert accesslog.compile(f"<{atom}>")(record(AGENT)) == f"<{value}>"


def test_the_user_is_the_one_of_basic_authentication() -> None:
    """Unless REMOTE_USER says who it is; without blanks, for the field stands between blanks."""
    user = accesslog.compile("%(u)s")
    assert user(record({"HTTP_AUTHORIZATION": "Basic YW5uOnNlY3JldA=="})) == "ann"
    assert user(record({"HTTP_AUTHORIZATION": "Basic !!!"})) == "-"
    assert user(record({"HTTP_AUTHORIZATION": "Bearer YW5uOnNlY3JldA=="})) == "-"
    assert user(record({"REMOTE_USER": "ann b [x]", "HTTP_AUTHORIZATION": "Basic YW5uOnNlY3JldA=="})) == "ann%20b%20[x]"


# --- Queue time --------------------------------------------------------------


@pytest.mark.parametrize("stamp", ["t=1498368481.000", "1498368481000", "t=1498368481000000", "1498368481000000000"])
def test_queue_time_is_read_in_whatever_unit_the_front_writes(stamp: str) -> None:
    """As in nginx's `t=${msec}`, Heroku's milliseconds, Apache's microseconds, nanoseconds."""
    assert accesslog.compile("%{queue}x")(record({"HTTP_X_REQUEST_START": stamp})) == "0.250"


@pytest.mark.parametrize("stamp", ["", "soon", "t=", "nan", "inf", "1", "-5", "t=1498300000"])
def test_a_queue_time_that_cannot_be_is_unknown(stamp: str) -> None:
    """Anybody may send the header."""
    assert accesslog.compile("%{queue}x")(record({"HTTP_X_REQUEST_START": stamp})) == "-"


def test_a_front_whose_clock_is_ahead_gives_no_negative_time() -> None:
    """It is nothing, then."""
    assert accesslog.queue_time("t=1498368481.5", BEGAN) == 0.0


# --- Forging -----------------------------------------------------------------


def test_what_a_client_sends_cannot_end_a_field_or_a_line() -> None:
    """php-fpm writes the line break of a FastCGI SCRIPT_NAME into its log as it is."""
    line = accesslog.compile("combined")(
        record({"HTTP_USER_AGENT": 'x" 200 "\\\x1b[2J', "HTTP_REFERER": "é"}, target="/\r\nforged")
    )
    assert line.endswith('"POST /\\x0D\\x0Aforged HTTP/1.1" 200 12 "\\xE9" "x\\x22 200 \\x22\\x5C\\x1B[2J"')


def test_quotes_tabs_and_letters_of_the_format_itself_stay() -> None:
    """Only values are escaped."""
    assert accesslog.compile('"%s"\t\\é %R')(record(client='"')) == '"200"\t\\é \\x22'


TEXTS = st.text(max_size=6000) | st.text(st.characters(max_codepoint=255), max_size=50)


@example(text="\x7f", form="json")
@given(text=TEXTS, form=st.sampled_from(["combined", "fpm", "%{HTTP_X}e %u %f", '%({x}i)s "%(U)s"', "json"]))
def test_no_value_makes_a_line_that_is_long_or_not_printable(text: str, form: str) -> None:
    """Whatever stands in the request, half surrogate pairs too: printable ASCII, and one write to a pipe."""
    environ = dict.fromkeys(("HTTP_X", "HTTP_USER_AGENT", "HTTP_HOST", "REMOTE_USER", "HTTP_REFERER"), text)
    line = accesslog.compile(form)(record(environ, target=text, path=text, client=text, request_id=text))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < LINE_MAX
    if form == "json":
        assert json.loads(line)["status"] == 200


def test_a_long_line_is_cut_and_shows_it() -> None:
    """At 4,096 bytes with its newline: what a pipe takes from several writers in one piece."""
    line = accesslog.compile("combined")(record(target="/" + "a" * 9000))
    assert len(line) == LINE_MAX - 1
    assert line.endswith("aaa...")


def test_a_cut_never_splits_a_character_of_the_format() -> None:
    """The format is the operator's, and may be written in any alphabet."""
    line = accesslog.compile("é" * 3000)(record())
    assert len(line.encode()) < LINE_MAX
    assert set(line) == {"é", "."}


# --- Time --------------------------------------------------------------------


def test_the_time_follows_the_record_and_not_the_clock() -> None:
    """Also backwards: requests end in another order than they began."""
    form = accesslog.compile("%t")
    seen = [form(record(began=BEGAN + shift)) for shift in (0, 1, 0.9, -1)]
    assert [text[18:20] for text in seen] == ["01", "02", "02", "00"]


def test_months_are_written_from_our_own_table() -> None:
    """Not by strftime, whose months follow the locale, which an application may set."""
    form = accesslog.compile("%{%d %b %%b}t")
    assert form(record()) == "25 Jun %b"
