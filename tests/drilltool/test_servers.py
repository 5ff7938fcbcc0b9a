"""The drill on real servers: what each is known to lose is found, and what it does not lose is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drilltool.conftest import WITHIN_S, Drilled, environment
from lastcall.tools.drill import results
from lastcall.tools.drill.processes import command_line
from lastcall.tools.drill.results import Drill, Run, Strength
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.steps import Step
from support.processes import eventually

SHORT = ("--restarts", "2", "--pause", "300ms")
ONCE = ("--restarts", "1", "--pause", "300ms")


def by_strategy(drill: Drill) -> Iterator[tuple[str, Run]]:
    for run in drill.runs:
        assert run.failed == "", f"{run.target}, {run.strategy}: {run.failed}"
        assert run.requests > 50
        yield run.strategy, run


def half_done(run: Run) -> int:
    assert run.ledgers is not None
    return run.ledgers.half_done


# --- php-fpm ---------------------------------------------------------------------------------


def test_php_fpm_as_it_comes_leaves_orders_half_done(drilled: Drilled) -> None:
    """TERM, QUIT and USR2 cut what runs: the default grace is none. The lines of nginx's log belong to the requests."""
    drill, code = drilled("--against", "php-fpm", "--strategy", "term,quit,usr2", *SHORT)
    runs = dict(by_strategy(drill))
    assert {name: half_done(run) > 0 for name, run in runs.items()} == {"term": True, "quit": True, "usr2": True}
    assert code == 1
    for run in runs.values():
        assert run.path is Way.NGINX_NEW
        assert run.recommendation
        assert run.outcomes["502"] == run.logged_count
        lost = {records for records, kind in enumerate(run.records.outcome) if run.records.outcomes[kind] == "502"}
        assert {line.index for line in run.logged} == lost


def test_php_fpm_with_grace_loses_less(drilled: Drilled) -> None:
    """TERM cuts all the same; QUIT finishes what has begun and loses who is in the queue; USR2 loses none."""
    drill, _ = drilled("--against", "php-fpm:10s", "--strategy", "term,quit,usr2", *SHORT)
    runs = dict(by_strategy(drill))
    assert {name: half_done(run) > 0 for name, run in runs.items()} == {"term": True, "quit": False, "usr2": False}
    assert runs["quit"].verdict.lost > 0
    assert "listener" in runs["quit"].recommendation
    assert runs["usr2"].verdict.lost == 0, runs["usr2"].verdict.sentence


def test_php_fpm_closes_kept_connections_under_a_request(drilled: Drilled) -> None:
    """Grace or not: FastCGI has no word for it. lastcall hands them over."""
    drill, _ = drilled(
        "--against", "php-fpm:10s,lastcall:fastcgi", "--strategy", "usr2", "--path", "nginx-kept", *SHORT
    )
    fpm, lastcall = (run for _, run in by_strategy(drill))
    assert fpm.verdict.lost > 0
    assert half_done(fpm) == 0
    assert "fastcgi_keep_conn" in fpm.recommendation
    assert lastcall.verdict.lost == 0, lastcall.verdict.sentence


def test_a_request_at_the_incidents_step_is_cut_each_time(drilled: Drilled) -> None:
    """After sendPresent, before the write: no luck is needed, and so two drills agree."""
    for seed in ("1", "2"):
        drill, code = drilled(
            "--against", "php-fpm", "--strategy", "usr2", "--phase", "writing", *SHORT, "--seed", seed
        )
        ((_, run),) = by_strategy(drill)
        (index,) = run.records.step
        assert run.records.ledger[run.records.amiss[index]] == "half done"
        assert (run.verdict.strength, code) == (Strength.PROVED, 1)


# --- Others ----------------------------------------------------------------------------------


def test_gunicorns_hup_loses_nothing_and_its_quit_cuts(drilled: Drilled) -> None:
    """QUIT is its quick stop: at the incident's step the order is half done."""
    # Once: two in a row may meet a worker that boots, and lose it the signal (gunicorn #1910).
    drill, _ = drilled("--against", "gunicorn:gthread", "--strategy", "hup", *ONCE)
    assert [run.verdict.lost for _, run in by_strategy(drill)] == [0]
    drill, _ = drilled("--against", "gunicorn", "--strategy", "quit", "--phase", "writing", *SHORT)
    assert [half_done(run) > 0 for _, run in by_strategy(drill)] == [True]


@pytest.mark.parametrize("target", ["uvicorn", "hypercorn"])
def test_a_stop_and_a_start_refuse_clients(drilled: Drilled, target: str) -> None:
    """The listener goes with the master: whoever comes before the start is turned away."""
    drill, code = drilled("--against", target, "--strategy", "term", *ONCE)
    ((_, run),) = by_strategy(drill)
    assert run.outcomes["refused"] > 0
    assert (run.verdict.strength, code) == (Strength.PROVED, 1)
    assert drill.machine.keys() == {"kernel", "processors", "python", "load"}


def test_gunicorns_upgrade_loses_nothing_and_its_masters_death_does(drilled: Drilled) -> None:
    """USR2 begets a second master; SIGKILL takes the listener with the first."""
    drill, _ = drilled("--against", "gunicorn", "--strategy", "usr2,kill-master", *ONCE)
    runs = dict(by_strategy(drill))
    assert runs["usr2"].verdict.lost == 0, runs["usr2"].verdict.sentence
    assert "kill -TERM" in runs["usr2"].restarts[0].what
    assert runs["kill-master"].outcomes["refused"] > 0


def test_gunicorns_reload_waits_for_slow_code(drilled: Drilled) -> None:
    """Its old workers retire before the new ones can serve: nobody is lost, and nobody is served meanwhile."""
    drill, _ = drilled("--against", "gunicorn", "--strategy", "slow-boot", *ONCE)
    ((_, run),) = by_strategy(drill)
    assert run.verdict.lost == 0, run.verdict.sentence
    assert run.gap > 0.5


def test_php_fpm_goes_down_with_a_broken_configuration(drilled: Drilled) -> None:
    """It reads it when its workers are gone: nobody serves until it is repaired and started."""
    drill, _ = drilled("--against", "php-fpm:10s", "--strategy", "broken-code", *ONCE)
    ((_, run),) = by_strategy(drill)
    assert run.verdict.lost > 0
    assert run.restarts[0].note == "the master ended with 78"
    assert "php-fpm -t" in run.recommendation


# --- lastcall --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategies", ["none,term,quit", "hup,usr2", "recycle,kill-master,stop"])
def test_lastcall_loses_nothing(drilled: Drilled, strategies: str) -> None:
    """Under any of these; a stop without a start refuses, which is safe."""
    drill, code = drilled("--strategy", strategies, *ONCE)
    lost = {name: run.verdict.sentence for name, run in by_strategy(drill) if run.verdict.lost}
    assert lost == {}
    assert code == 0
    assert all(run.gap > 0 for run in drill.runs)
    for name, run in by_strategy(drill):
        assert run.outcomes.keys() <= ({"200", "refused"} if name == "stop" else {"200"})


def test_lastcall_serves_on_while_new_code_is_broken(drilled: Drilled) -> None:
    """By the old code, and nobody waits."""
    drill, code = drilled("--strategy", "broken-code", *ONCE)
    ((_, run),) = by_strategy(drill)
    assert (run.verdict.lost, code) == (0, 0), run.verdict.sentence
    assert all(restart.ok for restart in run.restarts)


def test_lastcall_reloads_at_every_step_of_a_request(drilled: Drilled) -> None:
    """A proof instead of luck."""
    drill, code = drilled("--strategy", "hup", "--phase", "all", "--pause", "50ms")
    ((_, run),) = by_strategy(drill)
    assert (run.verdict.strength, code) == (Strength.ENUMERATED, 0), run.verdict.sentence
    assert set(run.records.step.values()) == {str(step) for step in Step}


def test_requests_are_held_by_fastcgi_too(drilled: Drilled) -> None:
    """At a step of the client's, and at one of the application's."""
    steps = ("half-body", "writing")
    drill, code = drilled("--against", "lastcall:fastcgi", "--strategy", "hup", "--phase", ",".join(steps))
    ((_, run),) = by_strategy(drill)
    assert (run.verdict.lost, code) == (0, 0), run.verdict.sentence
    assert set(run.records.step.values()) == set(steps)


def test_a_killed_worker_was_inside_the_request_that_is_held(drilled: Drilled) -> None:
    """Whose client is told so."""
    drill, _ = drilled("--strategy", "kill-worker", "--phase", "writing", *SHORT)
    ((_, run),) = by_strategy(drill)
    ((index, step),) = run.records.step.items()
    assert step == Step.WRITING
    assert run.records.outcomes[run.records.outcome[index]] == "503"
    assert run.records.ledger[run.records.amiss[index]] == "half done"


def test_durable_requests_survive_their_worker_at_every_step(drilled: Drilled) -> None:
    """Another one finishes them, on the client's own connection: nothing is half done, and nothing done twice."""
    drill, code = drilled("--against", "lastcall:durable", "--strategy", "kill-worker", "--phase", "all", *SHORT)
    ((_, run),) = by_strategy(drill)
    assert (run.verdict.strength, code) == (Strength.ENUMERATED, 0), run.verdict.sentence
    assert run.outcomes.keys() == {"200"}


# --- The command -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_gives_what_there_is(folder: Path, number: signal.Signals) -> None:
    """As JSON, with the run that was interrupted; SIGTERM is the same. Nobody is left."""
    command = [
        sys.executable,
        "-m",
        "lastcall",
        "drill",
        "--strategy",
        "hup,usr2",
        "--json",
        "--folder",
        str(folder / "d"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), start_new_session=True
    )
    seen = folder / "d" / "0"
    try:
        eventually(lambda: any(file.stat().st_size > 10_000 for file in seen.glob("load-*.seen")), "requests flow")
    finally:
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=WITHIN_S)
    drill = results.decode(out)
    assert drill.interrupted
    assert [(run.strategy, run.interrupted) for run in drill.runs] == [("hup", True)]
    assert drill.runs[0].requests > 0
    assert (process.returncode, drill.lost) == (130, 0), err.decode()
    assert [pid for pid in pids() if str(folder) in command_line(pid)] == []


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lastcall", "drill", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment() | env, timeout=WITHIN_S, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--against", "apache"), "'apache' is no target"),
        (("--strategy", "hope"), "'hope' is none of none, term"),
        (("--phase", "somewhere"), "'somewhere' is none of connected"),
        (("--path", "haproxy"), "'haproxy' is none of direct, nginx, nginx-kept"),
        (("--rate", "fast"), "'fast' is not a valid float"),
        (("--connections", "100000"), "100000 is not in the range"),
        (("--pause", "soon"), "'soon' is not a duration"),
        (("--body", "much"), "'much'"),
        (("--against", "uvicorn", "--strategy", "quit"), "uvicorn, quit: uvicorn does not know it"),
        (("--folder", "."), "is not empty"),
        (("--nonsense",), "No such option"),
    ],
)
def test_who_asks_wrongly_is_told_and_exits_with_2(arguments: tuple[str, ...], why: str) -> None:
    """1 means that something was lost."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr


def test_a_target_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """When there is no other, nothing can be done."""
    done = run("--against", "puma", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "puma: puma is not installed" in done.stderr


def test_help_has_examples_targets_strategies_and_steps() -> None:
    """Whoever reads it need not look elsewhere."""
    done = run("--help")
    assert done.returncode == 0
    for text in (
        "lastcall drill --against php-fpm",
        "php-fpm:10s",
        "kill-master",
        "after sendPresent, before the write",
    ):
        assert text in done.stdout


def test_the_result_for_people_ends_with_the_verdict(folder: Path) -> None:
    """On stdout; what is told meanwhile is on stderr."""
    done = run("--strategy", "none", "--restarts", "1", "--pause", "200ms", "--folder", str(folder / "kept"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("[1/1] lastcall, none, direct: 0 of ")
    assert done.stdout.splitlines()[0].split() == ["target", "strategy", "path", "times", "requests", "lost", "half",
        "done", "longest", "gap", "verdict"]  # fmt: skip
    assert " lost in 1 run: below " in done.stdout.splitlines()[-1]
    plan = json.loads(next((folder / "kept" / "0").glob("load-*.json")).read_bytes())
    assert plan["lifetime"] > 0, "a load ends by itself, whatever becomes of us"
