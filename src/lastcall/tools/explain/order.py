"""In which order requests came that broke together, and whether the signs of it agree. Pure.

There are three, and none is always right. How long each had waited: but the breaks of one restart are seen over some tenths
of a second, and a front logs whole seconds. The front's number of the connection: unless clients keep theirs. The order in
which the breaks were logged: workers die first, and the queue is reset when the last one is gone; but a front has several
processes, and one of them may be late. Where two say the same by themselves, hardly anything is left to doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CLEAR: Final = 0.3
"""Seconds that one must have waited longer than another to have come first for sure."""
LATER_LEAST: Final = 4
"""How many must have come clearly later than another, so that connections' numbers do not repeat that order by chance."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What is known of one of them."""

    waited: float | None
    """Seconds from when it was sent to when it broke."""
    connection: str
    """The front's number of the client's connection, or ""."""
    later: bool
    """It broke in a way that those at work do not."""


@dataclass(frozen=True, slots=True)
class Order:
    """Who came first."""

    places: list[int]
    """Whose turn it was, by their places among the breaks."""
    agreed: bool
    """Two signs tell by themselves who the first ones were."""
    torn: frozenset[int] = frozenset()
    """By one sign these were among the first ones, and by another they were not: half of them were."""


def order(signs: Sequence[Sign], running: int) -> Order:
    """The order of those whose breaks were logged in this one; the first ones are as many as were running."""
    lines = sorted(range(len(signs)), key=lambda at: (signs[at].later, at))
    numbers = _by_number(signs)
    waits = [sign.waited for sign in signs if sign.waited is not None]
    if len(waits) < len(signs):
        return Order(lines, bool(numbers) and not _torn(lines, numbers, running))
    if _repeats(numbers, waits):
        return Order(numbers, agreed=True)
    times = sorted(lines, key=lambda at: -waits[at])
    torn = _torn(times, lines, running)
    return Order(times, not torn, torn)


def _by_number(signs: Sequence[Sign]) -> list[int]:
    """By their connections; nothing where some have none, or one connection has carried several."""
    if len({sign.connection for sign in signs if sign.connection.isdecimal()}) < len(signs):
        return []
    return sorted(range(len(signs)), key=lambda at: int(signs[at].connection))


def _repeats(numbers: Sequence[int], waits: Sequence[float]) -> bool:
    """Whether that order is the one of the waits, wherever these are clear, and that often enough."""
    later, most, least = 0, float("-inf"), float("inf")
    for at in numbers:
        if waits[at] - least > CLEAR:
            return False
        later += most - waits[at] > CLEAR
        most, least = max(most, waits[at]), min(least, waits[at])
    return later >= LATER_LEAST


def _torn(one: Sequence[int], other: Sequence[int], running: int) -> frozenset[int]:
    return frozenset(one[:running]) ^ frozenset(other[:running])
