"""A limit to the memory of a server and all of its processes: a control group of its own where we may make one."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.processes import eventually

ROOT: Final = Path("/sys/fs/cgroup")

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Limit:
    """`prefix` is a command that sets it, and ends in executing what follows it."""

    prefix: tuple[str, ...]
    kernel_kills: bool
    """Whoever takes more is killed by the kernel; else memory(3) says that there is none."""


@contextlib.contextmanager
def limited(mebibytes: int) -> Iterator[Limit]:
    """A group with a limit, or, where there can be none, a limit for the address space of each process."""
    group = _group(mebibytes << 20)
    if group is None:
        yield Limit(("sh", "-c", f'ulimit -v {4 * mebibytes << 10} && exec "$@"', "sh"), kernel_kills=False)
        return
    try:
        yield Limit(("sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"), kernel_kills=True)
    finally:
        eventually(lambda: _gone(group), f"nobody is left in {group}")


def kernel_limits() -> bool:
    """Whether there can be a group, so that the kernel kills."""
    with limited(1) as limit:
        return limit.kernel_kills


def _group(size: int) -> Path | None:
    for parent, file in _places():
        group = parent / f"lastcall-test-{os.getpid()}-{next(_numbers)}"
        try:
            group.mkdir()
            (group / file).write_text(str(size))
        except OSError:
            _gone(group)
        else:
            return group
    return None


def _places() -> Iterator[tuple[Path, str]]:
    """Where a group may be made, and the file of it that has the limit: cgroup v2, or v1."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" and "memory" in _text(ROOT / path.lstrip("/") / "cgroup.subtree_control"):
            yield ROOT / path.lstrip("/"), "memory.max"
        elif "memory" in controllers.split(","):
            yield ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _gone(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
