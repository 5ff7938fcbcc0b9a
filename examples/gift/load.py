"""Clients that send orders, each once, over kept connections, and write down what they saw.

    python -m gift.load http://127.0.0.1:8000 --orders 600 --connections 8 --seen seen.jsonl

An order is never sent a second time, whatever happens to the first: a client that tries again hides a loss.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import itertools
import json
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = "/3/xx/vgift/send"
PRESENTS = ("rose", "ring", "car", "castle", "rocket")
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What one client saw of one order."""

    order: str
    status: int | None
    """None: there was no answer."""
    error: str
    took: float

    @property
    def yes(self) -> bool:
        """Whether the client was told that its order stands."""
        return self.status == http.HTTPStatus.OK


class Load:
    """So many orders, through so many connections, spread over the URLs."""

    def __init__(
        self,
        urls: Sequence[str],
        orders: int,
        connections: int,
        *,
        name: str = "order",
        progress: Callable[[int], None] = lambda _: None,
        rest: float = 0.0,
    ) -> None:
        """`rest`: seconds that a client waits after an error, before it sends its next order."""
        self.orders = orders
        self.seen: list[Seen] = []
        self._numbers = iter(range(orders))
        self._begun = 0
        self._changed = threading.Condition()
        self._name = name
        self._progress = progress
        self._rest = rest
        self._clients = [
            threading.Thread(target=self._client, args=(url,), name=f"client-{number}", daemon=True)
            for number, url in zip(range(connections), itertools.cycle(urls), strict=False)
        ]

    def start(self) -> None:
        """Let the clients begin."""
        for client in self._clients:
            client.start()

    def answered(self, orders: int, within: float) -> bool:
        """Wait until so many orders have ended, well or badly; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.seen) >= orders, within)

    def last_ones(self, orders: int, within: float) -> bool:
        """Wait until every order has been sent, and at most so many are still unanswered."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._begun == self.orders and self.orders - len(self.seen) <= orders, within
            )

    def _client(self, url: str) -> None:
        """One client, one kept connection; a new one only after the server has closed it or an error."""
        where = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=TIMEOUT_S)
        while (number := self._next()) is not None:
            seen = self._order(connection, f"{self._name}-{number:06}", number)
            with self._changed:
                self.seen.append(seen)
                self._changed.notify_all()
                self._progress(len(self.seen))
            if not seen.yes:
                time.sleep(self._rest)
        connection.close()

    def _next(self) -> int | None:
        with self._changed:
            return next(self._numbers, None)

    def _sent(self) -> None:
        with self._changed:
            self._begun += 1
            self._changed.notify_all()

    def _order(self, connection: http.client.HTTPConnection, order: str, number: int) -> Seen:
        present = PRESENTS[number % len(PRESENTS)]
        body = json.dumps({"order": order, "present": present, "user": f"user-{number % 97}"}).encode()
        began = time.monotonic()
        try:
            try:
                connection.request("POST", PATH, body, {"Content-Type": "application/json", "X-Request-Id": order})
            finally:
                self._sent()
            response = connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Seen(order, None, repr(error), time.monotonic() - began)
        error_text = "" if response.status == http.HTTPStatus.OK else said.decode("utf-8", "replace").strip()
        return Seen(order, response.status, error_text, time.monotonic() - began)


def write_down(seen: Sequence[Seen], path: Path) -> None:
    """One JSON object a line, for `gift.reconcile --seen`."""
    path.write_text("".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in seen))


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the orders; 1 when a client saw anything but a yes."""
    parser = argparse.ArgumentParser(prog="gift.load", description="Send orders, each once.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--orders", type=int, default=600)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--name", default="order", help="order ids begin with it")
    parser.add_argument("--seen", type=Path, metavar="FILE", help="write down what each client saw")
    options = parser.parse_args(arguments)
    load = Load(options.urls, options.orders, options.connections, name=options.name)
    load.start()
    load.answered(options.orders, within=float(threading.TIMEOUT_MAX))
    if options.seen:
        write_down(load.seen, options.seen)
    happy = sum(one.yes for one in load.seen)
    print(f"{happy} of {options.orders} orders were answered with a yes")
    return 0 if happy == options.orders else 1


if __name__ == "__main__":
    sys.exit(main())
