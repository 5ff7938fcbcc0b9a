"""What settings must satisfy together, and what the system must offer for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lastcall.config import checks
from lastcall.config.origins import ConfigErrors, Place
from lastcall.config.sources import Sources
from lastcall.core.settings import SPECS, Value, build

ROOT = os.geteuid() == 0


def related(**values: Value) -> list[str]:
    """What is wrong among these settings."""
    places = {name: Place("x.toml", 1, name) for name in SPECS}
    return [str(problem) for problem in checks.relations(build(values), places)]


def lacking(**values: str) -> list[str]:
    """What the system lacks for these settings, without the warning that tests run as root."""
    loaded = Sources(values, {}).load()
    return [f"{problem.key}: {problem.text}" for problem in checks.system(loaded) if problem.fatal]


def test_defaults_have_nothing_against_each_other() -> None:
    """Nobody is warned of what he has not written."""
    assert related() == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"http": ("a:1", "a:1")}, "x.toml:1: http: a:1 is listened on 2 times (name each address once)"),
        ({"http": ("unix:/x",), "fastcgi": ("unix:/x",)}, "x.toml:1: fastcgi: unix:/x is listened on 2 times"),
        ({"threads": 4, "worker": "sync"}, "threads: a sync worker runs one request at a time, not 4"),
        ({"access_format": "combind"}, "did you mean combined?"),
        ({"access_format": "hello"}, "is no format's name and has no fields"),
        ({"access_format": "%Z"}, "Invalid token in the access.format (%Z)"),
        ({"max_head": 4096}, "warning: x.toml:1: max_request_line: a request's first line may be longer"),
        (
            {"request_timeout": 120.0},
            "warning: x.toml:1: drain_timeout: a request may run for 2m, but a stop or a reload cuts it after 1m",
        ),
        ({"max_requests_jitter": 5}, "warning: x.toml:1: max_requests_jitter: has no effect"),
        ({"daemon": True}, "warning: x.toml:1: daemon: a daemon has no stderr"),
    ],
)
def test_what_makes_no_sense_together_is_told_at_its_place(values: dict[str, Value], said: str) -> None:
    """Errors refuse the start, warnings do not."""
    problems = related(**values)
    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.parametrize(
    "values",
    [
        {"http": ("127.0.0.1:0", "127.0.0.1:0")},
        {"threads": 4},
        {"threads": 1, "worker": "threads"},
        {"request_timeout": 120.0, "drain_timeout": 0.0},
        {"daemon": True, "error_log": "/log"},
        {"access_format": "%R %s"},
        {"access_format": "json"},
    ],
)
def test_what_makes_sense_together_is_not_told(values: dict[str, Value]) -> None:
    """Port 0 is another free one each time; a drain that waits for ever cuts nothing."""
    assert related(**values) == []


def test_directories_and_files_must_be_there(tmp_path: Path) -> None:
    """Everything that a start would stumble over, at once."""
    (tmp_path / "file").write_text("")
    base = str(tmp_path)
    assert lacking(
        app_dir=f"{base}/none",
        chdir=f"{base}/file",
        tmp_dir=f"{base}/none",
        run_dir=f"{base}/file/below",
        error_log=base,
        access_log=f"{base}/none/a.log",
        pid=f"{base}/none/x.pid",
        http=f"unix:{base}/file",
        fastcgi=f"unix:{base}/none/f.sock",
    ) == [
        f"--app-dir: {base}/none does not exist",
        f"--chdir: {base}/file is not a directory",
        f"--tmp-dir: {base}/none does not exist",
        f"--run-dir: {base}/file is not a directory",
        f"--error-log: {base} is a directory",
        f"--access-log: {base}/none does not exist",
        f"--pid: {base}/none does not exist",
        f"--http: {base}/file exists and is not a socket",
        f"--fastcgi: {base}/none does not exist",
    ]


def test_what_is_made_at_the_start_need_not_be_there(tmp_path: Path) -> None:
    """Logs, the pid file, sockets, and the run directory with those above it; and nothing is made by checking."""
    base = str(tmp_path)
    assert lacking(run_dir=f"{base}/a/b/c", error_log=f"{base}/e", pid=f"{base}/p", http=f"unix:{base}/h") == []
    assert list(tmp_path.iterdir()) == []


def test_directories_must_be_writable(tmp_path: Path) -> None:
    """By us, as we are: root may write everywhere."""
    tmp_path.chmod(0o500)
    told = lacking(pid=f"{tmp_path}/x")
    assert told == ([] if ROOT else [f"--pid: {tmp_path} may not be written to by us"])


def test_users_and_groups_must_be_known() -> None:
    """A number needs no entry: containers have no /etc/passwd to speak of."""
    problems = lacking(user="nobody-here", group="nobody-here", socket_owner="nobody-here", socket_group="0")
    assert problems[:3] == [
        "--user: there is no user 'nobody-here'",
        "--socket-owner: there is no user 'nobody-here'",
        "--group: there is no group 'nobody-here'",
    ]


def test_only_root_may_run_workers_as_someone_else() -> None:
    """Oneself is no one else."""
    assert lacking(user=str(os.geteuid()), group=str(os.getegid())) == []
    other = lacking(user=str(os.geteuid() + 1))
    assert other == ([] if ROOT else ["--user: only root can run workers as someone else"])


def test_reading_asks_the_system_and_tells_everything(tmp_path: Path) -> None:
    """A value that is wrong does not hide a directory that is missing."""
    with pytest.raises(ConfigErrors) as caught:
        Sources({"workers": "x", "pid": f"{tmp_path}/none/pid"}, {}).read()
    assert [problem.key for problem in caught.value.problems if problem.fatal] == ["--workers", "--pid"]
