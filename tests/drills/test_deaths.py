"""Workers are killed under load: their clients are answered, and what was cut is named (guarantee G2)."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from drills.conftest import Judged, Rehearsal, Stages
from lastcall.core import cuts
from lastcall.runtime import cutlist
from support.drill.fronts import DIRECT, NGINX
from support.drill.load import Load
from support.drill.outcomes import Seen
from support.drill.stage import rehearse
from support.lastcall import Server
from support.processes import eventually

KILLS = 5
"""For each restart that other drills have: a kill is over in no time."""


def murder(dice: random.Random) -> Callable[[Server, Load], None]:
    """`kill -9` one of the workers, and go on when the master has noticed."""

    def operation(server: Server, load: Load) -> None:
        (pid,) = dice.sample(server.workers(), 1)
        os.kill(pid, signal.SIGKILL)
        server.wait_log(f"child {pid} exited on signal 9")
        load.more(8)

    return operation


def with_threads(threads: str) -> str:
    return "" if threads == "1" else f", {threads} threads"


def listed(server: Server) -> list[cuts.Cut]:
    """The cut list."""
    found, bad = cuts.decode((server.run_dir / cutlist.NAME).read_bytes().splitlines())
    assert not bad
    return found


def ids(seen: list[Seen]) -> set[str]:
    """As the header says them."""
    return {one.id.replace("/", ".") for one in seen}


@pytest.mark.parametrize("threads", ["1", "3"])
def test_nobody_who_only_reads_notices_that_workers_are_killed(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, threads: str
) -> None:
    """GET, in every way there is: 0 errors."""
    scene = stage("--threads", threads, gift=False)
    name = f"kill -9, GET{with_threads(threads)}"
    with scene.load(pace=0.01, target="/slow/0.01") as load:
        verdict = judged(rehearse(scene, load, murder(random.Random(1)), rehearsal.restarts * KILLS, 8, name))
    verdict.assert_flawless()
    eventually(lambda: len(scene.server.workers()) == scene.workers, "the pool is whole")


@pytest.mark.parametrize("threads", ["1", "3"])
def test_orders_are_answered_or_refused_in_words_and_listed(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, threads: str
) -> None:
    """POST: every failure is a 503 that says so, and the cut list has exactly those; no order is done without a trace."""
    scene = stage("--threads", threads, fronts=(*DIRECT, *NGINX))
    name = f"kill -9, POST{with_threads(threads)}"
    with scene.load(pace=0.01) as load:
        verdict = judged(rehearse(scene, load, murder(random.Random(2)), rehearsal.restarts * KILLS, 8, name))
    failed = [one for one in verdict.requests if not one.yes]
    assert {one.what for one in failed} <= {"503"}, str(verdict)
    answered = {cut.request_id for cut in listed(scene.server) if cut.done == "answered 503"}
    assert answered == ids(failed), answered ^ ids(failed)
    findings = verdict.findings
    suspects = {order.replace("/", ".") for order in (*findings.half_done, *findings.done_not_told)}
    assert suspects <= answered, suspects - answered
    assert not findings.told_but_missing
    assert not findings.sent_twice


def test_without_custody_clients_are_cut(stage: Stages) -> None:
    """The same, with `--custody off`: the drill finds it."""
    scene = stage("--custody", "off", gift=False, fronts=DIRECT)
    with scene.load(pace=0.01, target="/slow/0.01") as load:
        verdict = rehearse(scene, load, murder(random.Random(3)), 40, 8, "without", lost=1)
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
