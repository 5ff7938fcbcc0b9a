"""Runs the application's `on_cut` for each cut, at least once: in a process of its own, again until it has returned.

The cut list is the queue: a record that was written for `on_cut` waits until its id stands in the list of those that are
completed. Both are on the disk (fsync) before anything follows from them, so a master that is killed, between a cut and
its completion or between the completion and its note, leaves to the next one exactly what may not have been done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from lastcall.core import exits, notes
from lastcall.core.completion import ALARM_AFTER, Queue
from lastcall.core.cuts import Cut
from lastcall.core.quantities import format_duration
from lastcall.core.settings import Settings
from lastcall.runtime.cutlist import CutList
from lastcall.runtime.errand import Errand, run_errand
from lastcall.runtime.logs import OutputReader
from lastcall.runtime.port import Port

TICK: Final = 1.0
"""Seconds between two signs of life at the end of a stop."""
REREAD: Final = 30.0
"""Seconds until a list that could not be read, or a note that could not be written, is tried again."""


@dataclass(slots=True)
class _Run:
    """A process that is at it."""

    cut: Cut
    tries: int
    began: float
    deadline: float
    outputs: tuple[OutputReader, ...]
    late: bool = False
    """It was killed for having taken too long."""


class Completer:
    """Of one pool. `relay` takes what a function has said; while `paused`, none is begun."""

    def __init__(
        self, port: Port, cut_list: CutList, settings: Callable[[], Settings], note: Callable[[notes.Note], None],
        relay: Callable[[list[notes.Said]], None], blocked: Iterable[int], paused: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._port = port
        self._cut_list = cut_list
        self._settings = settings
        self._note = note
        self._relay = relay
        self._blocked = tuple(blocked)
        self._queue = Queue()
        self._cuts: dict[str, Cut] = {}
        self._runs: dict[int, _Run] = {}  # by pid
        self._readers: dict[int, OutputReader] = {}
        self._paused = paused
        self._reread_at: float | None = port.now()  # what another master has left

    @property
    def waiting(self) -> int:
        """Cuts that are not completed, as far as they are known."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """A function runs."""
        return bool(self._runs)

    def offer(self, cuts: Iterable[Cut]) -> None:
        """These have been written down."""
        mine = {cut.id: cut for cut in cuts if cut.on_cut}
        for taken in self._queue.add(mine, self._port.now()):
            self._cuts[taken] = mine[taken]

    def next_deadline(self) -> float | None:
        times = [run.deadline for run in self._runs.values() if not run.late]
        due = self._queue.next_due()
        if self._settings().on_cut and not self._paused():
            times += [at for at in (due, self._reread_at) if at is not None]
        return min(times, default=None)

    def look(self, now: float) -> None:
        """Begin what is due, and end what has taken too long."""
        for pid, run in self._runs.items():
            if run.deadline <= now and not run.late:
                run.late = True
                self._port.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    self._port.kill(-pid, signal.SIGKILL)  # and what it has started
        if self._settings().on_cut and not self._paused():
            self._begin_due(now)

    def _begin_due(self, now: float) -> None:
        if self._queue.wants_more or (self._reread_at is not None and self._reread_at <= now):
            self._reread(now)
        for cut, tries in self._queue.begin(now):
            self._begin(self._cuts[cut], tries, now)

    def _reread(self, now: float) -> None:
        """Take what the list has, and nobody has completed."""
        self._queue.overflowed = False
        self._reread_at = None
        try:
            self.offer(self._cut_list.uncompleted())
        except OSError as error:
            self._note(notes.Trouble(f"the cut list could not be read: {error.strerror}"))
            self._reread_at = now + REREAD

    def _begin(self, cut: Cut, tries: int, now: float) -> None:
        settings = self._settings()
        fds: list[int] = []
        try:
            for _ in range(2):
                fds += os.pipe2(os.O_CLOEXEC)
            pid = self._port.fork()
        except OSError as error:
            for fd in fds:
                os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
                raise
            self._failed(cut, tries, f"it could not be started: {error.strerror}", now)
            return
        if pid == 0:
            run_errand(Errand(settings, cut, (fds[1], fds[3]), self._blocked))
        os.close(fds[1])
        os.close(fds[3])
        readers = tuple(
            OutputReader(fd, settings.pool, pid, stream) for fd, stream in ((fds[0], "stdout"), (fds[2], "stderr"))
        )
        for reader in readers:
            self._readers[reader.fileno()] = reader
            self._port.watch(reader.fileno())
        self._runs[pid] = _Run(cut, tries, now, now + settings.on_cut_timeout, readers)

    # --- What becomes of it ----------------------------------------------------------------------

    def owns(self, fd: int) -> bool:
        return fd in self._readers

    def hear(self, fd: int) -> None:
        """Take in what a function says."""
        reader = self._readers[fd]
        self._relay(reader.read())
        if reader.closed:
            self._forget(reader)

    def _forget(self, reader: OutputReader) -> None:
        self._port.unwatch(reader.fileno())
        del self._readers[reader.fileno()]
        self._relay(reader.close())

    def ended(self, pid: int, status: int, now: float) -> bool:
        """A process was reaped; whether it was one of these."""
        run = self._runs.pop(pid, None)
        if run is None:
            return False
        for reader in run.outputs:
            if reader.fileno() in self._readers:
                self._forget(reader)
        if status == 0:
            self._completed(run, now)
        elif run.late:
            limit = format_duration(self._settings().on_cut_timeout)
            self._failed(run.cut, run.tries, f"it had run for longer than on_cut_timeout ({limit})", now)
        else:
            self._failed(run.cut, run.tries, f"it exited {exits.words(status)}", now)
        return True

    def _completed(self, run: _Run, now: float) -> None:
        cut = run.cut
        why = self._cut_list.complete(cut.id, run.tries)
        if why:  # it has to be taken for not done, as the next master would
            self._failed(cut, run.tries, f"it has returned, but that could not be written down: {why}", now)
            return
        self._queue.succeeded(cut.id)
        del self._cuts[cut.id]
        self._note(notes.Completed(cut.pool, f"{cut.method} {cut.uri}", cut.request_id, run.tries, now - run.began))

    def _failed(self, cut: Cut, tries: int, why: str, now: float) -> None:
        pause = self._queue.failed(cut.id, now)
        told = (cut.pool, f"{cut.method} {cut.uri}", cut.request_id, tries, why, pause)
        self._note(notes.NotCompletedYet(*told) if tries < ALARM_AFTER else notes.NotCompleted(*told))

    # --- The end -----------------------------------------------------------------------------

    def finish(self, tick: Callable[[], object], *, hurry: bool) -> None:
        """At the very end: give everybody one try more, within one timeout. The rest is the next start's.

        In a hurry nobody is waited for: who is at it is killed with the master, and it is done again.
        """
        settings = self._settings()
        until = self._port.now() + settings.on_cut_timeout
        while not hurry and settings.on_cut and self._port.now() < until:
            self.look(self._port.now())
            self._begin_due(self._port.now())
            if not self._runs:
                break
            tick()
            self._wait(until)
        if self._queue and settings.on_cut:
            self._note(notes.LeftUncompleted(settings.pool, len(self._queue)))

    def _wait(self, until: float) -> None:
        """Until one has ended, or has said something, or something is due."""
        due = min(until, self.next_deadline() or until, self._port.now() + TICK)
        poll = select.poll()
        with contextlib.ExitStack() as stack:
            for pid in self._runs:
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                poll.register(fd, select.POLLIN)
            for fd in self._readers:
                poll.register(fd, select.POLLIN)
            found = poll.poll(max(0.0, due - self._port.now()) * 1000 + 1)
        for fd, _ in found:
            if fd in self._readers:
                self.hear(fd)
        for pid, status in self._port.reap():
            self.ended(pid, status, self._port.now())

    def let_go(self) -> None:
        """In a new process: close what is the master's."""
        for reader in self._readers.values():
            reader.leave()
