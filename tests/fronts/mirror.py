"""The application behind the fronts: it says what it was told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import BinaryIO, cast
from wsgiref.validate import validator


def mirror(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """JSON of method, path, query, scheme, client, and the body; `/big/N` answers with N bytes.

    `/boom` raises, `/torn` does so in its body.
    """
    path = str(environ["PATH_INFO"])
    if path == "/boom":
        raise RuntimeError("as asked")
    if path == "/torn":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return torn()
    if path.startswith("/big/"):
        count = int(path.removeprefix("/big/"))
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(count))])
        return (b"x" * min(65536, count - at) for at in range(0, count, 65536))
    body = cast("BinaryIO", environ["wsgi.input"]).read(int(str(environ.get("CONTENT_LENGTH") or 0)))
    told = {
        "method": environ["REQUEST_METHOD"],
        "script": environ["SCRIPT_NAME"],
        "path": path,
        "query": environ["QUERY_STRING"],
        "client": environ["REMOTE_ADDR"],
        "agent": environ.get("HTTP_USER_AGENT", ""),
        "length": len(body),
        "body": body[:100].decode("latin-1"),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def torn() -> Iterable[bytes]:
    """A body without a length that breaks off."""
    yield b"the first half"
    raise RuntimeError("as asked")


app = validator(mirror)
