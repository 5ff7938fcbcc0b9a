"""What a worker does without a master: it serves on, and waits at its door for the next one, but not for ever.

When nobody has come in time it does what a master does in a final stop, as each of the others does at the same time: nobody
new gets in, whoever stands in a queue is served, then it ends. All of this is done in the attendant's thread.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lastcall.core import exits, notes
from lastcall.protocol.adoption import Stage
from lastcall.runtime.bequest import Bequest
from lastcall.runtime.closing import Closing
from lastcall.runtime.logs import OutputReader, relay

if TYPE_CHECKING:
    from lastcall.runtime.worker.worker import Worker

BY_ITSELF: Final = "its worker ended by itself: it had no master, and the request had not finished within drain_timeout"


class Orphan:
    """Nothing, as long as there is a master; `begin` when it has gone. `poll` is what the attendant sleeps in."""

    def __init__(
        self, worker: Worker, bequest: Bequest | None, poll: select.poll, trace: Callable[[Worker], list[notes.Note]]
    ) -> None:
        """Without a bequest there is nothing to wait for. `trace` says where each request is."""
        self._worker = worker
        self._trace = trace
        self._bequest = bequest
        self._poll = poll
        self._outputs: dict[int, OutputReader] = {}
        self._leave_at: float | None = None
        self._cut_at: float | None = None
        self._closing: Closing | None = None

    def begin(self) -> None:
        """The master is gone. A stop that was under way goes on; else wait for the next one."""
        worker, bequest, now = self._worker, self._bequest, time.monotonic()
        board = worker.place.board
        if bequest is None or board.stopping:
            self._end_alone(now)
        elif board.parking:  # its listeners and connections are a holder's, and it has been told to drain
            self._cut_at = self._patience(now)
        else:
            self._poll.register(bequest.door, select.POLLIN)
            for stream, fd in bequest.outputs:
                self._outputs[fd] = OutputReader(fd, worker.settings.pool, worker.pid, stream)
                self._poll.register(fd, select.POLLIN)
            self._leave_at = now + bequest.timeout
        if not board.masterless:
            board.masterless = now
            worker.note(notes.Masterless(worker.settings.pool, 0.0 if bequest is None else bequest.timeout))

    def due(self) -> float | None:
        """When `turn` is to be called, even if nothing happens."""
        times = [self._leave_at, self._cut_at, self._closing.due(time.monotonic()) if self._closing else None]
        return min((time for time in times if time is not None), default=None)

    def hear(self, fd: int) -> bool:
        """Something has happened on a descriptor of ours; whether there is a master now, whose link is to be heard."""
        reader = self._outputs.get(fd)
        if reader is not None:
            self._relay(reader)
            if reader.closed:  # the end would be readable for ever
                self._poll.unregister(fd)
            return False
        assert self._bequest is not None
        try:
            rests = [reader.rest for reader in self._outputs.values()]
            claim = self._bequest.admit(self._stage(), self._worker.spent, rests)
        except OSError:
            return False
        if claim is None:
            return False
        self._cease_to_wait()
        if not claim.wanted:
            self._end_alone(time.monotonic())
            return False
        self._worker.obey(claim.pid)
        return True

    def turn(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._leave_at is not None and self._leave_at <= now:
            self._cease_to_wait()
            self._worker.note(notes.NoMaster(self._worker.settings.pool, self._worker.pid))
            self._end_alone(now)
        if self._closing is not None and self._has_closed(self._closing, now):
            self._closing = None
            self._worker.place.board.closed = True
            if self._bequest is not None:
                self._bequest.close()  # whoever waits for the addresses sees that they are free
            self._worker.nudge()
        if self._cut_at is not None and self._cut_at <= now:
            self._cut(now)

    def _stage(self) -> Stage:
        worker = self._worker
        return Stage.DRAINING if worker.draining else Stage.RESTING if worker.resting else Stage.SERVING

    def _relay(self, reader: OutputReader) -> None:
        """What we print must be read, or whoever prints waits for ever."""
        relay(self._worker.place.error_log, reader.read(), decorate=self._worker.settings.decorate_output)

    def _cease_to_wait(self) -> None:
        assert self._bequest is not None
        self._leave_at = None
        self._poll.unregister(self._bequest.door)
        for fd, reader in self._outputs.items():
            if not reader.closed:
                self._poll.unregister(fd)
        self._outputs.clear()

    # --- The end --------------------------------------------------------------------------

    def _end_alone(self, now: float) -> None:
        """Everybody does it: whoever stands in a queue is taken by one of us, and may be served by any."""
        worker, board = self._worker, self._worker.place.board
        self._cut_at = self._patience(now)
        board.leaving = board.frozen = board.stopping = True  # before the listeners freeze: who accepts has to know
        own = (listener for listener in worker.place.listeners if not listener.lent)
        self._closing = worker.closing = Closing(own, worker.place.inbox, now)
        worker.draining = True
        worker.nudge()

    def _has_closed(self, closing: Closing, now: float) -> bool:
        closing.look(now)
        return closing.over

    def _patience(self, now: float) -> float | None:
        drain = self._worker.settings.drain_timeout
        return now + drain if drain else None

    def _cut(self, now: float) -> None:
        """Nobody else will do it. The slot stays as it is: a later master finds the requests there, and lists them."""
        worker = self._worker
        for note in self._trace(worker):
            worker.note(note)
        for lane, _ in worker.inside():
            worker.note(
                notes.RequestCut(
                    worker.settings.pool,
                    worker.pid,
                    lane.request,
                    lane.request_id,
                    lane.client,
                    now - lane.begun,
                    BY_ITSELF,
                    "nobody to answer",
                )
            )
        os._exit(exits.SOFTWARE)
