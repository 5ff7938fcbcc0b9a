"""What is said to the service manager (sd_notify(3)): the messages, and what its variables mean.

Only the text; `runtime/service.py` sends it.
"""

from __future__ import annotations

from typing import Final

LISTEN_FDS_START: Final = 3
"""The first descriptor that is handed over (sd_listen_fds(3))."""
STATUS_MAX: Final = 512
"""Characters of a status: one line of `systemctl status`."""


def ready(status: str = "") -> bytes:
    """The start, or the reload, has ended well."""
    return _message("READY=1", *_status(status))


def reloading(monotonic_usec: int, status: str = "") -> bytes:
    """A reload has begun; `ready` ends it. Type=notify-reload wants the time: microseconds of CLOCK_MONOTONIC."""
    return _message("RELOADING=1", f"MONOTONIC_USEC={monotonic_usec}", *_status(status))


def stopping(status: str = "") -> bytes:
    return _message("STOPPING=1", *_status(status))


def status(text: str) -> bytes:
    return _message(*_status(text))


def watchdog() -> bytes:
    """We are alive."""
    return _message("WATCHDOG=1")


def main_pid(pid: int) -> bytes:
    """The service's process is another one than the manager started."""
    return _message(f"MAINPID={pid}")


def store(name: str) -> bytes:
    """Keep the descriptor that comes with this, under this name, whatever happens to us.

    FDPOLL=0: an inbox whose ends nobody has open looks closed, and is not.
    """
    return _message("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0")


def unstore(name: str) -> bytes:
    """Close what is kept under this name."""
    return _message("FDSTOREREMOVE=1", f"FDNAME={name}")


def store_size(fdstore: str) -> int:
    """How many descriptors are kept for us at most, from FDSTORE. systemd says so since 254; 0 before, and for none."""
    return int(fdstore) if _is_number(fdstore) else 0


def listen_fds(listen_pid: str, count: str, names: str, own_pid: int) -> list[str]:
    """The names of the descriptors that are handed to us, the first being LISTEN_FDS_START; none for another process.

    From LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; `unknown` where there is no name, as sd_listen_fds_with_names(3) says.
    """
    if listen_pid != str(own_pid) or not _is_number(count):
        return []
    given = names.split(":") if names else []
    return [given[at] if at < len(given) and given[at] else "unknown" for at in range(int(count))]


def address(text: str) -> str | None:
    """NOTIFY_SOCKET as connect(2) wants it; None for nothing, and for what is neither a path nor an abstract name."""
    if text.startswith("/") and len(text) > 1:
        return text
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return None


def watchdog_interval(usec: str, watched_pid: str, own_pid: int) -> float | None:
    """Seconds within which `watchdog` must be said again; None where nobody watches us.

    From WATCHDOG_USEC and WATCHDOG_PID; the latter, where it is set, says whom the watching is for.
    """
    if watched_pid and watched_pid != str(own_pid):
        return None
    if not _is_number(usec) or int(usec) == 0:
        return None
    return int(usec) / 1e6


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _status(text: str) -> tuple[str, ...]:
    # A line break would begin another assignment.
    return (f"STATUS={' '.join(text.split())[:STATUS_MAX]}",) if text else ()


def _message(*assignments: str) -> bytes:
    return "\n".join(assignments).encode("utf-8", "backslashreplace")
