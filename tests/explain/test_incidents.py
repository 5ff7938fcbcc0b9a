"""Incidents that are made for real, for whoever has to explain them from their logs.

`support.incidents` makes them, some thirty machines at once. Their logs are what real programs wrote; the truth is in two
ledgers that no log shows: a present was sent and its order never saved (half-done), or nothing was begun at all.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.incidents.machine import missing
from support.incidents.making import make
from support.incidents.scenes import scenes

pytestmark = [
    pytest.mark.xdist_group("incidents"),
    pytest.mark.skipif(bool(missing()), reason=f"a machine of its own needs {missing()}"),
]

INCIDENTS: Final = [scene.name for scene in scenes() if not scene.control]
CONTROLS: Final = [scene.name for scene in scenes() if scene.control]


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The file trees of all machines, and the truth about each."""
    with tempfile.TemporaryDirectory(prefix="lc-incidents-") as folder:
        out = Path(folder, "out")
        make(scenes(), Path(folder, "work"), out)
        yield out


# --- The incidents themselves --------------------------------------------------------------------


@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_has_its_victims(made: Path, name: str) -> None:
    """What is to be found is there: half-done requests, or where a grace was long enough, such as were never begun."""
    truth = json.loads((made / name / "truth.json").read_text())
    assert truth["never_begun" if name.startswith("quit10-cron") else "half_done"]
    assert truth["finished"] > len(truth["half_done"])


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_has_none(made: Path, name: str) -> None:
    """Whatever was begun was finished, and whatever was refused was refused by the application."""
    truth = json.loads((made / name / "truth.json").read_text())
    assert (truth["half_done"], truth["never_begun"]) == ([], [])
    assert truth["finished"]
