"""Re-executing the master: which program, whether it could take over, and what crosses the exec.

An exec cannot be taken back, so the program is first run as a *probe*: it imports what it needs, reads the configuration
and the document that it would be left, says yes or why not, and exits. Only then does the master become it, under the same
pid: its workers stay its children, its locks stay held, and signals that arrive in between stay pending.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lastcall.core import exits
from lastcall.core import lifecycle as lc
from lastcall.core.settings import SPECS, Settings, Value, build
from lastcall.protocol import handover
from lastcall.protocol.handover import Handover, Reign, Unreadable
from lastcall.runtime.board import LAYOUT
from lastcall.runtime.port import Port

OUTPUT_MAX: Final = 16384
"""Bytes of a probe's output that are kept: the end of a traceback says what is wrong."""
_DOCUMENT_FD: Final = 3
"""Where a probe finds the document."""
_PIECE: Final = 65536


# --- The program -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """How this process was started, so that it can be started again: paths as they were given, links not resolved."""

    path: str
    argv: tuple[str, ...]
    directory: str

    @contextlib.contextmanager
    def at_home(self) -> Iterator[None]:
        """Be in the directory of the first start, which relative paths and `-m` mean. Raises OSError."""
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        try:
            os.chdir(self.directory)
            yield
        finally:
            os.fchdir(here)
            os.close(here)


def program() -> Program:
    """To be asked before the working directory is changed.

    A script with a #! line is run again as itself: the line may name another Python by then. Anything else (`python -m
    lastcall`) is run by the interpreter under the name it was started by; behind a link, that may be another one as well.
    """
    directory = _directory()
    script = sys.argv[0]
    if sys.orig_argv[1:2] == [script] and _is_script(Path(directory, script)):
        return Program(str(Path(directory, script)), (script, *sys.argv[1:]), directory)
    return Program(sys.executable, tuple(sys.orig_argv), directory)


def _directory() -> str:
    """The working directory, by the name that the shell has for it: a deploy may move a link in that name."""
    named = os.environ.get("PWD", "")
    try:
        if named.startswith("/") and Path(named).samefile("."):
            return named
    except OSError:
        pass
    return str(Path.cwd())


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!" and os.access(path, os.X_OK)
    except OSError:
        return False


# --- The probe, and the exec -------------------------------------------------


@dataclass(slots=True)
class Upgrade:
    """A re-execution that somebody has asked for: nothing, then a probe, then `ready`. Asking again meanwhile joins it."""

    program: Program
    port: Port
    tickets: list[int] = field(default_factory=list)
    """Of those who wait for its outcome."""
    pid: int = 0
    """The probe's; 0: none runs."""
    fd: int = -1
    """What the probe says."""
    timeout: float = 0.0
    deadline: float | None = None
    ready: bool = False
    """The program can take over."""
    said: bytes = b""

    @property
    def under_way(self) -> bool:
        return self.ready or self.pid != 0

    def begin(self, document: bytes, now: float, timeout: float) -> None:
        """Start a probe, which must have answered within `timeout` (0: it has as long as it likes). Raises OSError."""
        left = _write_down(document)
        try:
            read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.close(left)
            raise
        try:
            os.set_blocking(write, True)
            environ = {**os.environ, handover.VARIABLE: f"{handover.PROBE}:{_DOCUMENT_FD}"}
            with self.program.at_home():
                self.pid = self.port.start(
                    self.program.path, self.program.argv, environ, {1: write, 2: write, _DOCUMENT_FD: left}
                )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
            os.close(left)
        self.fd, self.said = read, b""
        self.timeout, self.deadline = timeout, now + timeout if timeout else None
        self.port.watch(read)

    def hear(self) -> None:
        """Take in what the probe says, and keep the end of it."""
        while self.fd >= 0:
            try:
                data = os.read(self.fd, _PIECE)
            except BlockingIOError:
                return
            self.said = (self.said + data)[-OUTPUT_MAX:]
            if not data:
                self._deafen()

    def _deafen(self) -> None:
        if self.fd >= 0:
            self.port.unwatch(self.fd)
            os.close(self.fd)
            self.fd = -1

    def expire(self, now: float) -> None:
        """End a probe that has taken too long."""
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
            self.said += b"\nno answer within %g seconds" % self.timeout
            self.port.kill(self.pid, signal.SIGKILL)

    def ended(self, status: int) -> str:
        """The probe has been reaped: "" when the program can take over, else why not."""
        self.hear()
        self._deafen()
        self.pid, self.deadline = 0, None
        self.ready = status == 0
        if self.ready:
            return ""
        return self.said.decode("utf-8", "replace").strip() or f"it exited {exits.words(status)}"

    def cancel(self) -> list[int]:
        """Forget about it; the tickets of those who wait. A probe that runs is ended, and reaped as nobody's."""
        if self.pid:
            self.port.kill(self.pid, signal.SIGKILL)
        self._deafen()
        tickets = list(self.tickets)
        self.tickets.clear()
        self.pid, self.deadline, self.ready = 0, None, False
        return tickets

    def execute(self, left: Handover) -> None:
        """Become the program. Returns only by raising OSError, with nothing changed."""
        document = _write_down(handover.encode(left))
        crossing = [document, *descriptors(left)]
        environ = {**os.environ, **left.estate.notify, handover.VARIABLE: f"{handover.TAKE_OVER}:{document}"}
        for fd in crossing:
            os.set_inheritable(fd, True)
        try:
            with self.program.at_home():
                os.execve(self.program.path, self.program.argv, environ)  # noqa: S606 - as we were started
        finally:
            for fd in crossing:
                os.set_inheritable(fd, False)
            os.close(document)


def _write_down(document: bytes) -> int:
    fd = os.memfd_create("lastcall-handover", os.MFD_CLOEXEC)
    try:
        while document:
            document = document[os.write(fd, document) :]
    except OSError:
        os.close(fd)
        raise
    return fd


def descriptors(left: Handover) -> list[int]:
    """Everything open that the document speaks of."""
    estate = left.estate
    fds = [estate.lock, *estate.inbox, estate.control]
    fds += [estate.pid_lock] if estate.pid_lock >= 0 else []
    fds += [client.fd for client in estate.clients] + [listener.fd for listener in estate.listeners]
    for worker in left.reign.workers:
        fds += [worker.link, *(output.fd for output in worker.outputs)]
        fds += [fd for fd in (worker.custody, worker.pidfd) if fd >= 0]
    return fds


def inherited(environ: MutableMapping[str, str]) -> tuple[str, Handover] | None:
    """What this process was started for (PROBE or TAKE_OVER) and was left; None for an ordinary start.

    The variable is taken out of the environment, and what crossed the exec no longer crosses another. Raises Unreadable.
    """
    purpose, _, number = environ.pop(handover.VARIABLE, "").partition(":")
    if purpose not in (handover.PROBE, handover.TAKE_OVER) or not number.isdigit():
        return None
    try:
        document = os.pread(int(number), handover.BYTES_MAX, 0)
        os.close(int(number))
    except OSError as error:
        raise Unreadable(f"descriptor {number}: {error.strerror}") from error
    left = handover.decode(document)
    machine(left.reign)
    if left.estate.board != LAYOUT:
        raise Unreadable(f"the board of lastcall {left.version} has another layout")
    if purpose == handover.TAKE_OVER:
        for fd in descriptors(left):
            os.set_inheritable(fd, False)
    return purpose, left


# --- The machine and its settings, as plain values ---------------------------


def plain(settings: Settings) -> dict[str, handover.Plain]:
    """Settings as they are written down."""
    values: dict[str, Value] = {name: getattr(settings, name) for name in SPECS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def settings_of(release: handover.Release) -> Settings:
    """Settings as they were written down; what the writer did not have yet has its default."""
    known = {name: value for name, value in release.settings.items() if name in SPECS}
    return build({name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})


def machine(reign: Reign) -> lc.Master:
    """The machine's state, to go on from. Raises Unreadable."""
    releases = {
        release.generation: lc.Release(release.generation, policy(settings_of(release), release.workers))
        for release in reign.releases
    }
    try:
        return lc.Master(
            current=releases[reign.current],
            fallback=None if reign.fallback is None else releases[reign.fallback],
            overtaken=tuple(releases[generation] for generation in reign.overtaken),
            workers=tuple(_worker(worker) for worker in reign.workers),
            serial=reign.serial,
            generation=reign.generation,
            generations=tuple(release.generation for release in reign.releases),
            first=reign.first,
            untried=reign.untried,
            announced=reign.announced,
            failures=tuple(reign.failures),
            calm_since=reign.calm_since,
            forks_failed=reign.forks_failed,
            spawn_after=reign.spawn_after,
            why=reign.why,
            waiting=tuple(reign.waiting),
        )
    except KeyError as error:
        raise Unreadable(f"what was handed over names {error.args[0]!r}, which is not known here") from error


def _worker(worker: handover.Worker) -> lc.Worker:
    return lc.Worker(
        worker.serial, worker.slot, worker.generation, lc.Stage[worker.stage.upper()], worker.born, worker.since,
        worker.pid, worker.deadline, worker.ready_at, worker.spent, worker.overdue, worker.limit,
    )  # fmt: skip


def policy(settings: Settings, workers: int = 0) -> lc.Policy:
    """The part of the settings that the machine needs; `workers` where the pool has been scaled since."""
    return lc.Policy(
        pool=settings.pool,
        workers=workers or settings.workers,
        surge=settings.surge,
        boot_timeout=settings.boot_timeout,
        drain_timeout=settings.drain_timeout,
        critical_timeout=settings.critical_timeout,
        trial=settings.trial,
        lame_duck=settings.lame_duck,
    )
