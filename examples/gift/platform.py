"""The gift platform: another company's service, which sends presents and never forgets one.

It decides whether a present goes out, and writes it into a ledger of its own. It knows nothing of our orders: that is
why the two ledgers can disagree. Run it as a module, since a script of this name would hide the standard library's:

    python -m gift.platform --latency 40ms --ledger presents.db
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_MAX_BYTES = 64 * 1024
"""A present is a few hundred bytes; whoever sends more is mistaken."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS presents (
    receipt  INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    present  TEXT NOT NULL,
    user     TEXT NOT NULL,
    key      TEXT UNIQUE,
    sent     REAL NOT NULL
);
CREATE TRIGGER IF NOT EXISTS sent_is_sent BEFORE UPDATE ON presents
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS nothing_is_unsent BEFORE DELETE ON presents
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


@dataclass(frozen=True, slots=True)
class Present:
    """What `sendPresent` is asked for."""

    order_id: str
    present: str
    user: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What it answers: the line in the ledger, and whether it stood there before."""

    receipt: int
    again: bool


class Ledger:
    """Every present ever sent, in order. Safe to use from any thread."""

    def __init__(self, path: str = ":memory:", *, idempotent: bool = True) -> None:
        self._lock = threading.Lock()
        self._idempotent = idempotent
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript(SCHEMA)

    def send(self, present: Present, now: float) -> Receipt:
        """Send a present: once for each key where the platform honours keys, else each time it is asked."""
        key = present.key if self._idempotent else None
        with self._lock:
            if key is not None:
                for (receipt,) in self._db.execute("SELECT receipt FROM presents WHERE key = ?", (key,)):
                    return Receipt(receipt, again=True)
            (receipt,) = self._db.execute(
                "INSERT INTO presents (order_id, present, user, key, sent) VALUES (?, ?, ?, ?, ?) RETURNING receipt",
                (present.order_id, present.present, present.user, key, now),
            ).fetchone()
            return Receipt(receipt, again=False)

    def find(self, order_id: str) -> dict[str, object] | None:
        """The first present that was sent for an order."""
        with self._lock:
            asked = "SELECT receipt, present, user FROM presents WHERE order_id = ? ORDER BY receipt"
            row = self._db.execute(asked, (order_id,)).fetchone()
        return None if row is None else {"receipt": row[0], "present": row[1], "user": row[2]}

    def order_ids(self) -> list[str]:
        """The orders that presents were sent for, oldest first; an order sent twice stands here twice."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT order_id FROM presents ORDER BY receipt")]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


@dataclass(frozen=True, slots=True)
class Manners:
    """How the platform behaves on a given day."""

    latency: float = 0.0
    jitter: float = 0.0
    """Seconds by which the latency varies, either way."""
    fail_rate: float = 0.0
    """The share of calls refused with 503, before anything is sent."""
    seed: int = 0

    def dice(self) -> random.Random:
        """The same seed makes the same day."""
        return random.Random(self.seed)  # noqa: S311 (a simulation, not a secret)


@dataclass(slots=True)
class Fate:
    """Draws what happens to each call; one for all threads."""

    manners: Manners
    _dice: random.Random = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._dice = self.manners.dice()

    def draw(self) -> tuple[float, bool]:
        """The seconds that this call takes, and whether it fails."""
        with self._lock:
            spread = self._dice.uniform(-self.manners.jitter, self.manners.jitter)
            return max(0.0, self.manners.latency + spread), self._dice.random() < self.manners.fail_rate


class Platform(ThreadingHTTPServer):
    """The service: a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], ledger: Ledger, manners: Manners) -> None:
        super().__init__(address, Exchange)
        self.ledger = ledger
        self.fate = Fate(manners)

    @property
    def url(self) -> str:
        """Where it listens, once the port is known."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class Exchange(BaseHTTPRequestHandler):
    """One connection, kept for any number of calls."""

    server: Platform
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    """Head and body leave in one write: two would make the caller wait for a delayed ACK."""

    def do_GET(self) -> None:
        """`GET /ledger`: every order id, for the reconciliation. `GET /present/ORDER`: what was sent for it."""
        order_id = urllib.parse.unquote(self.path.removeprefix("/present/"))
        if self.path == "/ledger":
            self._answer(HTTPStatus.OK, {"order_ids": self.server.ledger.order_ids()})
        elif self.path.startswith("/present/") and (present := self.server.ledger.find(order_id)) is not None:
            self._answer(HTTPStatus.OK, present)
        else:
            self._answer(
                HTTPStatus.NOT_FOUND, {"error": "there is only /ledger, and /present/ with an order that has one"}
            )

    def do_POST(self) -> None:
        """`POST /sendPresent`."""
        length = int(self.headers.get("Content-Length", "0"))
        if self.path != "/sendPresent" or length > BODY_MAX_BYTES:
            self.close_connection = True  # the body stays unread
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there is only /sendPresent, for small presents"})
            return
        try:
            present = asked_for(self.rfile.read(length))
        except ValueError as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        takes, fails = self.server.fate.draw()
        # Half before the present goes out and half after: a caller that is cut at a random moment is as likely to
        # leave a present behind as not.
        time.sleep(takes / 2)
        if fails:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "no present was sent, come back later"})
            return
        receipt = self.server.ledger.send(present, time.time())
        time.sleep(takes / 2)
        self._answer(HTTPStatus.OK, {"receipt": receipt.receipt, "again": receipt.again})

    def _answer(self, status: HTTPStatus, what: dict[str, object]) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """Say nothing: the ledger is the record."""


def asked_for(body: bytes) -> Present:
    """The present that a body asks for. Raises ValueError, in words that may be shown to the caller."""
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise ValueError("the body is not JSON") from error
    if not isinstance(fields, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 (bad input, not a bad program)
    texts = {name: fields.get(name) for name in ("order_id", "present", "user")}
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} is missing, or not a text")
    key = fields.get("key")
    return Present(fields["order_id"], fields["present"], fields["user"], None if key is None else str(key))


def duration(text: str) -> float:
    """Seconds, from `40ms`, `1.5s` or `2`."""
    number, unit = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    seconds = float(number) * unit
    if not 0 <= seconds < 3600:
        raise ValueError(text)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="gift.platform", description="The gift platform, with a ledger of its own.")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one, and says which")
    parser.add_argument("--ledger", default=":memory:", metavar="FILE", help="where presents are written down")
    parser.add_argument("--idempotent", action=argparse.BooleanOptionalAction, default=True, help="honour keys")
    parser.add_argument("--latency", type=duration, default=0.0, help="of a call: 40ms, 1.5s")
    parser.add_argument("--jitter", type=duration, default=0.0, help="by which the latency varies")
    parser.add_argument("--fail-rate", type=float, default=0.0, help="share of calls refused with 503: 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="for the jitter and the failures")
    options = parser.parse_args(arguments)
    ledger = Ledger(options.ledger, idempotent=options.idempotent)
    manners = Manners(options.latency, options.jitter, options.fail_rate, options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Platform(("127.0.0.1", options.port), ledger, manners) as platform:
        print(f"the gift platform is ready on {platform.url}", flush=True)
        try:
            platform.serve_forever()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
