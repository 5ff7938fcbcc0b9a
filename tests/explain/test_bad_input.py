"""Logs as they are found: truncated, in other encodings, mixed, out of order, large. Never a crash, always a count."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastcall.cli import main
from lastcall.tools.explain import kinds
from support import night

Json = dict[str, Any]

LINES = [
    *night.FPM_LOG.splitlines(), *night.ERRORS.splitlines(), *night.ACCESS.splitlines()[-6:], *night.SYSLOG.splitlines(),
    "[2017-06-25 05:28:01 +0800] [17] [INFO] Handling signal: term", "INFO:     Shutting down", "goodbye to uWSGI.",
    "Sun Jun 25 05:28:01 2017 - SIGINT/SIGTERM received...killing workers...", '{"__REALTIME_TIMESTAMP":"1498339681000000"}',
    "2017-06-25 05:28:01,250 INFO stopped: php-fpm (terminated by SIGTERM)", '{"time":"2017-06-25T05:28:01Z","status":502}',
    "[25-Jun-2017 05:28:01]  [pool www] pid 17", "type=EXECVE msg=audit(1498339681.123:9): a0=FFFE",
    "Start-Date: 2017-06-25  05:28:01",
    "Feb 29 05:28:01 web1 CRON[1]: (root) CMD (x)", "[31-Feb-2017 05:28:01] NOTICE: Terminating ...",
    "[31-Dec-9999 23:59:59] NOTICE: Terminating ...", "[01-Jan-0001 00:00:00] NOTICE: Finishing ...",
    "0001-01-01 00:00:00 deploy",
]  # fmt: skip
"""A line of every kind, and some that cannot be."""


def found(root: Path) -> Json:
    """What is answered, in JSON and in words."""
    text = CliRunner().invoke(main, ["explain", "--root", str(root)], catch_exceptions=False)
    assert text.exit_code in (0, 1)
    result = CliRunner().invoke(main, ["explain", "--root", str(root), "--json"], catch_exceptions=False)
    answer: Json = json.loads(result.stdout)
    return answer


def mangled(line: str, seed: int) -> bytes:
    """The line with something wrong with it."""
    data, chance = line.encode(), random.Random(seed)
    at = chance.randrange(len(data) + 1)
    match seed % 6:
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([chance.randrange(256)]) + data[at:]
        case 2:
            return line.encode("utf-16")
        case 3:
            return data[:at] + b"\0" * 9 + data[at:]
        case 4:
            return data[at:] + data[:at]
        case _:
            return data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(LINES), st.integers(0, 10_000)), max_size=40),
    st.sampled_from([b"\n", b"\r\n", b""]),
)
def test_anything_is_read_and_everything_is_counted(folder: Path, chosen: list[tuple[str, int]], end: bytes) -> None:
    """Each line of a file is either understood or counted as not understood."""
    root = night.lay(folder)
    data = end.join(mangled(line, seed) for line, seed in chosen)
    (root / "var/log/strange.log").write_bytes(data)
    for read in found(root)["read"]:
        if read["kind"] is not None:
            assert read["understood"] + read["not_understood"] <= read["lines"]
            assert read["passed_over"] >= 0


SPOILT = st.tuples(st.sampled_from(LINES), st.text(max_size=20), st.integers(0, 80)).map(
    lambda parts: parts[0][: parts[2]] + parts[1] + parts[0][parts[2] :]
)


@settings(max_examples=300, deadline=1000)
@given(st.one_of(st.text(max_size=300), SPOILT))
def test_no_reader_fails_on_any_line(line: str) -> None:
    """Whatever stands in it, each reader answers, and soon."""
    for kind in kinds.KINDS:
        kind.read(line)


def test_logs_that_are_mixed_and_out_of_order_tell_the_same(folder: Path) -> None:
    """All lines of all logs in one file, shuffled: the incident is found; whom it hit, as far as the order tells."""
    root = night.lay(folder)
    lines = "".join((root / path).read_text() for path in night.HOST if path.startswith("var/log/")).splitlines()
    for path in night.HOST:
        if path.startswith("var/log/"):
            (root / path).unlink()
    random.Random(7).shuffle(lines)
    (root / "var/log/all.log").write_text("\n".join([*lines, "what is this", ""]))
    answer = found(root)
    (incident,) = answer["incidents"]
    assert (incident["cause"], len(incident["requests"]), incident["ordered_by"]["line"]) == ("TERM", 4, 7)
    (read,) = answer["read"]
    assert (read["lines"], read["not_understood"], read["passed_over"]) == (len(lines) + 1, 1, 0)


def test_a_line_that_never_ends_is_bounded(folder: Path) -> None:
    """A file without line ends, and a line of megabytes in the midst of others."""
    root = night.lay(folder)
    errors = root / "var/log/nginx/error.log"
    errors.write_bytes(b"x" * (3 << 20) + b"\n" + errors.read_bytes())
    (root / "var/log/endless.log").write_bytes(b"2017" * (1 << 20))
    (incident,) = found(root)["incidents"]
    assert len(incident["requests"]) == 4
    assert incident["requests"][0]["evidence"][0]["line"] == 2


def test_what_breaks_off_is_read_as_far_as_it_goes(folder: Path) -> None:
    """A gzip file that was cut; one that is none behind its head; a binary; a link out of the root."""
    root = night.lay(folder)
    log = root / "var/log/nginx/error.log"
    whole = gzip.compress(log.read_bytes() + b"2017/06/25 05:29:01 [info] 1#1: " + random.Random(1).randbytes(9000))
    (root / "var/log/nginx/error.log.1.gz").write_bytes(whole[:-4000])
    log.unlink()
    (root / "var/log/broken.gz").write_bytes(b"\x1f\x8b\x08 and so on")
    (root / "var/log/broken.zst").write_bytes(b"\x28\xb5\x2f\xfd and so on")
    (root / "var/log/packed.xz").write_bytes(b"\xfd7zXZ\0\0")
    (root / "var/log/binary").write_bytes(b"\x01\x02\0\0" * 99)
    (root / "var/log/outside.log").symlink_to("/proc/version")
    answer = found(root)
    (incident,) = answer["incidents"]
    assert len(incident["requests"]) == 4
    troubles = {read["file"]: read["trouble"] for read in answer["read"] if read["trouble"]}
    names = ("nginx/error.log.1.gz", "broken.gz", "broken.zst", "packed.xz", "binary")
    assert troubles.keys() == {f"/var/log/{name}" for name in names}


def test_times_that_cannot_be_are_no_times(folder: Path) -> None:
    """The end of the calendar, and its beginning: counted, and nobody's restart."""
    lines = ("[31-Dec-9999 23:59:59] NOTICE: Terminating ...", "[01-Jan-0001 00:00:00] NOTICE: Finishing ...")
    root = night.lay(folder, timezone="America/New_York\n", var_log_php_fpm_error_log="\n".join(lines))
    (read,) = [read for read in found(root)["read"] if read["file"] == "/var/log/php-fpm/error.log"]
    assert (read["not_understood"], read["understood"]) == (2, 0)


def test_nothing_at_all_is_said_as_well(folder: Path) -> None:
    """An empty folder has no incident, and no log."""
    answer = found(folder)
    assert answer["incidents"] == []
    assert answer["unseen"] == ["no log was found: name one with --logs"]


@pytest.mark.parametrize("name", ["nginx/access.log", "nginx/error.log", "syslog", "php-fpm/error.log"])
def test_a_large_log_is_passed_over_where_nothing_is(folder: Path, name: str) -> None:
    """The same answer, with the same line numbers, from a log that has ten megabytes more before and after."""
    root = night.lay(folder)
    before = found(root)
    log = root / "var/log" / name
    more = {
        "nginx/access.log": night.answered(1, 200, 0.1, at="24/Jun/2017:12:00:00 +0800"),
        "nginx/error.log": '2017/06/24 12:00:00 [error] 9#9: *1 FastCGI sent in stderr: "PHP message: hello", client: x\n',
        "syslog": "Jun 24 12:00:00 web1 hello[9]: what is nobody's business\n",
        "php-fpm/error.log": "[24-Jun-2017 12:00:00] WARNING: [pool www] child 7 said into stderr: hello\n",
    }[name]
    many = (10 << 20) // len(more)
    log.write_text(more * many + log.read_text() + more.replace("24", "26", 1).replace("Jun 24", "Jun 26") * 99)
    after = found(root)
    told = {read["file"]: read for read in after["read"]}[f"/var/log/{name}"]
    assert told["passed_over"] > many * 0.9
    for one, other in zip(before["incidents"][0]["requests"], after["incidents"][0]["requests"], strict=True):
        assert (one["class"], one["uri"], one["began"]) == (other["class"], other["uri"], other["began"])
        moved = {quote["file"]: quote["line"] for quote in other["evidence"]}
        for quote in one["evidence"]:
            assert moved[quote["file"]] == quote["line"] + (many if quote["file"] == f"/var/log/{name}" else 0)
