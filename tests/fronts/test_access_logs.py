"""The same requests in the logs of nginx and of lastcall: whoever reads them finds when they ran, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastcall.tools import accesslogs
from support import http
from support.lastcall import Servers
from support.nginx import Nginx
from support.processes import eventually, lines

AGENT = 'a "b" \\ 1.234 [c] 5.678'
"""What a client may call itself, to look like a log."""
SPENT = 0.2


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("json", ""),
        ("%R %t %d", "%R %t %d"),
        ('%(h)s %(t)s "%(a)s" %(M)s', '%(h)s %(t)s "%(a)s" %(M)s'),
    ],
)
def test_logs_of_one_request_agree(serve: Servers, nginx: Nginx, folder: Path, written: str, read: str) -> None:
    """Its interval is the same in each, to a second and some milliseconds; what nginx answers itself is told apart."""
    ours = folder / "ours.log"
    server = serve(
        "support.drill.apps:app", "--app-dir", str(Path(__file__).parents[1]), "--access-log", str(ours),
        "--access-format", written,
    ).wait_ready()  # fmt: skip
    bare, iso = nginx.folder / "bare.log", nginx.folder / "iso.log"
    extra = f"access_log {bare} bare; access_log {iso} iso;"
    address = nginx.http(server.http_address, extra=extra + " if ($request_method = PUT) { return 204; }")
    nginx.start()
    with http.Connection(address) as client:
        client.request("GET", f"/slow/{SPENT}", headers=(("User-Agent", AGENT),))
        client.request("PUT", "/none", b"")
    eventually(lambda: len(lines(bare)) == len(lines(iso)) == 2 and len(lines(ours)) == 1, "all logs are written")

    reading = [(ours, read), (bare, ""), (iso, "")]
    found = [accesslogs.compile(form).read(lines(file)[0]) for file, form in reading]
    entries = [entry for entry in found if entry is not None]
    assert len(entries) == len(reading)
    assert all(entry.here and entry.offset == entries[0].offset for entry in entries)
    assert [entry.duration for entry in entries] == [pytest.approx(SPENT, abs=0.15)] * 3
    assert [entry.began for entry in entries] == [pytest.approx(entries[0].began, abs=1.5)] * 3
    for file in (bare, iso):
        other = accesslogs.compile("").read(lines(file)[1])
        assert other is not None
        assert not other.here
