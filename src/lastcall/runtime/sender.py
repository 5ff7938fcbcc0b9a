"""Who sent a signal: a process and its ancestors, read from /proc at once, before they are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ANCESTORS_MAX: Final = 10
COMMAND_MAX: Final = 200
"""Characters of a command line."""


def describe(pid: int, uid: int | None = None, proc: Path = Path("/proc")) -> str:
    """`pid 4711 uid 0 (killproc -p ...) < pid 4700 (/etc/init.d/php-fpm restart) < pid 812 (cron)`.

    pid 0 is the kernel (Ctrl-C, an alarm), or a process outside our pid namespace. A process that has ended is `gone`.
    """
    if pid == 0:
        return "the kernel, or outside this container (pid 0)"
    user = f" uid {uid}" if uid is not None else ""
    words = [f"pid {pid}{user} ({_command(pid, proc)})"]
    above = _above(pid, proc)
    while above > 1 and len(words) <= ANCESTORS_MAX:
        words.append(f"pid {above} ({_command(above, proc)})")
        above = _above(above, proc)
    return " < ".join(words)


def _command(pid: int, proc: Path) -> str:
    folder = proc / str(pid)
    try:
        line = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
        text = line or (folder / "comm").read_bytes().strip()  # a kernel thread, or a process that is ending
    except OSError:
        return "gone"
    plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text.decode("utf-8", "backslashreplace"))
    return plain if len(plain) <= COMMAND_MAX else plain[: COMMAND_MAX - 3] + "..."


def _above(pid: int, proc: Path) -> int:
    """The process that started it; 0 when that cannot be told."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return 0
    # The name may hold blanks and parentheses: what counts stands behind the last one (proc_pid_stat(5)).
    fields = stat.rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0
