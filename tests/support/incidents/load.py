"""The clients of one machine, executed in its network: each buys presents one after the other until it is time to end.

The plan comes as JSON in the first argument; the second is the file that gets a line of JSON for each request.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAUSE_S = 0.25
"""After a refusal: a shop that is down answers at once, and nobody is to hammer at it."""


class Clients:
    """What they share: the plan, and the file that they write to."""

    def __init__(self, plan: dict[str, Any], written: Path) -> None:
        self.plan = plan
        self.until = float(plan["until"])
        self._ahead = float(plan["ahead"])
        self._file = written.open("a")
        self._lock = threading.Lock()
        self._turns = threading.Lock()
        self._own = threading.local()

    def now(self) -> float:
        """The time of the machine's other programs."""
        return time.time() + self._ahead

    def note(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def turn(self) -> None:
        """No two requests begin at the same time: who came first is to be clear, and the answer not a matter of luck."""
        with self._turns:
            threading.Event().wait(self.plan["gap"])

    def ask(self, kind: dict[str, Any], order: str) -> bool:
        """One request; whether it was answered with 200."""
        connection = self._connection(kind)
        self.turn()
        began, status, error = self.now(), 0, ""
        method, uri = kind.get("method", "POST"), kind.get("uri", "/gift?order={order}").format(order=order)
        body = f'{{"present": "{order}"}}' if method == "POST" else None
        try:
            connection.request(method, uri, body, {"User-Agent": "Shopper/2.1", **kind.get("headers", {})})
            answer = connection.getresponse()
            status = answer.status
            answer.read()
        except (OSError, http.client.HTTPException) as mistake:
            error = repr(mistake)
        if error or not self.plan["keep"]:
            connection.close()
            self._own.__dict__.clear()
        self.note(
            {"id": order, "method": method, "uri": uri, "began": began, "ended": self.now(), "status": status,
             "error": error, "own": bool(kind.get("own"))}
        )  # fmt: skip
        return status == http.client.OK

    def _connection(self, kind: dict[str, Any]) -> http.client.HTTPConnection:
        """This client's, a new one where none is kept."""
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=kind.get("patience", 60.0))
        kept: http.client.HTTPConnection = self._own.connection
        return kept

    def buy(self, number: int) -> None:
        """A client's life."""
        chance = random.Random(f"{self.plan['seed']} {number}")
        least, most = self.plan["step"]
        orders = self._orders(number)
        wait = threading.Event().wait
        wait(chance.uniform(0.0, most))
        while self.now() < self.until:
            kinds = [kind for kind in self.plan["kinds"] if chance.random() < kind["share"]]
            kind = kinds[0] if kinds else {}
            headers = {"X-Step": f"{chance.uniform(least, most):.3f}", **kind.get("headers", {})}
            if not self.ask({**kind, "headers": headers}, next(orders)):
                wait(PAUSE_S)

    def once(self, number: int, kind: dict[str, Any]) -> None:
        """A request that comes at its own time."""
        threading.Event().wait(max(0.0, kind["at"] - self.now()))
        self.ask(kind, next(self._orders(number)))

    def _orders(self, number: int) -> Iterator[str]:
        return (str(self.plan["first"] + number * 200 + count) for count in range(200))


def main(plan: dict[str, Any], written: Path) -> None:
    clients = Clients(plan, written)
    threads = [threading.Thread(target=clients.buy, args=(number,)) for number in range(plan["clients"])]
    threads += [
        threading.Thread(target=clients.once, args=(plan["clients"] + number, kind))
        for number, kind in enumerate(plan["once"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
