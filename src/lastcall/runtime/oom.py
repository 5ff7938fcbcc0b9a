"""How often the kernel has killed in our control group for want of memory: what tells an OOM kill from a SIGKILL by hand."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

from lastcall.core import exits

_ROOT: Final = Path("/sys/fs/cgroup")
_COUNT: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OomKills:
    """Counts since the last look. Where there is no memory controller, there are none."""

    def __init__(self, root: Path = _ROOT, groups: Path = Path("/proc/self/cgroup")) -> None:
        self._file = _find(root, groups)
        self._seen = self._count()

    def was_it(self, status: int) -> bool:
        """Whether a process with this wait status has been one of them."""
        if status != exits.UNKNOWN and status & 0x7F != signal.SIGKILL:
            return False
        count = self._count()
        if count <= self._seen:
            return False
        self._seen += 1
        return True

    def _count(self) -> int:
        if self._file is None:
            return 0
        try:
            found = _COUNT.search(self._file.read_text())
        except OSError:
            return 0
        return int(found[1]) if found else 0


def _find(root: Path, groups: Path) -> Path | None:
    """`memory.events` of cgroup v2, `memory.oom_control` of v1 (cgroups(7), Documentation/admin-guide/cgroup-v2.rst)."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        relative = path.lstrip("/")
        places = []
        if controllers == "":
            places = [root / relative / "memory.events", root / "unified" / relative / "memory.events"]
        elif "memory" in controllers.split(","):
            places = [root / "memory" / relative / "memory.oom_control"]
        for place in places:
            if place.exists():
                return place
    return None
