"""A full disk, under what is spooled and under the logs: said in words, one request the poorer, over when there is room.

As root a real one: a small tmpfs of the server's own. For others the limit on the size of a file, which ends writes in the
same places.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support import http
from support.lastcall import Server, Servers
from support.processes import eventually, lines

APPS = Path(__file__).parents[1] / "conformance"
DISK_KB = 256
ROOT = os.geteuid() == 0
FULL = "No space left on device" if ROOT else "File too large"

OnDisk = Callable[..., Server]


@pytest.fixture
def disk(folder: Path) -> Path:
    """Where the small disk is mounted, as the server sees it."""
    where = folder / "disk"
    where.mkdir()
    return where


@pytest.fixture
def on_disk(serve: Servers, disk: Path) -> OnDisk:
    """Start the application with `disk` in its sight, one worker."""
    mount = f'mount -t tmpfs -o size={DISK_KB}k,mode=1777 tmpfs "{disk}" && exec "$@"'
    as_root = ("unshare", "--mount", "sh", "-c", mount, "sh")
    # `ulimit -f` counts in blocks of 512 bytes.
    prefix = as_root if ROOT else ("sh", "-c", f'ulimit -f {DISK_KB * 2} && exec "$@"', "sh")

    def start(*arguments: str) -> Server:
        return serve("app:app", "--app-dir", str(APPS), "--workers", "1", *arguments, prefix=prefix)

    return start


def seen_by(server: Server, path: Path) -> Path:
    """A path of the server's, from here: its mounts are its own."""
    return Path(f"/proc/{server.pid}/root{path}")


def digest(address: str, size: int) -> tuple[int, str]:
    """What the application makes of a body of this size."""
    answer = http.post(address, "/digest", b"x" * size)
    return answer.status, answer.body.decode()


@pytest.mark.parametrize("threads", ["1", "3"], ids=["sync", "threads"])
def test_a_body_that_does_not_fit_is_refused_and_its_room_is_free_again(
    on_disk: OnDisk, disk: Path, threads: str
) -> None:
    """503 and the system's words in the log; the next one that fits is taken by the same worker."""
    server = on_disk("--tmp-dir", str(disk), "--body-buffer", "1k", "--threads", threads)
    workers = server.workers()
    for _ in range(3):
        assert digest(server.http_address, 4 * DISK_KB * 1024)[0] == 503
    fits = DISK_KB * 1024 // 2
    assert digest(server.http_address, fits) == (200, hashlib.sha256(b"x" * fits).hexdigest())
    assert server.log().count(f"a request body could not be kept in {disk}: {FULL}") == 3
    assert server.workers() == workers


@pytest.mark.parametrize("threads", ["1", "3"], ids=["sync", "threads"])
def test_an_answer_that_does_not_fit_waits_for_its_client(on_disk: OnDisk, disk: Path, threads: str) -> None:
    """Three megabytes for a client that reads late: all of it arrives, in order, and the worker serves on."""
    server = on_disk("--tmp-dir", str(disk), "--response-buffer", "1k", "--threads", threads)
    with http.Connection(server.http_address) as slow:
        slow.send(http.head("GET", "/generate"))
        eventually(lambda: server.status().workers[0].requests, "the answer has begun")
        body = slow.response().body
        assert (len(body), set(body)) == (3_000_000, {ord("x")})
        assert slow.request("GET", "/").body == b"hello"


def fill(path: Path) -> None:
    """Write into a file until the disk takes no more."""
    with path.open("xb", buffering=0) as file:
        try:
            while file.write(b"-" * 4096):
                pass
        except OSError:
            return


@pytest.mark.skipif(not ROOT, reason="needs a disk of its own, and so root")
def test_logs_on_a_full_disk_fail_no_request_and_go_on_when_there_is_room(on_disk: OnDisk, disk: Path) -> None:
    """No line is glued to half of another, and the error log counts those that were lost."""
    server = on_disk("--access-log", str(disk / "access.log"), "--access-format", "%m %r %s")
    access = seen_by(server, disk / "access.log")
    filler = access.with_name("filler")
    assert http.get(server.http_address, "/first").status == 200
    eventually(lambda: lines(access), "the log begins: the rest of its page is room")
    fill(filler)
    for number in range(400):  # more than there is room for in the page that the log has begun
        assert http.get(server.http_address, f"/{number}").status == 200
    written = len(lines(access))
    assert written < 400
    filler.unlink()
    assert http.get(server.http_address, "/again").status == 200
    eventually(lambda: lines(access, "/again"), "the log goes on")
    after = lines(access)
    assert after[: written - 1] == ["GET /first 200", *(f"GET /{number} 200" for number in range(written - 2))]
    assert after[-1] == "GET /again 200"
    server.wait_log("lines were lost: No space left on device")
