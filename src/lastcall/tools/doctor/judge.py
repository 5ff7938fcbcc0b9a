"""Asks every rule, and sorts what they say. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from lastcall.tools.doctor.facts import Facts, Trouble
from lastcall.tools.doctor.rules.catalogue import RULES
from lastcall.tools.doctor.verdicts import Finding, Severity, Told, Unclear
from lastcall.tools.readers.text import Spot

_IGNORE = re.compile(r"lastcall:\s*ignore\s+((?:LC\d+[\s,]*)+)")


@dataclass(frozen=True)
class Judgement:
    """What was found, the worst first; what was not understood; how many findings somebody has waved through."""

    told: tuple[Told, ...]
    unclear: tuple[Trouble, ...]
    ignored: int

    def worst(self) -> Severity | None:
        """The severity of the worst finding."""
        return self.told[0].rule.severity if self.told else None


def judge(facts: Facts, ignore: Collection[str] = ()) -> Judgement:
    """Every rule's findings, except those of `ignore` and those with `lastcall: ignore ID` on their line or above it."""
    told, unclear, ignored = list[Told](), list[Trouble](), 0
    for rule in RULES.values():
        seen = set[tuple[Spot, str]]()
        for verdict in rule.check(facts):
            if isinstance(verdict, Unclear):
                unclear.append(Trouble(verdict.spot.file, f"{verdict.why} ({rule.id})", verdict.spot.line))
            elif (verdict.spot, verdict.text) not in seen:
                seen.add((verdict.spot, verdict.text))
                if rule.id in ignore or rule.id in waved(facts, verdict):
                    ignored += 1
                else:
                    told.append(Told(rule, verdict))
    told.sort(key=lambda t: (t.rule.severity.rank, t.rule.id, t.finding.spot, t.finding.text))
    everything = dict.fromkeys((*facts.troubles, *facts.doubts.values(), *unclear))
    return Judgement(tuple(told), tuple(sorted(everything, key=lambda t: (t.path, t.line, t.why))), ignored)


def waved(facts: Facts, finding: Finding) -> frozenset[str]:
    """The rules that the file itself ignores at this place: on the line, or in a comment on the line above."""
    found = set[str]()
    for line in (finding.spot.line, finding.spot.line - 1):
        if line > 0 and (match := _IGNORE.search(facts.line(Spot(finding.spot.file, line)))):
            found |= set(re.findall(r"LC\d+", match[1]))
    return frozenset(found)
