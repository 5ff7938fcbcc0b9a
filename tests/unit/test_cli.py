"""The command line: what it says, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from lastcall import __version__
from lastcall.cli import COMMANDS, main
from lastcall.config.origins import Loaded
from lastcall.core.settings import SPECS
from lastcall.protocol.control import Command, Do, Reply, Status
from support.master import STATUS, fake_master, line


def lastcall(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run it with this command line, and none of our environment's settings."""
    clean = {spec.variable: None for spec in SPECS.values()} | {"PORT": None, "WEB_CONCURRENCY": None}
    return CliRunner().invoke(
        main, arguments, env={**clean, "LASTCALL_CONFIG": None, **(env or {})}, catch_exceptions=False
    )


# --- All commands ------------------------------------------------------------


def test_the_version_needs_nothing_but_click() -> None:
    """No parser, no server, no settings are imported for it, nor for the list of commands."""
    program = (
        "import sys, lastcall.cli\n"
        "assert lastcall.cli.main(['--help'], standalone_mode=False) in (0, None)\n"
        "heavy = {'msgspec', 'tomllib', 'httptools', 'lastcall.core.settings', 'lastcall.runtime', 'lastcall.tools'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert lastcall("--version").output == f"lastcall, version {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    """And `lastcall --help` has a line for it."""
    help_text = lastcall(command, "--help").output
    assert "Examples:" in help_text
    assert f"  lastcall {command}" in help_text
    assert f"  {command} " in lastcall("--help").output


@pytest.mark.parametrize("command", ["serve", "check"])
def test_every_setting_is_an_option(command: str) -> None:
    """Derived, so that none can be forgotten."""
    help_text = lastcall(command, "--help").output
    for spec in SPECS.values():
        assert spec.option in help_text


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["--bogus"],
        ["serve", "--bogus"],
        ["serve", "a:b", "c:d"],
        ["status", "extra"],
        ["reload", "--timeout", "0"],
        ["scale"],
        ["scale", "3"],
        ["scale", "+0"],
        ["scale", "--bogus"],
        ["scale", "+99999"],
        [],
    ],
)
def test_a_wrong_command_line_exits_with_64(arguments: list[str]) -> None:
    """EX_USAGE, as php-fpm; click's own would be 2."""
    assert lastcall(*arguments).exit_code == 64


# --- serve and check ---------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file."""
    path = tmp_path / "lastcall.toml"
    path.write_text('http = ["127.0.0.1:8123"]\nworkers = 3\n')
    return path


def test_check_says_ok(file: Path) -> None:
    """On stdout, and exits 0."""
    result = lastcall("check", "-c", str(file))
    assert (result.exit_code, result.stdout) == (0, "configuration is ok\n")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_every_mistake_is_told_on_stderr(file: Path, tmp_path: Path, command: str) -> None:
    """With file, line and remedy; 78. `serve` says the same before it starts anything."""
    file.write_text(f'workrs = 3\nworkers = "two"\npid = "{tmp_path}/none/pid"\n')
    result = lastcall(command, "-c", str(file), env={"LASTCALL_THREADS": "0"})
    assert result.exit_code == 78
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if not line.startswith("warning: ")] == [
        f"{file}:1: workrs: there is no such setting (did you mean workers?)",
        f"{file}:2: workers: the text 'two' stands where a number is expected (write workers = 2)",
        "environment: LASTCALL_THREADS: 0 is too small (write 1 to 64)",
        f"{file}:3: pid: {tmp_path}/none does not exist (name a directory that exists)",
    ]


def test_a_wrong_value_of_an_option_is_a_usage_error() -> None:
    """64, where nothing else is wrong."""
    result = lastcall("serve", "--workers", "two")
    assert result.exit_code == 64
    assert "command line: --workers: 'two' is not a whole number (write digits only: 4)\n" in result.stderr


def test_check_shows_each_value_with_its_origin(file: Path) -> None:
    """One line for each setting."""
    result = lastcall("check", "gift.app:app", "-c", str(file), "--show", "--http", "1", "--http", "2", "--daemon")
    rows = {row.split()[0]: row.split(maxsplit=2)[1:] for row in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert list(rows) == list(SPECS)
    assert rows["app"] == ["gift.app:app", "command line (APP)"]
    assert rows["http"] == ["127.0.0.1:1,127.0.0.1:2", "command line (--http)"]
    assert rows["workers"] == ["3", f"{file}:2"]
    assert rows["daemon"] == ["yes", "command line (--daemon)"]
    assert rows["pid"] == ["(none)", "default"]


def test_check_speaks_json(file: Path) -> None:
    """For programs: the same problems, values and origins."""
    good = json.loads(lastcall("check", "-c", str(file), "--json").stdout)
    assert good["ok"]
    assert good["settings"]["workers"] == {"value": 3, "origin": f"{file}:2"}
    file.write_text("workers = 0\n")
    result = lastcall("check", "-c", str(file), "--json")
    bad = json.loads(result.stdout)
    assert (result.exit_code, bad["ok"], bad["settings"]) == (78, False, None)
    problem = next(problem for problem in bad["problems"] if problem["fatal"])
    assert (problem["file"], problem["line"], problem["key"]) == (str(file), 1, "workers")


def test_the_environment_may_name_the_file(file: Path) -> None:
    """The command line wins over it."""
    result = lastcall("check", "--show", env={"LASTCALL_CONFIG": str(file)})
    assert f"{file}:2" in result.stdout
    assert lastcall("check", "-c", "none.toml", env={"LASTCALL_CONFIG": str(file)}).exit_code == 78


def test_serve_hands_on_what_was_loaded_and_how_to_read_it_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And exits with the server's code."""
    seen: list[Loaded] = []

    def serve(loaded: Loaded, again: Callable[[], Loaded]) -> int:
        seen.append(loaded)
        file.write_text("workers = 5\n")
        seen.append(again())
        return 70

    runtime = types.ModuleType("lastcall.runtime.serve")
    runtime.__dict__["serve"] = serve
    monkeypatch.setitem(sys.modules, "lastcall.runtime.serve", runtime)
    assert lastcall("serve", "gift.app:app", "-c", str(file), "--threads", "4").exit_code == 70
    assert [(each.settings.app, each.settings.workers, each.settings.threads) for each in seen] == [
        ("gift.app:app", 3, 4),
        ("gift.app:app", 5, 4),
    ]


# --- Talking to an instance --------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["reload"], Command(Do.RELOAD)),
        (["reload", "--wait"], Command(Do.RELOAD, wait=True)),
        (["restart", "--wait", "--timeout", "5"], Command(Do.RESTART, wait=True)),
        (["stop"], Command(Do.STOP)),
        (["reopen"], Command(Do.REOPEN)),
        (["scale", "+2"], Command(Do.SCALE, delta=2)),
        (["scale", "-1"], Command(Do.SCALE, delta=-1)),
        (["scale", "--", "-12"], Command(Do.SCALE, delta=-12)),
    ],
)
def test_each_command_says_its_word(tmp_path: Path, arguments: list[str], command: Command) -> None:
    """And prints what the master answers."""
    with fake_master(tmp_path, line(Reply(ok=True, text="generation 2 is in service"))) as heard:
        result = lastcall(arguments[0], "--run-dir", str(tmp_path), *arguments[1:])
    assert (result.exit_code, result.output) == (0, "generation 2 is in service\n")
    assert heard == [command]


@pytest.mark.parametrize("command", ["reload", "restart", "reopen", "stop"])
def test_a_refusal_exits_with_1_and_its_reason(tmp_path: Path, command: str) -> None:
    """On stderr, the traceback of code that does not load included."""
    with fake_master(tmp_path, line(Reply(ok=False, text="Traceback ...\nImportError: no gift"))):
        result = lastcall(command, "--run-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "lastcall: Traceback ...\nImportError: no gift\n"


@pytest.mark.parametrize("command", ["status", "reload", "restart", "stop", "reopen"])
def test_no_instance_exits_with_69(tmp_path: Path, command: str) -> None:
    """EX_UNAVAILABLE, in one line."""
    result = lastcall(command, "--run-dir", str(tmp_path))
    assert result.exit_code == 69
    assert result.stderr == f"lastcall: no instance is running in {tmp_path}\n"


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """75: not done within --timeout."""
    with fake_master(tmp_path, silent=True):
        result = lastcall("reload", "--wait", "--timeout", "0.05", "--run-dir", str(tmp_path))
    assert (result.exit_code, result.stderr) == (75, "lastcall: no answer within 0.05 seconds\n")


def test_stop_waits_for_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    monkeypatch.setattr("os.pidfd_open", lambda _: (_ for _ in ()).throw(OSError("forbidden here")))
    with fake_master(tmp_path, line(Reply(ok=True, text="waiting for child 7", final=False))) as heard:
        result = lastcall("stop", "--wait", "--run-dir", str(tmp_path))
    assert (result.exit_code, result.output) == (0, "waiting for child 7\nstopped\n")
    assert heard == [Command(Do.STOP, wait=True)]


def test_status_is_for_people_or_for_programs(tmp_path: Path) -> None:
    """A table, or the master's own words as JSON."""
    with fake_master(tmp_path, line(Reply(ok=True, status=STATUS))):
        table = lastcall("status", "--run-dir", str(tmp_path)).output
        text = lastcall("status", "--json", "--run-dir", str(tmp_path)).output
    assert "POST /3/xx/vgift/send" in table
    assert msgspec.json.decode(text, type=Status) == STATUS
