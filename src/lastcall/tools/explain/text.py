"""The answer as a colleague would write it down: what happened, who ordered it, whom it hit, what to change. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lastcall.tools.explain import words
from lastcall.tools.explain.clock import Zone, named
from lastcall.tools.explain.investigate import Findings
from lastcall.tools.explain.records import Class, Event, Incident, Orderer, Quote, Request
from lastcall.tools.readers.text import redacted
from lastcall.tools.report import printable

QUOTE_MAX: Final = 200
"""Characters of a line that are quoted for people."""
LISTED: Final = 30
"""Requests of a class that are listed for people; JSON has all."""
FILES: Final = 12
WHOLE: Final = 3
"""Incidents that are told in full for people; of more, each has a line, and the last one is told."""
HEADS: Final = {
    Class.HALF_DONE: "Likely half-done: check these",
    Class.RETRIED: "Tried again at another server",
    Class.UNTOLD: "Finished, and the client was told that it failed",
    Class.NEVER_BEGUN: "Never begun: the client was told that it failed, and it did",
    Class.ANSWERED_LATE: "Answered late",
}


def lines(findings: Findings) -> Iterator[str]:
    """Everything."""
    told = findings.incidents if len(findings.incidents) <= WHOLE else findings.incidents[-1:]
    if told != findings.incidents:
        yield from _list(findings)
    for number, incident in enumerate(told):
        if number:
            yield ""
            yield "-" * 72
            yield ""
        yield from _incident(incident, findings)
    yield from _nothing(findings)
    yield from _quiet(findings)
    yield from _read(findings)


def _list(findings: Findings) -> Iterator[str]:
    """Many incidents, a line each."""
    yield f"{len(findings.incidents)} incidents; the last one in full below, any other with --at, all with --json or --html:"
    for incident in findings.incidents:
        at = findings.zone.local(incident.at).strftime("%a %Y-%m-%d %H:%M:%S")
        cause = f"SIG{incident.cause}" if incident.cause.isupper() else incident.cause or "?"
        order = incident.ordered_by
        by = f"  {order.kind}: {order.what}" if order is not None else ""
        yield printable(f"  {at}  {incident.service or '?'}  {cause:<8}  {words.counts(incident)}{redacted(by)}")
    yield ""
    yield "-" * 72
    yield ""


def _nothing(findings: Findings) -> Iterator[str]:
    if findings.incidents:
        return
    question = findings.question
    if not question.names:
        where = "at that time" if question.at else "in these logs"
        known = "no restart" if not any(i.dark for i in findings.quiet) else "no restart of which that can be said"
        yield f"No incident: {known} {where} has cut a request, or refused one."
        return
    asked = ", ".join(question.names)
    if not findings.elsewhere:
        yield f"{asked}: in no line of these logs. What a request carries in its body or its headers, no access log has."
        return
    yield f"{asked}: no restart has hit it. These lines have it:"
    for found in findings.elsewhere[:LISTED]:
        at = f"{words.date(found.at, findings.zone)} {words.clock(found.at, findings.zone)}"
        yield f"  {at}  {found.quote.file}:{found.quote.line}"
        yield f"      | {_shown(found.quote.text)}"


def _incident(incident: Incident, findings: Findings) -> Iterator[str]:
    zone = findings.zone
    yield printable(f"{incident.said}.")
    yield f"Hit: {words.counts(incident)}."
    yield ""
    yield from _ordered(incident.ordered_by, findings)
    yield "Timeline (" + _zone(incident.at, zone) + ")"
    for event in incident.events:
        yield from _event(event, incident, zone)
    yield ""
    for kind, head in HEADS.items():
        yield from _requests(head, kind, incident, zone)
    if incident.advice:
        yield "What to change"
        for advice in incident.advice:
            yield f"  {advice.file}:{advice.line}: {printable(advice.said)}"
            for line in advice.diff.splitlines():
                yield f"      {printable(redacted(line))}"
        yield ""
    if incident.unseen:
        yield "What could not be seen"
        for sentence in incident.unseen:
            yield f"  - {printable(sentence)}"
        yield ""
    if incident.count(Class.HALF_DONE):
        yield "What to check: the ledgers, for each request that is likely half-done (lastcall reconcile)."


def _zone(at: float, zone: Zone) -> str:
    offset = zone.local(at).utcoffset()
    return (
        f"{zone.name}, {named(offset.total_seconds() if offset else 0.0)}" if zone.name[:1] not in "+-" else zone.name
    )


def _ordered(order: Orderer | None, findings: Findings) -> Iterator[str]:
    if order is None:
        yield "Ordered by: nobody was seen."
        yield ""
        return
    where = f", {order.quote.file}:{order.quote.line}" if order.quote is not None else ""
    user = f" ({order.user})" if order.user else ""
    yield printable(f"Ordered by {order.kind}{user}{where}; sure to {order.confidence:.0%}")
    yield f"      | {_shown(order.what)}"
    for step in order.steps:
        yield f"      -> {_place(step)}: {_shown(step.text)}"
    for why in order.why:
        yield f"  - {printable(why)}"
    if order.days:
        yield f"  - the same was seen on {order.days} other day{'s' if order.days > 1 else ''}"
    if order.next is not None:
        yield f"  - it is due again on {words.date(order.next, findings.zone)} at {words.clock(order.next, findings.zone)}"
    yield ""


def _place(quote: Quote) -> str:
    file = quote.file if quote.file.startswith("/") else f"/{quote.file}"
    return f"{file}:{quote.line}" if quote.line else file


def _event(event: Event, incident: Incident, zone: Zone) -> Iterator[str]:
    exact = any(mark.quote == event.quote and mark.grain < 1 for mark in incident.marks)
    at = words.clock(event.at, zone, grain=0.001 if exact else 1.0)
    yield f"  {at:<12}  {printable(event.said)}"
    yield f"                  {_place(event.quote)} | {_shown(event.quote.text)}"


def _requests(head: str, kind: Class, incident: Incident, zone: Zone) -> Iterator[str]:
    listed = sorted((r for r in incident.requests if r.kind is kind), key=lambda r: (-r.confidence, r.at))
    if not listed:
        return
    yield f"{head} ({incident.count(kind)})"
    for request in listed[:LISTED]:
        yield from _request(request, zone)
    if incident.count(kind) > LISTED:
        yield f"  and {incident.count(kind) - LISTED} more: --json has all of them"
    yield ""


def _request(request: Request, zone: Zone) -> Iterator[str]:
    began = f", begun {words.clock(request.began, zone, grain=0.001)}" if request.began is not None else ""
    status = f" {request.status}" if request.status is not None else ""
    names = f"  id {request.id}" if request.id else ""
    yield printable(
        f"  {words.clock(request.at, zone)}  {request.method} {redacted(request.uri)}{status} from {request.client or '?'}"
        f"{began}{names}  [{request.confidence:.0%}]"
    )
    yield f"      {printable(request.why)}"
    for quote in request.evidence[:3]:
        yield f"      {_place(quote)} | {_shown(quote.text)}"


def _quiet(findings: Findings) -> Iterator[str]:
    for head, listed in quiet(findings):
        if listed and not findings.question.names:
            yield from _restarts(head, listed)


def quiet(findings: Findings) -> tuple[tuple[str, list[Incident]], ...]:
    """Restarts that have hit nobody, and those of which nobody can say it."""
    seen = [incident for incident in findings.quiet if not incident.dark]
    dark = [incident for incident in findings.quiet if incident.dark]
    return (
        ("Restarts that cut and refused nobody", seen),
        ("Restarts of which no log says whom they hit: there is none of a front for that time", dark),
    )


def _restarts(head: str, listed: list[Incident]) -> Iterator[str]:
    yield ""
    yield f"{head} ({len(listed)})"
    for incident in listed[:LISTED]:
        order = incident.ordered_by
        by = f"; ordered by {order.kind}: {order.what}" if order is not None else ""
        hit = f"; {words.counts(incident)}" if incident.requests else ""
        yield f"  {printable(incident.said + by + hit)}"
        if incident.marks:
            yield f"      {_place(incident.marks[0].quote)} | {_shown(incident.marks[0].quote.text)}"
    if len(listed) > LISTED:
        yield f"  and {len(listed) - LISTED} more: --json has all of them"


def _read(findings: Findings) -> Iterator[str]:
    reads = [read for read in findings.heard.reads if read.kind is not None]
    lines_, bad = sum(read.lines for read in reads), sum(read.not_understood for read in reads)
    yield ""
    yield f"Read: {len(reads)} logs, {lines_} lines" + (f"; {bad} lines were not understood" if bad else "")
    worst = sorted((read for read in reads if read.not_understood), key=lambda read: -read.not_understood)
    for read in worst[:FILES]:
        assert read.kind is not None
        yield f"  {read.file.shown}: {read.not_understood} of {read.lines} lines are none of a {read.kind.name}"
    for read in reads:
        if read.shift:
            yield f"  {read.file.shown}: its clock is off by {-read.shift:+g} s, or in another zone; its times were moved"
    unknown = [read.file.shown for read in findings.heard.reads if read.kind is None and not read.trouble]
    if unknown:
        more = f" and {len(unknown) - FILES} more" if len(unknown) > FILES else ""
        yield f"  no log that we know: {', '.join(unknown[:FILES])}{more}"
    for sentence in findings.unseen[:LISTED]:
        yield f"  {printable(sentence)}"
    if len(findings.unseen) > LISTED:
        yield f"  and {len(findings.unseen) - LISTED} more: --json has all of them"


def _shown(text: str) -> str:
    line = redacted(text.strip()[: QUOTE_MAX * 10])
    return printable(line if len(line) <= QUOTE_MAX else line[:QUOTE_MAX] + " ...")
