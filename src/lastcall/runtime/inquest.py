"""Why a worker has died, and on whose account, as far as anybody can see; and what the cut list is told of its requests.

A signal to the master has a sender, which was written down when it came. One to a worker has none that anybody could ask
for afterwards: the kernel tells the reason of a death, not its author.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable

from lastcall.core import cuts, notes
from lastcall.core import lifecycle as lc
from lastcall.core.rescue import Verdict
from lastcall.core.settings import Settings
from lastcall.core.slot import Slot
from lastcall.runtime.completer import Completer
from lastcall.runtime.cutlist import CutList, Death, records
from lastcall.runtime.oom import OomKills
from lastcall.runtime.rescue import Fate
from lastcall.runtime.surroundings import Link


def has_left(slot: Slot, status: int) -> bool:
    """Whether there may be something behind a worker; an application may exit with 0 inside a request."""
    return bool(status or slot.lanes or slot.connections)


class Order(enum.Enum):
    """What somebody may ask for that ends workers."""

    STOP = enum.auto()
    RELOAD = enum.auto()
    SCALE = enum.auto()


class Inquest:
    """Of one pool."""

    def __init__(self, pool: str, cut_list: CutList, note: Callable[[notes.Note], None], completer: Completer) -> None:
        self._pool = pool
        self._cut_list = cut_list
        self._note = note
        self._completer = completer
        self._oom = OomKills()
        self._first_stop = ""
        self._asked: dict[Order, str] = {}

    def hear(self, order: Order | None, asked: notes.Asked) -> None:
        """Somebody has asked for something."""
        self._note(asked)
        if order is not None:
            self._asked[order] = asked.text()
        if order is Order.STOP:
            self._first_stop = self._first_stop or asked.text()

    def find(
        self, link: Link, worker: lc.Worker | None, state: lc.Master, status: int, settings: Settings, now: float
    ) -> Death:  # fmt: skip
        """The cause of a death: of a worker as the shell has it, and as the machine knows it."""
        by_us = worker is not None and worker.stage is lc.Stage.KILLED
        kind = cuts.kind(
            by_us=by_us, overdue=worker is not None and worker.overdue, hurry=state.hurry,
            oom=not by_us and self._oom.was_it(status),
        )  # fmt: skip
        because, asked_by = "", ""
        if kind is cuts.Kind.STOP:
            asked_by = self._asked.get(Order.STOP, "")
        elif kind is cuts.Kind.DRAIN_TIMEOUT and worker is not None:
            because, asked_by = self._drained_for(worker, state)
        return Death(
            pool=self._pool, pid=link.pid, serial=link.serial, generation=link.generation, status=status, kind=kind,
            request_timeout=settings.request_timeout, drain_timeout=state.current.policy.drain_timeout,
            clock=now, time=time.time(), because=because, asked_by=asked_by,
            on_cut=settings.on_cut,
        )  # fmt: skip

    def _drained_for(self, worker: lc.Worker, state: lc.Master) -> tuple[str, str]:
        """What a worker was told to finish for, and who has asked for that."""
        if not state.lasting:
            return "a stop", self._first_stop
        if worker.spent:
            return f"recycling ({worker.spent})", ""
        if worker.generation != state.current.generation:
            return "a reload", self._asked.get(Order.RELOAD, "")
        return "scaling down", self._asked.get(Order.SCALE, "")

    def record(self, fates: list[Fate], *, once: bool = False) -> int:
        """Write down what has become of the requests whose worker has died; how many of them are not run again.

        `once`: another master may have done so before it died.
        """
        found = [cut for fate in fates for cut in records(fate.death, [(fate.lane, fate.where)], fate.done)]
        lost = 0
        for fate, cut in zip(fates, found, strict=True):
            told = (self._pool, cut.pid, f"{cut.method} {cut.uri}", cut.request_id, cut.client, cut.elapsed, cut.cause)
            if fate.verdict is Verdict.AGAIN:
                self._note(notes.RunAgain(*told))
            else:
                lost += 1
                step = "" if fate.lane.step is None else fate.lane.step.words
                self._note(notes.RequestCut(*told, fate.done, step))
        why = self._cut_list.add(found, once=once)
        if why:
            self._note(notes.Trouble(f"the cut list could not be written: {why}"))
        self._completer.offer(found)
        return lost
