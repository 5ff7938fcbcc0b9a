"""How much is done for one number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """More of each makes numbers steadier."""

    rounds: int
    """Turns, in each of which everybody is loaded once."""
    seconds: float
    """How long a turn's load lasts."""
    starts: int
    """How often a start is timed."""
