"""Operations on a service under load, through every front at once: no client sees an error, and the ledgers agree."""

from __future__ import annotations

import pytest

from drills.conftest import Judged, Rehearsal, Stages
from support.drill import operators
from support.drill.fronts import DIRECT
from support.drill.operators import Operation
from support.drill.stage import rehearse


def nothing(*_: object) -> None:
    """What every other operation is compared with."""


@pytest.mark.parametrize(
    ("name", "operation", "arguments"),
    [
        ("none", nothing, ()),
        ("HUP", operators.hangup, ()),
        ("HUP, 3 threads", operators.hangup, ("--threads", "3")),
        ("USR2", operators.upgrade, ()),
        ("reload --wait", operators.reload, ()),
        ("restart --wait", operators.restart, ()),
        ("TTIN and TTOU", operators.scale, ()),
        ("--max-requests 50", operators.recycle, ("--max-requests", "50")),
    ],
    ids=["none", "hup", "hup-threads", "usr2", "reload", "restart", "scale", "recycle"],
)
def test_no_order_is_lost(
    stage: Stages, rehearsal: Rehearsal, judged: Judged, name: str, operation: Operation, arguments: tuple[str, ...]
) -> None:
    """Orders of the gift app, each sent once, while the operator repeats one operation."""
    scene = stage(*arguments)
    with scene.load() as load:
        verdict = judged(rehearse(scene, load, operation, rehearsal.restarts, rehearsal.between, name))
    verdict.assert_flawless()
    rehearsal.assert_prompt(verdict)
    assert "was cut" not in scene.server.log()
    assert "broke" not in scene.server.log()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_no_client_can_tell_that_there_was_a_reload(stage: Stages, rehearsal: Rehearsal, threads: str) -> None:
    """Clients that speak to lastcall itself keep their connection: none is closed, and no answer says that one will be."""
    scene = stage("--threads", threads, fronts=DIRECT, gift=False)
    with scene.load(each=2, pace=0.02) as load:
        verdict = rehearse(scene, load, operators.hangup, rehearsal.restarts, rehearsal.between * 4, "HUP, light app")
    verdict.assert_flawless()
    assert verdict.whole().left == 0, str(verdict)


def test_operations_that_overtake_each_other_lose_nothing(stage: Stages, rehearsal: Rehearsal, judged: Judged) -> None:
    """Workers recycled every twenty requests, the pool scaled up and down, and reloads meanwhile."""
    scene = stage("--max-requests", "20", "--threads", "2")

    def all_at_once(*given: object) -> None:
        scene.server.signal(operators.TTIN)
        operators.hangup(scene.server, load)
        scene.server.signal(operators.TTOU)
        scene.server.signal(operators.USR2)

    with scene.load() as load:
        verdict = judged(
            rehearse(scene, load, all_at_once, rehearsal.restarts, rehearsal.between, "all of these at once")
        )
    verdict.assert_flawless()
