"""The master's decisions, as sentences: what has happened, and all that is done about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastcall.core import exits, notes
from lastcall.core.lifecycle import (
    SETTLE,
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
    Master,
    Overdue,
    Phase,
    Policy,
    Reload,
    Resize,
    Spawn,
    Spawned,
    SpawnFailed,
    Spent,
    Stage,
    Stop,
    Tell,
    Traced,
    Word,
    Write,
    boot,
    next_deadline,
    step,
)
from lastcall.core.slot import SLOTS, WORKERS_MAX

ONE = Policy(workers=1, trial=0)
TWO = Policy(workers=2, trial=0)
CRASH = 1 << 8
"""The wait status of exit code 1."""
CRASHED = "exited with code 1 before it was ready"


class Life:
    """A master, and the time it has come to. Worker number N gets the pid 100 + N."""

    def __init__(self, policy: Policy = TWO) -> None:
        self.master: Master = boot(policy)
        self.now = 0.0

    def at(self, now: float, *events: Event) -> list[Action]:
        """Go to a moment, and return everything that is done then."""
        self.now = now
        self.master, actions = step(self.master, events, now)
        return actions

    def done(self, now: float, *events: Event) -> list[Action]:
        """As `at`, without what is only written."""
        return [action for action in self.at(now, *events) if not isinstance(action, Write)]

    def said(self, now: float, *events: Event) -> list[notes.Note]:
        return [action.note for action in self.at(now, *events) if isinstance(action, Write)]

    def wait(self) -> list[Action]:
        """Go to the next deadline."""
        due = next_deadline(self.master)
        assert due is not None
        return self.done(due)

    def serving(self) -> list[tuple[int, int]]:
        """Serial and generation of whoever is READY."""
        return [(w.serial, w.generation) for w in self.master.workers if w.stage is Stage.READY]


def spawned(*serials: int) -> list[Event]:
    return [Spawned(serial, 100 + serial) for serial in serials]


def booted(*serials: int) -> list[Event]:
    return [Booted(serial) for serial in serials]


def serving(policy: Policy) -> Life:
    """A pool at full strength, at time 1: workers 1 to `policy.workers`."""
    life = Life(policy)
    serials = range(1, policy.workers + 1)
    life.at(0)
    life.at(0, *spawned(*serials))
    life.at(1, *booted(*serials))
    return life


# --- Starting ----------------------------------------------------------------


def test_a_pool_starts_all_its_workers_and_says_when_it_is_ready() -> None:
    """The first generation boots all at once; the line that php-fpm writes comes when all of it serves."""
    life = Life(TWO)
    assert life.at(0) == [Spawn(1, slot=0, generation=1), Spawn(2, slot=1, generation=1)]
    assert life.at(0, *spawned(1, 2)) == [
        Write(notes.ChildStarted("app", 101)),
        Write(notes.ChildStarted("app", 102)),
    ]
    assert life.at(1, Booted(1)) == [Write(notes.ChildReady("app", 101, generation=1, boot=1))]
    assert life.at(2, Booted(2)) == [
        Write(notes.ChildReady("app", 102, generation=1, boot=2)),
        Write(notes.ReadyToServe()),
    ]
    assert next_deadline(life.master) is None


def test_an_application_that_cannot_be_loaded_ends_the_master_at_once() -> None:
    """Trying again would not help: one traceback, exit code 70, no crash loop."""
    life = Life(TWO)
    life.at(0)
    life.at(0, *spawned(1, 2))
    assert life.at(1, BootFailed(1, "ImportError: no gift"), BootFailed(2, "ImportError: no gift")) == [
        Write(notes.BootFailed("app", 101, "ImportError: no gift")),
        Write(notes.GivingUp("ImportError: no gift")),
    ]
    assert life.done(1, Exited(101, 70 << 8), Exited(102, 70 << 8)) == [Exit(70)]


def test_one_that_cannot_load_the_application_and_does_not_exit_is_killed() -> None:
    """It has a second to leave by itself."""
    life = Life(ONE)
    life.at(0)
    life.at(0, *spawned(1))
    assert life.done(1, BootFailed(1, "ImportError: no gift")) == []
    assert life.done(2) == [Kill(1, pid=101)]


def test_a_first_boot_that_crashes_is_tried_again_more_and_more_slowly_and_then_given_up() -> None:
    """Back-off doubles; after failures_max the master gives up in words."""
    life = Life(replace(ONE, failures_max=2, backoff=1))
    life.at(0)
    life.at(0, *spawned(1))
    assert life.said(1, Exited(101, CRASH)) == [
        notes.ChildExited("app", 101, CRASH, lived=1, expected=False),
        notes.BackingOff("app", failures=1, delay=1, why=CRASHED),
    ]
    assert life.done(1.5) == []
    assert life.done(2) == [Spawn(2, slot=0, generation=1)]
    life.at(2, *spawned(2))
    assert life.said(3, Exited(102, CRASH))[1:] == [notes.BackingOff("app", failures=2, delay=2, why=CRASHED)]
    assert life.done(5) == [Spawn(3, slot=0, generation=1)]
    life.at(5, *spawned(3))
    assert life.at(6, Exited(103, CRASH))[1:] == [
        Write(notes.GivingUp(CRASHED)),
        Write(notes.Bye()),
        Exit(70),
    ]


def test_workers_that_were_started_together_fail_together() -> None:
    """One cause is one failure, or a large pool would be given up at its first mishap."""
    life = Life(Policy(workers=8, failures_max=1, backoff=1))
    life.at(0)
    life.at(0, *spawned(*range(1, 9)))
    crashes = [Exited(100 + serial, CRASH) for serial in range(1, 9)]
    said = life.said(1, *crashes)
    assert said[8:] == [notes.BackingOff("app", failures=1, delay=1, why=CRASHED)]
    assert len(life.done(2)) == 8


def test_a_fork_that_fails_is_tried_for_ever() -> None:
    """Whatever the machine is short of, it may have again; the pause stops growing at backoff_max."""
    life = Life(replace(ONE, failures_max=1, backoff=1, backoff_max=4))
    life.at(0)
    assert life.said(0, SpawnFailed(1, "EAGAIN")) == [
        notes.ForkFailed("app", "EAGAIN"),
        notes.BackingOff("app", failures=1, delay=1, why="fork() failed: EAGAIN"),
    ]
    pauses = []
    for serial in range(2, 50):
        before = life.now
        assert life.wait() == [Spawn(serial, slot=0, generation=1)]
        pauses.append(life.now - before)
        life.at(life.now, SpawnFailed(serial, "EAGAIN"))
    assert pauses[:4] == [1, 2, 4, 4]
    assert pauses[-1] == 4


def test_a_boot_that_hangs_is_killed_and_counts_as_a_failure() -> None:
    """boot_timeout is a deadline like any other."""
    life = Life(replace(ONE, boot_timeout=10))
    life.at(0)
    life.at(0, *spawned(1))
    assert next_deadline(life.master) == 10
    assert life.at(10) == [
        Write(notes.BootTimedOut("app", 101, after=10)),
        Kill(1, pid=101),
        Write(notes.BackingOff("app", failures=1, delay=0.1, why="not ready after 10 seconds")),
    ]


# --- Serving -----------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_at_once() -> None:
    """After min_uptime a death is no failure of the release."""
    life = serving(TWO)
    assert life.at(5, Exited(101, 9)) == [
        Write(notes.ChildExited("app", 101, 9, lived=5, expected=False)),
        Spawn(3, slot=0, generation=1),
    ]


def test_a_worker_that_is_killed_from_outside_is_replaced_at_once() -> None:
    """SIGKILL says nothing about the code, however young the worker was: no failure, no pause."""
    life = serving(ONE)
    assert life.done(1.1, Exited(101, 9)) == [Spawn(2, 0, 1)]
    life.at(1.1, *spawned(2))
    life.at(1.2, *booted(2))
    assert life.done(1.3, Exited(102, 9)) == [Spawn(3, 0, 1)]
    assert life.master.failures == ()


def test_an_adopted_worker_that_dies_is_replaced_at_once() -> None:
    """Nobody knows of what: it says nothing about the code. The next one is ours, and will tell."""
    life = serving(ONE)
    assert life.done(1.1, Exited(101, exits.UNKNOWN)) == [Spawn(2, 0, 1)]
    assert life.master.failures == ()


def test_a_worker_that_dies_young_is_replaced_after_a_pause() -> None:
    """And a release that has served is never given up, however often."""
    life = serving(replace(ONE, failures_max=0, backoff=1, backoff_max=4, min_uptime=3))
    assert life.said(2, Exited(101, 11))[1:] == [
        notes.BackingOff("app", failures=1, delay=1, why="exited on signal 11 (SIGSEGV) 1.0 seconds after it was ready")
    ]
    for serial in range(2, 12):
        assert life.wait() == [Spawn(serial, slot=0, generation=1)]
        life.at(life.now, *spawned(serial))
        life.at(life.now + 1, Exited(100 + serial, CRASH))
    assert life.master.phase is Phase.RUNNING


def test_a_worker_that_lasts_ends_the_streak_of_failures() -> None:
    """The next failure is the first again."""
    life = serving(replace(ONE, backoff=1, min_uptime=3))
    life.at(2, Exited(101, CRASH))
    assert life.done(3) == [Spawn(2, slot=0, generation=1)]
    life.at(3, *spawned(2))
    life.at(4, Booted(2), Resize(+1))
    life.at(4, *spawned(3))
    assert life.said(8, Exited(103, CRASH))[1:] == [notes.BackingOff("app", failures=1, delay=1, why=CRASHED)]


def test_a_pid_that_the_master_does_not_know_is_an_orphan() -> None:
    """As PID 1, or as a subreaper, it is left the children of others: reaped, and that is all."""
    life = serving(ONE)
    assert life.at(5, Exited(4711, 0)) == [Write(notes.ChildUnknown(4711, 0))]


def test_a_worker_is_neither_told_nor_killed_when_its_exit_is_in_the_same_queue() -> None:
    """All events first: by the time its pid would be used, it may be somebody else's."""
    life = serving(ONE)
    assert life.done(5, Overdue(1), Exited(101, 0)) == [Spawn(2, slot=0, generation=1)]


def test_a_ready_that_is_read_after_the_death_changes_nothing() -> None:
    """A worker's words and its exit may be read in either order."""
    life = Life(ONE)
    life.at(0)
    life.at(0, *spawned(1))
    life.at(1, Exited(101, CRASH), Booted(1))
    assert life.serving() == []


# --- Recycling ---------------------------------------------------------------


def test_a_spent_worker_serves_until_its_successor_does() -> None:
    """No capacity is lost to recycling, even with no surge."""
    life = serving(replace(ONE, surge=0))
    assert life.at(5, Spent(1, "1000 requests")) == [
        Write(notes.Recycling("app", 101, "1000 requests")),
        Spawn(2, slot=1, generation=1),
    ]
    assert life.done(5, *spawned(2)) == []
    assert life.done(6, Booted(2)) == [Tell(1, Word.DRAIN)]
    assert life.serving() == [(2, 1)]


def test_spent_workers_are_replaced_one_at_a_time() -> None:
    """The second waits until the first has been relieved."""
    life = serving(TWO)
    assert life.done(5, Spent(1, "memory"), Spent(2, "memory")) == [Spawn(3, slot=2, generation=1)]
    life.at(5, *spawned(3))
    assert life.done(6, Booted(3)) == [Tell(1, Word.DRAIN), Spawn(4, slot=3, generation=1)]
    life.at(6, *spawned(4))
    assert life.done(7, Booted(4)) == [Tell(2, Word.DRAIN)]
    assert next_deadline(life.master) == 66


# --- Requests that take too long ---------------------------------------------


def test_an_overdue_worker_is_asked_for_a_trace_then_killed_and_replaced_meanwhile() -> None:
    """The stack trace comes before anything is cut."""
    life = serving(ONE)
    assert life.at(5, Overdue(1)) == [Tell(1, Word.TRACE), Spawn(2, slot=1, generation=1)]
    life.at(5, *spawned(2))
    assert life.done(5.2, Traced(1)) == [Kill(1, pid=101)]


def test_a_drain_that_is_over_waits_for_whoever_is_past_a_point_of_no_return() -> None:
    """In small pieces, and as soon as nobody says so any more it is cut."""
    life = serving(replace(ONE, drain_timeout=10, critical_timeout=5))
    life.at(20, Stop(hurry=False))
    assert life.at(25, Committed(1)) == []  # there is time
    assert life.at(30, Committed(1)) == [Write(notes.Spared("app", 101, 5))]
    assert next_deadline(life.master) == 30.05
    assert life.at(30.05, Committed(1)) == []
    assert life.done(30.1) == [Tell(1, Word.TRACE)]


def test_it_does_not_wait_for_ever() -> None:
    """critical_timeout begins with the drain's end, however often the request says so again."""
    life = serving(replace(ONE, drain_timeout=10, critical_timeout=0.07))
    life.at(20, Stop(hurry=False))
    life.at(30, Committed(1))
    life.at(30.05, Committed(1))
    assert next_deadline(life.master) == 30.07
    assert life.done(30.07, Committed(1)) == [Tell(1, Word.TRACE)]


def test_whoever_passes_one_while_he_writes_down_where_he_is_is_not_killed() -> None:
    """In whatever order that is heard; the time counts from when the cut was due."""
    life = serving(replace(ONE, drain_timeout=10, critical_timeout=5))
    life.at(20, Stop(hurry=False))
    assert life.done(30) == [Tell(1, Word.TRACE)]
    assert life.at(30.5, Committed(1), Traced(1)) == [Write(notes.Spared("app", 101, 5))]
    assert life.done(30.55) == [Kill(1, pid=101)]


def test_nobody_is_spared_in_a_hurry() -> None:
    """Neither before the trace nor after it."""
    life = serving(replace(ONE, drain_timeout=10, critical_timeout=5))
    life.at(20, Stop(hurry=False))
    assert life.done(21, Stop(hurry=False)) == [Tell(1, Word.TRACE)]
    assert life.done(21.5, Traced(1), Committed(1)) == [Kill(1, pid=101)]


@pytest.mark.parametrize("event", [Stop(hurry=False), Overdue(1)])
def test_who_asks_again_does_not_wait_for_a_point_of_no_return(event: Event) -> None:
    """A second stop is somebody's word; and of the overdue the shell has asked before."""
    life = serving(replace(ONE, drain_timeout=10, critical_timeout=5))
    life.at(20, Stop(hurry=False))
    life.at(30, Committed(1))
    assert life.done(30.01, Committed(1), event) == [Tell(1, Word.TRACE)]


def test_without_a_critical_timeout_nobody_is_waited_for() -> None:
    """As if it had not been said."""
    life = serving(replace(ONE, drain_timeout=10, critical_timeout=0))
    life.at(20, Stop(hurry=False))
    assert life.done(30, Committed(1)) == [Tell(1, Word.TRACE)]


def test_one_that_writes_no_trace_is_killed_all_the_same() -> None:
    """trace_timeout is how long it may take."""
    life = serving(replace(ONE, trace_timeout=2, boot_timeout=0))
    life.at(5, Overdue(1))
    assert life.done(6) == []
    assert life.done(7) == [Kill(1, pid=101)]
    assert life.done(100) == []


def test_a_drain_that_does_not_end_is_cut() -> None:
    """Drain, trace, kill: each once."""
    life = serving(replace(ONE, drain_timeout=10, trace_timeout=1))
    assert life.done(5, Stop(hurry=False)) == [Tell(1, Word.DRAIN)]
    assert life.at(15) == [Write(notes.DrainTimedOut("app", 101, after=10)), Tell(1, Word.TRACE)]
    assert life.done(16) == [Kill(1, pid=101)]
    assert life.done(17, Exited(101, 9)) == [Exit(0)]


# --- Reloading ---------------------------------------------------------------


def test_old_workers_retire_one_for_one_as_new_ones_become_ready() -> None:
    """The canary first: no old worker is told anything before a new one serves."""
    life = serving(TWO)
    assert life.at(5, Reload(TWO, ticket=7)) == [
        Write(notes.Reloading(2)),
        Spawn(3, slot=2, generation=2),
    ]
    life.at(5, *spawned(3))
    assert life.done(6, Booted(3)) == [Tell(1, Word.DRAIN), Spawn(4, slot=3, generation=2)]
    life.at(6, *spawned(4))
    assert life.at(7, Booted(4)) == [
        Write(notes.ChildReady("app", 104, generation=2, boot=1)),
        Write(notes.ReloadFinished(2)),
        Answer(7, ok=True, text="reload finished, generation 2 is in service"),
        Tell(2, Word.DRAIN),
    ]
    assert life.done(8, Exited(101, 0)) == []
    assert life.done(9, Exited(102, 0)) == [Forget(1)]


def test_a_long_request_does_not_hold_up_the_new_generation() -> None:
    """Whoever drains does not count among those in service."""
    life = serving(replace(ONE, drain_timeout=0))
    for serial in (2, 3):
        life.at(5, Reload(replace(ONE, drain_timeout=0)))
        life.at(5, *spawned(serial))
        life.at(6, Booted(serial))
    assert [worker.stage for worker in life.master.workers] == [Stage.DRAINING, Stage.DRAINING, Stage.READY]
    assert life.done(7, Reload(ONE, ticket=9)) == []
    assert life.done(8, Exited(101, 0)) == [Spawn(4, slot=0, generation=4), Forget(1)]


def test_new_code_that_cannot_be_loaded_changes_nothing() -> None:
    """The first worker of the new generation says so: it is given up, with its traceback, and nobody was told."""
    life = serving(TWO)
    life.at(5, Reload(replace(TWO, min_uptime=9), ticket=7))
    life.at(5, *spawned(3))
    why = "ImportError: no gift\n  File app.py, line 1"
    note = notes.ReloadFailed(2, why)
    assert life.at(6, BootFailed(3, why)) == [
        Write(notes.BootFailed("app", 103, why)),
        Write(note),
        Answer(7, ok=False, text=f"{note.text()}\n{why}"),
    ]
    assert life.done(6, Exited(103, 70 << 8)) == [Forget(2)]
    assert life.serving() == [(1, 1), (2, 1)]
    assert life.master.current.policy == TWO


def test_a_new_generation_that_hangs_in_boot_is_given_up_at_its_timeout() -> None:
    """There is no need to wait for it twice."""
    life = serving(ONE)
    life.at(5, Reload(replace(ONE, boot_timeout=10), ticket=7))
    life.at(5, *spawned(2))
    note = notes.ReloadFailed(2, "not ready after 10 seconds")
    assert life.at(15) == [
        Write(notes.BootTimedOut("app", 102, after=10)),
        Kill(2, pid=102),
        Write(note),
        Answer(7, ok=False, text=f"{note.text()}\n{note.why}"),
    ]


def test_a_new_generation_that_keeps_crashing_is_given_up_after_failures_max() -> None:
    """Until then it is tried, with a pause, beside the old one."""
    life = serving(ONE)
    life.at(5, Reload(replace(ONE, failures_max=1, backoff=1), ticket=7))
    life.at(5, *spawned(2))
    assert life.done(6, Exited(102, CRASH)) == []
    assert life.done(7) == [Spawn(3, slot=1, generation=2)]
    life.at(7, *spawned(3))
    note = notes.ReloadFailed(2, CRASHED)
    assert life.done(8, Exited(103, CRASH)) == [Answer(7, ok=False, text=f"{note.text()}\n{CRASHED}"), Forget(2)]
    assert life.serving() == [(1, 1)]


def test_a_rollback_keeps_the_new_workers_until_the_old_are_at_strength_again() -> None:
    """Half a reload is taken back as it came: one for one."""
    life = serving(TWO)
    life.at(5, Reload(TWO))
    life.at(5, *spawned(3))
    life.at(6, Booted(3))
    life.at(6, *spawned(4))
    assert life.done(7, BootFailed(4, "ImportError: no gift")) == [Spawn(5, slot=4, generation=1)]
    assert life.serving() == [(2, 1), (3, 2)]
    life.at(7, *spawned(5))
    assert life.done(8, Booted(5), Exited(104, 70 << 8)) == [Tell(3, Word.DRAIN)]


def test_a_reload_overtakes_the_one_before_and_answers_for_both() -> None:
    """The last configuration wins; whoever waits for the earlier one gets the outcome of the later."""
    life = serving(ONE)
    life.at(5, Reload(replace(ONE, min_uptime=2), ticket=7))
    life.at(5, *spawned(2))
    assert life.done(6, Reload(replace(ONE, min_uptime=3), ticket=8)) == [Kill(2, pid=102)]
    assert life.done(6 + SETTLE, Exited(102, 9)) == [Spawn(3, slot=1, generation=3), Forget(2)]
    life.at(7, *spawned(3))
    text = "reload finished, generation 3 is in service"
    assert life.done(8, Booted(3)) == [
        Answer(7, ok=True, text=text),
        Answer(8, ok=True, text=text),
        Tell(1, Word.DRAIN),
    ]
    assert life.master.current.policy.min_uptime == 3


def test_25_reloads_in_300_ms_give_few_generations_and_the_last_one_wins() -> None:
    """php-fpm survives it, and so do we; the workers that serve are not even told."""
    life = serving(ONE)
    for number in range(25):
        policy = replace(ONE, min_uptime=1 + number)
        actions = life.done(5 + number * 0.012, Reload(policy, ticket=number + 1))
        while actions:
            assert all(isinstance(action, Spawn | Kill | Forget) for action in actions)
            outcomes: list[Event] = [e for a in actions if isinstance(a, Spawn) for e in spawned(a.serial)]
            outcomes += [Exited(a.pid, 9) for a in actions if isinstance(a, Kill)]
            actions = life.done(life.now, *outcomes) if outcomes else []
    assert life.master.generation <= 5
    assert life.master.current.policy.min_uptime == 25
    assert life.master.waiting == tuple(range(1, 26))
    assert life.serving() == [(1, 1)]


def test_a_reload_of_a_pool_that_is_not_up_yet_goes_back_to_what_serves() -> None:
    """A release that serves, if not at full strength, is better than none."""
    life = Life(TWO)
    life.at(0)
    life.at(0, *spawned(1, 2))
    life.at(1, Booted(1))
    assert life.done(2, Reload(TWO)) == [
        Kill(2, pid=102),
        Spawn(3, slot=2, generation=2),
        Spawn(4, slot=3, generation=2),
    ]
    life.at(2, *spawned(3, 4))
    assert life.done(3, Exited(102, 9), BootFailed(3, "ImportError"))[:1] == [Kill(4, pid=104)]
    assert life.master.current.generation == 1
    assert life.master.phase is Phase.RUNNING


# --- On trial ------------------------------------------------------------------

TRIAL = replace(TWO, trial=2)


def tried(policy: Policy = TRIAL) -> Life:
    """A pool of two of which the new generation, workers 3 and 4, has been at full strength since 7; ticket 7 waits."""
    life = serving(policy)
    life.at(5, Reload(policy, ticket=7))
    life.at(5, *spawned(3))
    life.at(6, Booted(3))
    life.at(6, *spawned(4))
    life.at(7, Booted(4))
    return life


def stages(life: Life) -> dict[int, Stage]:
    """Serial and stage of everybody."""
    return {worker.serial: worker.stage for worker in life.master.workers}


def test_the_old_rest_until_the_new_have_served_for_a_while() -> None:
    """The trial counts from the first that was ready: a reload of many workers is not held up by their number."""
    life = serving(TRIAL)
    life.at(5, Reload(TRIAL, ticket=7))
    life.at(5, *spawned(3))
    assert life.done(6, Booted(3)) == [Tell(1, Word.REST), Spawn(4, slot=3, generation=2)]
    life.at(6, *spawned(4))
    assert life.done(7, Booted(4)) == [Tell(2, Word.REST)]
    assert life.master.reloading
    assert next_deadline(life.master) == 8
    assert life.at(8) == [
        Write(notes.ReloadFinished(2)),
        Answer(7, ok=True, text="reload finished, generation 2 is in service"),
        Tell(1, Word.DRAIN),
        Tell(2, Word.DRAIN),
    ]
    assert not life.master.reloading


def test_a_trial_ends_no_sooner_than_full_strength() -> None:
    """However long the last worker boots."""
    life = serving(TRIAL)
    life.at(5, Reload(TRIAL))
    life.at(5, *spawned(3))
    life.at(6, Booted(3))
    life.at(6, *spawned(4))
    assert life.done(20) == []
    assert life.said(21, Booted(4))[1:] == [notes.ReloadFinished(2)]


def test_a_new_worker_that_dies_on_trial_is_stood_in_for_by_an_old_one() -> None:
    """At once, by one that rests; the trial begins anew."""
    life = tried()
    assert life.done(7.5, Exited(104, CRASH)) == []
    assert life.serving() == [(1, 1), (3, 2)]
    assert life.wait() == [Spawn(5, slot=3, generation=2)]
    life.at(life.now, *spawned(5))
    assert life.done(8, Booted(5)) == [Tell(1, Word.REST)]
    assert next_deadline(life.master) == 9.5


def test_a_new_generation_that_keeps_dying_is_given_up_after_a_few_failures() -> None:
    """All that rest serve again, in the same step."""
    life = tried(replace(TRIAL, backoff=0.5, backoff_max=0.5))
    life.at(7.5, Exited(103, CRASH), Exited(104, CRASH))
    assert life.serving() == [(1, 1), (2, 1)]
    assert life.done(8) == [Spawn(5, slot=2, generation=2)]
    life.at(8, *spawned(5))
    life.at(8.1, Exited(105, CRASH))
    assert life.done(8.6) == [Spawn(6, slot=2, generation=2)]
    life.at(8.6, *spawned(6))
    assert life.done(8.7, Booted(6)) == [Tell(1, Word.REST), Spawn(7, slot=3, generation=2)]
    life.at(8.7, *spawned(7))
    actions = life.done(9, Exited(106, CRASH))
    assert [type(action) for action in actions] == [Answer, Kill]
    assert life.serving() == [(1, 1), (2, 1)]
    assert life.master.current.generation == 1


def test_half_a_trial_is_taken_back_at_once() -> None:
    """Who rests serves, and the new that serve go, in one step."""
    life = tried()
    life.at(7.5, Exited(104, CRASH))
    life.wait()
    life.at(life.now, *spawned(5))
    note = notes.ReloadFailed(2, "ImportError: no gift")
    assert life.done(8, BootFailed(5, "ImportError: no gift")) == [
        Answer(7, ok=False, text=f"{note.text()}\n{note.why}"),
        Tell(3, Word.DRAIN),
    ]
    assert life.serving() == [(1, 1), (2, 1)]


def test_a_worker_that_dies_later_than_min_uptime_fails_the_trial_all_the_same() -> None:
    """Whatever lasts less long than the trial has not passed it."""
    life = tried(replace(TRIAL, trial=30))
    assert life.said(20, Exited(104, CRASH))[1:] == [
        notes.BackingOff("app", failures=1, delay=0.1, why="exited with code 1 13.0 seconds after it was ready")
    ]


def test_a_reload_during_a_trial_keeps_what_rests() -> None:
    """The release in between is not proven: its workers go first, those of the proven one stay to the last."""
    life = tried()
    assert life.done(7.5, Reload(TRIAL)) == []
    assert life.done(7.6) == [Spawn(5, slot=4, generation=3)]
    life.at(7.6, *spawned(5))
    assert life.done(7.7, Booted(5)) == [Tell(3, Word.DRAIN)]
    assert stages(life) == {
        1: Stage.RESTING, 2: Stage.RESTING, 3: Stage.DRAINING, 4: Stage.READY, 5: Stage.READY
    }  # fmt: skip
    assert life.done(7.8, Exited(103, 0)) == [Spawn(6, slot=2, generation=3)]
    life.at(7.8, *spawned(6))
    assert life.done(7.9, BootFailed(6, "ImportError"))[1:] == [Tell(4, Word.DRAIN), Tell(5, Word.DRAIN)]
    assert life.serving() == [(1, 1), (2, 1)]


def test_one_that_rests_and_dies_is_not_replaced_unless_it_is_needed() -> None:
    """After a rollback the pool is filled up as ever."""
    life = tried()
    assert life.done(7.5, Exited(101, 9)) == []
    life.at(7.6, Exited(104, CRASH))
    life.wait()
    life.at(life.now, *spawned(5))
    assert life.done(7.8, BootFailed(5, "ImportError"))[1:] == [Spawn(6, slot=3, generation=1)]
    assert life.serving() == [(2, 1), (3, 2)]


def test_one_that_rests_is_told_to_drain_by_a_stop_and_cut_by_the_second() -> None:
    """As everybody else."""
    life = tried()
    assert life.done(7.5, Stop(hurry=False)) == [
        Answer(7, ok=False, text="stopping"),
        *(Tell(serial, Word.DRAIN) for serial in (1, 2, 3, 4)),
    ]
    other = tried()
    assert other.done(7.5, Stop(hurry=True))[1:] == [Tell(serial, Word.TRACE) for serial in (1, 2, 3, 4)]


def test_a_request_of_one_that_rests_may_be_overdue() -> None:
    """It is cut, and nobody is started in its place."""
    life = tried()
    assert life.done(7.5, Overdue(1)) == [Tell(1, Word.TRACE)]


def test_a_spent_worker_rests_as_well_and_is_recycled_when_it_is_called_back() -> None:
    """Its memory is what may be needed; its successor is ready before it goes."""
    life = tried()
    life.at(7.2, Spent(1, "1000 requests"), Exited(104, CRASH))
    assert life.serving() == [(2, 1), (3, 2)]
    life.wait()
    life.at(life.now, *spawned(5))
    assert life.done(7.8, BootFailed(5, "ImportError"))[1:] == [Tell(3, Word.DRAIN), Spawn(6, slot=4, generation=1)]
    assert life.serving() == [(1, 1), (2, 1)]


def test_more_workers_during_a_trial_are_lent_by_the_old() -> None:
    """Until the new ones are ready."""
    life = tried()
    life.at(7.5, Resize(+1))
    assert life.serving() == [(1, 1), (3, 2), (4, 2)]
    life.at(7.5, *spawned(5))
    assert life.done(7.6, Booted(5)) == [Tell(1, Word.REST)]


# --- More, or fewer ----------------------------------------------------------


def test_a_resize_is_answered_at_once_and_the_youngest_drain() -> None:
    """The oldest have what the application keeps in memory."""
    life = serving(TWO)
    assert life.at(5, Resize(+1, ticket=3)) == [
        Write(notes.Resized(3)),
        Answer(3, ok=True, text="scaled to 3 workers"),
        Spawn(3, slot=2, generation=1),
    ]
    life.at(5, *spawned(3))
    life.at(6, Booted(3))
    assert life.done(7, Resize(-2, ticket=4)) == [
        Answer(4, ok=True, text="scaled to 1 workers"),
        Tell(3, Word.DRAIN),
        Tell(2, Word.DRAIN),
    ]


@pytest.mark.parametrize(("delta", "workers"), [(-9, 1), (+100_000, WORKERS_MAX)])
def test_a_resize_stays_within_its_bounds(delta: int, workers: int) -> None:
    """Never none, and never more than there are slots for."""
    life = serving(TWO)
    life.at(5, Resize(delta))
    assert life.master.current.policy.workers == workers
    assert all(worker.slot < SLOTS for worker in life.master.workers)


def test_a_rollback_keeps_a_resize() -> None:
    """Whoever asked for one worker more asked for the pool, not for the generation."""
    life = serving(ONE)
    life.at(5, Reload(ONE))
    life.at(5, *spawned(2))
    life.at(6, Resize(+1))
    life.at(6, *spawned(3))
    assert life.done(7, BootFailed(2, "ImportError")) == [Kill(3, pid=103), Spawn(4, slot=3, generation=1)]
    assert life.master.current.policy.workers == 2


# --- Stopping ----------------------------------------------------------------


def test_a_stop_lets_the_ready_finish_and_kills_those_that_boot() -> None:
    """One that boots has no request."""
    life = serving(TWO)
    life.at(5, Exited(102, 0))
    life.at(5, *spawned(3))
    assert life.done(6, Stop(hurry=False, ticket=5)) == [Tell(1, Word.DRAIN), Kill(3, pid=103)]
    assert life.done(6, Exited(103, 9)) == []
    assert life.at(9, Exited(101, 0)) == [
        Write(notes.ChildExited("app", 101, 0, lived=9, expected=True)),
        Write(notes.Bye()),
        Answer(5, ok=True, text="stopped"),
        Exit(0),
    ]
    assert life.at(10, Stop(hurry=True), Exited(1, 0)) == []


def test_a_second_stop_cuts() -> None:
    """Of whatever kind; a third changes nothing."""
    life = serving(ONE)
    life.at(5, Stop(hurry=False))
    assert life.at(6, Stop(hurry=False)) == [Write(notes.Hurrying()), Tell(1, Word.TRACE)]
    assert life.at(6.5, Stop(hurry=True)) == []
    assert life.done(7) == [Kill(1, pid=101)]


def test_a_worker_that_is_being_forked_when_the_stop_comes_is_killed_when_it_is_there() -> None:
    """And the master does not end before."""
    life = Life(ONE)
    life.at(0)
    assert life.done(0, Stop(hurry=False)) == []
    assert life.done(0, *spawned(1)) == [Kill(1, pid=101)]
    assert life.done(1, Exited(101, 9)) == [Exit(0)]


def test_whoever_waits_for_a_reload_is_answered_when_a_stop_overtakes_it() -> None:
    """And whoever asks for one later, too."""
    life = serving(ONE)
    life.at(5, Reload(ONE, ticket=1))
    life.at(5, *spawned(2))
    assert life.done(6, Stop(hurry=False))[0] == Answer(1, ok=False, text="stopping")
    assert life.done(7, Reload(ONE, ticket=2), Resize(1, ticket=3)) == [
        Answer(2, ok=False, text="stopping"),
        Answer(3, ok=False, text="stopping"),
    ]


def test_a_lame_duck_goes_on_as_before_and_then_drains() -> None:
    """Whoever dies is replaced, whoever is spent recycled; whoever wants something new is told that it is too late."""
    life = serving(replace(ONE, lame_duck=10))
    assert life.at(5, Stop(hurry=False, ticket=5)) == [Write(notes.LameDuck(10))]
    assert life.master.phase is Phase.LEAVING
    assert life.done(6, Exited(101, 9)) == [Spawn(2, slot=0, generation=1)]
    life.at(6, *spawned(2))
    assert life.done(7, Booted(2), Reload(ONE, ticket=6), Resize(+1, ticket=7)) == [
        Answer(6, ok=False, text="stopping"),
        Answer(7, ok=False, text="stopping"),
    ]
    assert life.done(8, Spent(2, "memory")) == [Spawn(3, slot=1, generation=1)]
    life.at(8, *spawned(3))
    assert life.done(9, Booted(3)) == [Tell(2, Word.DRAIN)]
    assert life.done(15) == [Tell(3, Word.DRAIN)]
    assert life.done(16, Exited(102, 0), Exited(103, 0)) == [Answer(5, ok=True, text="stopped"), Exit(0)]


def test_a_lame_duck_drains_at_the_second_stop_and_is_cut_at_the_third() -> None:
    """Each stop leads one step further."""
    life = serving(replace(ONE, lame_duck=10))
    life.at(5, Stop(hurry=False))
    assert life.done(6, Stop(hurry=False)) == [Tell(1, Word.DRAIN)]
    assert life.at(7, Stop(hurry=False)) == [Write(notes.Hurrying()), Tell(1, Word.TRACE)]


@pytest.mark.parametrize("stop", [Stop(hurry=False, at_once=True), Stop(hurry=True)])
def test_whoever_is_at_a_terminal_does_not_wait_for_load_balancers(stop: Stop) -> None:
    """Nor does whoever is in a hurry."""
    life = serving(replace(ONE, lame_duck=10))
    life.at(5, stop)
    assert life.master.phase is Phase.STOPPING


def test_a_reload_under_way_goes_on_in_a_lame_duck_and_nobody_is_told() -> None:
    """Whoever waited for it has been answered; the pool gets to full strength, of the one code or the other."""
    life = serving(replace(ONE, lame_duck=10))
    life.at(5, Reload(replace(ONE, lame_duck=10), ticket=1))
    life.at(5, *spawned(2))
    assert life.done(6, Stop(hurry=False)) == [Answer(1, ok=False, text="stopping")]
    assert not life.master.reloading
    assert life.done(7, Booted(2)) == [Tell(1, Word.DRAIN)]


# --- Bounds ------------------------------------------------------------------


def test_processes_that_cannot_be_killed_do_not_pile_up() -> None:
    """A worker stuck in the kernel (a dead NFS server) outlives SIGKILL: there is a limit to trying beside it."""
    life = serving(replace(ONE, boot_timeout=10, backoff=1, backoff_max=1))
    life.at(20, Exited(101, 0))
    life.at(20, *spawned(2))
    for _ in range(20):
        if next_deadline(life.master) is None:
            break
        for action in life.wait():
            if isinstance(action, Spawn):
                life.at(life.now, *spawned(action.serial))
    assert [worker.stage for worker in life.master.workers] == [Stage.KILLED] * 3
    assert life.done(life.now, Exited(102, 9)) == []
    assert life.wait() == [Spawn(5, slot=0, generation=1)]
