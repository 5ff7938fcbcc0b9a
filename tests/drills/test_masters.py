"""The master is killed under load, again and again: nobody who is connected can tell (guarantee G3)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest

from drills.conftest import Judged, Rehearsal, Stages
from drills.test_deaths import listed
from lastcall.protocol import adoption
from lastcall.tools.drill.load import Load
from lastcall.tools.drill.outcomes import UNSENT
from lastcall.tools.drill.processes import session
from support.drill import operators
from support.drill.fronts import DIRECT, NGINX
from support.drill.stage import Stage, rehearse
from support.lastcall import TAKEN_OVER, Server
from support.processes import accepting, eventually

DEATHS_MAX = 4
"""Of a supervised master within a minute: one more, and it is given up."""


def left(scene: Stage) -> tuple[int, int, int, int]:
    """What could leak: descriptors of the master and, clients' apart, of all workers; processes; doors."""
    server = scene.server
    workers = sum(descriptors(worker.pid or 0) - worker.connections for worker in server.status().workers)
    doors = list(server.run_dir.glob(adoption.DOORS))
    return descriptors(server.pid), workers, len(server.processes()), len(doors)


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("threads", ["1", "3"])
def test_no_order_is_lost_when_masters_die(stage: Stages, rehearsal: Rehearsal, judged: Judged, threads: str) -> None:
    """The gift app, all fronts: 0 errors, 0 half-done; the same workers throughout, and nothing leaks."""
    scene = stage("--threads", threads)
    server = scene.server
    operators.succeed(server)
    workers, before = server.workers(), left(scene)
    finished = server.status().requests
    with scene.load() as load:
        name = f"kill -9 of the master, {threads} threads"
        verdict = judged(rehearse(scene, load, operators.kill_the_master, rehearsal.restarts, rehearsal.between, name))
    verdict.assert_flawless()
    assert server.workers() == workers
    status = server.status()
    assert (status.cut, status.restarts, status.generation) == (0, 0, 1)
    assert status.requests - finished >= len(verdict.requests)
    lazy = (
        2 * int(threads) * scene.workers
    )  # a thread's first order opens a connection to the platform and one to the store
    eventually(lambda: left(scene)[0] == before[0], "the master has as much open as before")
    assert left(scene)[1] <= before[1] + lazy
    assert left(scene)[2:] == before[2:]
    assert "was cut" not in server.log()
    assert server.stop() == 0


@pytest.mark.parametrize("victims", [1, 4])
def test_nobody_who_only_reads_notices_that_workers_die_with_their_master(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, victims: int
) -> None:
    """GET, a worker and the master at once, or all workers and the master: the next one answers whoever waits."""
    scene = stage(gift=False)
    dice = random.Random(4)

    def operation(server: Server, load: Load) -> None:
        doomed = dice.sample([worker.pid for worker in server.status().workers if worker.pid], victims)
        for pid in doomed if dice.random() < 0.5 else []:
            os.kill(pid, signal.SIGKILL)
        server.kill_master()
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        operators.succeed(server, killed=True)
        eventually(lambda: [one.stage for one in server.status().workers] == ["ready"] * scene.workers, "it is whole")

    with scene.load(pace=0.01, target="/slow/0.01") as load:
        name = f"kill -9 of the master and {victims} workers, GET"
        verdict = judged(rehearse(scene, load, operation, rehearsal.restarts, rehearsal.between, name))
    verdict.assert_flawless()
    assert scene.server.stop() == 0


def test_orders_are_answered_or_refused_in_words_and_listed_whoever_dies_when(
    stage: Stages, rehearsal: Rehearsal, judged: Judged
) -> None:
    """POST; a worker, then its master inside the burial, or the other way round: each failure is a 503 and listed."""
    scene = stage(fronts=(*DIRECT, *NGINX))
    dice = random.Random(5)

    def operation(server: Server, load: Load) -> None:
        worker, *_ = dice.sample(server.workers(), 1)
        first, then = dice.sample((worker, server.pid), 2)
        os.kill(first, signal.SIGKILL)
        load.flow(dice.choice([0.0, 0.0005, 0.001, 0.002, 0.005]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(then, signal.SIGKILL)
        server.process.wait()
        operators.succeed(server, killed=True)
        load.more(8)

    with scene.load(pace=0.01) as load:
        name = "kill -9 of a worker and the master, POST"
        verdict = judged(rehearse(scene, load, operation, rehearsal.restarts * 2, 20, name))
    assert {one.what for one in verdict.requests if not one.yes} <= {"503"}, str(verdict)
    failed = {one.id for one in verdict.requests if not one.yes}
    answered = {cut.request_id for cut in listed(scene.server) if cut.done == "answered 503"}
    assert answered == failed, answered ^ failed
    findings = verdict.findings
    suspects = {*findings.half_done, *findings.done_not_told}
    assert suspects <= answered, suspects - answered
    assert not findings.told_but_missing
    assert not findings.sent_twice


def test_a_supervised_master_may_die(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """Nobody orders the next start; nobody who is connected can tell."""
    scene = stage("--supervise")

    def operation(server: Server, load: Load) -> None:
        taken = server.log().count(TAKEN_OVER)
        os.kill(server.status().pid, signal.SIGKILL)
        server.wait_log(TAKEN_OVER, taken + 1)

    with scene.load() as load:
        times = min(DEATHS_MAX, rehearsal.restarts)
        verdict = judged(rehearse(scene, load, operation, times, rehearsal.between, "kill -9, supervised"))
    verdict.assert_flawless()
    assert scene.server.stop() == 0


def test_when_nobody_comes_clients_are_only_refused(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """The workers end by themselves: as in a last stop, who was accepted or queued is answered, and nothing is left."""
    fronts = tuple(front for front in DIRECT if not front.keep)
    scene = stage("--orphan-timeout", "1s", "--backlog", "64", fronts=fronts, gift=False)
    server = scene.server
    with scene.load(each=10, pace=0.0, target="/slow/0.005") as load:
        load.more(rehearsal.between)
        server.kill_master()
        eventually(lambda: load.lost() > 40, "the clients are refused")
        load.stop()
        verdict = judged(scene.judge("kill -9, nobody comes", load, []))
    assert {one.outcome for one in verdict.requests if not one.yes} <= UNSENT, str(verdict)
    eventually(lambda: not session(server.pid), "nobody is left")
    assert not accepting(server.http_address)
    assert not list(scene.folder.glob("*.sock"))
    assert not list(server.run_dir.glob(adoption.DOORS))


def test_without_adoption_requests_are_lost(stage: Stages) -> None:
    """Workers that end with their master, as they did: the drill finds it."""
    scene = stage(without="adoption", fronts=(*DIRECT, *NGINX), gift=False)
    with scene.load(pace=0.01, target="/slow/0.01") as load:
        verdict = rehearse(scene, load, operators.kill_the_master, 4, 80, "without", lost=1)
    assert verdict.errors, str(verdict)
