"""What to change, so that it does not happen again: doctor's findings about the lines that led to it. Pure."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from lastcall.tools.doctor.facts import Facts
from lastcall.tools.doctor.judge import judge
from lastcall.tools.doctor.patch import patch
from lastcall.tools.doctor.verdicts import Severity, Told
from lastcall.tools.explain.records import Advice, Incident
from lastcall.tools.readers import servers

MOST: Final = 5
"""Pieces of advice for one incident."""
_GRACE: Final = {servers.PHP_FPM: "process_control_timeout"}


class Advisor:
    """Knows what doctor has to say about the configuration; asks it once."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @cached_property
    def _told(self) -> tuple[Told, ...]:
        return tuple(told for told in judge(self.facts).told if told.rule.severity is not Severity.NOTE)

    def advise(self, incident: Incident) -> list[Advice]:
        """The findings about lines on the way from the order to the signal, then those about how the server is stopped."""
        order = incident.ordered_by
        places = set[tuple[str, int]]()
        if order is not None:
            quotes = (*order.steps, *([order.quote] if order.quote is not None else []))
            places = {(quote.file.lstrip("/"), quote.line) for quote in quotes}
        found = [told for told in self._told if self._near(told, places)]
        if incident.how != "crash":
            found += [told for told in self._told if told not in found and _about_grace(told, incident)]
        return [self._made(told) for told in found[:MOST]]

    def _near(self, told: Told, places: set[tuple[str, int]]) -> bool:
        spots = (told.finding.spot, *(step.spot for step in told.finding.steps[:1]))
        return any((spot.file, spot.line) in places for spot in spots)

    def _made(self, told: Told) -> Advice:
        diff, _ = patch(self.facts, [told])
        spot = told.finding.spot
        return Advice(f"{told.finding.text}. {told.rule.fix} ({told.rule.id})", f"/{spot.file}", spot.line, diff)


def _about_grace(told: Told, incident: Incident) -> bool:
    """Whether it is about the time that this server gives its requests when it is stopped."""
    word = _GRACE.get(incident.service, "grace")
    return word in told.finding.text or (
        word in told.rule.title and servers.mentioned(told.finding.text) == incident.service
    )
