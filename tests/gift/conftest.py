"""The gift platform, for every test here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gift import Platforms


@pytest.fixture
def platforms(folder: Path) -> Iterator[Platforms]:
    """Gift platforms, which end with the test."""
    started = Platforms(folder)
    yield started
    started.close()
