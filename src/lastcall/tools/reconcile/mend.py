"""Which orders are repaired, and when: after the comparison, and none where the ledgers themselves are in doubt.

Decides what is handed to the function, and what the summary says of it. What a repair is, is `repair`'s.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lastcall.tools.reconcile import repair
from lastcall.tools.reconcile.duck import Tell
from lastcall.tools.reconcile.repair import Function, Mender, Outcome
from lastcall.tools.reconcile.result import Finding, Repair, Repairs, Summary
from lastcall.tools.reconcile.run import Run

NEEDS_SOMEBODY = frozenset((Outcome.PARKED.value, Outcome.UNFINISHED.value))
"""Whatever the ledgers say."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    spec: str
    function: Function
    folder: Path
    apply: bool
    limit: int
    """Orders that are off: more are no accident."""
    umask: int = 0o022
    """Of whoever has started us, and so of what the function makes."""


class Mending:
    """The repairs of one run. Finishes first what earlier ones have left: ledgers are read afterwards."""

    def __init__(self, wish: Wish, tell: Tell) -> None:
        """Raises NoVerdict."""
        self._wish = wish
        self._tell = tell
        self.done: list[Repair] = []
        if wish.apply:
            with self._journal() as mender:
                tell("finishing what an earlier run has begun")
                self.done = mender.finish()

    def repair(self, run: Run, summary: Summary) -> Repairs:
        """Repair what is off, or say what would be repaired. Raises NoVerdict."""
        wish = self._wish
        why = self._refused(summary)
        exact = run.exact_keys()

        def key(finding: Finding) -> str:
            return repair.journal_key(finding.key, exact)

        told = {repair.journal_key(one.key, exact) for one in self.done}
        todo = [] if why else [finding for finding in run.off if key(finding) not in told]
        if wish.apply and todo:
            with self._journal() as mender:
                for number, finding in enumerate(todo):
                    self._tell(f"repairing {number + 1} of {len(todo)}")
                    self.done.append(mender.mend(finding, key(finding)))
        elif todo:
            self.done += repair.planned(todo, key, wish.folder)
        self.done += repair.waiting(wish.folder, self.done)
        counts = Counter(one.outcome for one in self.done)
        outcomes = {outcome.value: counts[outcome.value] for outcome in Outcome if counts[outcome.value]}
        return Repairs(wish.spec, wish.apply, str(wish.folder), why, outcomes, self.done)

    def _refused(self, summary: Summary) -> str:
        """Why nothing is repaired; empty where nothing speaks against it."""
        if summary.broken:
            return "a row that cannot be used may be the one that is missing"
        if summary.off > self._wish.limit:
            return f"{summary.off:,} orders are off, and more than {self._wish.limit:,} are no accident (--max-repairs)"
        return ""

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Mender]:
        """The journal is private; what the function makes and prints is as its author expects, but for standard output,
        which is the report's.
        """
        before = os.umask(self._wish.umask)
        try:
            mender = Mender(self._wish.folder, self._wish.function)
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    yield mender
            finally:
                mender.close()
        finally:
            os.umask(before)


def is_settled(repairs: Repairs | None) -> bool:
    """Whether nobody has to decide, or to run it again."""
    return repairs is None or not NEEDS_SOMEBODY.intersection(repairs.outcomes)


def is_news(repairs: Repairs | None) -> bool:
    """Whether this run has begun or finished a repair."""
    return repairs is not None and any(one.touched for one in repairs.each)
