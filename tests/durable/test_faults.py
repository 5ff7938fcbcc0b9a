"""A worker is killed at every single point of a durable request, and again at every point of the run that completes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.processes import ROOT


@dataclass
class Enumeration:
    """What `faults.py` has found."""

    points: list[str]
    found: list[dict[str, Any]]

    def index(self, label: str, after: int = 0) -> int:
        """Of a point, as `die_at` counts them."""
        return next(n for n, point in enumerate(self.points, 1) if point.startswith(label) and n > after)


def enumerate_faults(folder: Path, in_doubt: str, how: str) -> Enumeration:
    command = [sys.executable, "-m", "durable.faults", str(folder), in_doubt, how]
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{ROOT}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Enumeration(**json.loads(done.stdout))


@pytest.mark.parametrize("how", ["once", "twice"])
def test_with_a_callee_that_honours_the_key_everything_is_done_once(ram: Path, how: str) -> None:
    """`retry`: wherever it dies, the order is answered, and there is one present and one order under one key each."""
    faults = enumerate_faults(ram, "retry", how)
    assert len(faults.points) >= 12
    for found in faults.found:
        assert found["died"], found
        assert (found["status"], found["state"]) == (201, "DONE"), found
        assert len(set(found["present"])) == len(set(found["order"])) == 1, found
    if how == "twice":
        assert sum(found["died_again"] for found in faults.found) > 100


@pytest.mark.parametrize("how", ["once", "twice"])
def test_with_one_that_does_not_exactly_the_doubtful_are_held(ram: Path, how: str) -> None:
    """`hold`: no present is sent twice, and only a death between `started` and `done` parks."""
    faults = enumerate_faults(ram, "hold", how)
    started = faults.index("INSERT OR REPLACE INTO steps")
    done = faults.index("INSERT OR REPLACE INTO steps", after=started)
    for found in faults.found:
        assert len(found["present"]) <= 1, found
        if found["state"] == "DONE":
            assert found["status"] == 201
            assert len(found["present"]) == len(set(found["order"])) == 1, found
        else:
            assert (found["state"], found["status"]) == ("PARKED", 409), found
            assert found["order"] == [], found
        if how == "once":
            assert (found["state"] == "PARKED") == (started < found["first"] <= done), found
