"""The tests' own tools, where a mistake in them would pass for one of the product."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.processes import ROOT

INTERRUPTED = """
import signal
import sys

from support.processes import Process


def test_an_interrupt_arrives(tmp_path):
    program = "import time; print('up', flush=True); time.sleep(20)"
    process = Process([sys.executable, "-c", program], tmp_path / "log")
    try:
        process.wait_until(lambda: "up" in process.text(), "it runs")
        process.signal(signal.SIGINT)
        assert process.wait(5) == -signal.SIGINT
    finally:
        process.kill()
"""


def test_ctrl_c_reaches_what_a_test_run_in_the_background_has_started(folder: Path) -> None:
    """A shell has its background jobs ignore SIGINT, and what is ignored stays so in every program they start."""
    test = folder / "test_interrupted.py"
    test.write_text(INTERRUPTED)
    pytest = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "conftest", str(test)]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
