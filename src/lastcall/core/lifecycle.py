"""What the master decides. It knows no process, socket, clock or log, only what it was told of them.

    master, actions = step(master, events, now)

An event says what happened, an action says what the shell is to do. The shell performs each action once, in
order, and reports its outcome as a later event. `next_deadline` says when `step` must be called even if nothing
happens.

`step` first takes in all events of a wake-up, then looks only at the state and closes the gap between what is
and what should be. Retrying, backing off, escalating and rolling are deadlines in the state: nothing here waits.
docs/LIFECYCLE.md has the tables and the reasons.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from lastcall.core import exits, notes
from lastcall.core.events import (
    AboutWorker,
    Action,
    Answer,
    Booted,
    BootFailed,
    Committed,
    Event,
    Exit,
    Exited,
    Forget,
    Kill,
    Overdue,
    Policy,
    Reload,
    Resize,
    Spawn,
    Spawned,
    SpawnFailed,
    Spent,
    Stop,
    Tell,
    Traced,
    Word,
    Write,
)
from lastcall.core.slot import SLOTS, WORKERS_MAX

__all__ = [
    "AboutWorker", "Action", "Answer", "BootFailed", "Booted", "Committed", "Event", "Exit", "Exited", "Forget", "Kill",
    "Master", "Outlook", "Overdue", "Phase", "Policy", "Release", "Reload", "Resize", "Spawn", "SpawnFailed", "Spawned",
    "Spent", "Stage", "Stop", "Tell", "Traced", "Word", "Worker", "Write", "boot", "next_deadline", "step",
]  # fmt: skip

# --- Vocabulary --------------------------------------------------------------


class Phase(enum.Enum):
    """Where the master is in its life."""

    RUNNING = "running"
    LEAVING = "leaving"
    """A lame duck: it is to stop, has said so, and goes on as while RUNNING until others have taken its place."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class Stage(enum.IntEnum):
    """Where one worker is in its life. It only ever moves down this list, but for RESTING, which may be READY again."""

    SPAWNING = 0
    """Fork asked for, pid not known yet."""
    BOOTING = 1
    """Has a pid, has not said that it is ready."""
    READY = 2
    """Serves."""
    RESTING = 3
    """Replaced by a release that is on trial: takes nothing new, and stays, for it may have to serve again."""
    DRAINING = 4
    """Told to finish what it has begun, to take nothing new, and to exit."""
    CUTTING = 5
    """Told to write down where it is: it is killed as soon as it has done so, or shortly after."""
    KILLED = 6
    """Nothing left to send, only to reap."""


class Outlook(enum.IntEnum):
    """What the failures of one step say about the current release."""

    GOOD = 0
    """There were none."""
    DOUBTFUL = 1
    HOPELESS = 2
    """Trying again will not help."""


# --- State -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as the master knows it."""

    serial: int
    """Its identity: never reused, unlike slot and pid."""
    slot: int
    generation: int
    stage: Stage
    born: float
    since: float
    """When it entered its stage."""
    pid: int | None = None
    """None while SPAWNING. Only for killing and reaping."""
    deadline: float | None = None
    """When the master's patience with this stage ends."""
    ready_at: float | None = None
    spent: str = ""
    """Why it is due for recycling; "" if it is not."""
    overdue: bool = False
    """It runs a request that has taken too long: to be cut, not drained."""
    limit: float | None = None
    """When it is cut even if it runs a request that is past a point of no return. None: that has not mattered yet."""


@dataclass(frozen=True, slots=True)
class Release:
    """A generation and the policy it came with."""

    generation: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Master:
    """All that the master knows and intends. Read it freely; only `boot` and `step` make new ones."""

    current: Release
    fallback: Release | None = None
    """What a failed reload goes back to: the last release that served at full strength."""
    overtaken: tuple[Release, ...] = ()
    """Until one has: those that were overtaken and serve. The newest of them is the fallback."""
    phase: Phase = Phase.RUNNING
    stop_at: float | None = None
    """When a lame duck begins to drain."""
    hurry: bool = False
    workers: tuple[Worker, ...] = ()
    """In the order of their serials. A worker stays until it is reaped."""
    serial: int = 0
    """The last one given to a worker."""
    generation: int = 1
    """The last one given to a release. A rollback does not give it back."""
    first: int = 1
    """The release that this pool began with, or has begun anew with: no reload led to it."""
    generations: tuple[int, ...] = (1,)
    """Those whose resources the shell still holds."""
    untried: bool = True
    """The current release has not been given a worker yet."""
    announced: bool = False
    """ReadyToServe has been written."""
    failures: tuple[float, ...] = ()
    """When workers of the current release failed; those started together count once."""
    calm_since: float | None = None
    """Since when the current release serves and none of its workers has failed. None: none has been ready yet."""
    forks_failed: int = 0
    """In a row."""
    spawn_after: float = 0.0
    why: str = ""
    """The last failure of the current release, in words."""
    outlook: Outlook = Outlook.GOOD
    """Of the current release, from the failures of the step under way. GOOD between steps."""
    exit_code: int = exits.OK
    waiting: tuple[int, ...] = ()
    """Tickets of reloads to be answered."""
    stop_tickets: tuple[int, ...] = ()
    outbox: tuple[Action, ...] = ()
    """The actions of the step under way. Empty between steps."""

    @property
    def proven(self) -> bool:
        """The current release has once served at full strength. It is never given up."""
        return self.fallback is not None and self.fallback.generation == self.current.generation

    @property
    def reloading(self) -> bool:
        """A reload has begun, and its generation is not proven."""
        return self.phase is Phase.RUNNING and self.current.generation > self.first and not self.proven

    @property
    def lasting(self) -> bool:
        """Whoever dies is replaced: no stop has come, or it is only announced."""
        return self.phase in (Phase.RUNNING, Phase.LEAVING)


# --- The machine -------------------------------------------------------------

HEARD_IN: dict[type[AboutWorker], tuple[Stage, ...]] = {
    Spawned: (Stage.SPAWNING,),
    SpawnFailed: (Stage.SPAWNING,),
    Booted: (Stage.BOOTING,),
    BootFailed: (Stage.BOOTING,),
    Spent: (Stage.BOOTING, Stage.READY, Stage.RESTING),
    Overdue: (Stage.READY, Stage.RESTING, Stage.DRAINING),
    Committed: (Stage.DRAINING, Stage.CUTTING),
    Traced: (Stage.CUTTING,),
}
"""In which stages an event about a worker means something. In any other it came too late, and changes nothing."""

RETIRED = {Stage.BOOTING: Stage.KILLED, Stage.READY: Stage.DRAINING, Stage.RESTING: Stage.DRAINING}
"""Where a worker goes that is no longer wanted. One that boots has no request to finish."""

HURRIED = {
    Stage.BOOTING: Stage.KILLED,
    Stage.READY: Stage.CUTTING,
    Stage.RESTING: Stage.CUTTING,
    Stage.DRAINING: Stage.CUTTING,
}
"""Where a worker goes when there is no time."""

EXPIRED = {Stage.BOOTING: Stage.KILLED, Stage.DRAINING: Stage.CUTTING, Stage.CUTTING: Stage.KILLED}
"""Where a worker goes when the patience with its stage has ended. The other stages have no deadline."""

WORDS = {Stage.RESTING: Word.REST, Stage.DRAINING: Word.DRAIN, Stage.CUTTING: Word.TRACE}
"""What a worker is told when it is sent to a stage. For KILLED it is not told."""

LEAVE_TIMEOUT = 1.0
"""A worker that cannot load the application exits by itself. One that has not done so after this is killed."""

SETTLE = 0.1
"""The pause before a reload that overtakes another starts its first worker: a burst becomes few generations."""

RELOAD_FAILURES_MAX = 2
"""A release on trial is given up after more failures than this while there is one to go back to: one crash may be chance,
two may be a machine that is short of something, and nothing is gained by persistence while the old code serves."""

COMMITTED_FOR = 0.05
"""How long a worker is spared for each time that it is said to be past a point of no return."""

DOUBLINGS_MAX = 32
"""More would not change a back-off, which has reached its maximum long before."""

STOPPING = "stopping"
"""The answer to a reload or resize that comes too late, or is overtaken by a stop."""


def boot(policy: Policy) -> Master:
    """Make the master that has done nothing yet."""
    return Master(Release(1, policy))


def step(master: Master, events: Iterable[Event], now: float) -> tuple[Master, list[Action]]:
    """Take in all that has happened, then close the gap between what is and what should be.

    All of it first, and no event sends anything to a worker: the next one in the queue may say that it was reaped,
    and then its pid may be somebody else's.
    """
    if master.phase is Phase.STOPPED:
        return master, []
    for event in sorted(events, key=_is_of_this_moment):
        master = _absorb(master, event, now)
    master = _reconcile(master, now)
    return replace(master, outbox=()), list(master.outbox)


def next_deadline(master: Master) -> float | None:
    """When `step` must be called again, even if nothing has happened. After a step it is never in the past."""
    times: list[float | None] = [worker.deadline for worker in master.workers]
    if _lacking(master) > 0:
        times.append(master.spawn_after)
    if master.phase is Phase.LEAVING:
        times.append(master.stop_at)
    if _on_trial(master) and _at_strength(master):
        times.append(_trial_ends(master))
    return min((time for time in times if time is not None), default=None)


# --- What has happened -------------------------------------------------------


def _absorb(master: Master, event: Event, now: float) -> Master:
    match event:
        case Reload():
            return _reload(master, event, now)
        case Resize():
            return _resize(master, event)
        case Stop():
            return _stop(master, event, now)
        case Exited(pid, status):
            worker = next((w for w in master.workers if w.pid == pid), None)
            if worker is None:  # an orphan that was left to us
                return _emit(master, Write(notes.ChildUnknown(pid, status)))
            return _exited(master, worker, status, now)
        case _:
            worker = next((w for w in master.workers if w.serial == event.serial), None)
            if worker is None or worker.stage not in HEARD_IN[type(event)]:
                return master
            return _hear(master, worker, event, now)


def _hear(master: Master, worker: Worker, event: AboutWorker, now: float) -> Master:
    """Take in an event about a worker, which is in a stage where it means something."""
    policy = master.current.policy
    match event:
        case Spawned(_, pid):
            booting = _enter(replace(worker, pid=pid), Stage.BOOTING, now, policy.boot_timeout)
            master = replace(_put(master, booting), forks_failed=0)
            return _emit(master, Write(notes.ChildStarted(policy.pool, pid)))
        case SpawnFailed(_, why):
            return _fork_failed(_drop(master, worker), why, now)
        case Booted():
            assert worker.pid is not None
            ready = _enter(replace(worker, ready_at=now), Stage.READY, now, 0)
            if master.calm_since is None and worker.generation == master.current.generation:
                master = replace(master, calm_since=now)
            note = notes.ChildReady(policy.pool, worker.pid, worker.generation, boot=now - worker.born)
            return _emit(_put(master, ready), Write(note))
        case BootFailed(_, why):
            assert worker.pid is not None
            master = _put(master, _enter(worker, Stage.CUTTING, now, LEAVE_TIMEOUT))
            if why != master.why:  # workers that were started together fail alike: one traceback is enough
                master = _emit(master, Write(notes.BootFailed(policy.pool, worker.pid, why)))
            return _failed(master, worker, why, now, hopeless=True)
        case Spent(_, why):
            return _spent(master, worker, why)
        case Overdue():
            return _put(master, replace(worker, overdue=True))
        case Committed():
            return _spare(master, worker, now)
        case Traced():
            return _put(master, replace(worker, deadline=now))
        case _:
            assert_never(event)


def _exited(master: Master, worker: Worker, status: int, now: float) -> Master:
    assert worker.pid is not None
    policy = master.current.policy
    expected = worker.stage >= Stage.DRAINING
    note = notes.ChildExited(policy.pool, worker.pid, status, lived=now - worker.born, expected=expected)
    master = _emit(_drop(master, worker), Write(note))
    if expected:
        return master
    if worker.ready_at is None:
        return _failed(master, worker, f"exited {exits.words(status)} before it was ready", now)
    if master.proven and (exits.killed(status) or status == exits.UNKNOWN):
        return master  # by somebody, or for want of memory, or nobody knows: it says nothing about the code
    served = now - worker.ready_at
    if served >= (max(policy.min_uptime, policy.trial) if _on_trial(master) else policy.min_uptime):
        return master
    return _failed(master, worker, f"exited {exits.words(status)} {served:.1f} seconds after it was ready", now)


def _spent(master: Master, worker: Worker, why: str) -> Master:
    assert worker.pid is not None
    if worker.spent:
        return master
    spent = replace(worker, spent=why or "it says so")
    return _emit(_put(master, spent), Write(notes.Recycling(master.current.policy.pool, worker.pid, spent.spent)))


def _spare(master: Master, worker: Worker, now: float) -> Master:
    """Put off the end of a drain, or SIGKILL, in small pieces, while something would be cut past a point of no return."""
    assert worker.pid is not None
    policy = master.current.policy
    if worker.deadline is None or worker.deadline > now or master.hurry:
        return master
    limit = worker.limit  # stays as it is when a reload brings another policy
    if limit is None:
        if not policy.critical_timeout:
            return master
        due = worker.deadline if worker.stage is Stage.DRAINING else worker.since
        limit = due + policy.critical_timeout
        master = _emit(master, Write(notes.Spared(policy.pool, worker.pid, policy.critical_timeout)))
    deadline = max(worker.deadline, min(now + COMMITTED_FOR, limit))
    return _put(master, replace(worker, limit=limit, deadline=deadline))


def _reload(master: Master, event: Reload, now: float) -> Master:
    """Begin a release, and overtake the one that is on trial, if any: its tickets get the new one's outcome."""
    if master.phase is not Phase.RUNNING:
        return _answer(master, (event.ticket,), ok=False, text=STOPPING)
    master = replace(master, waiting=_queue(master.waiting, event.ticket))
    if master.untried:
        return replace(master, current=replace(master.current, policy=event.policy))
    generation = master.generation + 1
    return _emit(
        replace(
            master,
            current=Release(generation, event.policy),
            overtaken=_overtaken(master),
            generation=generation,
            generations=(*master.generations, generation),
            untried=True,
            failures=(),
            calm_since=None,
            why="",
            outlook=Outlook.GOOD,
            spawn_after=now + SETTLE if master.reloading else now,
        ),
        Write(notes.Reloading(generation)),
    )


def _overtaken(master: Master) -> tuple[Release, ...]:
    """The releases that the next one overtakes, if nothing better is known to go back to."""
    others = (release for release in master.overtaken if release.generation != master.current.generation)
    return () if master.announced else (*others, master.current)


def _resize(master: Master, event: Resize) -> Master:
    """Change the number of workers, here and in the release that a rollback would go back to."""
    if master.phase is not Phase.RUNNING:
        return _answer(master, (event.ticket,), ok=False, text=STOPPING)
    fallback = None if master.fallback is None else _resized(master.fallback, event.delta)
    overtaken = tuple(_resized(release, event.delta) for release in master.overtaken)
    current = _resized(master.current, event.delta)
    master = replace(master, current=current, fallback=fallback, overtaken=overtaken)
    note = notes.Resized(master.current.policy.workers)
    return _answer(_emit(master, Write(note)), (event.ticket,), ok=True, text=note.text())


def _resized(release: Release, delta: int) -> Release:
    workers = min(max(1, release.policy.workers + delta), WORKERS_MAX)
    return replace(release, policy=replace(release.policy, workers=workers))


def _stop(master: Master, event: Stop, now: float) -> Master:
    """Announce the stop, then drain, then cut: each stop that comes leads one step further."""
    master = replace(master, stop_tickets=_queue(master.stop_tickets, event.ticket))
    notice = master.current.policy.lame_duck
    if master.phase is Phase.RUNNING and notice and not event.hurry and not event.at_once:
        master = _end_reload(master, ok=False, text=STOPPING)
        return _emit(replace(master, phase=Phase.LEAVING, stop_at=now + notice), Write(notes.LameDuck(notice)))
    if master.lasting:
        return _begin_to_stop(replace(master, hurry=event.hurry), STOPPING)
    if master.hurry:
        return master
    return _emit(replace(master, hurry=True), Write(notes.Hurrying()))


def _begin_to_stop(master: Master, why: str) -> Master:
    return replace(_end_reload(master, ok=False, text=why), phase=Phase.STOPPING, stop_at=None)


# --- Failures ----------------------------------------------------------------


def _failed(master: Master, worker: Worker, why: str, now: float, *, hopeless: bool = False) -> Master:
    """Remember that a worker of the current release could not be brought up, or died young; `_judge` concludes.

    `hopeless`: the next one would fail as well, if none has ever succeeded. Workers started before the last failure
    was known share its cause: they count once, or a large pool would be given up at its first mishap.
    """
    if worker.generation != master.current.generation:
        return master
    if master.calm_since is not None and not master.proven:
        master = replace(master, calm_since=now)
    failures = _streak(master, now)
    shared = bool(failures) and worker.born <= failures[-1]
    if shared and (master.proven or not hopeless):
        return master
    if not shared:
        kept = max(master.current.policy.failures_max + 1, DOUBLINGS_MAX)
        failures = (*failures, now)[-kept:]
    outlook = max(master.outlook, Outlook.HOPELESS if hopeless else Outlook.DOUBTFUL)
    return replace(master, failures=failures, why=why, outlook=outlook)


def _judge(master: Master, now: float) -> Master:
    """Conclude from the failures of this step: go back, give up, or try again after a pause."""
    outlook, master = master.outlook, replace(master, outlook=Outlook.GOOD)
    if outlook is Outlook.GOOD or not master.lasting:
        return master
    failures, patience = len(master.failures), master.current.policy.failures_max
    if master.fallback is not None:
        patience = min(patience, RELOAD_FAILURES_MAX)
    if not master.proven and (outlook is Outlook.HOPELESS or failures > patience):
        if master.fallback is not None:
            return _roll_back(master, master.fallback, now)
        if not any(worker.stage is Stage.READY for worker in master.workers):
            return _give_up(master)
    return _back_off(master, failures, master.why, now)


def _streak(master: Master, now: float) -> tuple[float, ...]:
    """The failures that still count: all of a release on trial, so that its trial ends.

    Of a proven one those in the window, unless a worker that came after them has lasted.
    """
    policy = master.current.policy
    if not master.proven:
        return master.failures
    ready = [w.ready_at for w in _new(master) if w.ready_at is not None]
    lasted = [at for at in ready if now - at >= policy.min_uptime]
    since = max([now - policy.failures_window, *lasted])
    return tuple(at for at in master.failures if at > since)


def _fork_failed(master: Master, why: str, now: float) -> Master:
    """Never a reason to give up, however often: the machine is short of something, for now."""
    master = _emit(master, Write(notes.ForkFailed(master.current.policy.pool, why)))
    if not master.lasting or now < master.spawn_after:
        return master  # one of several that were asked for together
    master = replace(master, forks_failed=master.forks_failed + 1)
    return _back_off(master, master.forks_failed, f"fork() failed: {why}", now)


def _back_off(master: Master, failures: int, why: str, now: float) -> Master:
    policy = master.current.policy
    delay = min(policy.backoff * 2 ** min(failures - 1, DOUBLINGS_MAX), policy.backoff_max)
    master = replace(master, spawn_after=max(master.spawn_after, now + delay))
    return _emit(master, Write(notes.BackingOff(policy.pool, failures, delay, why)))


def _roll_back(master: Master, fallback: Release, now: float) -> Master:
    """Make the release that served the current one again. Its workers serve, or rest and are called back."""
    note = notes.ReloadFailed(master.current.generation, master.why)
    master = replace(master, current=fallback, untried=False, failures=(), calm_since=None, spawn_after=now)
    return _end_reload(_emit(master, Write(note)), ok=False, text=f"{note.text()}\n{note.why}")


def _give_up(master: Master) -> Master:
    """Nothing serves, and there is nothing to go back to."""
    master = _emit(replace(master, exit_code=exits.SOFTWARE), Write(notes.GivingUp(master.why)))
    return _begin_to_stop(master, master.why)


# --- What should be ----------------------------------------------------------


def _reconcile(master: Master, now: float) -> Master:
    """Look only at the state, never at the event that led here."""
    if master.stop_at is not None and master.stop_at <= now:
        master = _begin_to_stop(master, STOPPING)
    master = _judge(_expire(_prove(_doubt(master), now), now), now)
    if master.lasting:
        master = _spawn(_retire(_call_back(master, now), now), now)
    else:
        master = _clear(master, now)
    master = _forget(master)
    return _end(master) if master.phase is Phase.STOPPING and not master.workers else master


def _doubt(master: Master) -> Master:
    """Until a release has served at full strength, one that was overtaken is worth what serves of it."""
    if master.announced:
        return master
    able = [worker.generation for worker in master.workers if worker.stage in (Stage.READY, Stage.RESTING)]
    serving = tuple(release for release in master.overtaken if release.generation in able)
    return replace(master, overtaken=serving, fallback=serving[-1] if serving else None)


def _prove(master: Master, now: float) -> Master:
    """At full strength, and with its trial over, a release becomes the one to go back to; its reload has succeeded."""
    if not master.lasting or master.proven or not _at_strength(master):
        return master
    if _on_trial(master) and now < _trial_ends(master):
        return master
    if not master.announced:
        master = _emit(master, Write(notes.ReadyToServe()))
    note = notes.ReloadFinished(master.current.generation)
    if master.current.generation > master.first:
        master = _emit(master, Write(note))
    master = replace(master, fallback=master.current, overtaken=(), announced=True)
    return _end_reload(master, ok=True, text=note.text())


def _expire(master: Master, now: float) -> Master:
    """Send on those whose stage has lasted too long, or whose request has."""
    for worker in master.workers:
        if worker.overdue and worker.stage in HURRIED:
            master = _send(master, worker, HURRIED[worker.stage], now)
        elif worker.deadline is not None and worker.deadline <= now:
            master = _complain(master, worker, worker.deadline - worker.since, now)
            master = _send(master, worker, EXPIRED[worker.stage], now)
    return master


def _complain(master: Master, worker: Worker, after: float, now: float) -> Master:
    """Say that a worker has used up the patience with the stage it was in; one that boots has failed."""
    assert worker.pid is not None
    pool = master.current.policy.pool
    if worker.stage is Stage.DRAINING:
        return _emit(master, Write(notes.DrainTimedOut(pool, worker.pid, after)))
    if worker.stage is Stage.BOOTING:
        master = _emit(master, Write(notes.BootTimedOut(pool, worker.pid, after)))
        # A release that cannot boot in time need not be waited for again while another one serves.
        hopeless = master.fallback is not None
        return _failed(master, worker, f"not ready after {after:g} seconds", now, hopeless=hopeless)
    return master


def _call_back(master: Master, now: float) -> Master:
    """Have those serve again that rest: all of a release that is gone back to, else as many as are missing."""
    generation = master.current.generation
    resting = [worker for worker in master.workers if worker.stage is Stage.RESTING]
    resting.sort(key=lambda w: (w.generation != generation, bool(w.spent), w.serial))
    wanted = sum(worker.generation == generation for worker in resting)
    missing = master.current.policy.workers - sum(worker.stage is Stage.READY for worker in master.workers)
    for worker in resting[: max(0, wanted, missing)]:
        master = _put(master, _enter(worker, Stage.READY, now, 0))
    return master


def _retire(master: Master, now: float) -> Master:
    for worker in _extra(master):
        master = _send(master, worker, RETIRED[worker.stage], now)
    for worker in _outdated(master):
        rests = worker.stage is Stage.READY and _may_return(master, worker)
        master = _send(master, worker, Stage.RESTING if rests else RETIRED[worker.stage], now)
    return master


def _extra(master: Master) -> list[Worker]:
    """Workers of the current generation beyond its target.

    First who does not serve yet, then the spent, the oldest first, then the youngest: the others are warm.
    """
    new = sorted(_new(master), key=lambda w: (w.stage, not w.spent, w.serial if w.spent else -w.serial))
    extra = new[: max(0, len(new) - _target(master))]
    return [worker for worker in extra if worker.stage in RETIRED]


def _outdated(master: Master) -> list[Worker]:
    """Workers of other generations: those who boot or rest in vain, and of those who serve as many as can be spared.

    None of the fallback's before one of the new is ready: until then nobody knows whether the new can be.
    """
    fallback = 0 if master.fallback is None else master.fallback.generation
    new = sum(worker.stage is Stage.READY for worker in _new(master))
    old = [worker for worker in _old(master) if worker.stage is Stage.READY]
    spare = max(0, new + len(old) - master.current.policy.workers)
    old = [worker for worker in old if new or worker.generation != fallback]
    old.sort(key=lambda w: (w.generation == fallback, not w.spent, w.serial))
    useless = [worker for worker in _old(master) if worker.stage is Stage.BOOTING]
    useless += [w for w in master.workers if w.stage is Stage.RESTING and not _may_return(master, w)]
    return useless + old[:spare]


def _spawn(master: Master, now: float) -> Master:
    if now < master.spawn_after:
        return master
    generation = master.current.generation
    for _ in range(_lacking(master)):
        taken = [worker.slot for worker in master.workers]
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        worker = Worker(master.serial + 1, slot, generation, Stage.SPAWNING, born=now, since=now)
        master = replace(master, serial=worker.serial, workers=(*master.workers, worker), untried=False)
        master = _emit(master, Spawn(worker.serial, slot, generation))
    return master


def _clear(master: Master, now: float) -> Master:
    """Send everybody home."""
    ways = HURRIED if master.hurry else RETIRED
    for worker in master.workers:
        if worker.stage in ways:
            master = _send(master, worker, ways[worker.stage], now)
    return master


def _forget(master: Master) -> Master:
    held = [worker.generation for worker in master.workers] + [master.current.generation]
    if master.fallback is not None:
        held.append(master.fallback.generation)
    gone = [generation for generation in master.generations if generation not in held]
    kept = tuple(generation for generation in master.generations if generation in held)
    return _emit(replace(master, generations=kept), *map(Forget, gone))


def _end(master: Master) -> Master:
    master = _emit(replace(master, phase=Phase.STOPPED), Write(notes.Bye()))
    master = _answer(master, master.stop_tickets, ok=True, text="stopped")
    return _emit(replace(master, stop_tickets=()), Exit(master.exit_code))


# --- Small questions and small changes ---------------------------------------


def _is_of_this_moment(event: Event) -> bool:
    """What is said of how things are counts after what has happened."""
    return isinstance(event, Committed)


def _new(master: Master) -> list[Worker]:
    """Those of the current generation that serve or will."""
    generation = master.current.generation
    return [w for w in master.workers if w.generation == generation and w.stage <= Stage.READY]


def _old(master: Master) -> list[Worker]:
    """Those of other generations that serve, or would."""
    generation = master.current.generation
    return [w for w in master.workers if w.generation != generation and w.stage <= Stage.READY]


def _on_trial(master: Master) -> bool:
    """Whether the current release must show for a while that it serves, because another one could instead."""
    return not master.proven and master.fallback is not None and master.current.policy.trial > 0


def _trial_ends(master: Master) -> float:
    """For a release that is at full strength: when it will have shown it, if nothing fails until then."""
    assert master.calm_since is not None
    return master.calm_since + master.current.policy.trial


def _at_strength(master: Master) -> bool:
    return sum(worker.stage is Stage.READY for worker in _new(master)) >= master.current.policy.workers


def _may_return(master: Master, worker: Worker) -> bool:
    """Whether a worker that has been replaced may have to serve again: the release to go back to is its own."""
    if master.proven or master.fallback is None or worker.generation != master.fallback.generation:
        return False
    return _on_trial(master) or not any(w.stage is Stage.READY for w in _new(master))


def _target(master: Master) -> int:
    """How many of the current generation there should be: one more while a spent one waits for its successor."""
    ready = [worker for worker in _new(master) if worker.stage is Stage.READY]
    wanted = master.current.policy.workers
    waits = master.proven and len(ready) <= wanted and any(worker.spent for worker in ready)
    return wanted + 1 if waits else wanted


def _lacking(master: Master) -> int:
    """How many workers to start.

    While generations overlap there may be `surge` more in service than are wanted, or than serve. Whoever drains does
    not count there, or one long request would hold up a reload. There is a limit for all processes, too: whoever
    drains does not keep lost strength from being restored, but whoever cannot even be killed does. No slot, no worker.
    """
    if not master.lasting:
        return 0
    policy = master.current.policy
    surge = max(1, policy.surge)
    new, old = _new(master), _old(master)
    in_service = len(new) + len(old)
    serve = sum(worker.stage is Stage.READY for worker in old)
    rest = sum(worker.stage is Stage.RESTING for worker in master.workers)
    span = max(policy.workers, serve, rest)
    draining = sum(worker.stage is Stage.DRAINING for worker in master.workers)
    limit = 2 * span + surge - len(master.workers)
    processes = min(max(limit, policy.workers - in_service), limit + draining, SLOTS - len(master.workers))
    return max(0, min(_target(master) - len(new), span + surge - in_service, processes))


def _send(master: Master, worker: Worker, stage: Stage, now: float) -> Master:
    """Send a worker on to a later stage: the order and the memory of it go together. Nothing else sends."""
    assert worker.pid is not None
    assert stage > worker.stage
    policy = master.current.policy
    if stage is Stage.CUTTING and not policy.trace_timeout:
        stage = Stage.KILLED
    patience = {Stage.DRAINING: policy.drain_timeout, Stage.CUTTING: policy.trace_timeout}.get(stage, 0)
    word = WORDS.get(stage)
    order = Kill(worker.serial, worker.pid) if word is None else Tell(worker.serial, word)
    return _emit(_put(master, _enter(worker, stage, now, patience)), order)


def _enter(worker: Worker, stage: Stage, now: float, patience: float) -> Worker:
    return replace(worker, stage=stage, since=now, deadline=now + patience if patience else None)


def _end_reload(master: Master, *, ok: bool, text: str) -> Master:
    return replace(_answer(master, master.waiting, ok=ok, text=text), waiting=())


def _answer(master: Master, tickets: tuple[int, ...], *, ok: bool, text: str) -> Master:
    return _emit(master, *(Answer(ticket, ok, text) for ticket in tickets if ticket))


def _queue(tickets: tuple[int, ...], ticket: int) -> tuple[int, ...]:
    return (*tickets, ticket) if ticket else tickets


def _put(master: Master, worker: Worker) -> Master:
    return replace(master, workers=tuple(worker if w.serial == worker.serial else w for w in master.workers))


def _drop(master: Master, worker: Worker) -> Master:
    return replace(master, workers=tuple(w for w in master.workers if w.serial != worker.serial))


def _emit(master: Master, *actions: Action) -> Master:
    return replace(master, outbox=master.outbox + actions)
