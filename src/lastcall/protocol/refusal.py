"""What a client is told whose request could not be run to its end: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import msgspec

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {503: 1}
"""Seconds after which trying again makes sense, by status."""
_TITLES = {500: "Internal Server Error", 503: "Service Unavailable", 504: "Gateway Timeout"}


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """An answer that lastcall gives instead of the application. It travels with the connection to who gives it."""

    status: int
    detail: str
    method: str = ""
    exchange: int = 0
    """FastCGI's request id; 0: to be read from the connection."""
    request_id: str = ""
    step: str = ""
    begun: bool = False
    """The application had begun to run it: what it did until then has happened."""
    keep: bool = False
    """FastCGI: the connection may carry another request, for all of this one has been read and the front has asked for it. A
    front is not told that a connection ends, and may be about to send the next request."""
    durable: bool = False
    """It is in a journal, and will be completed without its client."""


def problem(refusal: Refusal) -> bytes:
    """The document. `begun` and `step` tell the client what it must not do again without thinking."""
    document: dict[str, object] = {
        "type": "about:blank",
        "title": _TITLES.get(refusal.status, "Error"),
        "status": refusal.status,
        "detail": refusal.detail,
        "begun": refusal.begun,
    }
    if refusal.durable:
        document["durable"] = True
    if refusal.request_id:
        document["request_id"] = refusal.request_id
    if refusal.step:
        document["last_step"] = refusal.step
    return msgspec.json.encode(document) + b"\n"
