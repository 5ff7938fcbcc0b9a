"""The long drills: every cell of tests/drills, with many restarts, and what they found as a table."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from lastcall.tools.drill.judge import sentence
from support.drill import REQUESTS, RESTARTS, TABLE
from support.drill.judge import Row, by_front, table
from support.processes import ROOT

WHOLE: Final = "all together"
CELL_S: Final = 900
"""Seconds after which pytest says where a cell hangs: a long one takes a minute or two."""


def report(rows: Sequence[Row]) -> str:
    """One line for each operation, one for each front, and a sentence."""
    whole = [row for row in rows if row.front == WHOLE]
    each = [row for row in rows if row.front != WHOLE]
    lost, requests = sum(row.lost for row in whole), sum(row.requests for row in whole)
    return "\n\n".join([table(whole), "Under all operations together:", by_front(each), sentence(lost, requests)])


def main() -> int:
    """Run the cells one after the other, print the report, and return pytest's exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/drill",
        description="Run the drills at length and print what was lost. docs/DRILLS.md explains each cell.",
        epilog="Everything else goes to pytest: scripts/drill -k 'hup or usr2'. Cells run one after the other, for they "
        "measure time: let nobody else use the machine.",
    )
    parser.add_argument("--restarts", type=int, default=20, metavar="N", help="restarts in a cell (default: 20)")
    parser.add_argument("--requests", type=int, default=400, metavar="N", help="requests between two (default: 400)")
    options, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="lc-drill-") as folder:
        rows = Path(folder) / "rows"
        rows.touch()
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-o",
            f"faulthandler_timeout={CELL_S}",
            "tests/drills",
            *others,
        ]
        given = {RESTARTS: str(options.restarts), REQUESTS: str(options.requests), TABLE: str(rows)}
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, check=False).returncode
        found = [msgspec.json.decode(line, type=Row) for line in rows.read_bytes().splitlines()]
    if found:
        print(report(found))
    return code


if __name__ == "__main__":
    sys.exit(main())
