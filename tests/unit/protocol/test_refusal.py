"""What a client is told whose request could not be finished, in both protocols."""

from __future__ import annotations

import json

import pytest

from lastcall.protocol import fastcgi, http1
from lastcall.protocol.refusal import Refusal, problem

CUT = Refusal(503, "The worker has died.", "POST", 7, "r-1", "sendPresent", begun=True)


def test_the_document_says_how_far_it_had_got() -> None:
    """RFC 9457, and what a client needs to decide whether to try again."""
    assert json.loads(problem(CUT)) == {
        "type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "The worker has died.",
        "begun": True, "request_id": "r-1", "last_step": "sendPresent",
    }  # fmt: skip
    assert set(json.loads(problem(Refusal(500, "no")))) == {"type", "title", "status", "detail", "begun"}


def http(refusal: Refusal) -> tuple[str, dict[str, str], bytes]:
    codec = http1.Connection(http1.Limits(), http1.Stamp())
    head, _, body = codec.turn_away(refusal).partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    assert not codec.keep
    return line, dict(field.split(": ", 1) for field in fields), body


@pytest.mark.parametrize("status", [500, 503, 504])
def test_http_answers_and_closes(status: int) -> None:
    """With the media type, and with Retry-After where trying again makes sense."""
    line, fields, body = http(Refusal(status, "no", "GET"))
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert fields["Content-Type"] == "application/problem+json"
    assert fields["Connection"] == "close"
    assert int(fields["Content-Length"]) == len(body) > 0
    assert ("Retry-After" in fields) == (status == 503)


def test_http_answers_head_without_a_body() -> None:
    """But says how long it would be."""
    _, fields, body = http(Refusal(503, "no", "HEAD"))
    assert (int(fields["Content-Length"]) > 0, body) == (True, b"")


def test_fastcgi_answers_under_the_id_that_its_dead_worker_knew() -> None:
    """Nothing of the request is there any more: the id has travelled with the connection."""
    codec = fastcgi.Connection()
    answer = codec.turn_away(CUT)
    assert answer[2:4] == b"\0\x07"
    assert b"Status: 503 Service Unavailable\r\n" in answer
    assert b"Retry-After: 1\r\n" in answer
    assert b"application/problem+json" in answer


def test_fastcgi_without_an_id_says_nothing() -> None:
    """There is no request to answer: the connection is only closed."""
    assert fastcgi.Connection().turn_away(Refusal(503, "no")) == b""
