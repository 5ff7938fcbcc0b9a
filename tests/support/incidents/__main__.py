"""`python -m support.incidents FOLDER [NAME...]`: make incidents, all or these, and leave them in a folder."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from support.incidents.machine import missing
from support.incidents.making import make
from support.incidents.scenes import history, scenes


def main(folder: Path, names: list[str]) -> None:
    if lacking := missing():
        sys.exit(f"this needs {lacking}")
    chosen = [scene for scene in (*scenes(), history()) if not names or scene.name in names]
    with tempfile.TemporaryDirectory(prefix="lc-incidents-") as work:
        make(chosen, Path(work), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
