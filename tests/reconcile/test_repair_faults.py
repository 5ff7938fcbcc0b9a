"""A run is killed at every single point of a repair, and the next one at every point of finishing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import ROOT


@pytest.fixture
def ram(folder: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a thing: nobody pulls a plug here, and thousands of fsyncs take minutes."""
    where = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=where if where.is_dir() else folder, prefix="lc-") as name:
        yield Path(name)


def faults(folder: Path, in_doubt: str) -> dict[str, Any]:
    """What `repair_faults.py` has found."""
    command = [sys.executable, "-m", "reconcile.repair_faults", str(folder), in_doubt]
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{ROOT}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_with_a_callee_that_honours_the_key_every_repair_is_finished(ram: Path) -> None:
    """Wherever it dies, there is one refund and one order in the end, under one key, and with one day's row."""
    found = faults(ram, "retry")
    assert found["points"] >= 10
    assert len(found["found"]) > 100
    for one in found["found"]:
        assert one["died"], one
        assert one["state"] == "DONE", one
        assert len(set(one["refund"])) == len(set(one["write"])) == 1, one
        assert one["refund"][0].split()[0] == one["write"][0].split()[0], one


def test_with_one_that_does_not_nothing_is_done_twice(ram: Path) -> None:
    """`hold`: a refund that may have been sent is parked, and never sent again."""
    states = []
    for one in faults(ram, "hold")["found"]:
        assert len(one["refund"]) <= 1, one
        assert len(set(one["write"])) <= 1, one
        states.append(one["state"])
        if one["state"] == "DONE":
            assert len(one["refund"]) == len(set(one["write"])) == 1, one
        else:
            assert (one["state"], one["write"], one["outcomes"]) == ("PARKED", [], ["parked"]), one
    assert {"DONE", "PARKED"} == set(states)
