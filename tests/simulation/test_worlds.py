"""Small worlds, exhaustively: every order in which a few things can happen to one or two workers.

Each world has a budget: how often each kind of thing may happen at most. Within it every interleaving is tried,
breadth first, also two events in one wake-up; states that differ only in names and in absolute time are one state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from lastcall.core import lifecycle as lc
from simulation import rules

POLICY = lc.Policy(
    workers=1,
    surge=1,
    boot_timeout=2,
    drain_timeout=1,
    trace_timeout=1,
    min_uptime=0,
    trial=0,
    failures_max=1,
    failures_window=1e9,
    backoff=1,
    backoff_max=2,
)


class Budget(NamedTuple):
    """How often each may still happen. What has no budget (spawning, booting, waiting, obeying) always may."""

    reload: int = 0
    stop: int = 0
    up: int = 0
    down: int = 0
    spent: int = 0
    overdue: int = 0
    committed: int = 0
    death: int = 0
    unloadable: int = 0
    no_fork: int = 0

    def less(self, name: str) -> Budget:
        return self._replace(**{name: getattr(self, name) - 1})


class Node(NamedTuple):
    """A state of the world: the master is all there is to know of it, because it knows its workers."""

    master: lc.Master
    now: float
    budget: Budget


class Move(NamedTuple):
    """Something that may happen: an event, or just the next deadline."""

    event: lc.Event | None
    cost: str = ""


class Small(NamedTuple):
    """A world to explore."""

    policy: lc.Policy
    budget: Budget
    pairs: bool = True
    """Also try every two events in one wake-up, in both orders."""


TWO = replace(POLICY, workers=2)
TRIAL = replace(POLICY, trial=1.5)
WORLDS = {
    "a reload that may fail": Small(POLICY, Budget(reload=1, unloadable=1, overdue=1)),
    "a reload on trial": Small(TRIAL, Budget(reload=1, unloadable=1, death=1, overdue=1)),
    "a reload on trial that dies": Small(TRIAL, Budget(reload=1, death=3), pairs=False),
    "a reload overtakes another": Small(POLICY, Budget(reload=2, unloadable=1, death=1)),
    "a reload overtakes one on trial": Small(TRIAL, Budget(reload=2, unloadable=1, death=1), pairs=False),
    "a stop during a trial": Small(TRIAL, Budget(reload=1, stop=2, spent=1)),
    "scaling during a trial": Small(TRIAL, Budget(reload=1, up=1), pairs=False),
    "a lame duck": Small(replace(POLICY, lame_duck=3), Budget(stop=3, death=1, spent=1)),
    "a lame duck in a reload": Small(replace(TRIAL, lame_duck=3), Budget(reload=1, stop=2, unloadable=1), pairs=False),
    "a reload and two stops": Small(POLICY, Budget(reload=1, stop=2, no_fork=1)),
    "deaths and a reload": Small(POLICY, Budget(reload=1, death=2)),
    "recycling and a death": Small(POLICY, Budget(spent=1, death=1)),
    "a stop past a point of no return": Small(
        replace(POLICY, critical_timeout=0.07), Budget(stop=2, committed=3, overdue=1)
    ),
    "a reload past a point of no return": Small(
        replace(POLICY, critical_timeout=5), Budget(reload=1, committed=2, stop=1), pairs=False
    ),
    "two workers boot": Small(TWO, Budget(death=1, unloadable=1), pairs=False),
    "two workers reload": Small(TWO, Budget(reload=1, unloadable=1), pairs=False),
    "one worker, or two": Small(POLICY, Budget(up=1, down=1)),
    "two workers on trial": Small(replace(TRIAL, workers=2), Budget(reload=1, death=1), pairs=False),
    "two workers stop": Small(TWO, Budget(stop=2), pairs=False),
    "two workers recycle": Small(TWO, Budget(spent=2), pairs=False),
}


@pytest.mark.parametrize("name", WORLDS)
def test_no_order_of_events_breaks_a_rule(name: str) -> None:
    """From every state that can be reached: no rule is broken, the pool can become whole, and a stop can end."""
    states, edges = explore(WORLDS[name])
    print(f"{name}: {states} states, {edges} edges: all of them")
    assert states > 200


def explore(world: Small) -> tuple[int, int]:
    """Visit every state that can be reached; return how many there are, and how many ways between them."""
    start = advance(Node(lc.boot(world.policy), 0.0, world.budget), [])
    frontier, seen, edges = deque([start]), {key(start)}, 0
    good, stopped = set[Hashable](), set[Hashable]()
    while frontier:
        node = frontier.popleft()
        if node.master.phase is lc.Phase.STOPPED:
            continue
        becomes_whole(node, good)
        if (name := key(node._replace(budget=Budget()))) not in stopped:
            stopped.add(name)
            stops_though_nobody_obeys(node)
        for after in successors(node, pairs=world.pairs):
            edges += 1
            if (name := key(after)) not in seen:
                seen.add(name)
                frontier.append(after)
    return len(seen), edges


def successors(node: Node, *, pairs: bool) -> Iterator[Node]:
    """All that one thing, or two in one wake-up, may lead to."""
    for move in moves(node):
        one = pay(node, move)
        if move.event is None:
            yield advance(one, [])
            continue
        yield advance(one, [move.event])
        for other in moves(node) if pairs else []:
            if other.event is not None and not excludes(move.event, other.event) and affordable(one, other):
                yield advance(pay(one, other), [move.event, other.event])


def excludes(one: lc.Event, other: lc.Event) -> bool:
    """A fork has one outcome, a process one end."""
    outcomes = (lc.Spawned, lc.SpawnFailed)
    return one == other or (isinstance(one, outcomes) and isinstance(other, outcomes) and one.serial == other.serial)


def pay(node: Node, move: Move) -> Node:
    return node._replace(budget=node.budget.less(move.cost)) if move.cost else node


def affordable(node: Node, move: Move) -> bool:
    return not move.cost or getattr(node.budget, move.cost) > 0


def advance(node: Node, events: list[lc.Event]) -> Node:
    """Step the machine and check the rules; with no events, or those that are said when one is due, at the next deadline."""
    due = lc.next_deadline(node.master)
    waits = all(isinstance(event, lc.Committed) for event in events)
    now = max(node.now, due) if waits and due is not None else node.now
    after, actions = lc.step(node.master, events, now)
    rules.check(rules.Step(node.master, events, after, actions, now, lc.next_deadline(after)))
    return Node(after, now, node.budget)


def moves(node: Node) -> list[Move]:
    """Everything that may happen next, within the budget."""
    master = node.master
    found = [move for worker in master.workers for move in moves_of(master, worker)]
    ticket = len(master.waiting) + len(master.stop_tickets) + 1
    found += [
        Move(lc.Reload(master.current.policy, ticket), "reload"),
        Move(lc.Resize(+1, ticket), "up"),
        Move(lc.Resize(-1, ticket), "down"),
        Move(lc.Stop(hurry=False, ticket=ticket), "stop"),
    ]
    # fork() and SIGKILL take no time here.
    waits = all(worker.pid is not None and worker.stage is not lc.Stage.KILLED for worker in master.workers)
    if waits and lc.next_deadline(master) is not None:
        found.append(Move(None))
        draining = [w.serial for w in master.workers if w.stage in (lc.Stage.DRAINING, lc.Stage.CUTTING)]
        found += [Move(lc.Committed(serial), "committed") for serial in draining]
    return [move for move in found if affordable(node, move)]


def moves_of(master: lc.Master, worker: lc.Worker) -> Iterator[Move]:
    serial = worker.serial
    if worker.pid is None:
        taken = [w.pid for w in master.workers]
        unborn = [w.serial for w in master.workers if w.pid is None]
        free = [pid for pid in range(1, 99) if pid not in taken]
        yield Move(lc.Spawned(serial, free[unborn.index(serial)]))
        yield Move(lc.SpawnFailed(serial, "EAGAIN"), "no_fork")
        return
    yield Move(lc.Exited(worker.pid, 0), "" if worker.stage >= lc.Stage.DRAINING else "death")
    match worker.stage:
        case lc.Stage.BOOTING:
            yield Move(lc.Booted(serial))
            yield Move(lc.BootFailed(serial, "ImportError"), "unloadable")
        case lc.Stage.READY:
            yield Move(lc.Spent(serial, "1000 requests"), "spent")
            yield Move(lc.Overdue(serial), "overdue")
        case lc.Stage.RESTING:
            yield Move(lc.Spent(serial, "1000 requests"), "spent")
            yield Move(lc.Overdue(serial), "overdue")
        case lc.Stage.DRAINING:
            yield Move(lc.Overdue(serial), "overdue")
        case lc.Stage.CUTTING:
            yield Move(lc.Traced(serial))


def key(node: Node) -> Hashable:
    """The state up to renaming: slots, pids, absolute times, serials and generation numbers do not matter.

    POLICY makes the ages of failures and of workers matter only by their order, but during a trial.
    """
    master, now, budget = node
    trial = master.current.policy.trial
    rank = {generation: index for index, generation in enumerate(master.generations)}
    fallback, failures = master.fallback, master.failures
    return (
        (master.phase, master.hurry, master.exit_code, master.untried, master.announced, master.forks_failed),
        (rank[master.current.generation], master.current.policy.workers),
        None if fallback is None else (rank[fallback.generation], fallback.policy.workers),
        tuple((rank[release.generation], release.policy.workers) for release in master.overtaken),
        tuple(
            (
                (rank[w.generation], w.stage, bool(w.spent)),
                None if w.deadline is None else w.deadline - now,
                None if w.limit is None else w.limit - now,
                bool(failures) and w.born <= failures[-1],
                None if w.ready_at is None else sum(at > w.ready_at for at in failures),
                None if w.ready_at is None or master.proven else min(now - w.ready_at, trial),
            )
            for w in master.workers
        ),
        (len(failures), max(0.0, master.spawn_after - now)),
        None if master.calm_since is None or master.proven else min(now - master.calm_since, trial),
        None if master.stop_at is None else master.stop_at - now,
        (bool(master.waiting), bool(master.stop_tickets)),
        budget,
    )


def becomes_whole(node: Node, good: set[Hashable]) -> None:
    """From here, with workers that do what they are told, the pool gets to full strength, or the stop ends."""
    path = set[Hashable]()
    node = node._replace(budget=Budget())
    for _ in range(60):
        path.add(name := key(node))
        master = node.master
        ready = [w for w in master.workers if w.stage is lc.Stage.READY and not w.spent]
        whole = len(ready) == len(master.workers) == master.current.policy.workers and master.phase is lc.Phase.RUNNING
        if name in good or master.phase is lc.Phase.STOPPED or (whole and not master.waiting and master.proven):
            good |= path
            return
        node = advance(node, [event for w in master.workers if (event := obey(w)) is not None])
    raise AssertionError(f"does not become whole: {node.master}")


def obey(worker: lc.Worker) -> lc.Event | None:
    if worker.pid is None:
        return lc.Spawned(worker.serial, 1000 + worker.serial)
    if worker.stage is lc.Stage.BOOTING:
        return lc.Booted(worker.serial)
    return lc.Exited(worker.pid, 0) if worker.stage >= lc.Stage.DRAINING else None


def stops_though_nobody_obeys(node: Node) -> None:
    """From here, with workers that heed nothing but SIGKILL, a stop ends."""
    node = advance(node, [lc.Stop(hurry=False, at_once=True)])
    for _ in range(20):
        if node.master.phase is lc.Phase.STOPPED:
            return
        unborn: list[lc.Event] = [lc.Spawned(w.serial, 1000 + w.serial) for w in node.master.workers if w.pid is None]
        killed = [lc.Exited(w.pid, 9) for w in node.master.workers if w.stage is lc.Stage.KILLED and w.pid]
        node = advance(node, unborn or [*killed])
    raise AssertionError(f"does not stop: {node.master}")
