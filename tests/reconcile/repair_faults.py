"""Dies at the n-th thing that a repair does, for n = 1, 2, 3, ...; and again in the run that finishes it.

A program, not a test: it forks a run for each point, and must have no threads. A point is a statement that the journal's
connection is about to run, or a moment before or after a step's effect. What it has found it prints as JSON.

    python -m reconcile.repair_faults FOLDER {retry|hold}
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from lastcall import durable
from lastcall.tools.reconcile.repair import Mender, Off, journal_key
from lastcall.tools.reconcile.result import Finding, Repair
from support.forked import in_child


class Run:
    """What one `reconcile --repair --apply` does, up to its death at a point. `amount`: what the ledger says today."""

    def __init__(self, folder: Path, in_doubt: str, die_at: int, amount: str) -> None:
        self.folder = folder
        self.in_doubt = in_doubt
        self.die_at = die_at
        self.points = 0
        self.finding = Finding("only_left", {"id": "o-1"}, left={"amount": amount}, left_times=1)
        self.mender = Mender(folder / "journal", self.repair)
        self.mender.journal._db.set_trace_callback(lambda _: self.point())

    def point(self) -> None:
        """Here it may die."""
        self.points += 1
        if self.points == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, name: str, amount: str) -> str:
        self.point()
        with (self.folder / name).open("a") as file:
            file.write(f"{amount} {durable.key()}\n")
        self.point()
        return name

    def repair(self, order: Off) -> str:
        assert order.left is not None
        amount = str(order.left["amount"])
        durable.step("refund", self.effect, "refund", amount, in_doubt=self.in_doubt)
        durable.step("write", self.effect, "write", amount, in_doubt="retry")
        return "done"

    def all(self) -> list[Repair]:
        """As a run does: what was cut first; else the order, which is off as long as nobody has written it."""
        done = self.mender.finish()
        if not done and not (self.folder / "write").exists():
            done.append(self.mender.mend(self.finding, journal_key(self.finding.key, ())))
        self.point()
        return done


def run(folder: Path, in_doubt: str, die_at: int, amount: str) -> int | None:
    """Fork a run; through how many points it has come, or None if it has died."""

    def work() -> int:
        run = Run(folder, in_doubt, die_at, amount)
        run.all()
        return run.points

    return in_child(work, f"to die at {die_at}")


def healed(folder: Path, in_doubt: str) -> dict[str, object]:
    """A last run, which nobody kills, and on another day; what has become of everything."""
    run = Run(folder, in_doubt, 0, "3.00")
    done = run.all()
    (record,) = run.mender.journal.listing()
    run.mender.close()
    effects = {
        name: (folder / name).read_text().splitlines() if (folder / name).exists() else []
        for name in ("refund", "write")
    }
    return {"state": record.state.name, "outcomes": [one.outcome for one in done], **effects}


def main(folder: Path, in_doubt: str) -> None:
    fresh = folder / "fresh"
    fresh.mkdir()
    points = run(fresh, in_doubt, 0, "1.00")
    assert points is not None
    found = []
    for first in range(1, points + 1):
        second, died_again = 0, True
        while died_again:
            where = folder / f"{first}-{second}"
            where.mkdir()
            died = run(where, in_doubt, first, "1.00") is None
            died_again = second == 0 or run(where, in_doubt, second, "2.00") is None
            found.append({"first": first, "second": second, "died": died, **healed(where, in_doubt)})
            shutil.rmtree(where)
            second += 1
    print(json.dumps({"points": points, "found": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
