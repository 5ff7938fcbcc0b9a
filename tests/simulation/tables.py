"""The tables of docs/LIFECYCLE.md, found by asking the machine.

python -m simulation.tables         prints them, to be pasted between the markers of the page
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from lastcall.core import lifecycle as lc
from lastcall.core import notes

POLICY = lc.Policy(workers=1, failures_max=0)
RELEASE = lc.Release(1, POLICY)
NOW = 100.0
SERIAL = 1

WHAT: dict[str, Callable[[lc.Master], tuple[lc.Master, list[lc.Event]]]] = {
    "`Spawned`": lambda master: (master, [lc.Spawned(SERIAL, 101)]),
    "`SpawnFailed`": lambda master: (master, [lc.SpawnFailed(SERIAL, "EAGAIN")]),
    "`Booted`": lambda master: (master, [lc.Booted(SERIAL)]),
    "`BootFailed`": lambda master: (master, [lc.BootFailed(SERIAL, "ImportError")]),
    "`Spent`": lambda master: (master, [lc.Spent(SERIAL, "1000 requests")]),
    "`Overdue`": lambda master: (master, [lc.Overdue(SERIAL)]),
    "`Traced`": lambda master: (master, [lc.Traced(SERIAL)]),
    "`Exited`": lambda master: (master, [lc.Exited(101, 0)]),
    "its deadline": lambda master: (expired(master), []),
    "replaced, on trial": lambda master: (replaced(master), []),
    "gone back to": lambda master: (replaced(master, failing=True), [lc.BootFailed(3, "ImportError")]),
    "no longer wanted": lambda master: (unwanted(master), []),
    "`Stop`": lambda master: (master, [lc.Stop(hurry=False)]),
    "`Stop` again": lambda master: (master, [lc.Stop(hurry=False), lc.Stop(hurry=False)]),
}
"""What may happen to a worker: the master as it is then, and the events."""


def worker(stage: lc.Stage) -> lc.Worker:
    """Return a worker of the current release, in a stage."""
    return lc.Worker(
        serial=SERIAL,
        slot=0,
        generation=1,
        stage=stage,
        born=0,
        since=0,
        pid=None if stage is lc.Stage.SPAWNING else 101,
        deadline=NOW + 50 if stage in lc.EXPIRED else None,
        ready_at=1 if stage >= lc.Stage.READY else None,
    )


def expired(master: lc.Master) -> lc.Master:
    """Let every deadline have passed."""
    workers = [replace(w, deadline=None if w.deadline is None else NOW) for w in master.workers]
    return replace(master, workers=tuple(workers))


def replaced(master: lc.Master, *, failing: bool = False) -> lc.Master:
    """Let another generation be on trial at full strength; `failing`: and let one more of it boot."""
    new = [replace(worker(lc.Stage.READY), serial=2, slot=1, generation=2, pid=102)]
    if failing:
        new.append(replace(worker(lc.Stage.BOOTING), serial=3, slot=2, generation=2, pid=103))
    release = lc.Release(2, POLICY)
    workers = (*master.workers, *new)
    return replace(master, current=release, generation=2, workers=workers, serial=3, calm_since=NOW)


def unwanted(master: lc.Master) -> lc.Master:
    """Let another generation be at full strength."""
    new = replace(worker(lc.Stage.READY), serial=2, slot=1, generation=2, pid=102)
    release = lc.Release(2, POLICY)
    return replace(master, current=release, fallback=release, generation=2, workers=(*master.workers, new), serial=2)


def master(*workers: lc.Worker) -> lc.Master:
    return lc.Master(RELEASE, fallback=RELEASE, workers=workers, serial=SERIAL, untried=False, announced=True)


def cell(stage: lc.Stage, what: Callable[[lc.Master], tuple[lc.Master, list[lc.Event]]]) -> str:
    """What becomes of a worker, and what it is told. Nobody rests who is not replaced."""
    state, events = what(master(worker(stage)))
    if stage is lc.Stage.RESTING and state.current is RELEASE:
        state = replaced(state)
    after, actions = lc.step(state, events, NOW)
    orders = []
    for action in actions:
        match action:
            case lc.Tell(serial, word) if serial == SERIAL:
                orders.append(f"*{word.name}*")
            case lc.Kill(serial) if serial == SERIAL:
                orders.append("*SIGKILL*")
    found = [w for w in after.workers if w.serial == SERIAL]
    if not found:
        return "gone"
    if found[0].stage is stage:
        return "spent" if found[0].spent else "·"
    return ", ".join([found[0].stage.name, *orders])


def stages() -> str:
    """Events and deadlines x stages: what becomes of the worker."""
    rows = [[what, *(cell(stage, step) for stage in lc.Stage)] for what, step in WHAT.items()]
    return table(["", *(stage.name for stage in lc.Stage)], rows)


FAILURES: dict[str, list[lc.Event]] = {
    "the application cannot be loaded": [lc.BootFailed(SERIAL, "ImportError")],
    "not ready in time": [],
    "exits before it is ready": [lc.Exited(101, 256)],
    "exits sooner than `min_uptime` after it": [lc.Booted(SERIAL), lc.Exited(101, 256)],
    "fork() fails": [lc.SpawnFailed(SERIAL, "EAGAIN")],
}

TRIALS: dict[str, Callable[[lc.Master], lc.Master]] = {
    "first start, nothing serves": lambda master: replace(master, fallback=None, announced=False),
    "first start, others serve": lambda master: replace(
        master,
        fallback=None,
        announced=False,
        workers=(*master.workers, replace(worker(lc.Stage.READY), serial=2, slot=1, pid=102)),
        current=lc.Release(1, replace(POLICY, workers=2)),
    ),
    "reload": lambda master: replace(
        master,
        current=lc.Release(2, master.current.policy),
        generation=2,
        generations=(1, 2),
        workers=(
            *(replace(w, generation=2) for w in master.workers),
            replace(worker(lc.Stage.READY), serial=2, slot=1, pid=102),
        ),
    ),
    "it has served at full strength": lambda master: master,
}


def outcome(failure: str, events: list[lc.Event], trial: Callable[[lc.Master], lc.Master], failures_max: int) -> str:
    """What the master concludes from one failure."""
    stage = lc.Stage.SPAWNING if failure.startswith("fork") else lc.Stage.BOOTING
    state = trial(master(worker(stage)))
    state = replace(
        state, current=replace(state.current, policy=replace(state.current.policy, failures_max=failures_max))
    )
    _, actions = lc.step(state if events else expired(state), events, NOW)
    for action in actions:
        match action:
            case lc.Write(notes.GivingUp()):
                return "give up, exit 70"
            case lc.Write(notes.ReloadFailed()):
                return "go back"
            case lc.Write(notes.BackingOff()):
                return "try again"
    raise AssertionError(f"nothing was concluded from: {failure}")


def failures() -> str:
    """What failed x how far the release has come: what the master concludes, at first and after too many."""
    rows = []
    for failure, events in FAILURES.items():
        row = [failure]
        for trial in TRIALS.values():
            first, last = (outcome(failure, events, trial, failures_max) for failures_max in (5, 0))
            row.append(first if first == last else f"{first}; in the end {last}")
        rows.append(row)
    return table(["", *TRIALS], rows)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES = {"stages": stages, "failures": failures}

if __name__ == "__main__":
    for name, make in TABLES.items():
        print(f"<!-- {name} -->\n{make()}\n<!-- end -->\n")
