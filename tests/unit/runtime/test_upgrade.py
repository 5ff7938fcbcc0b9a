"""What crosses an exec of the master, as plain values; and how it was started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest

from lastcall.core import lifecycle as lc
from lastcall.core.settings import Settings
from lastcall.protocol import handover
from lastcall.runtime import upgrade
from unit.protocol.test_handover import LEFT

SETTINGS = Settings(app="gift.app:app", http=("127.0.0.1:8000", "unix:/run/x"), umask=0o22, drain_timeout=7.5)


def test_settings_cross_unchanged() -> None:
    """Tuples, missing values, numbers."""
    release = handover.Release(1, upgrade.plain(SETTINGS), 4, [])
    left = msgspec.structs.replace(LEFT, reign=msgspec.structs.replace(LEFT.reign, releases=[release]))
    (crossed,) = handover.decode(handover.encode(left)).reign.releases
    assert upgrade.settings_of(crossed) == SETTINGS


def test_a_setting_that_one_side_does_not_know_is_no_trouble() -> None:
    """The unknown is dropped, the missing has its default."""
    release = handover.Release(1, {"colour": "red", "workers": 7}, 7, [])
    assert upgrade.settings_of(release) == Settings(workers=7)


def test_the_machine_goes_on_where_it_was() -> None:
    """Workers with stage, deadline and pid; the size that the pool was scaled to."""
    master = upgrade.machine(msgspec.structs.replace(LEFT.reign, current=1, fallback=1))
    (worker,) = master.workers
    assert (worker.serial, worker.stage, worker.pid, worker.since) == (1, lc.Stage.READY, 4711, 2.0)
    assert master.current.policy.workers == 4
    assert master.announced


@pytest.mark.parametrize("change", [{"current": 9}, {"fallback": 9}, {"overtaken": [9]}])
def test_a_generation_that_is_not_described_is_refused(change: dict[str, object]) -> None:
    """Before anything has changed: by the probe."""
    reign = msgspec.structs.replace(LEFT.reign, **{"current": 1, **change})
    with pytest.raises(handover.Unreadable, match="9"):
        upgrade.machine(reign)


def test_a_script_is_run_again_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the path it was given, whatever that leads to then."""
    script = tmp_path / "lastcall"
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "serve"])
    monkeypatch.setattr(sys, "orig_argv", ["/opt/one/bin/python3", str(script), "serve"])
    assert upgrade.program().path == str(script)
    assert upgrade.program().argv == (str(script), "serve")


def test_a_module_is_run_again_by_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -X dev -m lastcall`, options included."""
    monkeypatch.setattr(sys, "argv", ["/opt/lib/lastcall/__main__.py", "serve"])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-X", "dev", "-m", "lastcall", "serve"])
    program = upgrade.program()
    assert program.path == sys.executable
    assert program.argv == ("python3", "-X", "dev", "-m", "lastcall", "serve")


def test_the_directory_is_the_one_that_the_shell_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`current`, not the release that it leads to today; and not a PWD that is a lie."""
    release, link = tmp_path / "release", tmp_path / "current"
    release.mkdir()
    link.symlink_to(release)
    monkeypatch.chdir(release)
    monkeypatch.setenv("PWD", str(link))
    assert upgrade.program().directory == str(link)
    monkeypatch.setenv("PWD", str(tmp_path))
    assert upgrade.program().directory == str(release)


def test_an_ordinary_start_has_inherited_nothing() -> None:
    """No variable, or one that somebody else has set."""
    assert upgrade.inherited({}) is None
    assert upgrade.inherited({handover.VARIABLE: "what"}) is None


def test_what_was_left_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    """And a descriptor that is none is told in words."""
    environ = {handover.VARIABLE: f"{handover.PROBE}:{os.sysconf('SC_OPEN_MAX') - 1}"}
    with pytest.raises(handover.Unreadable, match="Bad file descriptor"):
        upgrade.inherited(environ)
    assert environ == {}
