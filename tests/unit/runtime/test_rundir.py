"""The run directory: where it is, whose it is, who is alive."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lastcall.runtime import rundir
from lastcall.runtime.rundir import Instance, RunDir, RunDirError

ROOT = os.geteuid() == 0
root_only = pytest.mark.skipif(not ROOT, reason="needs to be root, to be somebody else, too")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bases under a directory of the test's own come first."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "base"))
    os.umask(0o022)


def as_nobody(script: str) -> str:
    """What a script prints when another user runs it."""
    # Imported first: nobody may look into root's directories, where the interpreter and we may be.
    lead = "import os; from lastcall.runtime import rundir; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    command = [sys.executable, "-c", lead + script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- Where -------------------------------------------------------------------


def test_bodies_are_kept_with_the_systems_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TMPDIR is obeyed. Never in the working directory, which is tempfile's last resort; the run directory is ours."""
    run_dir = tmp_path / "run"
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert rundir.spool(run_dir) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert rundir.spool(run_dir) == run_dir
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    monkeypatch.chdir("/tmp")
    assert rundir.spool(run_dir) == Path("/tmp")


def test_bodies_are_kept_in_the_run_directory_where_nothing_else_is_writable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A read-only root: tempfile finds nothing."""

    def nothing() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nothing)
    assert rundir.spool(tmp_path) == tmp_path


def test_the_bases_are_for_the_machine_and_never_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of systemd first; then, without any variable, what a container has."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/a:/run/b")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/12")
    monkeypatch.delenv("HOME", raising=False)
    uid = os.geteuid()
    machine = [Path("/run/lastcall")] if uid == 0 else []
    last = [Path(f"/tmp/lastcall-{uid}"), Path(f"/dev/shm/lastcall-{uid}")]
    assert rundir.bases() == [Path("/run/a"), *machine, Path("/run/user/12/lastcall"), *last]
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert [path for path in rundir.bases() if not path.is_relative_to("/run")] == last


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("http 127.0.0.1:8000", "http-127.0.0.1-8000"),
        ("http-127.0.0.1-8000", "http-127.0.0.1-8000"),
        ("fastcgi db-1.example:9000", "fastcgi-db-1.example-9000"),
        ("http [::1]:8000", "http-1-8000-fd0969f8"),
        ("http unix:/run/app.sock", "http-unix-run-app.sock-469ee165"),
    ],
)
def test_a_default_name_is_that_of_the_first_listener(name: str, file: str) -> None:
    """Readable where it can be, and never that of another listener."""
    assert rundir.file_name(name) == file


def test_names_that_look_alike_stay_apart_and_long_ones_become_short() -> None:
    """A UNIX socket's path may be longer than a file's name."""
    alike = [
        "http unix:/a/b",
        "http unix:/a-b",
        "http unix:/a//b",
        "http [::1]:80",
        "http [1::]:80",
        "http é",
        "http è",
    ]
    assert len({rundir.file_name(name) for name in alike}) == len(alike)
    assert len(rundir.file_name("http unix:/" + "x" * 4000)) <= rundir.NAME_MAX


def test_the_first_base_that_can_be_used_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only root file system that is not the first one."""
    assert rundir.choose("http 127.0.0.1:80") == tmp_path / "base" / "http-127.0.0.1-80"
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(rundir, "bases", lambda: [tmp_path / "file", Path("/proc/none"), tmp_path / "last"])
    assert rundir.choose("http 127.0.0.1:80") == tmp_path / "last" / "http-127.0.0.1-80"


def test_no_base_at_all_is_told_with_every_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the remedy."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(rundir, "bases", lambda: [tmp_path / "file", Path("/proc/none")])
    with pytest.raises(RunDirError, match=r"name one with --run-dir \(.*file is not a directory; /proc/none: No such"):
        rundir.choose("x")


# --- Whose -------------------------------------------------------------------


def test_a_run_directory_is_private(tmp_path: Path) -> None:
    """Made on demand, with everything above it."""
    made = RunDir.open(tmp_path / "a" / "b")
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert (made.path / "lock").read_text() == f"{os.getpid()}\n"
    made.close()
    assert not made.path.exists()


@root_only
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """They could put anything in it."""
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1, 1)
    with pytest.raises(RunDirError, match="theirs belongs to daemon, not to root"):
        RunDir.open(tmp_path / "theirs")


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """They could put anything in it."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(RunDirError, match="can be written to by others: chmod go-w"):
        RunDir.open(tmp_path / "open")


def test_a_symbolic_link_in_a_shared_directory_is_refused(tmp_path: Path) -> None:
    """In /tmp anybody may have put it there; in a directory of our own it is our own doing."""
    (tmp_path / "target").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "shared" / "link").symlink_to(tmp_path / "target")
    with pytest.raises(RunDirError, match="symbolic link in a directory that everybody may write to"):
        RunDir.open(tmp_path / "shared" / "link")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    RunDir.open(tmp_path / "link").close()


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    """In words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="file is not a directory"):
        RunDir.open(tmp_path / "file")
    with pytest.raises(RunDirError, match="Not a directory, name another one with --run-dir"):
        RunDir.open(tmp_path / "file" / "below")


@root_only
def test_a_user_without_home_finds_a_place() -> None:
    """As in most containers; and finds its own instance there again."""
    script = """
os.environ.clear()
own = rundir.RunDir.open(rundir.choose("http 127.0.0.1:8000"))
print(own.path, rundir.instances() == [rundir.Instance(own.path, os.getpid())])
own.close()
own.path.parent.rmdir()
"""
    assert as_nobody(script) == "/tmp/lastcall-65534/http-127.0.0.1-8000 True\n"


# --- Who is alive ------------------------------------------------------------


def test_a_second_instance_is_told_who_is_there(tmp_path: Path) -> None:
    """Also within one process: the lock belongs to the open file."""
    first = RunDir.open(tmp_path / "run")
    with pytest.raises(RunDirError, match=f"another lastcall, pid {os.getpid()}, uses {tmp_path}/run"):
        RunDir.open(tmp_path / "run")
    first.close()
    RunDir.open(tmp_path / "run").close()


def test_leftovers_of_a_dead_instance_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    """Killed with SIGKILL it removes nothing; the cut list outlives everybody."""
    path = tmp_path / "run"
    pid = os.fork()
    if pid == 0:
        RunDir.open(path)
        for name in ("control.sock", "board", "cuts.jsonl"):
            (path / name).write_text("old")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert rundir.holder(path) is None
    ours = RunDir.open(path, ["control.sock", "board"])
    assert sorted(each.name for each in path.iterdir()) == ["cuts.jsonl", "lock"]
    (path / "board").write_text("new")
    ours.close()
    assert [each.name for each in path.iterdir()] == ["cuts.jsonl"]


def test_a_directory_that_the_operator_has_named_stays(tmp_path: Path) -> None:
    """It may have been given to us with care; what is ours in it is removed."""
    RunDir.open(tmp_path / "run", keep=True).close()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_worker_that_has_left_does_not_keep_the_directory(tmp_path: Path) -> None:
    """One that has not would keep it after the master is dead."""
    path = tmp_path / "run"
    for leaves in (True, False):
        told, tell = os.pipe()
        hold, release = os.pipe()
        master = os.fork()
        if master == 0:
            os.close(release)
            own = RunDir.open(path)
            if os.fork() == 0:
                if leaves:
                    own.leave()
                os.write(tell, b"%d\n" % os.getpid())
                os.read(hold, 1)
                os._exit(0)
            os.wait()
        os.close(hold)
        os.read(told, 100)
        os.kill(master, 9)
        os.waitpid(master, 0)
        assert rundir.holder(path) == (None if leaves else master)
        os.close(release)
        os.close(tell)
        assert os.read(told, 1) == b""  # the worker has ended
        os.close(told)


def test_living_instances_are_found_and_dead_ones_are_not(tmp_path: Path) -> None:
    """By their locks, wherever among the bases; also one that uses a base itself."""
    base = tmp_path / "base"
    first, second = RunDir.open(base / "a"), RunDir.open(base / "b")
    (base / "c").mkdir()
    (base / "c" / "lock").write_text("1\n")
    (base / "file").write_text("")
    mine = [each for each in rundir.instances() if each.path.is_relative_to(base)]
    assert mine == [Instance(base / "a", os.getpid()), Instance(base / "b", os.getpid())]
    first.close()
    second.close()
    itself = RunDir.open(base)
    assert Instance(base, os.getpid()) in rundir.instances()
    itself.close()


def test_a_lock_file_that_is_removed_under_us_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    """What is locked is what the next one will find."""
    path = tmp_path / "run"
    first = RunDir.open(path)
    (path / "lock").unlink()
    second = RunDir.open(path)
    first.close()  # not its lock file any more
    assert rundir.holder(path) == os.getpid()
    second.close()


def test_a_directory_that_the_operator_has_named_is_kept(tmp_path: Path) -> None:
    """It may have been made with care; what is ours in it goes."""
    own = RunDir.open(tmp_path / "named", ["board"], keep=True)
    (own.path / "board").write_text("")
    own.close()
    assert list((tmp_path / "named").iterdir()) == []


def test_a_very_long_path_will_do(tmp_path: Path) -> None:
    """Up to what the kernel takes."""
    path = tmp_path
    while len(str(path)) < 3500:
        path /= "x" * 200
    own = RunDir.open(path)
    assert rundir.holder(path) == os.getpid()
    own.close()
    with pytest.raises(RunDirError, match="File name too long"):
        RunDir.open(tmp_path / ("x" * 300))
