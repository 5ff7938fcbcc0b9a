"""Dies at the n-th thing that a durable request does, for n = 1, 2, 3, ...; and again in the run that completes it.

A program, not a test: it forks a worker for each point, and must have no threads. A point is a statement that the journal's
connection is about to run, or a moment before or after a step's effect. What it has found it prints as JSON.

    python -m durable.faults FOLDER {retry|hold} [once|twice]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from lastcall import durable
from lastcall.durable import place
from lastcall.durable.engine import Manner
from lastcall.durable.journal import Terms
from lastcall.durable.sqlite import Sqlite
from lastcall.durable.wsgi import Environ, Start
from support.durable import Answer, post, serve
from support.forked import in_child


class Worker:
    """What one process does, up to its death at a point."""

    def __init__(self, folder: Path, in_doubt: str, die_at: int) -> None:
        self.folder = folder
        self.die_at = die_at
        self.points: list[str] = []
        self.journal = Sqlite(folder / "journal", Terms(durability="process"))
        self.journal._db.set_trace_callback(self.point)
        place.use(self.journal, Manner(wait=0.0))

        @durable.request(key="order_id")
        def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
            durable.step("present", self.effect, "present", in_doubt=in_doubt)
            durable.step("order", self.effect, "order", in_doubt="retry")
            start_response("201 Created", [])
            return [b"done"]

        self.app = app

    def point(self, label: str) -> None:
        """Here it may die."""
        self.points.append(" ".join(label.split()[:5]))
        if len(self.points) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, name: str) -> str:
        self.point(f"before {name}")
        with (self.folder / name).open("a") as file:
            file.write(durable.key() + "\n")
        self.point(f"after {name}")
        return name

    def ask(self) -> Answer:
        """As a client does."""
        answer = post(self.app, {"order_id": "1"})
        self.point("answered")
        return answer

    def recover(self) -> None:
        """As a new worker does."""
        self.journal.tidy()
        for key in self.journal.orphans():
            record = self.journal.find(key)
            if record is not None and record.asked is not None:
                serve(self.app, {**record.asked.environ}, record.asked.body)
        self.point("recovered")


def run(folder: Path, in_doubt: str, die_at: int, what: str) -> list[str] | None:
    """Fork a worker that asks or recovers; the points that it has come through, or None if it has died."""

    def work() -> list[str]:
        worker = Worker(folder, in_doubt, die_at)
        getattr(worker, what)()
        return worker.points

    return in_child(work, f"{what}, to die at {die_at}")


def outcome(folder: Path, in_doubt: str) -> dict[str, object]:
    """Heal the world: recover, ask again; then say what has become of everything."""
    worker = Worker(folder, in_doubt, 0)
    worker.recover()
    answer = worker.ask()
    (record,) = worker.journal.listing()
    worker.journal.close()
    effects = {name: lines(folder / name) for name in ("present", "order")}
    return {"status": answer.status, "state": record.state.name, "attempt": record.attempt, **effects}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def main(folder: Path, in_doubt: str, how: str) -> None:
    fresh = folder / "fresh"
    fresh.mkdir()
    points = run(fresh, in_doubt, 0, "ask")
    assert points is not None
    found = []
    for first in range(1, len(points) + 1):
        seconds = [0]
        while seconds:
            second = seconds.pop()
            where = folder / f"{first}-{second}"
            where.mkdir()
            died = run(where, in_doubt, first, "ask") is None
            died_again = bool(second) and run(where, in_doubt, second, "recover") is None
            if how == "twice" and (second == 0 or died_again):
                seconds.append(second + 1)
            found.append({"first": first, "second": second, "died": died, "died_again": died_again,
                          **outcome(where, in_doubt)})  # fmt: skip
            shutil.rmtree(where)
    print(json.dumps({"points": points, "found": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
