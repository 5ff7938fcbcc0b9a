"""Telling an OOM kill from a SIGKILL by hand, by the control group's own count."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lastcall.runtime.oom import OomKills

CASES = [
    ("0::/app.slice/gift\n", "app.slice/gift/memory.events", "low 0\noom 3\noom_kill {}\noom_group_kill 0\n"),
    ("4:memory:/gift\n0::/\n", "memory/gift/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"),
]


@pytest.mark.parametrize(("groups", "file", "text"), CASES, ids=["v2", "v1"])
def test_each_kill_is_blamed_on_one_death(tmp_path: Path, groups: str, file: str, text: str) -> None:
    """And other deaths on none."""
    (tmp_path / "cgroup").write_text(groups)
    events = tmp_path / file
    events.parent.mkdir(parents=True)
    events.write_text(text.format(2))
    kills = OomKills(tmp_path, tmp_path / "cgroup")
    assert not kills.was_it(signal.SIGKILL)
    events.write_text(text.format(3))
    assert not kills.was_it(signal.SIGSEGV)
    assert kills.was_it(signal.SIGKILL)
    assert not kills.was_it(signal.SIGKILL)
    events.write_text(text.format(5))
    assert [kills.was_it(signal.SIGKILL) for _ in range(3)] == [True, True, False]


def test_without_a_memory_controller_there_are_none(tmp_path: Path) -> None:
    """Nor where /proc does not say."""
    (tmp_path / "cgroup").write_text("0::/gone\nnonsense:::\n")
    assert not OomKills(tmp_path, tmp_path / "cgroup").was_it(signal.SIGKILL)
    assert not OomKills(tmp_path, tmp_path / "nothing").was_it(signal.SIGKILL)
