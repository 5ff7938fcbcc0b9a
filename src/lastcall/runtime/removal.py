"""Listeners that a reload has taken out of the configuration: they end as a stop's do, and their connections live on.

Whoever stands in such a queue has been promised an answer, and a connection that came through it is kept as any other: the
next generation must know what it came through, though nobody listens there any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lastcall.runtime.closing import Closing
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.sockets import Listener

FORMER_MAX: Final = 64
"""Listeners remembered that are gone. A connection that has come through an older one is closed at the next hand-over."""


@dataclass(slots=True)
class Removals:
    """All that are being closed, and those that are."""

    former: tuple[Listener, ...] = ()
    """What their connections are known by; the sockets are closed."""
    _under_way: list[tuple[Closing, tuple[Listener, ...]]] = field(default_factory=list)

    def begin(self, listeners: Iterable[Listener], inbox: Inbox, now: float) -> None:
        """Let nobody new in through these. Those that are on their way out already are left alone."""
        fresh = tuple(listener for listener in listeners if not self.holds(listener))
        if fresh:
            self._under_way.append((Closing(fresh, inbox, now), fresh))
            self.former = (*self.former, *fresh)[-FORMER_MAX:]

    def holds(self, listener: Listener) -> bool:
        """Whether its socket must stay open, for its queue is still being emptied."""
        return any(listener in listeners for _, listeners in self._under_way)

    def due(self, now: float) -> float | None:
        """When to look again."""
        return min((time for closing, _ in self._under_way if (time := closing.due(now)) is not None), default=None)

    def look(self, now: float) -> bool:
        """Empty the queues; whether one of them is done with."""
        for closing, _ in self._under_way:
            closing.look(now)
        rest = [(closing, listeners) for closing, listeners in self._under_way if not closing.over]
        done = len(rest) < len(self._under_way)
        self._under_way = rest
        return done
