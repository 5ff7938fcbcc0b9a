"""Who sent a signal: the process, its command line and its ancestors, read from /proc before they are gone.

`pid 4711 uid 0 (killproc -p /run/app.pid) < pid 4700 (/bin/sh /etc/init.d/app restart) < pid 812 (cron -f)`
"""

from __future__ import annotations

import shlex
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANCESTORS_MAX: Final = 10
COMMAND_MAX: Final = 200
"""Characters of one command line."""

PROC: Final = Path("/proc")

KERNEL: Final = "the kernel (a key at the terminal, or a sender outside of this pid namespace)"


_CREDENTIALS: Final = struct.Struct("=iII")
"""struct ucred (unix(7)): pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class _Process:
    forebear: int
    command: str


def peer(sock: socket.socket) -> tuple[int, int]:
    """The pid and uid of who connected to a UNIX socket, or listens there; pid 0: in a namespace that we cannot see."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def describe(pid: int, uid: int | None = None, *, proc: Path = PROC) -> str:
    """The sender in words, one line of printable ASCII. Never raises; says `(gone)` of a process that has ended.

    `uid` is the one that came with the signal: it is right even where the process has changed its own since.
    """
    if pid <= 0:
        return KERNEL
    process = _look(pid, proc)
    if uid is None:
        uid = _uid(pid, proc)
    who = f"pid {pid}" if uid is None else f"pid {pid} uid {uid}"
    if process is None:
        return f"{who} (gone)"
    return " < ".join([f"{who} ({process.command})", *_ancestors(process.forebear, proc)])


def _ancestors(pid: int, proc: Path) -> list[str]:
    """From the nearest up to pid 1, which is shown; ends where somebody has ended."""
    out: list[str] = []
    while pid > 0 and len(out) < ANCESTORS_MAX:
        process = _look(pid, proc)
        if process is None:
            break
        out.append(f"pid {pid} ({process.command})")
        pid = process.forebear
    return out


def _look(pid: int, proc: Path) -> _Process | None:
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name may hold anything, parentheses and blanks too; nothing after it does.
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    if len(fields) < 2 or not fields[1].isdigit():
        return None
    return _Process(int(fields[1]), _command(pid, proc) or f"[{_clean(name)}]")


def _command(pid: int, proc: Path) -> str:
    """The command line, quoted as a shell would want it; "" for a zombie and for the kernel's own threads."""
    try:
        with (proc / str(pid) / "cmdline").open("rb") as file:
            data = file.read(4 * COMMAND_MAX)
    except OSError:
        return ""
    arguments = data.rstrip(b"\0").decode("latin-1").split("\0")
    # One that has renamed itself (cron, nginx, postgres) has a single argument: its title, not a word to quote.
    line = arguments[0] if len(arguments) == 1 else " ".join(shlex.quote(argument) for argument in arguments)
    return _clean(line.encode("latin-1"))


def _clean(data: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02X}" for byte in data[: COMMAND_MAX + 1])
    return text if len(text) <= COMMAND_MAX else text[: COMMAND_MAX - 3] + "..."


def _uid(pid: int, proc: Path) -> int | None:
    try:
        status = (proc / str(pid) / "status").read_bytes()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None
