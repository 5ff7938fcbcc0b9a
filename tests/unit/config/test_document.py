"""docs/CONFIGURATION.md and the code agree."""

from __future__ import annotations

from pathlib import Path

from lastcall.config import document
from lastcall.core.settings import SPECS

DOCUMENT = Path(__file__).parents[3] / "docs" / "CONFIGURATION.md"


def test_the_documents_table_is_the_codes() -> None:
    """Made anew with `python -m lastcall.config.document docs/CONFIGURATION.md`."""
    text = DOCUMENT.read_text()
    assert document.renewed(text) == text, (
        "run: PYTHONPATH=src python -m lastcall.config.document docs/CONFIGURATION.md"
    )


def test_every_setting_is_in_the_table_once() -> None:
    """With its option and its key."""
    for spec in SPECS.values():
        rows = [line for line in document.table().splitlines() if f"`{spec.name}` |" in line.split(" | ")[0] + " |"]
        assert len(rows) == 1
