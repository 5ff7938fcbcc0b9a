"""The application that everybody is measured with: it does nothing, so that what is left is the server's."""

from __future__ import annotations

from collections.abc import Callable, Iterable

BODY = b"hello"
HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]


def app(_environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Say hello."""
    start_response("200 OK", HEADERS.copy())
    return [BODY]
