"""Why an order is missing: which request was cut that would have written it, by lastcall's cut list or by anybody's logs.

Pure. A key that stands in the cut request is as good as a confession; a time that fits is a suspicion, and is called one.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from lastcall.core.cuts import Cut
from lastcall.tools.explain import HitRequest
from lastcall.tools.reconcile.result import Explanation, Finding

SLACK = 2.0
"""Seconds by which the clocks of two machines may differ, and an order be written down after its request began."""
UNKNOWN = 5.0
"""Seconds for which a request may have run of which no log says when it began."""
TELLING = 4
"""Letters from which on a key is no accident in an address: `/3/xx/vgift` has a 3 in it, whatever order 3 is."""
CANDIDATES = 3
"""Requests that are named where several fit."""

_WORDS = re.compile(r"[\w.:-]+")


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """A request that was cut."""

    time: float
    """Unix time at which it was."""
    began: float
    id: str
    at: str
    """The same as `time`, in ISO 8601."""
    texts: tuple[str, ...]
    """Where an order's key may stand."""
    words: str
    """What happened to it, in one line."""
    begun: bool = True
    """False: by all that is known it had not begun, or was finished. It explains nothing, unless it names the order."""


def of_cut(cut: Cut) -> Suspect:
    """One of lastcall's cut list."""
    texts = (cut.request_id, unquote(cut.uri), cut.step)
    return Suspect(cut.time, cut.time - cut.elapsed, cut.request_id, cut.at, texts, words(cut))


def of_hit(hit: HitRequest) -> Suspect:
    """One that `lastcall explain` has found in logs."""
    at = datetime.fromtimestamp(hit.at, UTC).isoformat(timespec="milliseconds")
    began = hit.at - UNKNOWN if hit.began is None else hit.began
    begun = hit.kind in ("half-done", "retried")
    # it is asked for when an order is missing of which it is the request
    said = hit.sentence if begun else f"by the logs {hit.sentence}, but the ledgers say otherwise"
    return Suspect(hit.at, began, hit.id, at, (hit.text,), said, begun)


class Suspects:
    """Cut requests to look orders up in."""

    def __init__(self, suspects: Iterable[Suspect]) -> None:
        self._all = sorted(suspects, key=lambda one: one.time)
        self._times = [one.time for one in self._all]
        self._longest = max((one.time - one.began for one in self._all), default=0.0)
        self._named: dict[str, list[Suspect]] = defaultdict(list)
        for one in self._all:
            for word in {word for text in one.texts for word in _words(text)}:
                self._named[word].append(one)

    def naming(self, finding: Finding) -> list[Suspect]:
        """Requests in whose address, id or step the order's key stands."""
        return [one for value in finding.key.values() for one in self._named.get(value, ())]

    def around(self, at: float) -> list[Suspect]:
        """Requests that ran at that time."""
        first = bisect.bisect_left(self._times, at - SLACK)
        last = bisect.bisect_right(self._times, at + self._longest + SLACK)
        return [one for one in self._all[first:last] if one.begun and one.began - SLACK <= at]


def explain(findings: Sequence[Finding], suspects: Suspects) -> int:
    """Give an explanation to each finding that has one; how many have."""
    # a request can have lost one order: one that is named takes its request from those that only fit in time
    taken: set[int] = set()
    rest = []
    for finding in findings:
        named = suspects.naming(finding)
        if named:
            finding.explained = _named(finding, named)
            taken.update(id(one) for one in named)
        elif (at := unix(finding.at)) is not None:
            rest.append((finding, at))
    free = [(finding, [one for one in suspects.around(at) if id(one) not in taken]) for finding, at in rest]
    rivals: dict[int, int] = defaultdict(int)
    for _, fitting in free:
        for one in fitting:
            rivals[id(one)] += 1
    for finding, fitting in free:
        if fitting:
            alone = len(fitting) == 1 and rivals[id(fitting[0])] == 1
            finding.explained = _made("likely" if alone else "possible", fitting)
    return sum(finding.explained is not None for finding in findings)


def _named(finding: Finding, named: Sequence[Suspect]) -> Explanation:
    at = unix(finding.at)
    fits = [one for one in named if at is None or one.began - SLACK <= at <= one.time + SLACK]
    telling = max(map(len, finding.key.values())) >= TELLING
    if fits and telling:
        return _made("certain", fits)
    return _made("likely" if fits or telling else "possible", fits or named)


def _made(confidence: str, suspects: Sequence[Suspect]) -> Explanation:
    """The first of them in words, and that there are others. What a log says of several in the same words is said once."""
    said = list(dict.fromkeys(one.words for one in suspects))
    text = "; or ".join(said[:CANDIDATES])
    if len(said) > CANDIDATES:
        text += f"; or one of {len(said) - CANDIDATES} more"
    if len(said) < len(suspects):
        text = f"one of {len(suspects)} requests: {text}"
    return Explanation(confidence, text, suspects[0].id, suspects[0].at)


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


def _words(text: str) -> Iterable[str]:
    """The words of a text, and what `:` and `.` part in them."""
    for word in _WORDS.findall(text):
        yield word
        if ":" in word or "." in word:
            yield from re.split(r"[:.]", word)
