"""One run: the load flows, the operator does the same thing again and again, and what was seen is judged."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from lastcall.tools.drill.engine import Plan
from lastcall.tools.drill.judge import Books, Judgement, Mark, longest
from lastcall.tools.drill.ledgers import Hold
from lastcall.tools.drill.load import FLOWS_S, Load
from lastcall.tools.drill.outcomes import Outcome, Seen
from lastcall.tools.drill.probe import Probe
from lastcall.tools.drill.processes import Failed, pause, wait_until
from lastcall.tools.drill.reasons import Case, reasons, recommendation
from lastcall.tools.drill.results import LINES_MAX, Line, Records, Restart, Run, Settings
from lastcall.tools.drill.server import Done
from lastcall.tools.drill.stage import SLOW_CLIENT_S, Stage
from lastcall.tools.drill.steps import CLIENTS, WORDS, Step
from lastcall.tools.drill.strategies import Strategy

STRIKES_S: Final = 60.0
"""Seconds after which no further operation is begun: some servers take half a minute for one."""
CERTAIN: Final = (Strategy.SLOW_BOOT, Strategy.BROKEN_CODE)
FEW: Final = 2
"""What these do is no race, and takes long: often enough to see that it is so."""
WARM_S: Final = 0.8
"""Seconds before the first operation: what it is like when nothing happens."""
TAIL_S: Final = 0.8
"""Seconds after the last one: what comes late belongs to it."""
HELD_S: Final = 0.7
HELD_MAX_S: Final = 2.0
"""Seconds for which a request is held at its step after the operation was ordered, at least and at most. Between them it is
let go when there are as many new workers as there were old ones: then its own has been told. There are servers that bring
none before the request has ended."""
SETTLE_S: Final = 0.2
"""Seconds that a worker has to act on what it was told."""


class Watch(Protocol):
    """Who looks on."""

    def load(self, load: Load) -> None:
        """It has begun to flow."""

    def struck(self, restarts: int) -> None:
        """So many operations are over."""


@dataclass
class Evidence:
    """What a run leaves behind."""

    clock: float
    began: float
    seen: list[Seen] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    books: Books | None = None
    errors: list[tuple[float, str, str]] = field(default_factory=list)
    stopped: float | None = None
    steps: int = 0
    interrupted: bool = False
    failed: str = ""


def conduct(stage: Stage, settings: Settings, between: float, steps: Sequence[Step], folder: Path, watch: Watch) -> Run:
    """The run, to its end, to Ctrl-C, or to where it could not go on: whatever was seen until then is judged.

    `between`: seconds between two operations. `steps`: fire at each of them instead.
    """
    evidence = Evidence(time.time(), time.monotonic())
    try:
        stage.open()
        with Load(_plan(stage, settings), folder) as load:
            watch.load(load)
            try:
                _Rehearsal(stage, settings, between, load, evidence, watch).run(steps)
            except KeyboardInterrupt:
                evidence.interrupted = True
            except Failed as failed:
                evidence.failed = str(failed)
            with contextlib.suppress(Failed):  # what hangs is not known to be lost
                load.stop(settings.timeout + 5.0 if not evidence.interrupted else 2.0)
            evidence.seen += load.seen()
        evidence.books, evidence.errors = stage.books(), stage.errors()
    except KeyboardInterrupt:
        evidence.interrupted = True
    except Failed as failed:
        evidence.failed = str(failed)
    finally:
        stage.close()
    return judged(stage, evidence)


def _plan(stage: Stage, settings: Settings) -> Plan:
    client = stage.client(stage.protocol)
    slow = round(settings.connections * settings.slow)
    clients = [
        msgspec.structs.replace(client, slow=SLOW_CLIENT_S if number < slow else 0.0)
        for number in range(settings.connections)
    ]
    each = -(-stage.most // settings.connections) if not settings.rate else stage.most
    return Plan(
        clients, stage.request(), settings.pace, settings.rate, each, stage.seconds, seed=settings.seed,
        connect_timeout=min(10.0, settings.timeout), timeout=settings.timeout,
    )  # fmt: skip


def strikes(strategy: str, restarts: int, steps: Sequence[Step]) -> int:
    """How often the operator strikes: once at each step, once when it is for good."""
    if steps:
        return len(steps)
    if strategy == Strategy.NONE:
        return 0
    if strategy == Strategy.STOP:
        return 1
    return min(restarts, FEW) if strategy in CERTAIN else restarts


@dataclass
class _Rehearsal:
    stage: Stage
    settings: Settings
    between: float
    load: Load
    evidence: Evidence
    watch: Watch

    def run(self, steps: Sequence[Step]) -> None:
        self.load.more(1, self.settings.timeout + FLOWS_S)  # the load is up
        self.load.flow(WARM_S)
        if steps:
            for step in steps:
                self._fire(step)
                self.load.flow(self.between)
            self.evidence.steps = len(steps) if len(steps) == len(Step) else 0
        elif self.stage.strategy == Strategy.NONE:
            self.load.flow(self.settings.restarts * self.between)
        else:
            self._repeat(strikes(self.stage.strategy, self.settings.restarts, steps))
        self.load.flow(TAIL_S)

    def _repeat(self, times: int) -> None:
        dice = random.Random(self.settings.seed)  # noqa: S311 (so that operations and clients do not march in step)
        until = time.monotonic() + STRIKES_S
        for _ in range(times):
            if self.stage.strategy == Strategy.STOP:
                self.evidence.stopped = time.monotonic()
            self._strike()
            self.load.flow(self.between * dice.uniform(0.75, 1.25))
            if time.monotonic() > until:
                break

    def _strike(self) -> None:
        began = time.monotonic()
        self._note(began, self.stage.operate(), "")

    def _note(self, began: float, done: Done, step: str) -> None:
        ended = time.monotonic()
        zero = self.evidence.began
        self.evidence.restarts.append(Restart(began - zero, ended - zero, done.what, done.ok, done.note, step))
        self.watch.struck(len(self.evidence.restarts))

    def _fire(self, step: Step) -> None:
        """The operation, while a request of its own is held at that step."""
        number = len(self.evidence.restarts)
        probe = Probe(self.stage.client("probe"), self.stage.request(), f"{number}-{step}", step, self.settings.timeout)
        hold = None if step in CLIENTS else self.stage.hold(probe.order(), step)
        probe.start()
        at_step = probe.reached if hold is None else hold.reached
        if not at_step.wait(self.settings.timeout):
            raise Failed(f"no request came to the step {step!s}")

        release = threading.Thread(target=self._release, args=(probe, hold, self.stage.workers()), name="release")
        release.start()
        began = time.monotonic()
        try:
            done = self.stage.operate(hold)
        finally:
            release.join()
            probe.join(self.settings.timeout)
            self.evidence.seen += probe.seen
        self._note(began, done, WORDS[step])

    def _release(self, probe: Probe, hold: Hold | None, before: set[int]) -> None:
        """Let the request go, when the operation has come to its worker."""
        pause(HELD_S)
        if before:
            with contextlib.suppress(Failed):
                wait_until(
                    lambda: len(self.stage.workers() - before) >= len(before), "they are others", HELD_MAX_S - HELD_S
                )
                pause(SETTLE_S)
        probe.release()
        if hold is not None:
            hold.release()


# --- What it comes to ------------------------------------------------------------------------


def judged(stage: Stage, evidence: Evidence) -> Run:
    """The run as a value."""
    zero = evidence.began
    marks = [Mark(zero + one.began, zero + one.ended) for one in evidence.restarts]
    judgement = Judgement(evidence.seen, marks, evidence.books, evidence.stopped, evidence.steps)
    requests, records, counts = judgement.requests, judgement.records(zero), judgement.ledgers()
    outcomes = dict(Counter(one.what for one in requests))
    gap_began, gap = longest(requests)
    case = Case(stage.name, stage.strategy, stage.path, stage.settings)
    left = sum(one.outcome is Outcome.LEFT or one.closing for one in evidence.seen)
    return Run(
        target=stage.name, title=stage.title, protocol=stage.protocol, strategy=stage.strategy,
        strategy_title=stage.strategy_title, path=stage.path, settings=stage.settings, clock=evidence.clock,
        took=time.monotonic() - zero, restarts=evidence.restarts, records=records, requests=len(requests),
        outcomes=outcomes, left=left, latency=judgement.latency(), gap=gap,
        gap_began=max(0.0, gap_began - zero), verdict=judgement.verdict(expected=stage.strategy != Strategy.NONE),
        ledgers=counts, logged=_lines(evidence, records), logged_count=len(evidence.errors),
        reasons=reasons(case, judgement, evidence.errors), recommendation=recommendation(case, judgement),
        interrupted=evidence.interrupted, failed=evidence.failed,
    )  # fmt: skip


def _lines(evidence: Evidence, records: Records) -> list[Line]:
    """Nginx's lines, each with the request that it is about: that one's end is when it happened."""
    places = {name: index for index, name in enumerate(records.id)}
    lines = []
    for clock, text, request in evidence.errors[:LINES_MAX]:
        index = places.get(request, -1)
        when = records.began[index] + records.took[index] if index >= 0 else max(0.0, clock - evidence.clock)
        lines.append(Line(when, text, request, index))
    return lines
