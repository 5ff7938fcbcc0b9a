"""`replay_routes` from outside: what an application is known to bear is run again, what it does not is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import fcgi, http
from support.lastcall import Servers
from support.processes import connect

DYING = ("repairs:app", "--app-dir", str(Path(__file__).parent), "--workers", "2")
"""Each request kills its worker at the first attempt, and is answered at the second."""
ROUTES = ("--replay-routes", "POST /search/* always", "--replay-routes", "/once/* none")


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/search/roses?page=2", 200),
        ("POST", "/other", 503),
        ("GET", "/once/a", 503),
        ("GET", "/other", 200),
        ("PUT", "/search/roses", 503),
        ("POST", "/search/" + "x" * 300, 503),
    ],
)
def test_a_route_has_its_own_rule(serve: Servers, method: str, target: str, status: int) -> None:
    """By method and path; without a match the rule for all."""
    server = serve(*DYING, *ROUTES)
    with http.Connection(server.http_address) as connection:
        body = None if method == "GET" else b"order"
        assert connection.request(method, target, body).status == status


def test_a_route_has_its_own_rule_over_fastcgi(serve: Servers) -> None:
    """The path is the one that the front's client has sent."""
    server = serve(*DYING, *ROUTES, fastcgi="unix")
    for target, status in (("/search/roses", "200"), ("/other", "503")):
        params = {"REQUEST_METHOD": "POST", "REQUEST_URI": target, "SCRIPT_NAME": target, "CONTENT_LENGTH": "0"}
        with connect(server.fastcgi_address) as sock:
            assert fcgi.request(sock, params).status.startswith(status)
