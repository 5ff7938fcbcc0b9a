"""How far the reading is, on one line of a terminal that is written again and again. Knows nothing of what is read."""

from __future__ import annotations

import sys
import time
from typing import Final

PATIENCE: Final = 1.0
"""Seconds after which somebody wants to know."""
EVERY: Final = 0.2
WIDTH: Final = 100


class Progress:
    """Tells on stderr."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._begun = self._told = time.monotonic()
        self._bytes = 0
        self._shown = False

    def tell(self, file: str, size: int) -> None:
        """So many bytes more of that file."""
        self._bytes += size
        now = time.monotonic()
        if not self._wanted or now - self._begun < PATIENCE or now - self._told < EVERY:
            return
        self._told = now
        self._shown = True
        speed = self._bytes / 1e6 / (now - self._begun)
        line = f"{self._bytes / 1e6:,.0f} MB read, {speed:,.0f} MB/s: {file}"[:WIDTH]
        sys.stderr.write(f"\r{line:<{WIDTH}}")
        sys.stderr.flush()

    def end(self) -> None:
        """Nothing more is read."""
        if self._shown:
            sys.stderr.write(f"\r{'':<{WIDTH}}\r")
            sys.stderr.flush()
