"""The worker with threads: one loop, `threads` requests at a time.

The loop reads requests and sends what clients were slow to take; a thread calls the application. When all threads are busy
the worker takes no new connection, and a request on a kept one goes to the inbox: another worker may be idle.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from queue import SimpleQueue
from typing import BinaryIO

from lastcall.core import slot as layout
from lastcall.gateway import wsgi
from lastcall.protocol.exchange import Request
from lastcall.runtime.worker.attendant import Attendant
from lastcall.runtime.worker.connection import Connection
from lastcall.runtime.worker.worker import Place, Worker

Job = tuple[Connection, Request, BinaryIO | None]


class Threads(Worker):
    """See the module's docstring."""

    multithread = True
    choosy = True

    def __init__(self, place: Place, app: wsgi.Application, link: socket.socket) -> None:
        super().__init__(place, app)
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._done: deque[Connection] = deque()
        self._busy = 0
        self._waiting: deque[Job] = deque()
        self._idents: dict[int, int] = {}
        self._attendant = Attendant(self, link)

    def run(self) -> None:
        for lane in range(self.settings.threads):
            threading.Thread(target=self._work, args=(lane,), name=f"lastcall-{lane}", daemon=True).start()
        self._attendant.start()
        super().run()

    def inside(self) -> list[tuple[layout.Lane, int]]:
        lanes = self.place.board.read(self.place.slot.number).lanes
        return [(lane, self._idents.get(lane.number, 0)) for lane in lanes]

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def serve(self, connection: Connection, request: Request, body: BinaryIO | None) -> None:
        self.unwatch(connection)
        if self._busy >= self.settings.threads:
            self._waiting.append((connection, request, body))
            return
        self._busy += 1
        if self._busy >= self.settings.threads:
            self._listen(on=False)
        self._jobs.put((connection, request, body))

    def _work(self, lane: int) -> None:
        self._idents[lane] = threading.get_ident()
        while True:
            connection, request, body = self._jobs.get()
            self.call(connection, request, body, lane)
            self._done.append(connection)
            self.nudge()

    def on_nudge(self, now: float) -> None:
        while self._done:
            connection = self._done.popleft()
            self._busy -= 1
            self.settle(connection, now)
        while self._waiting and self._busy < self.settings.threads:
            self.serve(*self._waiting.popleft())
        super().on_nudge(now)

    def may_accept(self) -> bool:
        return self._busy < self.settings.threads and super().may_accept()

    def may_read(self, connection: Connection) -> bool:
        """A request that arrives while every thread is busy is somebody else's, if there is anybody else."""
        if self._busy < self.settings.threads or self.settings.workers == 1 or self.place.board.stopping:
            return True
        if connection.lingering or (connection.request is not None and not connection.peeks):
            return True
        if connection.peeked and not connection.news():
            return True  # only what has been looked at before
        return not self.give_away(connection)
