"""What the tests of the drill share: short settings, and the whole command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lastcall.tools.drill import results
from lastcall.tools.drill.results import Drill, Settings
from support.processes import ROOT

SHORT = Settings(
    connections=8, rate=0.0, pace=0.05, keep=True, body=0, slow=0.0, work=0.04, restarts=2, seed=1, timeout=20.0
)  # fmt: skip
WITHIN_S = 120.0
"""A drill of some runs, on a machine where others work."""

Drilled = Callable[..., tuple[Drill, int]]


def environment() -> dict[str, str]:
    """The checkout's own package, installed or not."""
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.fixture
def drilled(folder: Path) -> Drilled:
    """`lastcall drill ARGUMENTS --json`: the result and the exit code."""

    def run(*arguments: str) -> tuple[Drill, int]:
        command = [sys.executable, "-m", "lastcall", "drill", "--json", "--quiet", *arguments]
        done = subprocess.run(
            command, capture_output=True, env=environment(), cwd=folder, timeout=WITHIN_S, check=False
        )
        assert done.returncode in (0, 1), done.stderr.decode()
        return results.decode(done.stdout), done.returncode

    return run
