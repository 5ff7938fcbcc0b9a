"""Durable orders while everything is killed, again and again: nothing is half-done in silence (guarantee G4).

The gift app, durable, four workers, behind nginx, with a MongoDB: workers are killed every 150 ms, masters and everything at
once now and then, and started again. Then the ledgers are compared with each other, with what clients were told, and with
the journal.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from examples.gift.load import Load, Seen
from examples.gift.orders import open_orders
from examples.gift.reconcile import ledger

from drills.conftest import Rehearsal
from lastcall.durable.record import Record, State
from lastcall.durable.sqlite import Reader
from lastcall.runtime.board import Board
from support.gift import EXAMPLES, Platforms
from support.lastcall import READY, Server, Servers
from support.mongod import Mongod
from support.nginx import Nginx
from support.processes import eventually

KILL_EVERY_S = 0.15
SLOTS_LOOKED_AT = 16
ALIVE = 2
"""Workers that are left alive: a new one takes longer to import pymongo than its next death is away."""
WITHIN_S = 100.0


class Killer:
    """A thread that kills a worker every so often, and counts."""

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._dice = random.Random(seed)
        self._end = threading.Event()
        self._pause = threading.Lock()
        self.kills = 0
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._pause:
            yield

    def _run(self) -> None:
        while not self._end.wait(KILL_EVERY_S):
            with self._pause:
                serving = self._serving()
                if len(serving) > ALIVE:
                    self._kill(self._dice.choice(serving))

    def _serving(self) -> list[int]:
        """Workers that have loaded the application: they have a slot."""
        try:
            board = Board(self._server.run_dir / "board", create=False)
        except OSError:
            return []
        slots = [board.read(number).pid for number in range(SLOTS_LOOKED_AT)]
        return sorted(set(slots) & set(self._server.workers()))

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills += 1


@dataclass
class Drill:
    """A durable gift service, and what became of its orders."""

    server: Server
    platform: str
    mongod: Mongod
    database: str
    journal: Path
    honours: bool
    kills: int = 0
    seen: Sequence[Seen] = ()

    def records(self, state: State | None = None) -> list[Record]:
        with closing(Reader(self.journal)) as reader:
            return list(reader.listing(state, 100_000))

    def start(self, times: int) -> None:
        self.server.start_again()
        self.server.wait_log(READY, times)

    def recover(self) -> None:
        """Everything is killed once more, and started; all that had begun comes to an end without its clients."""
        starts = self.server.log().count(READY)
        self.server.kill()
        self.start(starts + 1)
        eventually(lambda: not self.records(State.RUNNING), "all that has begun has ended", WITHIN_S)

    def run(self, url: str, rehearsal: Rehearsal, seed: int) -> None:
        """Orders flow, workers are killed; at each restart the master, or all of them at once."""
        serving = threading.Event()
        serving.set()

        def wait(_answered: int) -> None:
            """A client that finds nobody would be done with all of its orders in no time: let it wait."""
            serving.wait(WITHIN_S)

        # 2,000 orders in scripts/drill
        restarts, between = (rehearsal.restarts, 100) if rehearsal.long else (2, 60)
        load = Load([url], restarts * between, 8, progress=wait)
        killer = Killer(self.server, seed)
        load.start()
        with killer.at_work():
            for number in range(1, restarts):
                assert load.answered(number * between, WITHIN_S)
                with killer.paused():
                    serving.clear()
                    if number % 2:
                        os.kill(self.server.pid, signal.SIGKILL)  # the master, and its workers hear of it
                    self.server.kill()
                    self.start(self.server.log().count(READY) + 1)
                    serving.set()
            assert load.answered(load.orders, WITHIN_S)
        self.kills, self.seen = killer.kills, load.seen
        self.recover()


@pytest.fixture
def drill(serve: Servers, platforms: Platforms, mongod: Mongod, folder: Path, request: pytest.FixtureRequest) -> Drill:
    """The service. The test's parameter says whether the platform honours keys."""
    honours = bool(request.param)
    platform = platforms.process(
        "--latency", "20ms", "--jitter", "10ms", "--idempotent" if honours else "--no-idempotent"
    )
    database = f"test_durable_{honours:d}"
    env = {
        "GIFT_PLATFORM": platform,
        "GIFT_STORE": mongod.uri,
        "GIFT_DATABASE": database,
        "GIFT_IN_DOUBT": "retry" if honours else "hold",
    }
    journal = folder / "journal"
    own = ("--journal", str(journal), "--durability", "process", "--app-dir", str(EXAMPLES))
    server = serve("gift.durable_app:app", *own, "--workers", "4", env=env)
    return Drill(server, platform, mongod, database, journal, honours)


def key(record: Record) -> str:
    return record.key.rpartition("\n")[2]


@pytest.mark.xdist_group("mongod")
@pytest.mark.parametrize("drill", [True, False], indirect=True, ids=["honours keys", "does not"])
def test_nothing_is_half_done_in_silence(drill: Drill, nginx: Nginx, rehearsal: Rehearsal) -> None:
    """With a platform that honours keys everything is done once; else exactly the doubtful orders are parked."""
    site = nginx.http(drill.server.http_address)
    nginx.start()
    drill.run(f"http://{site}", rehearsal, seed=7)
    with closing(open_orders(drill.mongod.uri, drill.database)) as orders:
        written = set(orders.ids())
    presents = Counter(ledger(drill.platform))
    parked = {key(record): record.why for record in drill.records(State.PARKED)}
    done = {key(record) for record in drill.records(State.DONE)}
    told = {seen.order for seen in drill.seen if seen.yes}
    facts = (
        f"{len(drill.seen)} orders, {drill.kills} kills, {len(told)} told yes, {len(parked)} parked, {len(done)} done"
    )
    print(facts)
    assert drill.kills > 5, facts
    assert [order for order, times in presents.items() if times > 1] == [], facts
    assert told <= done, facts
    assert done == written, facts
    assert written <= presents.keys(), facts
    assert presents.keys() - written <= parked.keys(), facts
    assert set(parked.values()) <= {"step sendPresent was begun, and nobody knows whether it has happened"}
    if drill.honours:
        assert parked == {}, facts
    attempts = [record.attempt for record in drill.records()]
    assert max(attempts) > 1, facts
