"""The answer as a page: one HTML file, to be looked at, sent and printed; it needs no network and no other file. Pure.

It shows `Findings` and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lastcall.tools import page
from lastcall.tools.explain import words
from lastcall.tools.explain.clock import Zone, named
from lastcall.tools.explain.investigate import Findings
from lastcall.tools.explain.records import Advice, Class, Did, Event, Happening, Incident, Orderer, Quote, Request
from lastcall.tools.explain.text import HEADS, quiet
from lastcall.tools.page import Html, Scale, count, linear, seconds, tag
from lastcall.tools.readers.text import redacted

DRAWN: Final = 60
"""Requests that are drawn of one incident: a screen of them."""
LISTED: Final = 200
"""Requests of a class that are listed; JSON has all."""
ROW: Final = 12
WIDTH: Final = 1000
AROUND: Final = 1.0
"""Seconds that are shown before the first and after the last."""


def draw(findings: Findings) -> str:
    """The page."""
    many = len(findings.incidents)
    title = "Explain: " + (
        findings.incidents[0].said if many == 1 else count(many, "incident") if many else "no incident"
    )
    return page.page(
        title[:120],
        _header(findings),
        tag(
            "main",
            [_incident(incident, findings, number) for number, incident in enumerate(findings.incidents, 1)],
            [_quiet(head, listed) for head, listed in quiet(findings)],
            _read(findings),
        ),
        css=page.resource("lastcall.tools.explain", "page.css"),
    )


def _header(findings: Findings) -> Html:
    many = len(findings.incidents)
    half = sum(incident.count(Class.HALF_DONE) for incident in findings.incidents)
    if not many:
        sentence, meaning = "No restart has cut a request", "Nor refused one, in the logs that were read."
    else:
        sentence = f"{count(many, 'incident')}, {count(half, 'request')} likely half-done"
        meaning = "Each request that is likely half-done is to be checked in the ledgers of what it does."
    mast = tag("p", tag("b", "lastcall"), " explain", tag("span", _zone(findings), class_="zone"), class_="mast")
    return tag(
        "header",
        mast,
        tag("h1", sentence),
        tag("p", meaning, class_="meaning"),
        class_="top off" if many else "top agree",
    )


def _zone(findings: Findings) -> str:
    offset = findings.zone.local(findings.latest or 0.0).utcoffset()
    shown = named(offset.total_seconds() if offset else 0.0)
    return f"times: {shown if findings.zone.name == shown else f'{findings.zone.name}, {shown}'}"


# --- An incident -------------------------------------------------------------


def _incident(incident: Incident, findings: Findings, number: int) -> Html:
    zone, anchor = findings.zone, f"i{number}"
    return tag(
        "section",
        tag("h2", f"{incident.said}."),
        _counts(incident),
        _plot(incident, zone),
        _ordered(incident.ordered_by, zone),
        tag("h3", "What happened"),
        tag("ol", [_event(event, zone) for event in incident.events], class_="events"),
        [_requests(kind, incident, zone, anchor) for kind in HEADS],
        _advice(incident),
        _list("What could not be seen", incident.unseen),
        id=anchor,
        class_="incident",
    )


def _counts(incident: Incident) -> Html:
    items = [
        tag("li", tag("i"), tag("b", f"{many:,}"), f" {words.CLASSES[kind]}", class_=kind.value)
        for kind in Class
        if (many := incident.count(kind))
    ]
    return tag("ul", items, class_="counts")


def _plot(incident: Incident, zone: Zone) -> Html | None:
    """Each request from its begin to its end, in the order in which they came; and when the server was away."""
    listed = sorted(incident.requests, key=lambda request: request.began if request.began is not None else request.at)
    shown = listed[:DRAWN]
    if not shown:
        return None
    begin = min(incident.at, *(request.began or request.at for request in shown)) - AROUND
    end = max(incident.until, *(request.at + 1.0 for request in shown)) + AROUND
    x = linear(begin, end)
    height = ROW * len(shown) + ROW
    away = _span(x, incident.at, incident.until, 0, height, "away")
    marks = [
        tag("line", x1=x(at) * WIDTH, x2=x(at) * WIDTH, y1=0, y2=height, class_=f"mark {name}")
        for at, name in _marks(incident)
    ]
    bars = [_bar(x, request, at) for at, request in enumerate(shown)]
    label = f"{count(len(shown), 'request')} and the time for which the server was away"
    drawing = tag(
        "svg", away, bars, marks, viewBox=f"0 0 {WIDTH} {height}", preserveAspectRatio="none", role="img", aria_label=label,
        height=height,
    )  # fmt: skip
    more = f"; {len(listed) - DRAWN:,} more are not drawn" if len(listed) > DRAWN else ""
    caption = (
        f"From {words.clock(begin, zone)} to {words.clock(end, zone)}, {seconds(end - begin)}. A bar is a request, from its "
        f"begin (a point: no log says when that was). Shaded: the server was away. Lines: it was told, it was back{more}."
    )
    return tag("figure", drawing, tag("figcaption", caption), class_="plot")


def _marks(incident: Incident) -> Iterable[tuple[float, str]]:
    for mark in incident.marks:
        if isinstance(mark.what, Happening):
            if mark.what.did in (Did.TOLD, Did.RELOADING, Did.VANISHED, Did.WORKER_DIED):
                yield mark.at, "told"
            elif mark.what.did is Did.READY:
                yield mark.until, "back"


def _bar(x: Scale, request: Request, row: int) -> Html:
    top = ROW * row + ROW // 2 + 2
    begin = request.began if request.began is not None else request.at
    return _span(x, begin, max(request.at, begin), top, ROW - 4, request.kind.value, least=5.0)


def _span(x: Scale, begin: float, end: float, top: int, height: int, name: str, least: float = 1.0) -> Html:
    left = x(begin) * WIDTH
    return tag("rect", x=left, y=top, width=max(x(end) * WIDTH - left, least), height=height, class_=name)


def _ordered(order: Orderer | None, zone: Zone) -> Html:
    if order is None:
        return tag("p", tag("b", "Ordered by: "), "nobody was seen.", class_="ordered")
    where = _place(order.quote) if order.quote is not None else None
    user = f" ({order.user})" if order.user else ""
    facts = list(order.why)
    if order.days:
        facts.append(f"the same was seen on {count(order.days, 'other day')}")
    if order.next is not None:
        facts.append(f"it is due again on {words.date(order.next, zone)} at {words.clock(order.next, zone)}")
    return tag(
        "div",
        tag("h3", f"Ordered by {order.kind}{user}"),
        tag("p", tag("code", redacted(order.what), class_="command"), " ", where),
        tag("ol", [tag("li", _place(step), " ", redacted(step.text)) for step in order.steps], class_="steps"),
        tag("ul", tag("li", f"sure to {order.confidence:.0%}"), [tag("li", fact) for fact in facts], class_="why"),
        class_="ordered",
    )


def _place(quote: Quote) -> Html:
    file = quote.file if quote.file.startswith("/") else f"/{quote.file}"
    return tag("span", f"{file}:{quote.line}" if quote.line else file, class_="place")


def _event(event: Event, zone: Zone) -> Html:
    return tag(
        "li",
        tag("time", words.clock(event.at, zone)),
        tag("div", tag("b", event.said), _log(event.quote)),
        class_="event",
    )


def _log(quote: Quote) -> Html:
    return tag("div", _place(quote), tag("code", redacted(quote.text[:500])), class_="log")


# --- Requests ----------------------------------------------------------------


def _requests(kind: Class, incident: Incident, zone: Zone, anchor: str) -> Html | None:
    listed = sorted((r for r in incident.requests if r.kind is kind), key=lambda r: (-r.confidence, r.at))
    if not listed:
        return None
    heads = ("when", "request", "sure", "why")
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", [_request(request, zone) for request in listed[:LISTED]]),
        class_="requests",
    )
    rest = incident.count(kind) - min(len(listed), LISTED)
    name = f"{HEADS[kind]} ({incident.count(kind):,})"
    box = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"{name}, {anchor}")
    more = tag("p", f"and {rest:,} more: the JSON has all", class_="rest") if rest else None
    return tag("div", tag("h3", name), box, more, class_=kind.value)


def _request(request: Request, zone: Zone) -> Html:
    began = f"from {words.clock(request.began, zone, grain=0.001)}" if request.began is not None else None
    status = f" {request.status}" if request.status is not None else ""
    what = f"{request.method} {redacted(request.uri)}{status}"
    return tag(
        "tr",
        tag("td", tag("time", words.clock(request.at, zone)), tag("div", began, class_="soft") if began else None),
        tag("th", what, tag("div", f"{request.client} {request.id}".strip(), class_="soft"), scope="row"),
        tag("td", f"{request.confidence:.0%}"),
        tag("td", request.why, tag("details", tag("summary", "lines"), [_log(quote) for quote in request.evidence])),
    )


# --- The rest ----------------------------------------------------------------


def _advice(incident: Incident) -> Html | None:
    if not incident.advice:
        return None
    items = [
        tag("li", tag("p", _place(Quote(one.file, one.line)), " ", one.said), _patch(one)) for one in incident.advice
    ]
    return tag("div", tag("h3", "What to change"), tag("ul", items, class_="advice"))


def _patch(advice: Advice) -> Html | None:
    """It scrolls by itself, by keyboard too; its name is its own on the page."""
    if not advice.diff:
        return None
    lines = [_diff(line) for line in advice.diff.splitlines()]
    return tag("pre", lines, tabindex="0", role="group", aria_label=f"Patch of {advice.file}")


def _diff(line: str) -> Html:
    name = {"-": "gone", "+": "new"}.get(line[:1], "") if not line.startswith(("---", "+++")) else ""
    return tag("span", f"{redacted(line)}\n", class_=name or None)


def _list(head: str, sentences: list[str]) -> Html | None:
    if not sentences:
        return None
    return tag("div", tag("h3", head), tag("ul", [tag("li", sentence) for sentence in sentences], class_="plain"))


def _quiet(head: str, listed: list[Incident]) -> Html | None:
    if not listed:
        return None
    items = [tag("li", one.said, tag("div", words.counts(one), class_="soft")) for one in listed[:LISTED]]
    rest = len(listed) - LISTED
    more = tag("p", f"and {rest:,} more: the JSON has all", class_="rest") if rest > 0 else None
    return tag("section", tag("h2", head), tag("ul", items, class_="plain"), more)


def _read(findings: Findings) -> Html:
    heads = ("log", "kind", "lines", "not understood")
    reads = [read for read in findings.heard.reads if read.kind is not None]
    rows = [
        tag("tr", tag("th", read.file.shown, scope="row"), tag("td", read.kind.name if read.kind is not None else ""),
            tag("td", f"{read.lines:,}"), tag("td", f"{read.not_understood:,}"))
        for read in reads[:LISTED]
    ]  # fmt: skip
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", rows),
        class_="requests",
    )
    return tag(
        "section",
        tag("h2", "What was read"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Logs") if rows else None,
        _list("What could not be read", findings.unseen),
    )
