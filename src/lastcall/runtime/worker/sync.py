"""The sync worker: one request at a time, in the loop's own thread.

While the application runs nobody watches the worker's other connections; a request that arrives on one of them must not
wait while another worker is idle. So after RELAY_AFTER the attendant takes the watch: a connection that becomes readable
goes to the pool's inbox, and whoever is idle serves it. Short requests never pay for that, long ones a few microseconds.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import BinaryIO, Final

from lastcall.core import slot as layout
from lastcall.gateway import wsgi
from lastcall.protocol.exchange import Request
from lastcall.runtime.worker.attendant import Attendant
from lastcall.runtime.worker.connection import Connection
from lastcall.runtime.worker.worker import MORE, Place, Worker

RELAY_AFTER: Final = 0.005
"""Seconds inside one request after which the worker's other connections are watched for it: far above what a wake-up
costs (0.02 ms), far below what a person or a proxy notices."""
RELAY_POLL: Final = 0.05
"""Seconds between two looks whether the request is over, while watching."""
QUIET_TICKS: Final = 3
"""Ticks without a new request after which the attendant sleeps until it is woken."""


class Sync(Worker):
    """See the module's docstring."""

    def __init__(self, place: Place, app: wsgi.Application, link: socket.socket) -> None:
        super().__init__(place, app)
        self._relaying = threading.Lock()  # held by whoever may touch `connections`: the loop, but for the application
        self._relaying.acquire()
        self._turn_number = 0
        self._inside = False
        self._running: Connection | None = None
        self._thread = threading.get_ident()
        self._attendant = Attendant(self, link, self._relay)
        self._lookout = select.epoll()  # apart from the loop's: it holds no listener, whose wake-ups are for the idle
        self._disarmed: list[int] = []
        self._dormant = True
        self._seen = 0
        self._quiet = 0

    def run(self) -> None:
        self._attendant.start()
        super().run()

    def inside(self) -> list[tuple[layout.Lane, int]]:
        return [(lane, self._thread) for lane in self.place.board.read(self.place.slot.number).lanes]

    def serve(self, connection: Connection, request: Request, body: BinaryIO | None) -> None:
        if self.settings.body == "stream":
            self.unwatch(connection)
        if len(self.connections) > 1:
            self._turn_number += 1
            self._running = connection
            self._inside = True
            if self._dormant:
                self._dormant = False
                self._attendant.wake()
            self._relaying.release()
            try:
                self.call(connection, request, body, 0)
            finally:
                self._relaying.acquire()
                self._inside = False
        else:
            self.call(connection, request, body, 0)
        self.settle(connection, time.monotonic())

    # --- On the attendant's thread -----------------------------------------------------------

    def _relay(self) -> float | None:
        """Look after the loop; returns how long to sleep until the next look, None for until woken."""
        if self._turn_number != self._seen:
            self._seen = self._turn_number
            self._quiet = 0
            return RELAY_AFTER
        if self._inside:
            self._watch_for_the_loop(self._seen)
            return RELAY_AFTER
        self._quiet += 1
        if self._quiet < QUIET_TICKS:
            return RELAY_AFTER
        self._quiet = 0
        self._dormant = True
        return RELAY_AFTER if self._turn_number != self._seen else None

    def _watch_for_the_loop(self, turn: int) -> None:
        reported, self._disarmed = self._disarmed, []
        for fd in reported:
            connection = self.connections.get(fd)
            if connection is self._running:
                self._disarmed.append(fd)  # its own request is still in the socket, and would be reported at once
            elif connection is not None:
                self._arm(fd)
        for fd, _ in self._lookout.poll(RELAY_POLL):
            if not self._relaying.acquire(blocking=False):
                self._disarmed.append(fd)
                return  # the request is over: the loop watches again
            try:
                connection = self.connections.get(fd)
                if connection is not None and not self._pass_on(connection, turn):
                    self._disarmed.append(fd)
            finally:
                self._relaying.release()

    def _pass_on(self, connection: Connection, turn: int) -> bool:
        """Put a connection with news into the inbox; False when it stays here, and is to be looked at again."""
        if self._turn_number != turn or connection is self._running or self.place.board.stopping:
            return False
        if self.settings.workers == 1:
            return True  # there is nobody else, now or later
        if not connection.registered & select.EPOLLIN or connection.lingering:
            return False
        if connection.request is not None and not connection.peeks:
            return False  # the rest of a body that is being spooled here
        if connection.peeked and not connection.news():
            return True  # only what the loop has seen: the next byte will be an event
        return self.give_away(connection)

    # --- The lookout: the same connections, for the attendant ----------------------------------

    def watch(self, connection: Connection, events: int) -> None:
        fresh = not connection.registered
        super().watch(connection, events)
        if fresh:
            self._lookout.register(connection.fd, MORE)

    def unwatch(self, connection: Connection) -> None:
        if connection.registered:
            self._lookout.unregister(connection.fd)
        super().unwatch(connection)

    def _arm(self, fd: int) -> None:
        try:
            self._lookout.modify(fd, MORE)
        except OSError:
            pass  # closed since, or not watched now
