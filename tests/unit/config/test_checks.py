"""What settings must satisfy together, and what the system must offer for them."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
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
        (
            {"replay_routes": ("/x/* none", "GET|POST /x/* always")},
            "warning: x.toml:1: replay_routes: '/x/* none' comes before 'GET|POST /x/* always', and hides it",
        ),
        ({"replay_routes": ("/x none",), "custody": "off"}, "replay_routes: has no effect: without custody nothing"),
        (
            {"journal": "/run/gift/journal"},
            "warning: x.toml:1: journal: /run/gift/journal does not outlive the machine",
        ),
        ({"durability": "process"}, "warning: x.toml:1: durability: has no effect: there is no journal"),
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


@pytest.mark.skipif(not ROOT, reason="needs to be root, to be somebody else")
@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"group": "1"}, True),
        ({"group": "65534"}, False),
        ({"user": "65534"}, False),
        ({"user": "65534", "group": "1"}, True),
        ({"user": "root", "group": "65534"}, True),
    ],
)
def test_a_further_group_of_ours_is_not_one_that_we_may_run_as(values: dict[str, str], refused: bool) -> None:
    """Nobody, a member of group 1, too: only root can change groups, and the start would fail."""
    lead = (
        "import json, os, sys; from lastcall.config import checks, sources; "
        "os.setgroups([1, 65534]); os.setgid(65534); os.setuid(65534); "
    )
    ask = "print(*[p.text for p in checks.system(sources.Sources(json.loads(sys.argv[1]), {}).load()) if p.fatal])"
    done = subprocess.run(
        [sys.executable, "-c", lead + ask, json.dumps(values)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ("only root can run workers as someone else" if refused else "")


def test_a_user_without_an_entry_needs_a_group() -> None:
    """Nobody knows which one it would be."""
    unknown = next(str(uid) for uid in range(50_000, 60_000) if not _has_entry(uid))
    told = [problem for problem in lacking(user=unknown) if "only root" not in problem]
    assert told == [f"--user: user {unknown} has no entry in the user database"]
    assert [problem for problem in lacking(user=unknown, group="0") if "only root" not in problem] == []


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def test_reading_asks_the_system_and_tells_everything(tmp_path: Path) -> None:
    """A value that is wrong does not hide a directory that is missing."""
    with pytest.raises(ConfigErrors) as caught:
        Sources({"workers": "x", "pid": f"{tmp_path}/none/pid"}, {}).read()
    assert [problem.key for problem in caught.value.problems if problem.fatal] == ["--workers", "--pid"]
