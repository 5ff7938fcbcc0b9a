"""What `explain` has found, for other tools of ours: requests with a sentence each."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import unquote

from lastcall.tools.explain import ROOT, HitRequest
from lastcall.tools.explain.clock import Zone
from lastcall.tools.explain.investigate import Question, investigate
from lastcall.tools.explain.records import Class, Incident, Request
from lastcall.tools.readers.text import redacted

_WHAT = {
    Class.HALF_DONE: "cut", Class.NEVER_BEGUN: "refused before it had begun", Class.RETRIED: "tried again at another server",
    Class.UNTOLD: "finished without its client being told",
}  # fmt: skip


def hits(
    root: Path, logs: tuple[Path, ...], since: float | None, until: float | None, troubles: list[str] | None
) -> list[HitRequest]:
    """See the package."""
    question = Question(root, root == ROOT, logs, bool(logs), begin=since, end=until)
    findings = investigate(question, time.time())
    if troubles is not None:
        troubles += findings.unseen
    made = [
        _hit(request, incident, findings.zone)
        for incident in findings.incidents
        for request in incident.requests
        if request.kind is not Class.ANSWERED_LATE
    ]
    return sorted(made, key=lambda hit: hit.at)


def _hit(request: Request, incident: Incident, zone: Zone) -> HitRequest:
    texts = (unquote(request.uri), request.id, *request.ids, *(quote.text for quote in request.evidence))
    return HitRequest(
        request.at, request.began, request.kind.value, request.confidence, request.method, request.uri, request.client,
        request.status, request.id, request.ids, "\n".join(dict.fromkeys(texts)), sentence(request, incident, zone),
        tuple((quote.file, quote.line) for quote in request.evidence),
    )  # fmt: skip


def sentence(request: Request, incident: Incident, zone: Zone) -> str:
    """What happened to a request, and by whose order, in one line."""
    when = zone.local(request.at).strftime("%Y-%m-%d %H:%M:%S")
    after = f" after {request.at - request.began:.2f} s" if request.began is not None else ""
    by = f"SIG{incident.cause}" if incident.cause.isupper() else incident.cause or "a restart that no log tells of"
    said = f"{_WHAT[request.kind]} at {when}{after} by {by} to {incident.service or 'the server behind the front'}"
    order = incident.ordered_by
    if order is not None and order.kind != "kernel":
        where = f" {order.quote.file}:{order.quote.line}" if order.quote is not None else ""
        user = f" ({order.user})" if order.user else ""
        said += f", ordered by {order.kind}{user}{where}: {redacted(order.what)}"
    return f"{said} ({request.method} {redacted(request.uri)})"
