"""Stops: the last one only refuses, and one that is followed by a start is felt by nobody."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from drills.conftest import Judged, Rehearsal, Stages
from lastcall.tools.drill.outcomes import UNSENT
from support.drill import operators
from support.drill.fronts import ALL, DIRECT, NGINX, Addresses, Front
from support.drill.stage import Stage, rehearse
from support.gift import Platforms
from support.lastcall import Servers
from support.nginx import Nginx
from support.processes import eventually

TCP_NEW = tuple(front for front in DIRECT if not front.unix and not front.keep)
WAYS = {
    "tcp-new": TCP_NEW,
    "tcp-kept": tuple(front for front in DIRECT if not front.unix and front.keep),
    "unix-new": tuple(front for front in DIRECT if front.unix and not front.keep),
    "unix-kept": tuple(front for front in DIRECT if front.unix and front.keep),
}


# --- The last stop ---------------------------------------------------------------------------


@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_the_final_stop_only_refuses(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, ways: tuple[Front, ...]
) -> None:
    """One worker and forty clients for each front: the queue is full when the stop comes, and would stay so for ever.

    Who keeps a connection looks at it before the next request, as fronts do: FastCGI has no other way to say that it closes.
    """
    scene = stage("--backlog", "16", fronts=ways, gift=False, workers=1)
    pace = 0.02 if any(front.keep for front in ways) else 0.0
    with scene.load(each=40, pace=pace, target="/slow/0.005") as load:
        load.more(rehearsal.between)
        scene.server.signal(signal.SIGTERM)
        assert scene.server.wait() == 0
        eventually(lambda: load.lost() > 40, "the clients are refused")
        load.stop()
        verdict = judged(scene.judge("TERM, queue full", load, []))
    lost = {one.outcome for one in verdict.requests if not one.yes}
    assert lost <= UNSENT, str(verdict)
    assert "was cut" not in scene.server.log()


def test_without_the_last_look_the_queue_is_lost(stage: Stages) -> None:
    """A stop that does not look after who is on the way loses them: the drill finds it."""
    scene = stage("--backlog", "16", fronts=TCP_NEW, gift=False, workers=1, without="last-look")
    with scene.load(each=40, pace=0.0, target="/slow/0.005") as load:
        load.more(100)
        scene.server.signal(signal.SIGTERM)
        scene.server.wait()
        load.stop()
        verdict = scene.judge("without", load, [])
    assert {one.outcome for one in verdict.requests if not one.yes} - UNSENT, str(verdict)


# --- A stop, and a start ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["10"])
def test_a_stop_and_a_start_lose_nothing(stage: Stages, rehearsal: Rehearsal, judged: Judged, seconds: str) -> None:
    """As an init script restarts a service: the listeners wait with their holder, and the next start claims them."""
    scene = stage("--hold", seconds)
    with scene.load() as load:
        verdict = judged(
            rehearse(scene, load, operators.stop_and_start, rehearsal.restarts, rehearsal.between, "TERM, start; hold")
        )
    verdict.assert_flawless()
    assert verdict.gap < max(mark.took for mark in verdict.marks) + 0.5, str(verdict)


def test_without_a_hold_a_stop_and_a_start_refuse(stage: Stages) -> None:
    """The same, and nobody holds the listeners: the drill finds it."""
    scene = stage("--hold", "0", fronts=DIRECT)
    with scene.load() as load:
        verdict = rehearse(scene, load, operators.stop_and_start, 5, 80, "without", lost=1)
    assert verdict.errors, str(verdict)


# --- Somebody else's listeners ---------------------------------------------------------------


@pytest.fixture
def listeners(folder: Path) -> Iterator[tuple[Addresses, tuple[int, ...]]]:
    """The listeners of a service, opened by somebody who outlives it."""
    with ExitStack() as stack:

        def opened(family: socket.AddressFamily, where: object) -> socket.socket:
            sock = stack.enter_context(socket.socket(family))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)  # type: ignore[arg-type]
            sock.listen(511)
            return sock

        tcp = [opened(socket.AF_INET, ("127.0.0.1", 0)) for _ in range(2)]
        unix = [opened(socket.AF_UNIX, f"{folder}/{name}.sock") for name in ("http", "fcgi")]
        http, fastcgi = ("{}:{}".format(*sock.getsockname()) for sock in tcp)
        addresses = Addresses(http, f"unix:{folder}/http.sock", fastcgi, f"unix:{folder}/fcgi.sock")
        yield addresses, tuple(sock.fileno() for sock in (*tcp, *unix))


def test_a_stop_and_a_start_under_somebody_elses_listeners_lose_nothing(
    serve: Servers, nginx: Nginx, platforms: Platforms, folder: Path, rehearsal: Rehearsal, judged: Judged,
    listeners: tuple[Addresses, tuple[int, ...]],
) -> None:  # fmt: skip
    """Socket activation, as systemd does it: LISTEN_FDS and LISTEN_PID; the configuration names the same addresses."""
    addresses, fds = listeners
    program = (
        sys.executable,
        "-m",
        "support.drill.activated",
        ",".join(map(str, fds)),
        sys.executable,
        "-m",
        "lastcall",
    )
    scene = Stage(serve, nginx, platforms, folder, fronts=ALL, addresses=addresses, program=program, pass_fds=fds)
    with scene.load() as load:
        verdict = judged(
            rehearse(
                scene, load, operators.stop_and_start, rehearsal.restarts, rehearsal.between, "TERM, start; activated"
            )
        )
    verdict.assert_flawless()
    assert verdict.gap < max(mark.took for mark in verdict.marks) + 0.5, str(verdict)


# --- A new master ----------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [operators.upgrade, operators.restart], ids=["usr2", "restart"])
def test_an_upgrade_is_a_new_program_under_the_same_pid(
    stage: Stages, rehearsal: Rehearsal, operation: operators.Operation
) -> None:
    """Re-executed under load: test_restarts has the orders, this one makes sure that it is what it is called."""
    scene = stage(fronts=(*DIRECT, *NGINX), gift=False)
    before = start_of_stack(scene.server.pid)
    with scene.load() as load:
        verdict = rehearse(scene, load, operation, rehearsal.restarts, rehearsal.between, "upgrade, light app")
    verdict.assert_flawless()
    assert scene.server.process.ended is None
    assert start_of_stack(scene.server.pid) != before


def start_of_stack(pid: int) -> str:
    """Where execve(2) has put the stack: at random, so that it tells one exec from the next (proc(5), field 28)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[25]
