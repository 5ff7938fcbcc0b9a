"""Locks that tell whether a process is alive."""

from __future__ import annotations

import os
from pathlib import Path

from lastcall.runtime import locks


def test_a_lock_is_held_until_its_last_descriptor_is_closed(tmp_path: Path) -> None:
    """It belongs to the open file: a copy in a worker holds it as well as the master's own."""
    path = tmp_path / "lock"
    path.write_text("7\n")
    first, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert (locks.take(first), locks.take(first), locks.take(other)) == (True, True, False)
    assert (locks.is_held(other), locks.is_held(first)) == (True, False)
    copy = os.dup(first)
    os.close(first)
    assert locks.holder(path) == 7
    os.close(copy)
    assert (locks.holder(path), locks.take(other)) == (None, True)
    os.close(other)


def test_closing_another_descriptor_of_the_file_leaves_the_lock(tmp_path: Path) -> None:
    """As POSIX locks do not: whoever reads the file in our own process would unlock it."""
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    assert locks.take(fd)
    (tmp_path / "lock").read_bytes()
    other = os.open(tmp_path / "lock", os.O_RDWR)
    assert locks.is_held(other)
    os.close(other)
    os.close(fd)


def test_looking_never_takes(tmp_path: Path) -> None:
    """`lastcall status` must not stand in the way of `lastcall serve`: a reader's descriptor is enough to ask."""
    (tmp_path / "lock").write_text("7\n")
    looking = os.open(tmp_path / "lock", os.O_RDONLY)
    assert not locks.is_held(looking)
    fd = os.open(tmp_path / "lock", os.O_RDWR)
    assert locks.take(fd)
    os.close(looking)
    os.close(fd)


def test_a_pid_is_digits(tmp_path: Path) -> None:
    """Anything else is nobody."""
    path = tmp_path / "pid"
    for text, pid in (("12\n", 12), ("12", 12), ("", 0), ("x1", 0), ("-1", 0)):
        path.write_text(text)
        fd = os.open(path, os.O_RDONLY)
        assert locks.read_pid(fd) == pid
        os.close(fd)


def test_a_path_may_lead_elsewhere_by_now(tmp_path: Path) -> None:
    """To another file, or nowhere."""
    path = tmp_path / "a"
    path.write_text("")
    fd = os.open(path, os.O_RDONLY)
    assert locks.same_file(fd, path)
    (tmp_path / "b").write_text("")
    (tmp_path / "b").rename(path)
    assert not locks.same_file(fd, path)
    path.unlink()
    assert not locks.same_file(fd, path)
    os.close(fd)
