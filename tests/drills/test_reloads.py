"""Reloads that are difficult: slow requests, slow or broken code, many at once, connections that are in the middle of it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import pytest

from drills.conftest import Judged, Rehearsal, Stages
from lastcall.tools.drill.engine import Client
from lastcall.tools.drill.judge import percentile
from support import fcgi, http
from support.drill import operators
from support.drill.fronts import DIRECT
from support.drill.stage import Stage, rehearse
from support.processes import connect, eventually, holds

KEPT_TCP = tuple(front for front in DIRECT if front.keep and not front.unix)
KEPT = tuple(front for front in DIRECT if front.keep)


# --- Slow requests, slow code ----------------------------------------------------------------


def test_new_requests_do_not_wait_for_old_ones(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """Requests of 1.5 seconds are inside the workers that retire: others are answered meanwhile, at once."""
    scene = stage(fronts=DIRECT, gift=False)
    with (
        scene.load(target="/slow/1.5", pace=0.1, fronts=KEPT_TCP) as slow,
        scene.load(each=1, pace=0.05) as quick,
    ):
        slow.more(2)
        verdict = judged(
            rehearse(scene, quick, operators.hangup, rehearsal.restarts, rehearsal.between, "HUP, 1.5 s in flight")
        )
        slow.stop()
    verdict.assert_flawless()
    scene.judge("the slow ones", slow, verdict.marks).assert_flawless()
    slowest = percentile(verdict.requests, 1.0 if rehearsal.long else 0.95)
    assert slowest < 0.75, f"somebody waited for {slowest:.2f} s\n{verdict}"


def test_an_app_that_imports_slowly_stops_nothing(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """The old code serves until the new one is ready: no stall."""
    seconds = 4.0 if rehearsal.long else 2.0
    scene = stage(fronts=DIRECT, gift=False, workers=2)
    scene.boot.write_text(f"sleep {seconds}")
    with scene.load(pace=0.05) as load:
        verdict = judged(rehearse(scene, load, operators.hangup, 1, rehearsal.between, "HUP, slow import"))
    verdict.assert_flawless()
    (mark,) = verdict.marks
    assert mark.took > seconds
    assert verdict.gap < seconds / 2, str(verdict)


@pytest.mark.parametrize("boot", ["raise", "hang", "exit"])
def test_broken_code_changes_nothing(stage: Stages, rehearsal: Rehearsal, judged: Judged, boot: str) -> None:
    """An app that cannot be imported, is never done importing, or ends its process in it: the old one serves on."""
    script = {"raise": "raise", "hang": "sleep 3600", "exit": "exit 2" if rehearsal.long else "exit 0.1"}[boot]
    scene = stage("--boot-timeout", "500ms" if boot == "hang" else "30s", fronts=DIRECT, gift=False, workers=2)
    workers = scene.server.workers()
    scene.boot.write_text(script)
    with scene.load(pace=0.05) as load:
        load.more(rehearsal.between)
        done = scene.server.command("reload", "--wait", within=operators.OVER_S)
        load.more(rehearsal.between)
        load.stop()
        verdict = judged(scene.judge(f"reload, {boot}", load, []))
    assert done.returncode != 0, scene.server.everything()
    scene.server.wait_log("the one before serves on")
    verdict.assert_flawless()
    eventually(lambda: scene.server.workers() == workers, "the workers are those from before")
    scene.boot.write_text("")
    assert scene.server.command("reload", "--wait").returncode == 0


# --- Many at once, and stops -----------------------------------------------------------------


def test_reloads_back_to_back_lose_nothing(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """Twenty of them, 0.2 s apart, whether or not the one before is over."""
    scene = stage()
    with scene.load() as load:
        load.more(rehearsal.between)
        for number in range(20):
            scene.server.signal(signal.SIGHUP if number % 2 else signal.SIGUSR2)
            load.flow(0.2)
        operators.settled(scene.server, scene.workers)
        load.more(rehearsal.between)
        load.stop()
        verdict = judged(scene.judge("20 reloads, 0.2 s apart", load, []))
    verdict.assert_flawless()
    rehearsal.assert_prompt(verdict)
    assert "was cut" not in scene.server.log()


@pytest.mark.parametrize(
    "order", [(signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP, signal.SIGTERM), (signal.SIGUSR2, signal.SIGQUIT)]
)
def test_a_reload_and_a_stop_at_once_finish_what_has_begun(stage: Stages, order: tuple[signal.Signals, ...]) -> None:
    """Whichever comes first: requests in flight are answered, and the server ends with 0."""
    scene = stage(fronts=DIRECT, gift=False, workers=len(DIRECT))
    scene.boot.write_text("sleep 0.3")
    end = scene.folder / "end"
    with scene.load(target=f"/wait{end}", pace=0.001, requests=1) as load:
        eventually(lambda: _in_flight(scene) == len(DIRECT), "all requests are inside")
        for number in order:
            scene.server.signal(number)
            scene.server.wait_log(f"{number.name} from")
        end.touch()
        assert scene.server.wait() == 0, scene.server.everything()
        load.end()
        verdict = scene.judge("reload and stop", load, [])
    verdict.assert_flawless()
    assert len(verdict.requests) == len(DIRECT)
    assert "was cut" not in scene.server.log()


def _in_flight(scene: Stage) -> int:
    return sum(len(worker.in_flight) for worker in scene.server.status().workers)


# --- Time ------------------------------------------------------------------------------------


def test_a_reload_of_eight_workers_is_a_matter_of_a_moment(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """With a light app, under load: under one second."""
    scene = stage(fronts=DIRECT, gift=False, workers=8)
    with scene.load(pace=0.1) as load:
        verdict = judged(
            rehearse(scene, load, operators.hangup, rehearsal.restarts, rehearsal.between, "HUP, 8 workers, light app")
        )
    verdict.assert_flawless()
    slowest = max(mark.took for mark in verdict.marks)
    assert slowest < (1.0 if rehearsal.long else 10.0), f"{slowest:.2f} s"


def test_a_reload_at_half_load_is_hardly_felt(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """The 99th percentile within half a second of a reload is at most 1.2 times the steady one."""
    # Four workers and 20 ms each are 200 requests in a second; eight clients of 60 ms thinking and 20 asking are half.
    scene = stage(fronts=DIRECT, gift=False)
    with scene.load(pace=0.06, target="/slow/0.02") as load:
        verdict = judged(
            rehearse(scene, load, operators.hangup, rehearsal.restarts, rehearsal.between, "HUP, half load")
        )
    verdict.assert_flawless()
    row = verdict.whole()
    assert row.near < (row.steady * 1.2 if rehearsal.long else row.steady + 1000), str(verdict)
    assert percentile(verdict.requests, 0.5) < 1.0


# --- Connections in the middle of something --------------------------------------------------


def ask(front: Client, body: bytes) -> bytes:
    """The bytes of a request on a kept connection, with a body."""
    if front.fastcgi:
        variables = {"REQUEST_METHOD": "POST", "REQUEST_URI": "/", "SCRIPT_NAME": "/", "CONTENT_LENGTH": str(len(body))}
        return fcgi.message(variables, body, keep=True)
    return http.head("POST", "/", body) + body


def answered(front: Client, sock: socket.socket) -> bool:
    """Whether a whole answer comes on the connection, and a good one."""
    if front.fastcgi:
        return b"Status: 200" in fcgi.receive(sock).stdout
    connection = http.Connection.__new__(http.Connection)
    connection.socket, connection.leftover = sock, b""
    return connection.response().status == 200


HALVES: dict[str, Callable[[Client], int]] = {
    "silent": lambda _: 0,
    "half-a-head": lambda front: 30 if front.fastcgi else 20,
    "half-a-body": lambda front: len(ask(front, b"x" * 3000)) - 1000,
}
"""How many bytes of the request have come when the reload does."""


@pytest.mark.parametrize("state", ["idle", *HALVES])
def test_a_connection_survives_reloads_whatever_it_is_in_the_middle_of(stage: Stages, state: str) -> None:
    """Kept and idle, connected and silent, half a head, half a body: answered, on the same connection, and kept."""
    scene = stage(fronts=KEPT, gift=False, workers=2)
    held = _sockets(scene)
    connections = [(front, connect(front.address)) for front in scene.ways.clients(1)]
    begun = HALVES.get(state, HALVES["silent"])
    for front, sock in connections:
        if state == "idle":
            sock.sendall(ask(front, b""))
            assert answered(front, sock)
        sock.sendall(ask(front, b"x" * 3000)[: begun(front)])
    eventually(lambda: _sockets(scene) == held + len(connections), "all connections have been taken")
    before = scene.server.workers()
    for _ in range(2):
        assert scene.server.command("reload", "--wait").returncode == 0
    if state != "half-a-body":  # whose worker waits for the other half
        eventually(lambda: not set(before) & set(scene.server.workers()), "the first generation has gone")
    for front, sock in connections:
        sock.sendall(ask(front, b"x" * 3000)[begun(front) :])
        assert answered(front, sock)
        sock.sendall(ask(front, b""))
        assert answered(front, sock)
        sock.close()
    eventually(lambda: not set(before) & set(scene.server.workers()), "the first generation has gone")


def _sockets(scene: Stage) -> int:
    """How many the workers hold."""
    return sum(holds(worker, "socket") for worker in scene.server.workers())


# --- Applications that signals would harm ----------------------------------------------------


def test_no_system_call_of_the_application_is_interrupted(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """The hazard of php-fpm: flock, usleep and poll of the C library, which nobody repeats when a signal comes.

    The critical section is never entered without its lock, and no sleep ends early, while workers are told to drain.
    """
    scene = stage("--max-requests", "20", fronts=DIRECT, gift=False, workers=6)
    lock = scene.folder / "critical"
    with (
        scene.load(target=f"/flock{lock}", pace=0.01) as locked,
        scene.load(target="/usleep/0.1", pace=0.05, fronts=KEPT) as asleep,
        scene.load(target="/poll/0.1", pace=0.05, fronts=KEPT) as waiting,
    ):
        verdict = judged(
            rehearse(scene, locked, operators.hangup, rehearsal.restarts, rehearsal.between // 2, "HUP, flock")
        )
        asleep.stop()
        waiting.stop()
        others = [
            judged(scene.judge(name, load, verdict.marks))
            for name, load in [("HUP, usleep", asleep), ("HUP, poll", waiting)]
        ]
    for each in (verdict, *others):
        each.assert_flawless()
