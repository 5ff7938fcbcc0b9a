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
from lastcall.core.slot import SLOTS, WORKERS_MAX

# --- Vocabulary --------------------------------------------------------------


class Phase(enum.Enum):
    """Where the master is in its life."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Stage(enum.IntEnum):
    """Where one worker is in its life. It only ever moves down this list."""

    SPAWNING = 0
    """Fork asked for, pid not known yet."""
    BOOTING = 1
    """Has a pid, has not said that it is ready."""
    READY = 2
    """Serves."""
    DRAINING = 3
    """Told to finish what it has begun and to take nothing new."""
    CUTTING = 4
    """Told to write down where it is: it is killed as soon as it has done so, or shortly after."""
    KILLED = 5
    """Nothing left to send, only to reap."""


class Outlook(enum.IntEnum):
    """What the failures of one step say about the current release."""

    GOOD = 0
    """There were none."""
    DOUBTFUL = 1
    HOPELESS = 2
    """Trying again will not help."""


class Word(enum.Enum):
    """What a worker can be told, over its control socket."""

    DRAIN = "drain"
    TRACE = "trace"


# --- State -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of the settings that the machine needs. The settings have checked it; times are seconds."""

    pool: str = "app"
    workers: int = 2
    surge: int = 1
    """Workers beyond `workers` while generations overlap. One is allowed always, or nothing could be replaced."""
    boot_timeout: float = 60.0
    """0: none."""
    drain_timeout: float = 60.0
    """0: none, wait for ever."""
    trace_timeout: float = 1.0
    """From TRACE to SIGKILL. 0: no trace, SIGKILL at once."""
    min_uptime: float = 1.0
    """Dying sooner than this after READY counts as a failure."""
    failures_max: int = 5
    """A release on trial is given up after more failures than this."""
    failures_window: float = 60.0
    """A failure of a proven release is forgotten after this."""
    backoff: float = 0.1
    """The first pause after a failure; it doubles with each further one, up to `backoff_max`."""
    backoff_max: float = 10.0

    def __post_init__(self) -> None:
        assert self.workers >= 1
        assert 0 < self.backoff <= self.backoff_max


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
    hurry: bool = False
    workers: tuple[Worker, ...] = ()
    """In the order of their serials. A worker stays until it is reaped."""
    serial: int = 0
    """The last one given to a worker."""
    generation: int = 1
    """The last one given to a release. A rollback does not give it back."""
    generations: tuple[int, ...] = (1,)
    """Those whose resources the shell still holds."""
    untried: bool = True
    """The current release has not been given a worker yet."""
    announced: bool = False
    """ReadyToServe has been written."""
    failures: tuple[float, ...] = ()
    """When workers of the current release failed; those started together count once."""
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
        """A reload has begun, and its generation has not reached full strength."""
        return self.phase is Phase.RUNNING and self.current.generation > 1 and not self.proven


# --- Events: what happened ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawned:
    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """fork() failed. The operating system's trouble, not the application's."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Booted:
    """The worker says that it is ready."""

    serial: int


@dataclass(frozen=True, slots=True)
class BootFailed:
    """The worker says that the application cannot be loaded: trying again will not help. Its exit follows."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Spent:
    """The worker is due for recycling. It serves on until it is told to drain."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """The worker runs a request that is older than the request timeout."""

    serial: int


@dataclass(frozen=True, slots=True)
class Traced:
    """The worker has written down where it is: SIGKILL need not wait."""

    serial: int


@dataclass(frozen=True, slots=True)
class Exited:
    """Reaped. `status` is the wait status."""

    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Reload:
    """Somebody wants a new generation. Ticket 0: nobody waits for the outcome."""

    policy: Policy
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Resize:
    delta: int
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants the master to end. The second one, of whatever kind, means hurry."""

    hurry: bool
    ticket: int = 0


AboutWorker = Spawned | SpawnFailed | Booted | BootFailed | Spent | Overdue | Traced
Event = AboutWorker | Exited | Reload | Resize | Stop


# --- Actions: what to do -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker; report Spawned or SpawnFailed in the next step."""

    serial: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Tell:
    serial: int
    word: Word


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL. The pid has not been reaped: it cannot be somebody else's."""

    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class Write:
    note: notes.Note


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell whoever holds the ticket how it ended. Exactly once for each ticket."""

    ticket: int
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Forget:
    """No worker of this generation is left, and none will be started: release its resources."""

    generation: int


@dataclass(frozen=True, slots=True)
class Exit:
    """The last action."""

    code: int


Action = Spawn | Tell | Kill | Write | Answer | Forget | Exit


# --- The machine -------------------------------------------------------------

HEARD_IN: dict[type[AboutWorker], tuple[Stage, ...]] = {
    Spawned: (Stage.SPAWNING,),
    SpawnFailed: (Stage.SPAWNING,),
    Booted: (Stage.BOOTING,),
    BootFailed: (Stage.BOOTING,),
    Spent: (Stage.BOOTING, Stage.READY),
    Overdue: (Stage.READY, Stage.DRAINING),
    Traced: (Stage.CUTTING,),
}
"""In which stages an event about a worker means something. In any other it came too late, and changes nothing."""

RETIRED = {Stage.BOOTING: Stage.KILLED, Stage.READY: Stage.DRAINING}
"""Where a worker goes that is no longer wanted. One that boots has no request to finish."""

HURRIED = {Stage.BOOTING: Stage.KILLED, Stage.READY: Stage.CUTTING, Stage.DRAINING: Stage.CUTTING}
"""Where a worker goes when there is no time."""

EXPIRED = {Stage.BOOTING: Stage.KILLED, Stage.DRAINING: Stage.CUTTING, Stage.CUTTING: Stage.KILLED}
"""Where a worker goes when the patience with its stage has ended. SPAWNING, READY and KILLED have no deadline."""

WORDS = {Stage.DRAINING: Word.DRAIN, Stage.CUTTING: Word.TRACE}
"""What a worker is told when it is sent to a stage. For KILLED it is not told."""

LEAVE_TIMEOUT = 1.0
"""A worker that cannot load the application exits by itself. One that has not done so after this is killed."""

SETTLE = 0.1
"""The pause before a reload that overtakes another starts its first worker: a burst becomes few generations."""

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
    for event in events:
        master = _absorb(master, event, now)
    master = _reconcile(master, now)
    return replace(master, outbox=()), list(master.outbox)


def next_deadline(master: Master) -> float | None:
    """When `step` must be called again, even if nothing has happened. After a step it is never in the past."""
    times = [worker.deadline for worker in master.workers if worker.deadline is not None]
    if _lacking(master) > 0:
        times.append(master.spawn_after)
    return min(times, default=None)


# --- What has happened -------------------------------------------------------


def _absorb(master: Master, event: Event, now: float) -> Master:
    match event:
        case Reload():
            return _reload(master, event, now)
        case Resize():
            return _resize(master, event)
        case Stop():
            return _stop(master, event)
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
    served = now - worker.ready_at
    if served >= policy.min_uptime:
        return master
    return _failed(master, worker, f"exited {exits.words(status)} {served:.1f} seconds after it was ready", now)


def _spent(master: Master, worker: Worker, why: str) -> Master:
    assert worker.pid is not None
    if worker.spent:
        return master
    spent = replace(worker, spent=why or "it says so")
    return _emit(_put(master, spent), Write(notes.Recycling(master.current.policy.pool, worker.pid, spent.spent)))


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


def _stop(master: Master, event: Stop) -> Master:
    master = replace(master, stop_tickets=_queue(master.stop_tickets, event.ticket))
    if master.phase is Phase.RUNNING:
        return _begin_to_stop(replace(master, hurry=event.hurry), STOPPING)
    if master.hurry:
        return master
    return _emit(replace(master, hurry=True), Write(notes.Hurrying()))


def _begin_to_stop(master: Master, why: str) -> Master:
    return replace(_end_reload(master, ok=False, text=why), phase=Phase.STOPPING)


# --- Failures ----------------------------------------------------------------


def _failed(master: Master, worker: Worker, why: str, now: float, *, hopeless: bool = False) -> Master:
    """Remember that a worker of the current release could not be brought up, or died young; `_judge` concludes.

    `hopeless`: the next one would fail as well, if none has ever succeeded. Workers started before the last failure
    was known share its cause: they count once, or a large pool would be given up at its first mishap.
    """
    if worker.generation != master.current.generation:
        return master
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
    if outlook is Outlook.GOOD or master.phase is not Phase.RUNNING:
        return master
    failures = len(master.failures)
    if not master.proven and (outlook is Outlook.HOPELESS or failures > master.current.policy.failures_max):
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
    if master.phase is not Phase.RUNNING or now < master.spawn_after:
        return master  # one of several that were asked for together
    master = replace(master, forks_failed=master.forks_failed + 1)
    return _back_off(master, master.forks_failed, f"fork() failed: {why}", now)


def _back_off(master: Master, failures: int, why: str, now: float) -> Master:
    policy = master.current.policy
    delay = min(policy.backoff * 2 ** min(failures - 1, DOUBLINGS_MAX), policy.backoff_max)
    master = replace(master, spawn_after=max(master.spawn_after, now + delay))
    return _emit(master, Write(notes.BackingOff(policy.pool, failures, delay, why)))


def _roll_back(master: Master, fallback: Release, now: float) -> Master:
    """Make the release that served the current one again. Its workers have served all the time."""
    note = notes.ReloadFailed(master.current.generation, master.why)
    master = replace(master, current=fallback, untried=False, failures=(), spawn_after=now)
    return _end_reload(_emit(master, Write(note)), ok=False, text=f"{note.text()}\n{note.why}")


def _give_up(master: Master) -> Master:
    """Nothing serves, and there is nothing to go back to."""
    master = _emit(replace(master, exit_code=exits.SOFTWARE), Write(notes.GivingUp(master.why)))
    return _begin_to_stop(master, master.why)


# --- What should be ----------------------------------------------------------


def _reconcile(master: Master, now: float) -> Master:
    """Look only at the state, never at the event that led here."""
    master = _judge(_expire(_prove(_doubt(master)), now), now)
    if master.phase is Phase.RUNNING:
        master = _spawn(_retire(master, now), now)
    else:
        master = _clear(master, now)
    master = _forget(master)
    return _end(master) if master.phase is Phase.STOPPING and not master.workers else master


def _doubt(master: Master) -> Master:
    """Until a release has served at full strength, one that was overtaken is worth what serves of it."""
    if master.announced:
        return master
    ready = [worker.generation for worker in master.workers if worker.stage is Stage.READY]
    serving = tuple(release for release in master.overtaken if release.generation in ready)
    return replace(master, overtaken=serving, fallback=serving[-1] if serving else None)


def _prove(master: Master) -> Master:
    """At full strength for the first time, a release becomes the one to go back to, and its reload has succeeded."""
    ready = [worker for worker in _new(master) if worker.stage is Stage.READY]
    full = len(ready) >= master.current.policy.workers
    if master.phase is not Phase.RUNNING or master.proven or not full:
        return master
    if not master.announced:
        master = _emit(master, Write(notes.ReadyToServe()))
    note = notes.ReloadFinished(master.current.generation)
    if master.current.generation > 1:
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


def _retire(master: Master, now: float) -> Master:
    for worker in (*_extra(master), *_outdated(master)):
        master = _send(master, worker, RETIRED[worker.stage], now)
    return master


def _extra(master: Master) -> list[Worker]:
    """Workers of the current generation beyond its target.

    First who does not serve yet, then the spent, the oldest first, then the youngest: the others are warm.
    """
    new = sorted(_new(master), key=lambda w: (w.stage, not w.spent, w.serial if w.spent else -w.serial))
    extra = new[: max(0, len(new) - _target(master))]
    return [worker for worker in extra if worker.stage in RETIRED]


def _outdated(master: Master) -> list[Worker]:
    """Workers of other generations: those who do not serve, and of those who do as many as can be spared.

    None of the fallback's before one of the new is ready: until then nobody knows whether the new can be.
    """
    fallback = 0 if master.fallback is None else master.fallback.generation
    new = sum(worker.stage is Stage.READY for worker in _new(master))
    old = [worker for worker in _old(master) if worker.stage is Stage.READY]
    spare = max(0, new + len(old) - master.current.policy.workers)
    old = [worker for worker in old if new or worker.generation != fallback]
    old.sort(key=lambda w: (w.generation == fallback, not w.spent, w.serial))
    return [worker for worker in _old(master) if worker.stage is Stage.BOOTING] + old[:spare]


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


def _new(master: Master) -> list[Worker]:
    """Those of the current generation that serve or will."""
    generation = master.current.generation
    return [w for w in master.workers if w.generation == generation and w.stage <= Stage.READY]


def _old(master: Master) -> list[Worker]:
    """Those of other generations that serve, or would."""
    generation = master.current.generation
    return [w for w in master.workers if w.generation != generation and w.stage <= Stage.READY]


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
    if master.phase is not Phase.RUNNING:
        return 0
    policy = master.current.policy
    surge = max(1, policy.surge)
    new, old = _new(master), _old(master)
    in_service = len(new) + len(old)
    span = max(policy.workers, sum(worker.stage is Stage.READY for worker in old))
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
