"""Each drill finds what it is there to find: the same load, the same operator, and one mechanism switched off."""

from __future__ import annotations

from drills.conftest import Stages
from support.drill import operators
from support.drill.fronts import DIRECT, NGINX
from support.drill.judge import Verdict
from support.drill.stage import Stage, rehearse

TRIES = 40
"""Reloads in which a loss has to be found; most are found in the first five."""
KEPT = tuple(front for front in (*DIRECT, *NGINX) if front.keep)
TCP = tuple(front for front in DIRECT if not front.unix)


def until_lost(scene: Stage, losses: int, *, each: int = 1, pace: float = 0.05, target: str = "/") -> Verdict:
    """Reload until so many requests have been lost."""
    with scene.load(each, pace, target, timeout=3.0) as load:
        return rehearse(scene, load, operators.hangup, TRIES, 80, "without", lost=losses)


def test_without_the_hand_over_kept_connections_are_reset(stage: Stages) -> None:
    """A draining worker that closes its idle connections closes some in which a request is on its way."""
    scene = stage(without="hand-over", fronts=KEPT, gift=False)
    verdict = until_lost(scene, 1, each=3, pace=0.005)
    assert verdict.errors, str(verdict)
    assert verdict.whole().left, str(verdict)


def test_without_the_kill_gate_orders_are_half_done(stage: Stages) -> None:
    """A worker that is signalled instead of told is cut between the present and the order."""
    verdict = until_lost(stage(without="kill-gate"), 8)
    assert verdict.errors, str(verdict)
    assert verdict.findings.half_done, str(verdict)


def test_without_silence_system_calls_are_interrupted(stage: Stages) -> None:
    """A worker that is signalled, handler or not, is woken from a call that nobody repeats."""
    scene = stage(without="silence", fronts=DIRECT, gift=False)
    assert until_lost(scene, 1, pace=0.01, target="/usleep/0.05").errors["500"]


def test_without_the_shared_listener_the_queue_is_lost(stage: Stages) -> None:
    """Listeners of each generation's own are closed with what waits in them."""
    verdict = until_lost(stage(without="shared-listener", fronts=TCP, gift=False), 1, each=4, pace=0.005)
    assert verdict.errors, str(verdict)


def test_without_readiness_broken_code_is_served(stage: Stages) -> None:
    """A worker that calls itself ready before it has the application takes over with one that cannot be imported."""
    scene = stage(without="readiness", fronts=DIRECT, gift=False)
    scene.boot.write_text("raise")
    assert until_lost(scene, 1).errors


def test_without_readiness_a_slow_import_stops_the_service(stage: Stages) -> None:
    """And with one that imports slowly nobody is served meanwhile."""
    scene = stage(without="readiness", fronts=DIRECT, gift=False)
    scene.boot.write_text("sleep 2")
    with scene.load() as load:
        verdict = rehearse(scene, load, operators.hangup, 1, 80, "without readiness")
    assert verdict.gap > 1.0, str(verdict)
