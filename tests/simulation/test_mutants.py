"""Who tests the tests? Known bugs are planted in the machine, one at a time, and the simulation must find each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lastcall.core import lifecycle
from simulation.sim import Machine, simulate

SEEDS = 5000
"""Every bug must be found within this many lives. Most are found within ten."""

SOURCE = Path(lifecycle.__file__).read_text()

BUGS = {
    "a word is not remembered, and said again": (
        "return _emit(_put(master, _enter(worker, stage, now, patience)), order)",
        "return _emit(master, order)",
    ),
    "a worker is remembered as told, and was not": (
        "    return _emit(_put(master, _enter(worker, stage, now, patience)), order)",
        "    return _put(master, _enter(worker, stage, now, patience))",
    ),
    "a worker that was reaped is not dropped": (
        "    master = _emit(_drop(master, worker), Write(note))\n    if expected:",
        "    master = _emit(master, Write(note))\n    if expected:",
    ),
    "a failed fork keeps its slot": (
        "return _fork_failed(_drop(master, worker), why, now)",
        "return _fork_failed(master, why, now)",
    ),
    "a serial is used twice": (
        "worker = Worker(master.serial + 1, slot",
        "worker = Worker(len(master.workers) + 1, slot",
    ),
    "a slot is used twice": (
        "slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)",
        "slot = len(taken)",
    ),
    "a boot that hangs is waited for": (
        "Stage.BOOTING, now, policy.boot_timeout)",
        "Stage.BOOTING, now, 0)",
    ),
    "a drain has no end": (
        "patience = {Stage.DRAINING: policy.drain_timeout, ",
        "patience = {",
    ),
    "no trace within the time, and no kill": (
        "Stage.CUTTING: Stage.KILLED}",
        "}",
    ),
    "the old retire before the new are ready": (
        "    return useless + old[:spare]",
        "    return useless + old",
    ),
    "the last proven ones retire before one of the new is ready": (
        "    old = [worker for worker in old if new or worker.generation != fallback]\n",
        "",
    ),
    "the oldest retire though the youngest do not serve yet": (
        "key=lambda w: (w.stage, not w.spent, w.serial if w.spent else -w.serial)",
        "key=lambda w: w.serial",
    ),
    "the successor retires instead of the spent one": (
        "key=lambda w: (w.stage, not w.spent, w.serial if w.spent else -w.serial)",
        "key=lambda w: (w.stage, -w.serial)",
    ),
    "a spent worker retires before its successor is ready": (
        "extra = new[: max(0, len(new) - _target(master))]",
        "extra = new[: max(0, len(new) - master.current.policy.workers)]",
    ),
    "all the spent are replaced at once": (
        "    return wanted + 1 if waits else wanted\n",
        "    return wanted + sum(bool(worker.spent) for worker in ready) if waits else wanted\n",
    ),
    "no wake-up when the back-off ends": (
        "        times.append(master.spawn_after)",
        "        pass",
    ),
    "nobody wakes when a trial is over": (
        "        times.append(_trial_ends(master))",
        "        pass",
    ),
    "a point of no return is not respected": (
        "    return _put(master, replace(worker, limit=limit, deadline=deadline))",
        "    return _put(master, replace(worker, limit=limit))",
    ),
    "a point of no return is respected for ever": (
        "        limit = due + policy.critical_timeout\n",
        "        limit = due + 2 * policy.critical_timeout\n",
    ),
    "the patience with a point of no return begins anew each time": (
        "    if limit is None:\n        if not policy",
        "    if limit is None or worker.deadline < limit:\n        if not policy",
    ),
    "a point of no return is forgotten when the trace is there": (
        "    Committed: (Stage.DRAINING, Stage.CUTTING),",
        "    Committed: (Stage.DRAINING,),",
    ),
    "a trace that comes with a point of no return is answered with SIGKILL": (
        "sorted(events, key=_is_of_this_moment)",
        "sorted(events, key=_is_of_this_moment, reverse=True)",
    ),
    "a trial is over at full strength": (
        "    if _on_trial(master) and now < _trial_ends(master):\n        return master\n",
        "",
    ),
    "a trial goes on as if nothing had failed": (
        "        master = replace(master, calm_since=now)\n    failures = _streak",
        "        pass\n    failures = _streak",
    ),
    "a trial begins before anybody is ready": (
        "            calm_since=None,\n            why",
        "            calm_since=now,\n            why",
    ),
    "one that dies on trial is no failure": (
        "(max(policy.min_uptime, policy.trial) if _on_trial(master) else policy.min_uptime)",
        "policy.min_uptime",
    ),
    "a reload is tried as often as a start": (
        "        patience = min(patience, RELOAD_FAILURES_MAX)",
        "        pass",
    ),
    "the old are drained though the new are on trial": (
        "Stage.RESTING if rests else RETIRED[worker.stage]",
        "RETIRED[worker.stage]",
    ),
    "whoever rests is never let go": (
        "    useless += [w for w in master.workers if w.stage is Stage.RESTING and not _may_return(master, w)]\n",
        "",
    ),
    "whoever rests is let go too early": (
        "if w.stage is Stage.RESTING and not _may_return(master, w)]",
        "if w.stage is Stage.RESTING and spare]",
    ),
    "a rollback calls nobody back": (
        "resting[: max(0, wanted, missing)]",
        "resting[: max(0, missing if wanted == 0 else 0)]",
    ),
    "nobody is called back while the new fail": (
        "resting[: max(0, wanted, missing)]",
        "resting[: max(0, wanted)]",
    ),
    "all are called back for one": (
        "resting[: max(0, wanted, missing)]",
        "resting[: len(resting) if wanted or missing > 0 else 0]",
    ),
    "whoever rests does not hear the stop": (
        "Stage.READY: Stage.DRAINING, Stage.RESTING: Stage.DRAINING}",
        "Stage.READY: Stage.DRAINING}",
    ),
    "whoever rests is in nobody's way": (
        "    limit = 2 * span + surge - len(master.workers)",
        "    limit = 2 * span + surge - len(master.workers) + rest",
    ),
    "whoever rests stands in the way of the new": (
        "    span = max(policy.workers, serve, rest)",
        "    span = max(policy.workers, serve)",
    ),
    "a lame duck for ever": (
        "        times.append(master.stop_at)",
        "        pass",
    ),
    "a lame duck replaces nobody": (
        "    if not master.lasting:\n        return 0\n",
        "    if master.phase is not Phase.RUNNING:\n        return 0\n",
    ),
    "a second stop leaves a lame duck as it is": (
        "    if master.lasting:\n        return _begin_to_stop(replace(master, hurry",
        "    if master.phase is Phase.RUNNING:\n        return _begin_to_stop(replace(master, hurry",
    ),
    "a lame duck leaves the reload under way unanswered": (
        "        master = _end_reload(master, ok=False, text=STOPPING)\n        return",
        "        return",
    ),
    "no back-off": (
        "master = replace(master, spawn_after=max(master.spawn_after, now + delay))",
        "master = replace(master, spawn_after=now)",
    ),
    "failures are never too many": (
        "failures > patience):",
        "failures > 1000):",
    ),
    "a proven release is given up": (
        "    if not master.proven and (outlook is Outlook.HOPELESS or failures",
        "    if (outlook is Outlook.HOPELESS or failures",
    ),
    "concludes before everything was heard": (
        "    return replace(master, failures=failures, why=why, outlook=outlook)",
        "    return _judge(replace(master, failures=failures, why=why, outlook=outlook), now)",
    ),
    "a release that was overtaken is worth nothing, though it serves": (
        "overtaken=_overtaken(master)",
        "overtaken=()",
    ),
    "gives up though a worker serves": (
        "        if not any(worker.stage is Stage.READY for worker in master.workers):\n            return _give_up",
        "        if True:\n            return _give_up",
    ),
    "a reload that is overtaken forgets who waits for it": (
        "waiting=_queue(master.waiting, event.ticket)",
        "waiting=_queue((), event.ticket)",
    ),
    "a reload that is given up answers nobody": (
        "    return _end_reload(_emit(master, Write(note)), ok=False, ",
        "    return (lambda master, ok, text: master)(_emit(master, Write(note)), ok=False, ",
    ),
    "a stop forgets the reload under way": (
        "    return replace(_end_reload(master, ok=False, text=why), phase=Phase.STOPPING, stop_at=None)",
        "    return replace(master, phase=Phase.STOPPING, stop_at=None)",
    ),
    "a reload in a stop begins": (
        "return _answer(master, (event.ticket,), ok=False, text=STOPPING)\n    master = replace(master, waiting",
        "pass\n    master = replace(master, waiting",
    ),
    "the first of several reloads wins": (
        "return replace(master, current=replace(master.current, policy=event.policy))",
        "return master",
    ),
    "a second stop changes nothing": (
        "    return _emit(replace(master, hurry=True), Write(notes.Hurrying()))",
        "    return _emit(master, Write(notes.Hurrying()))",
    ),
    "exits when everybody was told to go": (
        "if master.phase is Phase.STOPPING and not master.workers else master",
        "if master.phase is Phase.STOPPING else master",
    ),
    "a generation is forgotten while it lives": (
        "held = [worker.generation for worker in master.workers] + [master.current.generation]",
        "held = [master.current.generation]",
    ),
    "the unkillable pile up": (
        "processes = min(max(limit, policy.workers - in_service), limit + draining, SLOTS - len(master.workers))",
        "processes = max(limit, policy.workers - in_service)",
    ),
    "says that it boots no more, and is believed to be ready": (
        "    Booted: (Stage.BOOTING,),",
        "    Booted: (Stage.BOOTING, Stage.DRAINING, Stage.KILLED),",
    ),
}


def planted(old: str, new: str) -> Machine:
    """Return the machine with a bug in its functions and tables. It shares the vocabulary with the real one."""
    assert SOURCE.count(old) == 1, f"not one place, but {SOURCE.count(old)}: {old}"
    tree = ast.parse(SOURCE.replace(old, new))
    tree.body = [node for node in tree.body if not isinstance(node, ast.ClassDef | ast.ImportFrom)]
    names = dict(vars(lifecycle))
    exec(compile(tree, "planted", "exec", dont_inherit=True), names)  # noqa: S102 (our own source, changed in one place)
    return Machine(names["boot"], names["step"], names["next_deadline"])


def lives_until_found(machine: Machine) -> int:
    for seed in range(SEEDS):
        try:
            simulate(seed, machine)
        except (AssertionError, LookupError):
            return seed + 1
    return 0


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    """A bug that the simulation would let through shows that a rule, or a fault, is missing."""
    lives = lives_until_found(planted(*BUGS[bug]))
    print(f"{bug}: found in life {lives}")
    assert lives, f"survived {SEEDS} lives: {bug}"


def test_the_machine_itself_survives_the_operation() -> None:
    """It is the bug that is found, and not the way in which it was planted."""
    machine = planted("def boot(", "def boot(")
    for seed in range(20):
        simulate(seed, machine)
