"""The application of the conformance tests, inside wsgiref's validator, which complains when we break PEP 3333."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast
from wsgiref.validate import validator

SIZE = 3_000_000


def inner(environ: dict[str, Any], start: Callable[..., Callable[[bytes], object]]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/digest":
        return _text(start, _digest(environ))
    if path == "/generate":
        start("200 OK", [("Content-Type", "text/plain")])
        return (b"x" * 50_000 for _ in range(SIZE // 50_000))
    if path == "/file":
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
        file.write(b"y" * SIZE)
        file.seek(0)
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(SIZE))])
        return cast("Iterable[bytes]", environ["wsgi.file_wrapper"](file))
    if path == "/break":
        start("200 OK", [("Content-Type", "text/plain")])
        return _breaks()
    if path == "/raise":
        raise RuntimeError("as asked")
    if path == "/who":
        told = (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["lastcall.request_id"])
        return _text(start, " ".join(told))
    if path == "/spin":
        while True:
            pass
    return _text(start, "hello")


def _breaks() -> Iterator[bytes]:
    yield b"half"
    raise RuntimeError("as asked")


def _digest(environ: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left and (data := environ["wsgi.input"].read(min(left, 65536))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


def _text(start: Callable[..., Callable[[bytes], object]], text: str) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]


app = validator(inner)
