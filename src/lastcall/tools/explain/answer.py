"""The answer as one JSON object (docs/EXPLAIN.md). A later version adds names, and removes none. Pure."""

from __future__ import annotations

import json
from typing import Any

from lastcall.tools.explain.collect import Read
from lastcall.tools.explain.investigate import Findings
from lastcall.tools.explain.records import Found, Incident, Orderer, Quote, Request
from lastcall.tools.explain.setup import base
from lastcall.tools.readers.text import redacted

Json = dict[str, Any]


def as_json(findings: Findings) -> str:
    """One object, with line breaks for people."""
    return json.dumps(document(findings), indent=1, ensure_ascii=False)


def document(findings: Findings) -> Json:
    """The object."""
    moment = _Moments(findings)
    return {
        "incidents": [_incident(incident, moment) for incident in findings.incidents],
        "restarts": [_incident(incident, moment) for incident in findings.quiet],
        "elsewhere": [_found(found, moment) for found in findings.elsewhere],
        "clocks": _clocks(findings),
        "read": [_read(read) for read in findings.heard.reads],
        "unseen": findings.unseen,
    }


class _Moments:
    """Times in words of ISO 8601, in the machine's zone."""

    def __init__(self, findings: Findings) -> None:
        self._zone = findings.zone

    def __call__(self, at: float | None) -> str | None:
        return None if at is None else self._zone.local(at).isoformat(timespec="milliseconds")


def _incident(incident: Incident, moment: _Moments) -> Json:
    return {
        "at": moment(incident.at),
        "until": moment(incident.until),
        "back": incident.back,
        "dark": incident.dark,
        "service": incident.service or None,
        "cause": incident.cause or None,
        "how": incident.how or None,
        "said": incident.said,
        "ordered_by": _orderer(incident.ordered_by, moment),
        "requests": [_request(request, moment) for request in incident.requests],
        "not_listed": {kind.value: many for kind, many in incident.more.items()},
        "events": [
            {"at": moment(event.at), "source": event.source, "said": event.said, **_quote(event.quote)}
            for event in incident.events
        ],
        "advice": [{"said": one.said, "file": one.file, "line": one.line, "diff": one.diff} for one in incident.advice],
        "unseen": incident.unseen,
    }  # fmt: skip


def _orderer(order: Orderer | None, moment: _Moments) -> Json | None:
    if order is None:
        return None
    return {
        "kind": order.kind,
        "what": redacted(order.what),
        "file": order.quote.file if order.quote else None,
        "line": order.quote.line if order.quote else None,
        "user": order.user or None,
        "confidence": order.confidence,
        "why": list(order.why),
        "steps": [_quote(step) for step in order.steps],
        "days": order.days,
        "next": moment(order.next),
    }


def _request(request: Request, moment: _Moments) -> Json:
    return {
        "class": request.kind.value,
        "confidence": request.confidence,
        "why": request.why,
        "at": moment(request.at),
        "began": moment(request.began),
        "method": request.method or None,
        "uri": redacted(request.uri) or None,
        "client": request.client or None,
        "status": request.status,
        "id": request.id or None,
        "ids": list(request.ids),
        "evidence": [_quote(quote) for quote in request.evidence],
    }


def _quote(quote: Quote) -> Json:
    return {
        "file": quote.file if quote.file.startswith("/") else f"/{quote.file}",
        "line": quote.line,
        "text": redacted(quote.text),
    }


def _found(found: Found, moment: _Moments) -> Json:
    return {"at": moment(found.at), **_quote(found.quote)}


def _clocks(findings: Findings) -> list[Json]:
    """One for each log, however often it was rotated."""
    told = dict[str, Json]()
    for read in findings.heard.reads:
        if read.kind is not None:
            skew = (
                f"; moved by {read.shift:+g} s: only so do its restarts fall on what the front complains of"
                if read.shift
                else ""
            )
            told.setdefault(
                base(read.file.shown),
                {
                    "source": base(read.file.shown),
                    "zone": read.zone.name,
                    "skew": read.shift,
                    "why": read.zone.why + skew,
                },
            )
    return list(told.values())


def _read(read: Read) -> Json:
    return {
        "file": read.file.shown,
        "kind": read.kind.name if read.kind is not None else None,
        "lines": read.lines,
        "understood": read.understood,
        "not_understood": read.not_understood,
        "passed_over": max(read.lines - read.understood - read.not_understood, 0),
        "out_of_order": read.out_of_order,
        "bytes": read.file.size,
        "trouble": read.trouble or None,
    }
