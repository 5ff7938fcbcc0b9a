"""What it takes to explain thirty nights from a gigabyte of a log of nginx: one restart a night, each of which hits three.

Everything included: interpreter, configuration, reading, judgement, answer.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.effort import Effort
from benchmarks.report import Table, Target

GIGABYTE: Final = 1 << 30
NIGHTS: Final = 30
FIRST: Final = datetime(2017, 6, 1, tzinfo=UTC)
MINUTE: Final = 60.0
"""Seconds: what a gigabyte may take."""
MEMORY: Final = 400.0
"""MB: what it may take, however large the log is."""
HOST: Final = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/timezone": "Etc/UTC\n",
    "etc/crontab": "28 5 * * * root /etc/init.d/php-fpm restart\n",
    "etc/init.d/php-fpm": '#!/bin/sh\ncase "$1" in\n  restart) killproc -p /run/php-fpm.pid php-fpm ;;\nesac\n',
    "etc/php-fpm.conf": "[global]\nerror_log = /var/log/fpm.log\n[www]\nlisten = 9000\npm.max_children = 2\n",
    "etc/nginx/nginx.conf": (
        'http { log_format x \'$remote_addr [$time_local] "$request" $status $body_bytes_sent "$http_user_agent" '
        "$request_time $upstream_response_time';\naccess_log /var/log/nginx/access.log x;\n"
        "error_log /var/log/nginx/error.log; server { location / { fastcgi_pass 127.0.0.1:9000; } } }\n"
    ),
}
AGENT: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/58.0.3029.110"
SAID: Final = "recv() failed (104: Connection reset by peer) while reading response header from upstream"


def _nights() -> Iterator[datetime]:
    for day in range(NIGHTS):
        yield FIRST + timedelta(days=day, hours=5, minutes=28, seconds=1)


def _asked(at: datetime, order: int, status: int, took: float) -> bytes:
    when = at.strftime("%d/%b/%Y:%H:%M:%S +0000")
    line = f'10.0.0.7 [{when}] "POST /3/cn/vgift/send?order={order} HTTP/1.1" {status} 157 "{AGENT}" {took:.3f} {took:.3f}\n'
    return line.encode()


def _failed(at: datetime, order: int, text: str) -> bytes:
    when = at.strftime("%Y/%m/%d %H:%M:%S")
    line = (
        f"{when} [error] 9#9: *{order} {text}, client: 10.0.0.7, server: shop, request: "
        f'"POST /3/cn/vgift/send?order={order} HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", host: "shop"\n'
    )
    return line.encode()


def _filled(path: Path, line: Callable[[datetime, int], bytes], night: Callable[[datetime], bytes], size: int) -> None:
    """A log of this size: the same number of lines each second, and each night what the restart leaves."""
    seconds = NIGHTS * 86400
    each = size / len(line(FIRST, 100_000)) / seconds
    at, due = FIRST, 0.0
    with path.open("wb") as file:
        for _ in range(seconds):
            due += each
            block, due = line(at, 100_000), due % 1.0 + int(due)
            file.write(block * int(due))
            due -= int(due)
            if (at.hour, at.minute, at.second) == (5, 28, 1):
                file.write(night(at))
            at += timedelta(seconds=1)


def _host(folder: Path, access: int, errors: int) -> Path:
    """A machine whose logs are about this large."""
    for name, text in HOST.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "var/log/nginx").mkdir(parents=True)
    fpm = "".join(
        f"[{at:%d-%b-%Y %H:%M:%S}] NOTICE: {text}\n" for at in _nights()
        for text in ("Terminating ...", "exiting, bye-bye!", "fpm is running, pid 9", "ready to handle connections")
    )  # fmt: skip
    (folder / "var/log/fpm.log").write_text(fpm)
    _filled(
        folder / "var/log/nginx/access.log", lambda at, order: _asked(at, order, 200, 0.1),
        lambda at: b"".join(_asked(at, at.day * 10 + n, 502, 0.1 * n) for n in (1, 2, 3)), access,
    )  # fmt: skip
    noise = (
        'FastCGI sent in stderr: "PHP message: PHP Notice: Undefined index: present in /srv/shop/index.php on line 17"'
    )
    _filled(
        folder / "var/log/nginx/error.log",
        lambda at, order: _failed(at, order, f"{noise} while reading response header from upstream"),
        lambda at: b"".join(_failed(at, at.day * 10 + n, SAID) for n in (1, 2, 3)), errors,
    )  # fmt: skip
    return folder


def _outage(log: Path) -> None:
    """Two hours in which the server was away, and a gigabyte of complaints."""
    begin = FIRST + timedelta(days=NIGHTS)
    with log.open("ab") as file:
        for second in range(7200):
            line = _failed(
                begin + timedelta(seconds=second),
                100_000,
                "connect() failed (111: Connection refused) while connecting to upstream",
            )
            file.write(line * (GIGABYTE // len(line) // 7200))


def measure(effort: Effort, folder: Path) -> list[Table]:
    """Each machine in turn, in a process of its own."""
    subject = "lastcall explain"
    clock = Table("A gigabyte of nginx's log explained, by the clock", "s", targets=(Target(subject, MINUTE),))
    cpu, memory = Table("CPU", "s"), Table("Peak memory", "MB", targets=(Target(subject, MEMORY),))
    hosts = {
        "access log": _host(folder / "access", GIGABYTE, 1 << 20),
        "error log": _host(folder / "error", 1 << 20, GIGABYTE),
        "gzip": _host(folder / "gzip", GIGABYTE, 1 << 20),
        "outage": _host(folder / "outage", 1 << 20, 1 << 20),
        "no error log": _host(folder / "blind", GIGABYTE, 1 << 10),
    }
    plain = hosts["gzip"] / "var/log/nginx/access.log"
    with plain.open("rb") as source, gzip.open(f"{plain}.1.gz", "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    plain.unlink()
    (hosts["no error log"] / "var/log/nginx/error.log").unlink()
    _outage(hosts["outage"] / "var/log/nginx/error.log")
    for _ in range(effort.rounds):
        for name, root in hosts.items():
            seconds, effort_s, megabytes = _run(root)
            clock.add(subject, name, seconds)
            cpu.add(subject, name, effort_s)
            memory.add(subject, name, megabytes)
    return [clock, cpu, memory]


def _run(root: Path) -> tuple[float, float, float]:
    """Seconds by the clock, of CPU, and the megabytes of the largest moment."""
    answer = root / "answer.json"
    command = [sys.executable, "-m", "lastcall", "explain", "--root", str(root), "--json"]
    began = time.monotonic()
    kept = [(os.POSIX_SPAWN_OPEN, 1, str(answer), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=kept)
    _, status, used = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1, "there are incidents, and that is what it has to find"
    assert answer.read_text().count('"half-done"') == NIGHTS * 2
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
