"""When the application's `on_cut` runs for which cut: the queue, without processes, files and clocks.

A cut is in the queue until its function has returned. It is run again for as long as it fails, after a pause that doubles;
meanwhile others have their turn, so that one that always fails holds up nobody. What is known of a cut here is its id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

CONCURRENT: Final = 2
"""How many run at one time: a repair is rare, and its neighbours are requests."""
BACKOFF: Final = 0.5
"""Seconds until the second try."""
BACKOFF_MAX: Final = 300.0
"""Seconds between two tries at most: it goes on for as long as the function fails."""
ALARM_AFTER: Final = 5
"""Tries after which it no longer looks like a bad moment: from here on it is an error."""
QUEUE_MAX: Final = 1000
"""Cuts that wait in memory. The list on the disk has the others, and is read again when there is room."""
DOUBLINGS_MAX: Final = 16


@dataclass(slots=True)
class _Waiting:
    tries: int
    """That have failed."""
    due: float


class Queue:
    """The cuts that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, int] = {}
        self.overflowed = False
        """There are more than could be taken."""

    def __len__(self) -> int:
        """Those that have not been completed, as far as they are known here."""
        return len(self._waiting) + len(self._running)

    def __contains__(self, cut: str) -> bool:
        return cut in self._waiting or cut in self._running

    @property
    def running(self) -> int:
        return len(self._running)

    def add(self, cuts: Iterable[str], now: float) -> list[str]:
        """Take these, each once; returns those that were taken."""
        taken = []
        for cut in cuts:
            if cut in self:
                continue
            if len(self) >= QUEUE_MAX:
                self.overflowed = True
                break
            self._waiting[cut] = _Waiting(0, now)
            taken.append(cut)
        return taken

    @property
    def wants_more(self) -> bool:
        """There were more, and now there is room: whoever has the list is to add what it has."""
        return self.overflowed and len(self) <= QUEUE_MAX // 2

    def begin(self, now: float) -> list[tuple[str, int]]:
        """The cuts whose function is to be run now, and the number of the try."""
        due = [cut for cut, waiting in self._waiting.items() if waiting.due <= now]
        begun = [(cut, self._waiting.pop(cut).tries + 1) for cut in due[: max(0, CONCURRENT - self.running)]]
        self._running.update(begun)
        return begun

    def succeeded(self, cut: str) -> None:
        del self._running[cut]

    def failed(self, cut: str, now: float) -> float:
        """Returns the pause until the next try."""
        tries = self._running.pop(cut)
        pause = min(BACKOFF * 2.0 ** min(tries - 1, DOUBLINGS_MAX), BACKOFF_MAX)
        self._waiting[cut] = _Waiting(tries, now + pause)
        return pause

    def next_due(self) -> float | None:
        """When `begin` has something to begin; None while it can have nothing."""
        if self.running >= CONCURRENT:
            return None
        return min((waiting.due for waiting in self._waiting.values()), default=None)
