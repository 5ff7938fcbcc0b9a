"""When a worker has served for long enough (`max_age`). By requests and by memory it finds out by itself.

The master keeps the time, so that a worker without work need not wake to look at a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastcall.core.quantities import format_duration


@dataclass(frozen=True, slots=True)
class _Age:
    due: float
    why: str


class Ages:
    """The workers that have an age to reach, by their serials."""

    def __init__(self) -> None:
        self._ages: dict[int, _Age] = {}

    def serves(self, serial: int, since: float, limit: float) -> None:
        """The worker has served since then, and may do so for this long; 0: for ever. May be said again after a rest."""
        if limit:
            self._ages[serial] = _Age(since + limit, f"has served for {format_duration(round(limit, 3))}")

    def forget(self, serial: int) -> None:
        self._ages.pop(serial, None)

    def due(self, now: float) -> list[tuple[int, str]]:
        """Those that have reached their age, with words for the log. Each is named once."""
        old = [(serial, age.why) for serial, age in self._ages.items() if age.due <= now]
        for serial, _ in old:
            self.forget(serial)
        return old

    def next_due(self) -> float | None:
        return min((age.due for age in self._ages.values()), default=None)
