"""Every system call of the master's loop, as a Protocol: what a simulation or a fault injector replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal that arrived, and its sender as the kernel knew it (pid 0: the kernel itself, or another namespace)."""

    number: int
    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Woken:
    """What ended a wait. Signals in the order in which the kernel gives them (lowest number first)."""

    signals: tuple[Signalled, ...]
    readable: tuple[int, ...]


class Port(Protocol):
    """The operating system, as far as the master's loop needs it. Any call may raise OSError where it says so."""

    def now(self) -> float:
        """Monotonic seconds."""

    def fork(self) -> int:
        """As fork(2): 0 in the new process, which has all signals of the master's set blocked. Raises OSError."""

    def start(self, path: str, argv: Sequence[str], environ: Mapping[str, str], files: Mapping[int, int]) -> int:
        """Run another program in a new process, with no signal blocked; `files` are its descriptors: its number, ours.

        Raises OSError.
        """

    def kill(self, pid: int, number: int) -> None:
        """Signal a process that has not been reaped: ESRCH cannot happen."""

    def kill_by(self, pidfd: int, number: int) -> None:
        """Signal the process of a pidfd, which is not our child; one that has ended is left alone."""

    def reap(self) -> list[tuple[int, int]]:
        """(pid, wait status) of every process that has ended, without waiting."""

    def wait(self, timeout: float | None) -> Woken:
        """Sleep until a signal arrives, a watched descriptor is readable, or the time is over."""

    def watch(self, fd: int) -> None:
        """Have `wait` report when `fd` is readable or closed by its peer."""

    def unwatch(self, fd: int) -> None: ...
