"""A journal that ends with its process: for tests of an application, and for the tests of everything that uses a journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from lastcall.durable import judge, orders
from lastcall.durable.journal import JournalError, Terms
from lastcall.durable.record import Record, Response, State, Step


class Memory:
    """See `journal.Journal`. `broken` is for tests: the words with which every call that writes is to fail."""

    def __init__(self, terms: Terms | None = None, *, now: Callable[[], float] = time.time) -> None:
        self._terms = terms or Terms()
        self._now = now
        self._changed = threading.Condition()
        self._records: dict[str, Record] = {}
        self._claimed: set[str] = set()
        self.broken = ""

    def claim(self, key: str, patience: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: key not in self._claimed, patience):
                return False
            self._claimed.add(key)
            return True

    def release(self, key: str) -> None:
        with self._changed:
            self._claimed.discard(key)
            self._changed.notify_all()

    def find(self, key: str) -> Record | None:
        return self._records.get(key)

    def begin(self, record: Record) -> None:
        self._put(record)

    def adopt(self, record: Record) -> None:
        self._put(record)

    def _put(self, record: Record) -> None:
        if self.broken:
            raise JournalError(self.broken)
        self._records[record.key] = record

    def note(self, record: Record, step: Step) -> None:
        now = self._records[record.key]
        steps = {each.seq: each for each in now.steps} | {step.seq: step}
        self._put(msgspec.structs.replace(now, steps=tuple(steps[seq] for seq in sorted(steps))))

    def erase(self, record: Record, step: Step) -> None:
        now = self._records[record.key]
        self._put(msgspec.structs.replace(now, steps=tuple(each for each in now.steps if each.seq != step.seq)))

    def end(self, record: Record, state: State, *, response: Response | None = None, why: str = "") -> None:
        now = self._records[record.key]
        asked = now.asked if state is State.PARKED else None
        self._put(
            msgspec.structs.replace(now, state=state, response=response, why=why, changed=self._now(), asked=asked)
        )

    def forget(self, record: Record) -> None:
        self._records.pop(record.key, None)

    def orphans(self) -> Sequence[str]:
        running = [record.key for record in self._records.values() if record.state is State.RUNNING]
        return [key for key in running if key not in self._claimed]

    def revive(self, record: Record, steps: Sequence[Step]) -> None:
        self._put(judge.revived(record, steps, self._now()))

    def listing(self, state: State | None = None, limit: int = 1000) -> Sequence[Record]:
        found = [record for record in self._records.values() if state is None or record.state is state]
        return sorted(found, key=lambda record: -record.begun)[:limit]

    def show(self, identity: str) -> Record | None:
        found = [record for record in self._records.values() if record.id.startswith(identity)]
        return found[0] if len(found) == 1 else None

    def tidy(self) -> None:
        too_old = self._now() - self._terms.keep
        for record in list(self._records.values()):
            if record.state in (State.DONE, State.ABANDONED) and record.changed < too_old:
                self.forget(record)

    def order(self, verb: str, identity: str, result: bytes | None = None) -> str:
        return orders.at_once(self, orders.Order(verb, identity, result))

    def close(self) -> None:
        self._records.clear()
