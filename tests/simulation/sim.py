"""A world for the master to live in: virtual time, faults drawn from a seed, rules checked after every step.

python -m simulation.sim SEED       tells the story of one seed
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lastcall.core import lifecycle as lc
from lastcall.core import notes
from simulation import rules

TROUBLE = 120.0
"""How long anything may go wrong."""
PEACE = 400.0
"""How long the pool may take to be whole again when nothing goes wrong any more: drains, reloads and back-offs."""
REQUEST_MAX = 100.0
"""The longest request."""
STEPS_MAX = 5_000
"""More steps than this in one life is a busy loop."""
KILLED = 9
"""The wait status of a killed process."""
LOST = -1
"""The wait status of a process that the next master has not started."""


class Machine(NamedTuple):
    """The machine under test: the real one, or one with a bug planted in it."""

    boot: Callable[[lc.Policy], lc.Master]
    step: Callable[[lc.Master, Iterable[lc.Event], float], tuple[lc.Master, list[lc.Action]]]
    next_deadline: Callable[[lc.Master], float | None]


REAL = Machine(lc.boot, lc.step, lc.next_deadline)


@dataclass(frozen=True, slots=True)
class Died:
    """A process of the world comes to its end."""

    pid: int
    serial: int
    status: int


@dataclass(frozen=True, slots=True)
class Usurped:
    """The master dies, and another one goes on from what it has written down."""


@dataclass(slots=True)
class Process:
    serial: int
    deaf: bool
    """Never obeys REST or DRAIN, never answers TRACE."""
    stuck: bool
    """In a system call that even SIGKILL must wait for."""
    adopted: bool = False
    dying: bool = False


@dataclass(slots=True)
class Faults:
    """How often what goes wrong. Each seed draws its own, and may draw zero for most."""

    fork_fails: float
    boot_crashes: float
    boot_hangs: float
    import_fails: float
    dies_young: float
    crashes: float
    deaf: float
    stuck: float
    spent: float
    overdue: float
    committed: float
    broken_release: float
    late: float

    @classmethod
    def draw(cls, rng: random.Random) -> Faults:
        def upto(high: float) -> float:
            return rng.choice([0.0, rng.uniform(0, high)])

        return cls(
            fork_fails=upto(0.4),
            boot_crashes=upto(0.4),
            boot_hangs=upto(0.2),
            import_fails=upto(0.2),
            dies_young=upto(0.3),
            crashes=upto(0.5),
            deaf=upto(0.5),
            stuck=upto(0.2),
            spent=upto(0.8),
            overdue=upto(0.3),
            committed=upto(1.0),
            broken_release=upto(0.7),
            late=upto(20.0),
        )


NO_FAULTS = Faults(*[0.0] * 13)


@dataclass
class World:
    """One life of a master, from a seed."""

    seed: int
    machine: Machine = REAL
    tell: Callable[[str], object] | None = None
    """Takes the story, line by line."""

    now: float = 0.0
    steps: int = 0
    order: int = 0
    ticket: int = 0
    heap: list[tuple[float, int, lc.Event | Died | Usurped]] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    broken: dict[int, str] = field(default_factory=dict)
    """Generation -> what is wrong with it."""
    asked: set[int] = field(default_factory=set)
    """Tickets not yet answered."""
    failed: set[int] = field(default_factory=set)
    """Generations that were given up."""
    wanted: lc.Policy | None = None
    """By the last reload."""
    finished: int = 0
    """Generations that reached full strength."""
    recalled: int = 0
    """How often a worker that rested was called back."""
    usurped: int = 0
    """How often another master has gone on."""
    exits: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.fate = random.Random(f"the masters of {self.seed}")  # apart, so that known seeds stay what they were
        self.trace = hashlib.sha256()
        self.faults = NO_FAULTS
        self.trouble = Faults.draw(self.rng)
        self.patient = self.rng.random() < 0.2 and not self.trouble.deaf
        self.master = self.machine.boot(self.draw_policy())

    def draw_policy(self) -> lc.Policy:
        """A policy that no other reload has: its boot timeout is its fingerprint."""
        rng = self.rng
        return lc.Policy(
            workers=rng.randint(1, 4),
            surge=rng.randint(0, 2),
            boot_timeout=rng.uniform(3, 10),
            drain_timeout=0 if self.patient else rng.choice([2.0, 30.0]),
            critical_timeout=rng.choice([0.0, 0.07, 5.0]),
            trace_timeout=rng.choice([0.0, 1.0, 1.0]),
            min_uptime=rng.choice([0.0, 1.0]),
            trial=rng.choice([0.0, 0.5, 0.5, 5.0]),
            lame_duck=rng.choice([0.0, 0.0, 0.0, 3.0]),
            failures_max=rng.randint(0, 5),
            backoff=rng.choice([0.1, 1.0]),
        )

    # --- Time ---

    def after(self, delay: float, thing: lc.Event | Died | Usurped) -> None:
        self.order += 1
        heapq.heappush(self.heap, (self.now + delay, self.order, thing))

    def run(self, until: float) -> None:
        """Let time pass, and the master wake when something happens or is due, or somewhat later."""
        while not self.exits:
            due = self.machine.next_deadline(self.master)
            wake = min(due if due is not None else math.inf, self.heap[0][0] if self.heap else math.inf)
            if wake > until:
                self.now = until
                return
            late = self.rng.uniform(0, self.faults.late) if self.faults.late and self.rng.random() < 0.2 else 0.0
            self.now = max(self.now, wake + late)
            batch: list[lc.Event] = []
            while self.heap and self.heap[0][0] <= self.now:
                batch += self.happen(heapq.heappop(self.heap)[2])
            batch += self.committed()
            self.rng.shuffle(batch)  # signals, pipes and sockets are read in no particular order
            self.feed(batch)

    def committed(self) -> list[lc.Event]:
        """Who of those that are to be cut, or not yet, is past a point of no return."""
        stages = (lc.Stage.DRAINING, lc.Stage.CUTTING)
        draining = [worker.serial for worker in self.master.workers if worker.stage in stages]
        return [lc.Committed(serial) for serial in draining if self.rng.random() < self.faults.committed]

    def happen(self, thing: lc.Event | Died | Usurped) -> list[lc.Event]:
        match thing:
            case Died(pid, serial, status):
                process = self.processes.get(pid)
                if process is None or process.serial != serial:
                    return []
                del self.processes[pid]  # reaped: the pid is free again
                return [lc.Exited(pid, LOST if process.adopted and status else status)]
            case Usurped():
                return self.usurp()
            case lc.Booted(serial):  # may be read when the process is gone already
                self.live(serial)
        return [thing]

    def live(self, serial: int) -> None:
        """A worker has said that it is ready: draw what will come of it."""
        rng, faults = self.rng, self.faults
        pid = next((pid for pid, process in self.processes.items() if process.serial == serial), None)
        if pid is None:
            return
        if rng.random() < faults.dies_young:
            self.after(rng.uniform(0, 1), Died(pid, serial, rng.choice([0, 11, 256])))
        if rng.random() < faults.crashes:
            self.after(rng.expovariate(1 / 20), Died(pid, serial, 139))
        if rng.random() < faults.spent:
            self.after(rng.expovariate(1 / 10), lc.Spent(serial, "1000 requests"))
        if rng.random() < faults.overdue:
            self.after(rng.expovariate(1 / 30), lc.Overdue(serial))

    def usurp(self) -> list[lc.Event]:
        """As `runtime/adoption.py` does it: who boots is dead, who was to be killed may live, orders are given again."""
        before = self.master
        if before.phase is not lc.Phase.RUNNING:
            return []
        self.usurped += 1
        self.asked -= {*before.waiting, *before.stop_tickets}
        dead = [w for w in before.workers if w.pid is not None and w.stage is lc.Stage.BOOTING]
        dead += [w for w in before.workers if w.stage > lc.Stage.BOOTING and self.fate.random() < 0.1]
        workers = tuple(
            replace(w, stage=lc.Stage.CUTTING, deadline=self.now) if w.stage is lc.Stage.KILLED else w
            for w in before.workers
            if w.pid is not None
        )
        self.master = replace(before, workers=workers, waiting=(), stop_tickets=())
        for worker in dead:
            assert worker.pid is not None
            self.processes.pop(worker.pid, None)
        for process in self.processes.values():
            process.adopted = True
        return [lc.Exited(worker.pid, LOST) for worker in dead if worker.pid is not None]

    # --- The shell, in miniature ---

    def feed(self, events: list[lc.Event]) -> None:
        """Let the master act on what has happened, and on what comes of its actions."""
        while True:
            self.steps += 1
            assert self.steps < STEPS_MAX, "a busy loop"
            self.asked |= {e.ticket for e in events if isinstance(e, lc.Reload | lc.Resize | lc.Stop) and e.ticket}
            reloads = [event.policy for event in events if isinstance(event, lc.Reload)]
            self.wanted = reloads[-1] if reloads else self.wanted
            before = self.master
            self.master, actions = self.machine.step(before, events, self.now)
            self.record(events, actions)
            rested = {worker.serial for worker in before.workers if worker.stage is lc.Stage.RESTING}
            self.recalled += sum(w.serial in rested and w.stage is lc.Stage.READY for w in self.master.workers)
            due = self.machine.next_deadline(self.master)
            rules.check(rules.Step(before, events, self.master, actions, self.now, due))
            events = [event for action in actions for event in self.perform(action)]
            if not events:
                return

    def record(self, events: list[lc.Event], actions: list[lc.Action]) -> None:
        if self.tell is not None:
            line = f"{self.now:10.3f} {events} -> {actions}"
            self.trace.update(line.encode())
            self.tell(line)

    def perform(self, action: lc.Action) -> list[lc.Event]:
        assert not self.exits, "acted after the end"
        match action:
            case lc.Spawn():
                return self.fork(action)
            case lc.Tell(serial, word):
                self.told(serial, word)
            case lc.Kill(serial, pid):
                process = self.processes.get(pid)
                assert process is not None, "killed a process that is not ours"
                assert process.serial == serial, "killed a process that is not ours"
                self.end(pid, process, self.rng.uniform(1, 10) if process.stuck else 0.01, KILLED)
            case lc.Answer(ticket):
                assert ticket in self.asked, "answered a ticket that nobody holds"
                self.asked.remove(ticket)
            case lc.Write(notes.ReloadFailed(generation)):
                self.failed.add(generation)
            case lc.Write(notes.ReloadFinished(generation)):
                self.finished = generation
            case lc.Exit(code):
                assert not self.processes, "exited with workers alive"
                self.exits.append(code)
        return []

    def fork(self, spawn: lc.Spawn) -> list[lc.Event]:
        """Start a process, and draw how it will go with it."""
        rng, faults = self.rng, self.faults
        if rng.random() < faults.fork_fails:
            return [lc.SpawnFailed(spawn.serial, "Resource temporarily unavailable")]
        pid = next(pid for pid in range(100, 1000) if pid not in self.processes)  # reused as soon as possible
        serial = spawn.serial
        self.processes[pid] = Process(serial, rng.random() < faults.deaf, rng.random() < faults.stuck)
        illness = self.broken.get(spawn.generation, "")
        if illness == "crash" or rng.random() < faults.boot_crashes:
            if rng.random() < 0.3:  # says that it is ready, and dies: the two may be read in either order
                self.after(rng.uniform(0, 0.2), lc.Booted(serial))
            self.after(rng.uniform(0, 0.2), Died(pid, serial, 256))
        elif illness == "import" or rng.random() < faults.import_fails:
            self.after(delay := rng.uniform(0, 0.3), lc.BootFailed(serial, "ImportError: no module named gift"))
            self.after(delay + rng.choice([0.01, 5.0]), Died(pid, serial, 70 << 8))
        elif illness == "hang" or rng.random() < faults.boot_hangs:
            pass
        else:
            self.after(rng.uniform(0.01, 2), lc.Booted(serial))
        return [lc.Spawned(serial, pid)]

    def told(self, serial: int, word: lc.Word) -> None:
        """A worker hears a word. The deaf ones go on as before."""
        pid = next((pid for pid, process in self.processes.items() if process.serial == serial), None)
        assert pid is not None, "told a worker that was reaped"
        process = self.processes[pid]
        if process.deaf:
            return
        if word is lc.Word.TRACE:
            self.after(self.rng.uniform(0, 1.5), lc.Traced(serial))
        elif word is lc.Word.DRAIN:
            self.end(pid, process, self.rng.choice([0.0, 0.1, 5.0, self.rng.uniform(0, REQUEST_MAX)]), 0)

    def end(self, pid: int, process: Process, delay: float, status: int) -> None:
        self.after(delay, Died(pid, process.serial, status))

    # --- The operator ---

    def begin(self) -> None:
        """Start the master. Most lives begin well, or few would get as far as a reload."""
        rng = self.rng
        for generation in range(1, 40):
            if rng.random() < self.trouble.broken_release:
                self.broken[generation] = rng.choice(["crash", "import", "hang"])
        calm = rng.random() < 0.6
        if calm:
            self.broken.pop(1, None)
        self.faults = NO_FAULTS if calm else self.trouble
        self.feed([])
        self.run(until=rng.choice([0.0, rng.uniform(0, 5)]))
        self.faults = self.trouble

    def operate(self) -> None:
        """Draw what will be asked of the master while things go wrong."""
        rng = self.rng
        for _ in range(rng.randint(0, 6)):
            delay, kind = rng.uniform(0, rng.choice([3.0, TROUBLE])), rng.random()
            if kind < 0.4:
                self.after(delay, lc.Reload(self.draw_policy(), self.draw_ticket()))
            elif kind < 0.6:  # a burst
                for _ in range(rng.randint(2, 8)):
                    self.after(delay + rng.uniform(0, 0.3), lc.Reload(self.draw_policy(), self.draw_ticket()))
            else:
                self.after(delay, lc.Resize(rng.choice([-2, -1, 1, 2]), self.draw_ticket()))
        if rng.random() < 0.15:
            self.after(rng.uniform(0, TROUBLE), lc.Stop(rng.random() < 0.3, self.draw_ticket()))
        for _ in range(self.fate.choice([0, 0, 0, 1, 3])):
            self.after(self.fate.uniform(0, TROUBLE), Usurped())

    def draw_ticket(self) -> int:
        self.ticket += 1
        return self.ticket if self.rng.random() < 0.7 else 0

    def heal(self) -> None:
        """Nothing goes wrong from here on; who is deaf or stuck already remains so."""
        self.faults = NO_FAULTS
        self.broken = {}
        ills = (lc.Spent, lc.Overdue)
        dead = {pid for pid, process in self.processes.items() if self.is_going(process)}
        self.heap = [
            (at, order, thing)
            for at, order, thing in self.heap
            if not isinstance(thing, ills) and not (isinstance(thing, Died) and thing.pid not in dead)
        ]
        heapq.heapify(self.heap)

    def is_going(self, process: Process) -> bool:
        stage = next(w.stage for w in self.master.workers if w.serial == process.serial)
        return stage not in (lc.Stage.READY, lc.Stage.RESTING)

    # --- What must come about in the end ---

    def check_whole(self) -> None:
        """With all faults healed the pool is at full strength, of the right generation, and owes nobody an answer."""
        master, policy = self.master, self.master.current.policy
        assert not self.asked, f"tickets were not answered: {self.asked}"
        assert [w.stage for w in master.workers] == [lc.Stage.READY] * policy.workers, "not at strength"
        assert {w.generation for w in master.workers} == {master.current.generation}, "old workers stay"
        assert master.proven, "not proven"
        if master.generation not in self.failed:
            assert master.current.generation == master.generation, "a reload was lost"
            fingerprint = policy if self.wanted is None else self.wanted
            assert policy == replace(fingerprint, workers=policy.workers), "not the last configuration"
        assert master.generations == (master.current.generation,), "holds on to what is gone"

    def stop(self) -> None:
        """However things stand, a stop ends, and in a hurry it ends soon."""
        hurry = self.rng.random() < 0.3
        self.feed([lc.Stop(hurry, self.draw_ticket(), at_once=self.rng.random() < 0.5)])
        if not hurry and self.rng.random() < 0.5:
            for _ in range(2):
                self.run(self.now + self.rng.uniform(0, 20))
                self.feed([lc.Stop(hurry=False, ticket=self.draw_ticket())] if not self.exits else [])
            hurry = True
        # In a hurry: the trace, and the longest that a killed process takes to go.
        self.run(self.now + (12 if hurry else PEACE))


def simulate(seed: int, machine: Machine = REAL, tell: Callable[[str], object] | None = None) -> World:
    """Live one life: trouble, then peace, then a stop. AssertionError says which rule was broken."""
    world = World(seed, machine, tell)
    world.begin()
    world.operate()
    world.run(until=world.now + TROUBLE)
    world.heal()
    world.run(until=world.now + PEACE)
    if world.master.phase is lc.Phase.RUNNING:
        world.check_whole()
        world.stop()
    assert world.exits, "did not stop"
    assert not world.asked, f"tickets were not answered: {world.asked}"
    before = world.master
    assert machine.step(before, [lc.Stop(hurry=True), lc.Exited(1, 0)], world.now) == (before, [])
    return world


def main() -> None:
    world = simulate(int(sys.argv[1]), tell=print)
    print(f"{world.steps} steps, {world.now:.0f} virtual seconds, exit code {world.exits[0]}")


if __name__ == "__main__":
    main()
