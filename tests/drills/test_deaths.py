"""Workers are killed under load: their clients are answered, and what was cut is named (guarantee G2)."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from examples.gift.load import PATH

from drills.conftest import Judged, Rehearsal, Stages
from lastcall.core import cuts
from lastcall.runtime import cutlist
from lastcall.tools.drill.load import Load
from support import http
from support.drill import RESTARTS
from support.drill.fronts import DIRECT
from support.drill.judge import Verdict
from support.drill.stage import FRAIL, Stage, rehearse
from support.lastcall import PROGRAM, Server
from support.memory import limited
from support.processes import eventually

FAULTS = [(fault, threads) for fault in ("segv", "exit") for threads in ("1", "3")]
if os.environ.get(RESTARTS):
    FAULTS += [("eat", "1"), ("eat", "3")]  # which takes seconds, and the memory of whatever machine it is
KILLS = 20
KILLS_LONG = 150
EVERY_S = 0.2
"""Seconds between two of the long ones: half a minute of kills."""


def kills(rehearsal: Rehearsal) -> int:
    return KILLS_LONG if rehearsal.long else KILLS


def murder(dice: random.Random, rehearsal: Rehearsal) -> Callable[[Server, Load], None]:
    """`kill -9` one of the workers, whatever it is doing, and go on when the master has noticed."""

    def operation(server: Server, load: Load) -> None:
        began = time.monotonic()
        eventually(server.workers, "somebody is there to be killed")
        pid = dice.choice(server.workers())
        os.kill(pid, signal.SIGKILL)
        server.wait_log(f"child {pid} exited on signal 9")
        if rehearsal.long:
            load.flow(max(0.0, began + EVERY_S - time.monotonic()))
        else:
            load.more(8)

    return operation


def saboteur(fault: str, statuses: list[int]) -> Callable[[Server, Load], None]:
    """A request that ends its worker; a POST, for a GET would end two."""
    numbers = itertools.count()

    def operation(server: Server, load: Load) -> None:
        before = server.log().count(" exited ")
        statuses.append(http.post(server.http_address, f"/{fault}/{next(numbers)}", b"x").status)
        server.wait_log(" exited ", before + 1)
        load.more(8)

    return operation


def with_threads(threads: str) -> str:
    return "" if threads == "1" else f", {threads} threads"


def listed(server: Server) -> list[cuts.Cut]:
    """The cut list."""
    found, bad = cuts.decode((server.run_dir / cutlist.NAME).read_bytes().splitlines())
    assert not bad
    return found


def assert_named(scene: Stage, verdict: Verdict) -> None:
    """Every failure is a 503, the cut list has exactly those that have failed, and the ledgers know of no others."""
    failed = {one.id for one in verdict.requests if not one.yes}
    assert {one.what for one in verdict.requests if not one.yes} <= {"503"}, f"{scene.ways.logged()}\n{verdict}"
    cut = [each for each in listed(scene.server) if each.uri == PATH]
    assert {each.done for each in cut} <= {"answered 503"}, cut
    assert sorted(each.request_id for each in cut) == sorted(failed)
    findings = verdict.findings
    suspects = {*findings.half_done, *findings.done_not_told}
    assert suspects <= failed, suspects - failed
    assert not findings.told_but_missing
    assert not findings.sent_twice
    assert not findings.unsent


@pytest.mark.parametrize("threads", ["1", "3"])
def test_nobody_who_only_reads_notices_that_workers_are_killed(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, threads: str
) -> None:
    """GET, in every way there is: 0 errors."""
    scene = stage("--threads", threads, gift=False)
    name = f"kill -9, GET{with_threads(threads)}"
    with scene.load(pace=0.01, target="/slow/0.01") as load:
        verdict = judged(rehearse(scene, load, murder(random.Random(1), rehearsal), kills(rehearsal), 8, name))
    verdict.assert_flawless()
    eventually(lambda: len(scene.server.workers()) == scene.workers, "the pool is whole")


@pytest.mark.parametrize("threads", ["1", "3"])
def test_orders_are_answered_or_refused_in_words_and_listed(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, threads: str
) -> None:
    """POST: every failure is a 503 that says so, and the cut list has exactly those; no order is done without a trace."""
    scene = stage("--threads", threads)
    name = f"kill -9, POST{with_threads(threads)}"
    with scene.load(pace=0.01) as load:
        verdict = judged(rehearse(scene, load, murder(random.Random(2), rehearsal), kills(rehearsal), 8, name))
    assert_named(scene, verdict)


@pytest.mark.parametrize(("fault", "threads"), FAULTS)
def test_orders_beside_a_request_that_ends_its_worker(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, threads: str, fault: str
) -> None:
    """A segmentation fault, an exit, the memory: the same. A sync worker runs nothing else, and so nobody else is hit.

    But for whom the kernel takes besides: it may kill a second worker before the first one's memory is free.
    """
    statuses: list[int] = []
    with limited(512) as limit:
        scene = stage("--threads", threads, app=FRAIL, program=(*limit.prefix, *PROGRAM))
        with scene.load(pace=0.01) as load:
            name = f"{fault}, POST{with_threads(threads)}"
            operation = saboteur(fault, statuses)
            verdict = judged(rehearse(scene, load, operation, rehearsal.restarts, 8, name))
        assert_named(scene, verdict)
        kinds = {each.kind for each in listed(scene.server)}
        besides = len(scene.server.log_lines(r"child \d+ exited")) - len(statuses)
        scene.server.stop()
    assert besides == 0 or fault == "eat"
    if threads == "1":
        assert verdict.errors.total() <= besides, str(verdict)
    assert set(statuses) == {503}
    assert kinds == {cuts.Kind.OOM if fault == "eat" and limit.kernel_kills else cuts.Kind.DIED}


def test_without_custody_clients_are_cut(stage: Stages, rehearsal: Rehearsal) -> None:
    """The same, with `--custody off`: the drill finds it."""
    scene = stage("--custody", "off", gift=False, fronts=DIRECT)
    with scene.load(pace=0.01, target="/slow/0.01") as load:
        verdict = rehearse(scene, load, murder(random.Random(3), rehearsal), 40, 8, "without", lost=1)
    assert verdict.errors, str(verdict)


def test_poison_takes_two_workers_and_no_third(stage: Stages, folder: Path) -> None:
    """Under load: the one request is answered 500, the others are not affected."""
    scene = stage(gift=False, fronts=DIRECT)
    with scene.load(pace=0.01) as load:
        load.more(20)
        with scene.load(target="/crash/", requests=1, fronts=DIRECT[:1]) as poison:
            poison.end()
            died = len(scene.server.log_lines(r"child \d+ exited on signal 11"))
            (one,) = scene.judge("poison", poison, []).requests
        load.more(50)
        load.stop()
        verdict = scene.judge("beside poison", load, [])
    assert one.status == 500
    assert died == 2
    assert not verdict.errors, str(verdict)
