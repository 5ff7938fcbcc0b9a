"""Why an order is missing, by lastcall's cut list: which request was cut that would have written it.

Pure. A key that stands in the cut request is as good as a confession; a time that fits is a suspicion, and is called one.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

from lastcall.core.cuts import Cut
from lastcall.tools.reconcile.result import Explanation, Finding

SLACK = 2.0
"""Seconds by which the clocks of two machines may differ, and an order be written down after its request began."""
TELLING = 4
"""Letters from which on a key is no accident in an address: `/3/xx/vgift` has a 3 in it, whatever order 3 is."""
CANDIDATES = 3
"""Requests that are named where several fit."""

_WORDS = re.compile(r"[\w.:-]+")


class Cuts:
    """A cut list to look orders up in."""

    def __init__(self, cuts: Iterable[Cut]) -> None:
        self._cuts = sorted(cuts, key=lambda cut: cut.time)
        self._times = [cut.time for cut in self._cuts]
        self._longest = max((cut.elapsed for cut in self._cuts), default=0.0)
        self._named: dict[str, list[Cut]] = defaultdict(list)
        for cut in self._cuts:
            for word in {word for text in _texts(cut) for word in _words(text)}:
                self._named[word].append(cut)

    def naming(self, finding: Finding) -> list[Cut]:
        """Requests in whose address, id or step the order's key stands."""
        return [cut for value in finding.key.values() for cut in self._named.get(value, ())]

    def around(self, at: float) -> list[Cut]:
        """Requests that ran at that time."""
        first = bisect.bisect_left(self._times, at - SLACK)
        last = bisect.bisect_right(self._times, at + self._longest + SLACK)
        return [cut for cut in self._cuts[first:last] if cut.time - cut.elapsed - SLACK <= at]


def explain(findings: Sequence[Finding], cuts: Cuts) -> int:
    """Give an explanation to each finding that has one; how many have."""
    # a request can have lost one order: one that is named takes its request from those that only fit in time
    taken: set[int] = set()
    rest = []
    for finding in findings:
        named = cuts.naming(finding)
        if named:
            finding.explained = _named(finding, named)
            taken.update(id(cut) for cut in named)
        elif (at := unix(finding.at)) is not None:
            rest.append((finding, at))
    free = [(finding, [cut for cut in cuts.around(at) if id(cut) not in taken]) for finding, at in rest]
    rivals: dict[int, int] = defaultdict(int)
    for _, fitting in free:
        for cut in fitting:
            rivals[id(cut)] += 1
    for finding, fitting in free:
        if fitting:
            alone = len(fitting) == 1 and rivals[id(fitting[0])] == 1
            finding.explained = _made("likely" if alone else "possible", fitting)
    return sum(finding.explained is not None for finding in findings)


def _named(finding: Finding, cuts: Sequence[Cut]) -> Explanation:
    at = unix(finding.at)
    fits = [cut for cut in cuts if at is None or cut.time - cut.elapsed - SLACK <= at <= cut.time + SLACK]
    telling = max(map(len, finding.key.values())) >= TELLING
    if fits and telling:
        return _made("certain", fits)
    return _made("likely" if fits or telling else "possible", fits or cuts)


def _made(confidence: str, cuts: Sequence[Cut]) -> Explanation:
    """The first of them in words, and that there are others."""
    text = "; or ".join(words(cut) for cut in cuts[:CANDIDATES])
    if len(cuts) > CANDIDATES:
        text += f"; or one of {len(cuts) - CANDIDATES} more"
    return Explanation(confidence, text, cuts[0].request_id, cuts[0].at)


def words(cut: Cut) -> str:
    """What happened to a request, in one line."""
    when = datetime.fromtimestamp(cut.time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    step = f" at step {cut.step}" if cut.step else ""
    return (
        f"cut at {when} after {cut.elapsed:.2f} s{step}: {cut.cause} ({cut.method} {cut.uri}, request {cut.request_id})"
    )


def unix(at: str) -> float | None:
    """Unix time of a finding's time; None where it has none."""
    return datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() if at else None


def _texts(cut: Cut) -> Sequence[str]:
    return cut.request_id, unquote(cut.uri), cut.step


def _words(text: str) -> Iterable[str]:
    """The words of a text, and what `:` and `.` part in them."""
    for word in _WORDS.findall(text):
        yield word
        if ":" in word or "." in word:
            yield from re.split(r"[:.]", word)
