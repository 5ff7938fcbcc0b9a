"""What a drill says: of targets, of reasons, of nginx's log, on the terminal."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import msgspec
import pytest

from lastcall.core.mistakes import Mistake
from lastcall.tools.drill import nginx, results, targets, text
from lastcall.tools.drill.conduct import strikes
from lastcall.tools.drill.drill import agenda, usual_paths
from lastcall.tools.drill.judge import Books, Judgement, Mark
from lastcall.tools.drill.outcomes import HARM, Amiss, Outcome, Seen
from lastcall.tools.drill.progress import Progress
from lastcall.tools.drill.reasons import HALF_DONE, Case, reasons, recommendation
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.steps import WORDS as STEPS
from lastcall.tools.drill.steps import Step
from lastcall.tools.drill.strategies import TITLES, WORDS, Strategy
from lastcall.tools.drill.targets import FORMS, KINDS, Place
from support.processes import ROOT, eventually
from unit.tools.drill.test_results import DRILL, RUN

SETTINGS = DRILL.settings
PLACE = Place(Path("/nowhere"), "127.0.0.1:8000", 4)


# --- Targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_that_help_shows_is_a_target(form: str) -> None:
    """Each knows the control, a restart, both kills and a stop; and what it says of itself names it."""
    target = targets.parse(form)
    assert {
        Strategy.NONE,
        Strategy.TERM,
        Strategy.KILL_WORKER,
        Strategy.KILL_MASTER,
        Strategy.STOP,
    } <= target.ways.keys()
    assert target.title().startswith(target.kind)
    assert target.protocol in ("HTTP", "FastCGI")


def test_help_shows_every_kind() -> None:
    """And every strategy and step has a title and words."""
    assert {form.partition(":")[0] for form in FORMS} == set(KINDS)
    assert TITLES.keys() == WORDS.keys() == set(Strategy)
    assert STEPS.keys() == set(Step)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("apache", "'apache' is no target"),
        ("gunicorn:gevent", "there is no 'gevent'"),
        ("php-fpm:soon", "'soon' is no duration"),
        ("uvicorn:wsgi", "there is no 'wsgi'"),
        ("", "'' is no target"),
    ],
)
def test_what_is_no_target_is_said_to_be_none(name: str, why: str) -> None:
    """With what may be written instead."""
    with pytest.raises(Mistake, match=why) as caught:
        targets.parse(name)
    assert caught.value.remedy


def test_settings_are_in_the_title_and_in_the_command(tmp_path: Path) -> None:
    """php-fpm has its configuration written for it."""
    target = targets.parse("php-fpm:1m")
    assert target.title().endswith("process_control_timeout = 1m")
    target.command(Place(tmp_path, "127.0.0.1:9000", 7, max_requests=50))
    config = (tmp_path / "server.conf").read_text().splitlines()
    assert {"process_control_timeout = 60s", "pm.max_children = 7", "pm.max_requests = 50"} <= set(config)


def test_lastcall_waits_for_the_next_start_unless_there_is_none() -> None:
    """As an operator would configure it."""
    command = targets.parse("lastcall").command
    assert "--hold" in command(PLACE)
    assert "--hold" not in command(Place(Path("/nowhere"), "127.0.0.1:8000", 4, last=True))


def test_a_target_that_is_not_installed_is_skipped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that does not know a strategy; the others are drilled."""
    monkeypatch.setattr(targets, "found", lambda program: "" if program == "gunicorn" else f"/bin/{program}")
    chosen = [targets.parse(name) for name in ("gunicorn", "lastcall", "uvicorn")]
    plan = agenda(chosen, [Strategy.QUIT], [Way.DIRECT], SETTINGS, [])
    assert [item.name for item in plan.items] == ["lastcall, QUIT, start, direct"]
    assert [(one.target, one.why, one.strategy) for one in plan.skipped] == [
        ("gunicorn", "gunicorn is not installed", ""),
        ("uvicorn", "uvicorn does not know it", "quit"),
    ]


def test_what_nobody_orders_cannot_be_fired_at_a_step() -> None:
    """Asked for by name it is skipped by name; of all strategies it is none."""
    lastcall = [targets.parse("lastcall")]
    plan = agenda(lastcall, [Strategy.RECYCLE], [Way.DIRECT], SETTINGS, list(Step))
    assert (plan.items, [one.why for one in plan.skipped]) == ([], ["nobody orders it, so it has no step"])
    assert len(agenda(lastcall, [], [Way.DIRECT], SETTINGS, list(Step)).skipped) == 0


def test_all_targets_are_drilled_over_the_same_path() -> None:
    """Through nginx where one of them speaks FastCGI; never, when requests are held half-way."""
    http, fastcgi = targets.parse("gunicorn"), targets.parse("php-fpm")
    assert usual_paths([http], []) == [Way.DIRECT]
    assert usual_paths([http, fastcgi], []) == [Way.NGINX_NEW]
    assert usual_paths([http, fastcgi], [Step.SENT]) == [Way.DIRECT]


def test_the_page_has_every_target_with_what_it_knows() -> None:
    """docs/DRILL.md repeats the tables of the code, for people."""
    page = (ROOT / "docs" / "DRILL.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    titles = next(row for row in rows if row[:2] == ["target", "what it is"])
    said = {row[0]: row for row in rows if len(row) == len(titles)}
    for form in FORMS:
        (row,) = (row for names, row in said.items() if f"`{form}`" in names.split(", "))
        known = {titles[column] for column, cell in enumerate(row) if cell == "x"}
        assert known | {"none"} == {str(strategy) for strategy in targets.parse(form).ways}, form
    assert all(f"`{strategy}`" in page for strategy in Strategy)


# --- nginx -----------------------------------------------------------------------------------

LOG = """\
2017/06/25 05:28:01 [error] 7#7: *4 recv() failed (104: Connection reset by peer) while reading response header from \
upstream, client: 127.0.0.1, server: , request: "POST /send?id=HTTP.3-00012 HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000"
2017/06/25 05:28:02 [error] 7#7: *5 connect() failed (111: Connection refused) while connecting to upstream, client: \
127.0.0.1, server: , request: "POST /x?a=1&id=HTTP.4-00001&b=2 HTTP/1.1", upstream: "http://127.0.0.1:9000"
2017/06/25 05:28:02 [notice] 7#7: signal 15 (SIGTERM) received from 1, exiting
2017/06/25 05:28:03 [crit] 7#7: *6 pwrite() failed (28: No space left on device)
"""


def test_nginx_errors_are_tied_to_requests() -> None:
    """By the id in the request line; times are local."""
    found = nginx.parse(LOG)
    assert [request for _, _, request in found] == ["HTTP.3-00012", "HTTP.4-00001", ""]
    assert found[0][0] == time.mktime((2017, 6, 25, 5, 28, 1, 0, 0, -1))
    assert found[0][1].startswith("recv() failed (104")


@pytest.mark.parametrize(("fastcgi", "keep"), [(False, False), (False, True), (True, False), (True, True)])
def test_nginx_keeps_connections_or_not(fastcgi: bool, keep: bool) -> None:
    """In the words of its protocol."""
    said = nginx.config(
        Path("/f"),
        "127.0.0.1:1",
        "127.0.0.1:2",
        fastcgi=fastcgi,
        keep=keep,
        params={"SCRIPT_FILENAME": "/g"},
        root=False,
    )
    assert ("keepalive 4;" in said) == keep
    expected = (
        f"fastcgi_keep_conn {'on' if keep else 'off'};" if fastcgi else f'Connection "{"" if keep else "close"}";'
    )
    assert expected in said
    assert ("fastcgi_param SCRIPT_FILENAME /g;" in said) is True


# --- Reasons ---------------------------------------------------------------------------------


def judgement(*statuses: int, first: int = 0, second: int = 0, outcome: Outcome = Outcome.ANSWERED) -> Judgement:
    seen = [Seen(f"c.0-{n}", "c", outcome, status, float(n), 0.1, kept=False) for n, status in enumerate(statuses)]
    ids = [one.id for one in seen]
    return Judgement(seen, [Mark(0, 1)], Books(ids[:first], ids[:second]))


def test_the_books_come_first_then_what_clients_saw() -> None:
    """With nginx's own words, counted."""
    case = Case("php-fpm", "term", Way.NGINX_NEW, {"process_control_timeout": "0"})
    found = reasons(case, judgement(502, 502, 502, first=2, second=1), nginx.parse(LOG))
    assert [(one.count, one.what) for one in found] == [(1, "half done"), (1, "done, not told"), (3, "502")]
    assert "SIGTERM at its default" in found[0].why
    assert found[2].why.endswith("1 times 104 (reset), 1 times 111 (refused)")


@pytest.mark.parametrize("outcome", [one for one in Outcome if one not in (Outcome.ANSWERED, Outcome.LEFT)])
@pytest.mark.parametrize("strategy", [Strategy.TERM, Strategy.HUP])
def test_every_loss_has_a_reason(outcome: Outcome, strategy: Strategy) -> None:
    """Whatever server it was."""
    (reason,) = reasons(Case("mine", strategy, Way.DIRECT, {}), judgement(0, outcome=outcome), [])
    assert (reason.count, reason.what) == (1, str(outcome))
    assert len(reason.why) > 20


def test_every_harm_has_a_reason() -> None:
    """And so has an order that was done, and its client not told."""
    cases = {
        Amiss.HALF_DONE: judgement(502, first=1),
        Amiss.UNASKED: judgement(502, second=1),
        Amiss.UNTOLD: judgement(502, first=1, second=1),
        Amiss.TOLD_NOT_DONE: judgement(200),
        Amiss.TWICE: Judgement(judgement(200).seen, [], Books(["c.0-0"] * 2, ["c.0-0"])),
    }
    for amiss, case in cases.items():
        assert reasons(Case("mine", "hup", Way.DIRECT, {}), case, [])[0].what == amiss
    assert set(HARM) <= cases.keys()


def test_what_is_said_of_a_server_is_said_of_one_that_we_know() -> None:
    """The tables name targets and strategies that exist."""
    assert all(kind in KINDS and strategy in set(Strategy) for kind, strategy in HALF_DONE)


@pytest.mark.parametrize(
    ("target", "strategy", "path", "said"),
    [
        ("php-fpm", "term", Way.NGINX_NEW, "Do not restart php-fpm with TERM"),
        ("php-fpm", "quit", Way.NGINX_NEW, "Set process_control_timeout"),
        ("php-fpm", "usr2", Way.NGINX_NEW, "Set process_control_timeout"),
        ("php-fpm:10s", "quit", Way.NGINX_NEW, "It does not save the listener"),
        ("php-fpm:10s", "usr2", Way.NGINX_KEPT, "Turn fastcgi_keep_conn off"),
        ("php-fpm", "broken-code", Way.NGINX_NEW, "Test the configuration"),
        ("gunicorn", "quit", Way.DIRECT, "quick stop"),
        ("uvicorn", "term", Way.DIRECT, "Reload instead"),
        ("lastcall", "kill-worker", Way.DIRECT, "`lastcall cuts`"),
        ("lastcall", "term", Way.DIRECT, ""),
    ],
)
def test_a_recommendation_says_what_to_do(target: str, strategy: str, path: Way, said: str) -> None:
    """Which setting, which signal; nothing where nothing was lost."""
    settings = dict(targets.parse(target).settings)
    case = Case(target, strategy, path, settings)
    recommended = recommendation(case, judgement(502))
    assert said in recommended if said else recommended == ""
    assert recommendation(case, judgement(200, first=1, second=1)) == ""


# --- For people ------------------------------------------------------------------------------


def test_the_summary_says_what_was_lost_and_why() -> None:
    """A table, the reasons, the advice, who was skipped, and one sentence."""
    said = text.summary(DRILL)
    assert "php-fpm  TERM, start  nginx, new connections" in said
    assert "LOSES REQUESTS" in said
    assert "1 half done: SIGTERM kills the worker.." not in said
    assert "-> Set process_control_timeout." in said
    assert "skipped: puma: not installed" in said
    assert said.splitlines()[-1] == "1 of 2 lost: below 100 % at 95 %"


def test_a_run_that_failed_and_one_that_was_interrupted_say_so() -> None:
    """And the notes of its operations, each once."""
    restart = results.Restart(0, 1, "kill -HUP 7", False, "the master ended with 3")
    run = msgspec.structs.replace(RUN, failed="it does not start\nlast words", restarts=[restart, restart])
    said = text.summary(msgspec.structs.replace(DRILL, runs=[run], interrupted=True))
    assert "it could not be done: it does not start\n    last words" in said
    assert said.count("note: the master ended with 3") == 1
    assert "Interrupted; so far: 1 of 2 lost" in said


def test_progress_in_a_file_is_a_line_for_each_run() -> None:
    """No line that changes, and none at all when it is quiet."""
    for quiet in (False, True):
        out = io.StringIO()
        with Progress(out, 2, quiet=quiet) as progress:
            progress.begin("php-fpm, TERM", 5)
            progress.struck(1)
            progress.end(RUN)
        line = "[1/2] php-fpm, TERM, start, nginx, new connections: 1 of 2 lost: below 100 % at 95 %\n"
        assert out.getvalue() == ("" if quiet else line)


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is never longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", "40")
    out = Terminal()
    with Progress(out, 1) as progress:
        progress.begin("a target with a long name, and its strategy", 2)
        eventually(lambda: out.getvalue().count("\r") > 1, "it changes")
        progress.end(RUN)
    shown = [line for line in out.getvalue().split("\r\x1b[K") if line and not line.endswith("\n")]
    assert set(shown) == {"[1/1] a target with a long name, and its strategy: 0/2 restarts"[:39]}
    assert out.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("strategy", "steps", "times"),
    [("hup", [], 5), ("none", [], 0), ("stop", [], 1), ("slow-boot", [], 2), ("hup", list(Step), 8)],
)
def test_how_often_the_operator_strikes(strategy: str, steps: list[Step], times: int) -> None:
    """What is no race is done twice; what is for good, once; of steps each."""
    assert strikes(strategy, 5, steps) == times


def test_our_own_python_is_always_installed() -> None:
    """Lastcall is drilled by the Python that it runs on."""
    assert targets.parse("lastcall").program == (sys.executable,)
    assert targets.parse("lastcall").missing() == ""
