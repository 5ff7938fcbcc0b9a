"""System calls fail, one after the other, while workers are killed: nobody waits for ever, and nothing leaks (G2).

Whoever had a request in flight is answered, or is named in the cut list: also where the call that failed was the one that
would have had it answered.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from lastcall.core import cuts
from lastcall.runtime import cutlist
from support import http
from support.lastcall import Server, Servers
from support.processes import ROOT, eventually, state

FAULTS: Final = {
    "master": {
        "fork": (errno.EAGAIN,),
        "epoll_ctl": (errno.ENOSPC,),
        "socketpair": (errno.EMFILE,),
        "pipe2": (errno.EMFILE,),
        "sendmsg": (errno.EAGAIN, errno.ETOOMANYREFS),
        "recvmsg": (errno.EMFILE, errno.ENOMEM),
        "getsockopt": (errno.ENOBUFS,),
        "open": (errno.EMFILE,),
        "fsync": (errno.EIO,),
    },
    "worker": {
        "pidfd_open": (errno.EMFILE,),
        "recvmsg": (errno.EMFILE, errno.ENOMEM),
        "getsockopt": (errno.ENOBUFS,),
        "dup": (errno.EMFILE,),
    },
    "keeper": {
        "sendmsg": (errno.ETOOMANYREFS, errno.ENOMEM),
        "listdir": (errno.EMFILE,),
    },
}
"""Which call may fail in which process, and how."""
RESTART: Final = {
    "memfd_create": (errno.EMFILE, errno.ENOMEM),
    "pipe2": (errno.EMFILE,),
    "posix_spawn": (errno.EAGAIN, errno.ENOMEM),
    "execve": (errno.ENOMEM, errno.ENOENT),
}
"""The same, of what a master does to become another image of itself."""
SKIPS_MAX: Final = int(os.environ.get("LASTCALL_FAULTS", "5"))
"""Calls of one name that are tried, one after the other; a scene has up to a dozen."""
CASES: Final = [
    (who, call, number) for who, calls in FAULTS.items() for call, numbers in calls.items() for number in numbers
]


@dataclass
class Asked:
    """A request under way, on a thread of its own."""

    method: str
    thread: threading.Thread
    identity: str
    status: int = 0
    closed: list[str] = field(default_factory=list)


class Scene:
    """Two workers, each with a request in flight, are killed; one of the calls that follow fails."""

    def __init__(self, serve: Servers, code: Path, folder: Path) -> None:
        self._folder = folder
        self._faults = folder / "faults"
        self._faults.mkdir()
        program = (sys.executable, "-m", "support.faults", str(self._faults))
        path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))
        self.server = serve(
            "shop:app",
            "--app-dir",
            str(code),
            "--workers",
            "2",
            "--catch-output",
            program=program,
            env={"PYTHONPATH": path},
        )
        self._number = 0

    def state(self) -> tuple[int, int]:
        """Descriptors of the master, and processes, once the pool is whole."""
        stages = ["ready"] * 2
        eventually(lambda: [worker.stage for worker in self.server.status().workers] == stages, "the pool is whole")
        eventually(lambda: len(self.server.workers()) == 2, "nobody else is there")
        eventually(lambda: state(self.server.pid) == "S", "the master has done with whoever asked it")
        return len(list(Path(f"/proc/{self.server.pid}/fd").iterdir())), len(self.server.processes())

    def _ask(self, method: str, end: Path) -> Asked:
        def run() -> None:
            try:
                with http.Connection(self.server.http_address) as connection:
                    headers = (("X-Request-Id", asked.identity),)
                    body = b"order" if method == "POST" else None
                    asked.status = connection.request(method, f"/wait{end}", body, headers).status
            except (http.Closed, OSError) as error:
                asked.closed.append(repr(error))

        asked = Asked(method, threading.Thread(target=run), f"{method}-{self._number}")
        asked.thread.start()
        return asked

    def play(self, who: str, call: str, skip: int, number: int) -> bool:
        """Whether the call was made so often that it has failed."""
        self._number += 1
        asked = []
        ends = []
        for method in ("GET", "POST"):
            end = self._folder / f"{self._number}-{method}.flag"
            asked.append(self._ask(method, end))
            ends.append(end)
            eventually(end.with_suffix(".begun").exists, "it has begun")
        file = self._faults / f"{who}.{call}"
        file.write_text(f"{skip} {number}")
        for pid in self.server.workers():
            os.kill(pid, signal.SIGKILL)
        for end in ends:
            end.touch()  # whoever runs it again is done soon
        for each in asked:
            each.thread.join(20)
            assert not each.thread.is_alive(), f"a client waits\n{self.server.everything()}"
        self.state()
        failed = not file.exists()
        file.unlink(missing_ok=True)
        named = {cut.request_id: cut.done for cut in _listed(self.server)}
        for each in asked:
            answered = each.status in (200, 503)
            assert answered or each.identity in named, f"{each}\n{named}\n{self.server.everything()}"
        return failed


def _listed(server: Server) -> list[cuts.Cut]:
    file = server.run_dir / cutlist.NAME
    found, bad = cuts.decode(file.read_bytes().splitlines() if file.exists() else [])
    assert not bad
    return found


@pytest.mark.parametrize(("who", "call", "number"), CASES, ids=[f"{w}-{c}-{errno.errorcode[n]}" for w, c, n in CASES])
def test_a_call_that_fails_costs_nobody_an_answer(
    serve: Servers, code: Path, folder: Path, who: str, call: str, number: int
) -> None:
    """The first, the second, the third, until there is none left to fail."""
    scene = Scene(serve, code, folder)
    scene.play(who, call, 1000, number)
    before = scene.state()
    played = 0
    while played < SKIPS_MAX and scene.play(who, call, played, number):
        played += 1
    assert played, "it is never made"
    if before != scene.state():
        scene.play(who, call, 1000, number)  # a worker without a custodian is there until it ends
        assert before == scene.state(), scene.server.everything()


@pytest.mark.parametrize(
    ("call", "number"), [(call, number) for call, numbers in RESTART.items() for number in numbers],
    ids=lambda each: errno.errorcode[each] if isinstance(each, int) else each,
)  # fmt: skip
def test_a_restart_that_cannot_be_made_changes_nothing(
    serve: Servers, code: Path, folder: Path, call: str, number: int
) -> None:
    """Whoever has asked for it is told why, what runs is not disturbed, nothing leaks; and the next one works."""
    scene = Scene(serve, code, folder)
    server = scene.server
    before, workers = scene.state(), server.workers()
    tried = 0
    while True:
        end = folder / f"{tried}.flag"
        asked = scene._ask("POST", end)
        eventually(end.with_suffix(".begun").exists, "it has begun")
        file = scene._faults / f"master.{call}"
        file.write_text(f"{tried} {number}")
        done = server.command("restart", "--wait")
        failed = not file.exists()
        file.unlink(missing_ok=True)
        end.touch()
        asked.thread.join(20)
        assert asked.status == 200
        if done.returncode == 0:
            break  # the call is not made so often; or for a new worker, which is tried again
        tried += 1
        assert failed
        assert os.strerror(number) in done.stderr + done.stdout, done
        assert server.workers() == workers
        assert scene.state() == before, server.everything()
    assert tried, "it is never made"
    assert scene.state() == before, server.everything()
