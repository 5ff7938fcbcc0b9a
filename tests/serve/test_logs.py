"""The logs as an operator reads them, written by a real server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import http
from support.lastcall import Server
from support.processes import eventually

Shop = Callable[..., Server]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        (
            "combined",
            r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /pid\?a=1 HTTP/1\.1" 200 \d+ "-" "-"',
        ),
        ("fpm", r'127\.0\.0\.1 -  \d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4} "GET /pid" 200'),
        ("%R %m %r%Q%q %s %{milli}d %n %C%% %{mega}M", r"127\.0\.0\.1 GET .*\?a=1 200 \d+\.\d+ app \d+\.\d+% \d+"),
        ("%(h)s %(m)s %(U)s %(q)s %(s)s %(D)s %({x-request-id}i)s", r"127\.0\.0\.1 GET /pid a=1 200 \d+ req-7"),
    ],
)
def test_every_spelling_of_a_format_is_written(shop: Shop, folder: Path, form: str, line: str) -> None:
    """Named, php-fpm's fields, gunicorn's atoms."""
    access = folder / "access.log"
    server = shop("--access-log", str(access), "--access-format", form)
    http.get(server.http_address, "/pid?a=1", headers=(("X-Request-Id", "req-7"),))
    eventually(lambda: access.read_text().endswith("\n"), "a line is there")
    assert re.fullmatch(line + "\n", access.read_text()), access.read_text()


def test_json_holds_the_request_id_and_the_queue_time(shop: Shop, folder: Path) -> None:
    """X-Request-Id of a trusted peer, X-Request-Start of a front server."""
    access = folder / "access.log"
    server = shop("--access-log", str(access), "--access-format", "json")
    http.get(
        server.http_address, "/", headers=(("X-Request-Id", "abc"), ("X-Request-Start", f"t={time.time() - 5:.3f}"))
    )
    eventually(lambda: access.read_text().endswith("\n"), "a line is there")
    record = json.loads(access.read_text())
    assert record["request_id"] == "abc"
    assert 5 <= record["queue"] < 60
    assert record["status"] == 200


def test_lines_of_all_processes_are_whole(shop: Shop, folder: Path) -> None:
    """Four workers, one file: no line is torn."""
    access = folder / "access.log"
    server = shop("--workers", "4", "--access-log", str(access))
    for _ in range(50):
        http.get(server.http_address, "/" + "x" * 500)
    eventually(lambda: access.read_text().count("\n") == 50, "fifty lines")
    assert all(
        re.fullmatch(r'127\.0\.0\.1 - - \[.+\] "GET /x{500} HTTP/1\.1" 200 6 "-" "-"', line)
        for line in access.read_text().splitlines()
    )


def test_a_client_cannot_forge_a_line(shop: Shop, folder: Path) -> None:
    """Quotes and control characters are escaped."""
    access = folder / "access.log"
    server = shop("--access-log", str(access))
    http.get(server.http_address, "/", headers=(("User-Agent", 'x" 200 1\t\\evil'),))
    eventually(lambda: access.read_text().endswith("\n"), "a line is there")
    (line,) = access.read_text().splitlines()
    assert r"x\x22 200 1\x09\x5Cevil" in line


def test_output_is_caught_and_decorated_when_asked_for(shop: Shop) -> None:
    """php-fpm's catch_workers_output: which worker said it."""
    server = shop("--catch-output")
    http.get(server.http_address, "/print/hello-from-the-shop")
    server.wait_log("hello-from-the-shop")
    (line,) = server.log_lines("hello-from-the-shop")
    assert re.search(r'WARNING: \[pool app\] child \d+ said into stdout: "hello-from-the-shop"', line)


def test_caught_output_may_go_undecorated(shop: Shop) -> None:
    """php-fpm's decorate_workers_output = no."""
    server = shop("--catch-output", "--no-decorate-output")
    http.get(server.http_address, "/print/plain")
    server.wait_log("plain\n")
    assert "plain" in server.log().splitlines()


def test_a_full_disk_under_the_logs_fails_no_request(shop: Shop) -> None:
    """/dev/full for the access log: requests go on, the server lives."""
    server = shop("--access-log", "/dev/full")
    for _ in range(5):
        assert http.get(server.http_address).status == 200
    assert server.status().requests == 5
