"""The drill on a server of the user's own: one that is described, and one that runs already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drilltool.conftest import WITHIN_S, Drilled, environment
from lastcall.tools.drill.results import Strength
from support.lastcall import Servers
from support.processes import ROOT, free_port

SHORT = ("--restarts", "1", "--pause", "200ms", "--connections", "4")

OWN = """\
url = "http://127.0.0.1:{port}/{path}"
start = ["{python}", "-m", "lastcall", "serve", "own:app", "--http", "127.0.0.1:{port}", "--run-dir", ".", "--workers", "2"]
env = {{ PYTHONPATH = "{source}" }}

[request]
body = "{{id}}"

[strategies.reload]
do = "kill -HUP {{pid}}"

[strategies.restart]
do = "kill -TERM {{pid}}"
start = true

[ledgers]
first = "cat first"
second = "cat second"
"""
APP = """\
import pathlib

def app(environ, start_response):
    orders = {"first": environ["HTTP_X_REQUEST_ID"], "second": environ["wsgi.input"].read().decode()}
    for name in environ["PATH_INFO"].strip("/").split("+"):
        with pathlib.Path(__file__).with_name(name).open("a") as ledger:
            ledger.write(orders[name] + "\\n")
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def described(folder: Path, path: str) -> str:
    """The file that describes a server which writes into these ledgers."""
    (folder / "own.py").write_text(APP)
    (folder / "first").touch()
    (folder / "second").touch()
    text = OWN.format(port=free_port(), path=path, python=sys.executable, source=ROOT / "src")
    (folder / "own.toml").write_text(text)
    return "own.toml"


def test_a_server_is_started_and_restarted_as_its_file_says(drilled: Drilled, folder: Path) -> None:
    """Under each strategy and under none; its ledgers are compared. Who comes between a stop and a start is refused."""
    drill, code = drilled("--target", described(folder, "first+second"), *SHORT)
    assert [(run.strategy, run.failed) for run in drill.runs] == [("none", ""), ("reload", ""), ("restart", "")]
    none, reload, restart = drill.runs
    assert (none.verdict.lost, reload.verdict.lost) == (0, 0)
    refused = restart.outcomes.get("refused", 0)
    assert restart.verdict.lost == refused
    assert code == (1 if refused else 0)
    for run in drill.runs:
        assert run.ledgers is not None
        assert (run.ledgers.harm, run.title) == (0, "own (127.0.0.1)")
    assert [restart.what.partition(" ")[0] for restart in reload.restarts] == ["kill"]


def test_ledgers_that_do_not_agree_are_found(drilled: Drilled, folder: Path) -> None:
    """Every order is told yes, and none is in the second one."""
    drill, code = drilled("--target", described(folder, "first"), "--strategy", "reload", *SHORT)
    (run,) = drill.runs
    assert run.ledgers is not None
    assert run.ledgers.told_not_done == run.requests > 0
    assert (code, run.verdict.strength) == (1, Strength.PROVED)


def test_ledgers_with_ids_of_another_kind_are_said_to_be_so(drilled: Drilled, folder: Path) -> None:
    """Else it would look as if all had been lost."""
    description = folder / described(folder, "first+second")
    description.write_text(description.read_text().replace("cat ", "sed s/^/order-/ "))
    drill, _ = drilled("--target", description.name, "--strategy", "reload", *SHORT)
    (run,) = drill.runs
    (reason,) = [each for each in run.reasons if each.what == "told 200, not done"]
    assert "they print 'order-HTTP." in reason.why
    assert "a request is called 'HTTP." in reason.why


def test_a_server_that_runs_is_drilled_and_left_running(drilled: Drilled, serve: Servers) -> None:
    """One command is all that is known of it; at the clients' steps, too."""
    server = serve("support.drill.apps:app", "--app-dir", str(ROOT / "tests"), "--workers", "2")
    attach = ("--attach", "--url", f"http://{server.http_address}/", "--do", f"kill -HUP {server.pid}")
    drill, code = drilled(*attach, *SHORT)
    assert [(run.strategy, run.strategy_title) for run in drill.runs] == [
        ("none", "none"), ("do", f"kill -HUP {server.pid}"),
    ]  # fmt: skip
    assert (code, [run.verdict.lost for run in drill.runs]) == (0, [0, 0])
    assert all(run.ledgers is None for run in drill.runs)
    drill, code = drilled(*attach, "--phase", "all", "--wait", "300ms", *SHORT)
    assert [set(run.records.step.values()) for run in drill.runs] == [{"connected", "half-head", "half-body", "idle"}]
    assert (code, server.process.ended) == (0, None)
    assert server.log().count("reload finished") >= 2


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lastcall", "drill", *arguments],
        capture_output=True, text=True, env=environment(), cwd=folder, timeout=WITHIN_S, check=False,
    )  # fmt: skip


ATTACH = ("--attach", "--do", "true", "--url")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--attach",), "--attach needs --url and --do"),
        (("--url", "http://127.0.0.1/"), "--url goes with --attach"),
        (("--attach", "--against", "lastcall"), "choose one of"),
        ((*ATTACH, "gopher://127.0.0.1/"), "is no URL that can be drilled"),
        ((*ATTACH, "http://127.0.0.1/", "--header", "nonsense"), "'nonsense' is no header"),
        ((*ATTACH, "http://127.0.0.1/", "--wait", "soon"), "'soon' is not a duration"),
        ((*ATTACH, "http://127.0.0.1/", "--path", "nginx"), "put your own nginx before your own server"),
        ((*ATTACH, "http://127.0.0.1/", "--phase", "sent"), "sent is a step of our service"),
        ((*ATTACH, "http://127.0.0.1/", "--strategy", "hup"), "it is not described; there are none, do"),
        ((*ATTACH, "http://192.0.2.1/"), "192.0.2.1 is not this machine"),
        ((*ATTACH, "http://192.0.2.1/", "--allow-host", "192.0.2.2"), "192.0.2.1 is not this machine"),
        ((*ATTACH, "http://192.0.2.1/", "--allow-host", "192.0.2.1", "--rate", "51"), "at most 32 connections and 50"),
        (("--target", "nothing.toml"), "does not exist"),
    ],
)
def test_who_describes_it_wrongly_is_told(folder: Path, arguments: tuple[str, ...], why: str) -> None:
    """Before anything is loaded; another machine only by name, and within bounds."""
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in " ".join(done.stderr.split())


def test_a_description_that_cannot_be_used_is_told_with_its_lines(folder: Path) -> None:
    """All of it at once."""
    (folder / "bad.toml").write_text('url = "http://127.0.0.1:1/"\nstrat = "x"\nstart = "true"\nfolder = "/nowhere"\n')
    done = run(folder, "--target", "bad.toml")
    assert done.returncode == 2
    assert "bad.toml:2: strat: there is no such key (did you mean start?)" in done.stderr
    assert "bad.toml:4: folder: /nowhere is no directory" in done.stderr


def test_a_server_that_does_not_start_is_no_loss(folder: Path) -> None:
    """Nothing is known then: 2, with what it said."""
    (folder / "bad.toml").write_text(
        f'url = "http://127.0.0.1:{free_port()}/"\nstart = ["sh", "-c", "echo no such app; exit 3"]\n'
    )
    done = run(folder, "--target", "bad.toml", "--strategy", "term")
    assert done.returncode == 2
    assert "sh ended with 3: bad serves" in done.stderr
    assert "no such app" in done.stdout


def test_an_operation_that_fails_is_noted(drilled: Drilled, serve: Servers) -> None:
    """With what the command said."""
    server = serve("support.drill.apps:app", "--app-dir", str(ROOT / "tests"))
    drill, _ = drilled("--attach", "--url", f"http://{server.http_address}/", "--do", "echo never; exit 4",
        "--strategy", "do", "--wait", "0", *SHORT)  # fmt: skip
    assert {restart.note for restart in drill.runs[0].restarts} == {"exit code 4: never"}
    assert not any(restart.ok for restart in drill.runs[0].restarts)
    assert server.process.ended is None
