"""Wait statuses in words, as php-fpm says them (fpm_children.c:215-281)."""

from __future__ import annotations

SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU",
    23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO",
    30: "SIGPWR", 31: "SIGSYS",
}  # fmt: skip
"""Linux numbers (signal(7), x86 and ARM). A table, because `signal` belongs to the runtime."""

OK = 0
USAGE = 64
"""EX_USAGE: bad option or argument (php-fpm: the same)."""
SOFTWARE = 70
"""EX_SOFTWARE: the application could not be loaded."""
CONFIG = 78
"""EX_CONFIG: a mistake in the configuration, or a start that failed for one."""


UNKNOWN = -1
"""In place of a wait status: the process was not ours to wait for. A worker that was adopted from a master that has died is
its child no more, and nobody else's that could tell."""


KNOWN = frozenset({OK, USAGE, SOFTWARE, CONFIG})
"""What a master ends with that has not died: it has said why."""


def words(status: int) -> str:
    """`with code 3` or `on signal 11 (SIGSEGV - core dumped)`, from a wait status as waitpid(2) gives it."""
    if status == UNKNOWN:
        return "with a status that is not known"
    number = status & 0x7F
    if number == 0:
        return f"with code {status >> 8 & 0xFF}"
    name = SIGNALS.get(number, f"SIG{number}")
    return f"on signal {number} ({name}{' - core dumped' if status & 0x80 else ''})"


def killed(status: int) -> bool:
    """SIGKILL: nobody sends it to himself by mistake."""
    return status != UNKNOWN and status & 0x7F == 9


def code(status: int) -> int | None:
    """The exit code, or None after a signal."""
    return status >> 8 & 0xFF if status != UNKNOWN and status & 0x7F == 0 else None
