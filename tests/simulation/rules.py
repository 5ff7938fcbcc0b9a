"""What must hold of every step, whatever has happened.

Each rule is judged from one step alone (the state before, the events, the state after, the actions), so that the
simulation and the exhaustive small worlds can ask the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lastcall.core import lifecycle as lc
from lastcall.core import notes

SENDS = {lc.Stage.RESTING, lc.Stage.DRAINING, lc.Stage.CUTTING, lc.Stage.KILLED}
STAGES = {lc.Word.REST: lc.Stage.RESTING, lc.Word.DRAIN: lc.Stage.DRAINING, lc.Word.TRACE: lc.Stage.CUTTING}
PHASES = list(lc.Phase)


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the machine, as seen from outside."""

    before: lc.Master
    events: Sequence[lc.Event]
    after: lc.Master
    actions: Sequence[lc.Action]
    now: float
    due: float | None
    """What `next_deadline` says of `after`."""

    def was(self) -> dict[int, lc.Worker]:
        return {worker.serial: worker for worker in self.before.workers}

    def orders(self) -> list[lc.Tell | lc.Kill]:
        return [action for action in self.actions if isinstance(action, lc.Tell | lc.Kill)]

    def spawns(self) -> list[lc.Spawn]:
        return [action for action in self.actions if isinstance(action, lc.Spawn)]

    def on_trial(self) -> bool:
        """The state after it has a release to go back to, which is kept."""
        return not self.after.proven and self.after.fallback is not None and self.after.current.policy.trial > 0

    def notes(self) -> list[notes.Note]:
        return [action.note for action in self.actions if isinstance(action, lc.Write)]


def check(step: Step) -> None:
    """Raise AssertionError, in words, if the step breaks a rule."""
    if step.before.phase is lc.Phase.STOPPED:
        assert not step.actions, "acted after the end"
        assert step.after == step.before, "changed after the end"
        return
    for rule in RULES:
        rule(step)


def every_process_is_accounted_for(step: Step) -> None:
    """The master knows exactly the processes that were started and not reaped."""
    pids = {worker.pid: worker.serial for worker in step.before.workers if worker.pid is not None}
    waiting = {worker.serial for worker in step.before.workers if worker.pid is None}
    for event in step.events:
        match event:
            case lc.Spawned(serial, pid):
                pids[pid] = serial
                waiting.discard(serial)
            case lc.SpawnFailed(serial):
                waiting.discard(serial)
            case lc.Exited(pid):
                pids.pop(pid, None)
    waiting |= {spawn.serial for spawn in step.spawns()}
    known = {worker.pid: worker.serial for worker in step.after.workers if worker.pid is not None}
    assert known == pids, "lost track of a process"
    assert {w.serial for w in step.after.workers if w.pid is None} == waiting, "lost track of a fork"


def identities_are_unique(step: Step) -> None:
    """A serial is never reused; a slot and a pid never shared."""
    workers = step.after.workers
    serials = [worker.serial for worker in workers]
    assert serials == sorted(set(serials)), "workers out of order"
    assert len({worker.slot for worker in workers}) == len(workers), "a slot is used twice"
    assert all(spawn.serial > step.before.serial for spawn in step.spawns()), "a serial is reused"
    assert step.after.outbox == (), "an action stayed behind"
    assert isinstance(hash(step.after), int)


def stages_only_move_down(step: Step) -> None:
    """A worker is READY only after it has said so; from RESTING it is called back by whoever needs it."""
    was, after = step.was(), step.after
    ready = sum(worker.stage is lc.Stage.READY for worker in after.workers)
    booted = {event.serial for event in step.events if isinstance(event, lc.Booted)}
    for worker in step.after.workers:
        if worker.serial in was:
            if worker.stage is lc.Stage.READY and was[worker.serial].stage is lc.Stage.RESTING:
                returned = worker.generation == after.current.generation != step.before.current.generation
                assert after.lasting, "called back to a stop"
                assert returned or ready <= after.current.policy.workers, "called back though nobody needs it"
                continue
            assert worker.stage >= was[worker.serial].stage, "a stage moved up"
            if worker.stage is lc.Stage.READY and was[worker.serial].stage is not lc.Stage.READY:
                assert worker.serial in booted, "took a booting worker for a ready one"


def orders_are_sent_once_and_remembered(step: Step) -> None:
    """Nobody who was reaped is told or killed; nobody is told what was told before; nothing is done in secret."""
    was, now = step.was(), {worker.serial: worker for worker in step.after.workers}
    failed = {event.serial for event in step.events if isinstance(event, lc.BootFailed)}
    ordered = [order.serial for order in step.orders()]
    assert len(ordered) == len(set(ordered)), "two orders at once"
    for order in step.orders():
        assert order.serial in now, "an order for a worker that was reaped"
        worker = now[order.serial]
        if isinstance(order, lc.Kill):
            assert worker.pid == order.pid, "would kill somebody else"
            stage = lc.Stage.KILLED
        else:
            stage = STAGES[order.word]
        assert worker.stage is stage, "an order that is not remembered"
        assert was[order.serial].stage < stage, "the same word twice"
    for serial, worker in now.items():
        moved = serial in was and worker.stage > was[serial].stage and worker.stage in SENDS
        assert not moved or serial in ordered or serial in failed, "a stage without its order"


def no_more_workers_than_agreed(step: Step) -> None:
    """A worker is started only within the bounds, of the current generation, while running, and not before time."""
    after, spawns = step.after, step.spawns()
    if not spawns:
        return
    policy = after.current.policy
    surge = max(1, policy.surge)
    in_service = [w for w in after.workers if w.stage <= lc.Stage.READY]
    new = [w for w in in_service if w.generation == after.current.generation]
    old = [w for w in in_service if w.generation != after.current.generation and w.stage is lc.Stage.READY]
    rest = sum(worker.stage is lc.Stage.RESTING for worker in after.workers)
    span = max(policy.workers, len(old), rest)
    assert after.lasting, "started a worker while stopping"
    assert all(spawn.generation == after.current.generation for spawn in spawns), "started an old generation"
    assert len(in_service) <= span + surge, "too many in service"
    few = len(in_service) <= policy.workers
    assert few or len(after.workers) <= 2 * span + surge, "too many processes"
    lasting = [worker for worker in after.workers if worker.stage is not lc.Stage.DRAINING]
    assert len(lasting) <= 2 * span + surge, "too many processes that cannot be killed"
    recycling = after.proven and any(w.spent for w in new if w.stage is lc.Stage.READY)
    assert len(new) <= policy.workers + recycling, "more than wanted"
    fresh = after.current.generation != step.before.current.generation
    assert fresh or step.now >= step.before.spawn_after, "did not wait for the end of its back-off"


def failures_are_paused_after(step: Step) -> None:
    """Whatever is backed off for is not tried again before the pause is over."""
    if step.after.current.generation != step.before.current.generation:
        return
    for note in step.notes():
        if isinstance(note, notes.BackingOff) and step.after.lasting:
            assert note.delay > 0
            assert step.after.spawn_after >= step.now + note.delay, "a pause is not kept"
            assert not step.spawns(), "started at once what had just failed"


def capacity_is_kept(step: Step) -> None:
    """The machine never takes away a serving worker that is needed: others are ready in its place."""
    after = step.after
    if not after.lasting:
        return
    ready = [worker for worker in after.workers if worker.stage is lc.Stage.READY]
    current = after.current.generation
    workers = {worker.serial: worker for worker in after.workers}
    drained = [workers[o.serial] for o in step.orders() if isinstance(o, lc.Tell) and o.word is not lc.Word.TRACE]
    if drained:
        assert len(ready) >= after.current.policy.workers, "retired a worker that was needed"
    for worker in drained:
        if after.fallback is not None and current != worker.generation == after.fallback.generation:
            assert any(w.generation == current for w in ready), "retired the old before the new was ready"
            kept = worker.stage is lc.Stage.RESTING or not step.on_trial()
            assert kept, "let go of one that may have to serve again"
    asked = any(isinstance(event, lc.Resize) for event in step.events) or current != step.before.current.generation
    recycled = [worker for worker in drained if worker.generation == current]
    assert asked or len(recycled) <= 1, "recycled two at once"
    was = step.was()
    for order in step.orders():
        worker = workers[order.serial]
        if worker.stage is lc.Stage.CUTTING and was[order.serial].stage in (lc.Stage.READY, lc.Stage.RESTING):
            assert worker.overdue, "cut a worker that was neither draining nor overdue"


def useless_workers_go(step: Step) -> None:
    """Nobody of an old generation stays booting, no more serve than are wanted, nothing stays in service at a stop."""
    after = step.after
    policy, current = after.current.policy, after.current.generation
    staying = [worker for worker in after.workers if lc.Stage.BOOTING <= worker.stage <= lc.Stage.RESTING]
    if after.lasting:
        assert all(w.generation == current or w.stage >= lc.Stage.READY for w in staying), "boots in vain"
        new = [worker for worker in staying if worker.generation == current]
        assert len(new) <= policy.workers + 1, "more than wanted stay"
        if after.proven and sum(worker.stage is lc.Stage.READY for worker in new) >= policy.workers:
            assert len(new) == len(staying), "an old one stays though the new are at strength"
    else:
        assert not staying, "still in service while stopping"
        if after.hurry:
            assert all(w.stage is not lc.Stage.DRAINING for w in after.workers), "drains while in a hurry"


def whoever_rests_may_be_needed(step: Step) -> None:
    """Only workers of the release to go back to rest, while another is on trial and enough others serve."""
    after = step.after
    resting = [worker for worker in after.workers if worker.stage is lc.Stage.RESTING]
    if not resting:
        return
    assert after.lasting, "rests at a stop"
    assert not after.proven, "rests though the trial is over"
    assert after.fallback is not None, "rests though there is nothing to go back to"
    assert {worker.generation for worker in resting} == {after.fallback.generation}, "rests, and would not be called"
    ready = [worker for worker in after.workers if worker.stage is lc.Stage.READY]
    assert len(ready) >= after.current.policy.workers, "rests though it is needed"
    new = any(worker.generation == after.current.generation for worker in ready)
    assert step.on_trial() or not new, "rests though there is no trial"


def a_trial_lasts(step: Step) -> None:
    """A reload has succeeded when nothing has failed for as long as the trial lasts, and is then said to have."""
    before, after, trial = step.before, step.after, step.after.current.policy.trial
    if any(isinstance(note, notes.ReloadFinished) for note in step.notes()):
        rival = before.fallback is not None and before.fallback.generation != after.current.generation
        if before.announced and rival:
            assert all(at + trial <= step.now for at in before.failures), "a trial is over though it has failed"
            new = [w for w in after.workers if w.generation == after.current.generation]
            ready = [w for w in new if w.stage is lc.Stage.READY or w.overdue]  # the overdue are cut in the same step
            assert len(ready) >= after.current.policy.workers, "a trial is over without full strength"
            assert after.calm_since is not None
            assert after.calm_since + trial <= step.now, "a trial is over too soon"
    elif step.on_trial() and after.calm_since is not None:
        ready = [w for w in after.workers if w.stage is lc.Stage.READY and w.generation == after.current.generation]
        if after.lasting and len(ready) >= after.current.policy.workers:
            assert step.due is not None, "nobody looks whether the trial is over"
            assert step.due <= after.calm_since + trial, "nobody looks whether the trial is over"


def a_death_on_trial_is_a_failure(step: Step) -> None:
    """A trial begins when a worker is ready, and begins anew when one dies young."""
    before, after = step.before, step.after
    policy, release = before.current.policy, before.current.generation
    assert not after.untried or after.calm_since is None, "a trial without anybody on trial"
    rival = before.announced and not before.proven and policy.trial > 0
    if not rival or after.proven or after.current.generation != release:
        return
    dead = {event.pid for event in step.events if isinstance(event, lc.Exited)}
    serving = [w for w in before.workers if w.stage is lc.Stage.READY and w.generation == release and w.pid in dead]
    ages = [step.now - worker.ready_at for worker in serving if worker.ready_at is not None]
    young = any(age < max(policy.trial, policy.min_uptime) for age in ages)
    assert not young or after.calm_since == step.now, "a death on trial is no failure"


def the_dead_are_replaced(step: Step) -> None:
    """As long as no stop drains, there are as many processes as workers are wanted, unless a pause is kept."""
    after = step.after
    enough = len(after.workers) >= after.current.policy.workers
    assert enough or not after.lasting or step.now < after.spawn_after, "nobody is started though too few are there"


def tickets_are_answered_once(step: Step) -> None:
    """Every ticket is held until it is answered, and is answered once."""
    asked = [e.ticket for e in step.events if isinstance(e, lc.Reload | lc.Resize | lc.Stop) and e.ticket]
    before = Counter(asked) + Counter(step.before.waiting) + Counter(step.before.stop_tickets)
    answered = [action.ticket for action in step.actions if isinstance(action, lc.Answer)]
    after = Counter(answered) + Counter(step.after.waiting) + Counter(step.after.stop_tickets)
    assert before == after, "a ticket was lost, or answered twice"
    if not step.after.reloading:
        trial = step.after.lasting and not step.after.proven
        assert trial or not step.after.waiting, "a reload is over and its tickets wait"


def a_trial_ends(step: Step) -> None:
    """A release that fails too often is not tried for ever while there is one to go back to."""
    after = step.after
    current = [w.pid for w in step.before.workers if w.generation == after.current.generation]
    if after.lasting and not after.proven and after.fallback is not None:
        patience = min(after.current.policy.failures_max, lc.RELOAD_FAILURES_MAX)
        assert len(after.failures) <= patience, "tries for ever"
    hopeless = any(
        isinstance(note, notes.BootFailed) and note.why == after.why and note.pid in current for note in step.notes()
    )
    if hopeless and after.lasting and not after.proven:
        others = [w for w in after.workers if w.generation != after.current.generation]
        assert all(w.stage not in (lc.Stage.READY, lc.Stage.RESTING) for w in others), (
            "tries what cannot be, though another one serves"
        )


def what_serves_is_not_given_up(step: Step) -> None:
    """A proven release is never given up, nor is a master of which a worker serves."""
    for note in step.notes():
        if isinstance(note, notes.ReloadFailed):
            proven = step.before.fallback
            assert proven is None or note.generation != proven.generation, "gave up a proven release"
        if isinstance(note, notes.GivingUp):
            told = [order for order in step.orders() if isinstance(order, lc.Tell)]
            assert not told, "gave up while a worker served"
            assert step.after.exit_code == 70
    if step.after.exit_code != step.before.exit_code:
        assert any(isinstance(note, notes.GivingUp) for note in step.notes()), "an exit code without a reason"


def generations_are_forgotten_when_gone(step: Step) -> None:
    """Exactly those are held that are current, to go back to, or alive."""
    after = step.after
    held = {after.current.generation} | {worker.generation for worker in after.workers}
    held |= set() if after.fallback is None else {after.fallback.generation}
    forgotten = [action.generation for action in step.actions if isinstance(action, lc.Forget)]
    assert set(after.generations) == held, "holds what is gone, or has let go of what is needed"
    begun = set(range(step.before.generation + 1, after.generation + 1))
    assert (set(step.before.generations) | begun) - held == set(forgotten), "forgot too much or too little"
    assert len(set(forgotten)) == len(forgotten), "forgot twice"


def deadlines_lie_ahead(step: Step) -> None:
    """A step never asks to be called again at once: that would be a busy loop."""
    assert step.due is None or step.due > step.now, "a deadline was left unserved"
    for worker in step.after.workers:
        told = worker.stage is lc.Stage.CUTTING
        assert not told or worker.deadline is not None, "waits for ever for a worker that is to be cut"


def the_end_is_the_end(step: Step) -> None:
    """Exit comes last, once, when nobody is left."""
    exits = [action for action in step.actions if isinstance(action, lc.Exit)]
    stopped = step.after.phase is lc.Phase.STOPPED
    assert len(exits) == stopped, "an exit without an end, or an end without an exit"
    if stopped:
        assert step.actions[-1] == lc.Exit(step.after.exit_code), "something after the exit"
        assert not step.after.workers, "left a worker behind"
    assert PHASES.index(step.after.phase) >= PHASES.index(step.before.phase), "thought better of a stop"
    stops = sum(isinstance(event, lc.Stop) for event in step.events)
    if step.before.phase is lc.Phase.LEAVING and stops:
        assert step.after.phase is not lc.Phase.LEAVING, "a stop changes nothing"
    if step.after.phase is lc.Phase.LEAVING:
        assert step.due is not None, "a lame duck for ever"
        assert not step.after.waiting, "waits for a reload while stopping"


def whoever_is_committed_is_spared(step: Step) -> None:
    """Past a point of no return nobody is cut for the drain's end, and that has an end, which does not move."""
    was, now = step.was(), {worker.serial: worker for worker in step.after.workers}
    committed = {event.serial for event in step.events if isinstance(event, lc.Committed)}
    mores = [state.current.policy.critical_timeout for state in (step.before, step.after)]  # a reload may bring another
    for serial, worker in now.items():
        if serial not in was or was[serial].stage not in (lc.Stage.DRAINING, lc.Stage.CUTTING):
            continue
        before = was[serial]
        if before.stage is lc.Stage.CUTTING:
            limit = before.limit or before.since + min(mores)
            killed = worker.stage is lc.Stage.KILLED and serial in committed and not step.after.hurry
            assert not killed or step.now >= limit, "killed past a point of no return"
            continue
        assert before.limit is None or worker.limit == before.limit, "the last deadline moves"
        fresh = before.limit is None and worker.limit is not None
        assert not fresh or worker.limit in [(before.deadline or 0) + more for more in mores], (
            "spared for another time than agreed"
        )
        if worker.stage is lc.Stage.DRAINING and before.deadline is not None:
            assert worker.deadline is not None, "a drain without an end"
            assert worker.deadline <= (worker.limit or before.deadline), "spared for too long"
        elif serial in committed and not worker.overdue and not step.after.hurry and before.deadline is not None:
            limit = before.limit or before.deadline + min(mores)
            assert step.now >= limit, "cut past a point of no return"


RULES = (
    every_process_is_accounted_for,
    identities_are_unique,
    stages_only_move_down,
    orders_are_sent_once_and_remembered,
    no_more_workers_than_agreed,
    failures_are_paused_after,
    capacity_is_kept,
    useless_workers_go,
    whoever_rests_may_be_needed,
    a_trial_lasts,
    a_death_on_trial_is_a_failure,
    the_dead_are_replaced,
    tickets_are_answered_once,
    a_trial_ends,
    what_serves_is_not_given_up,
    generations_are_forgotten_when_gone,
    deadlines_lie_ahead,
    whoever_is_committed_is_spared,
    the_end_is_the_end,
)
