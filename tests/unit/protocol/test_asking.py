"""The FastCGI requests that a worker makes of itself are what our own codec reads."""

from __future__ import annotations

import pytest

from lastcall.protocol import asking, fastcgi


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 200_000])
def test_what_is_asked_is_what_is_read(size: int) -> None:
    """Variables with long names and values, and bodies of several records."""
    variables = {
        "REQUEST_METHOD": "POST", "REQUEST_URI": "/a?b=1", "SCRIPT_NAME": "", "PATH_INFO": "/a", "QUERY_STRING": "b=1",
        "HTTP_X": "\xe9" * 300, "CONTENT_LENGTH": str(size),
    }  # fmt: skip
    codec = fastcgi.Connection()
    codec.receive(asking.request(variables, b"x" * size))
    request = codec.request()
    assert request is not None
    assert (request.method, request.target, request.keep) == ("POST", "/a?b=1", False)
    assert {name: request.params[name] for name in variables} == variables
    body = b""
    while data := codec.read():
        body += data
    assert body == b"x" * size


def test_an_answer_s_status_is_found() -> None:
    """Of our own codec's answers; none where nothing came."""
    codec = fastcgi.Connection()
    codec.receive(asking.request({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/"}, b""))
    assert codec.request() is not None
    assert asking.status(codec.head("404 Not Found", [], 0) + codec.end()) == 404
    assert asking.status(b"") == 0
