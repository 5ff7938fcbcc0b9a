"""The two ledgers behind the gift app: a service that sends presents, and one that writes orders.

    POST /sendPresent   {"order": ID}   the first action: it takes a while, and the present is sent half-way through
    POST /order         {"order": ID}   the second action
    GET  /ready

Both are the drill's own, in a thread of its process, so that no server under test can bend them; and so that a request can
be held at a step while the operator does his worst. Nothing is ever taken out again, and an id that comes twice stands
there twice: that is how a request that was run twice is found. But for a call that names its `key`, and is the same call.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from lastcall.tools.drill.judge import Books
from lastcall.tools.drill.steps import Step

CALL_MAX: Final = 64 * 1024
"""Bytes of one call: an id in a bit of JSON."""
PIECE: Final = 1 << 14


class Hold:
    """One request is to be held at one step. `reached` says that it is there."""

    def __init__(self, order: str, step: Step, wake: Callable[[], None]) -> None:
        self.order = order
        self.step = step
        self.reached = threading.Event()
        self.port = 0
        """Of the application's connection, when it is there: whose process is inside the request."""
        self._released = threading.Event()
        self._wake = wake

    @property
    def released(self) -> bool:
        return self._released.is_set()

    def release(self) -> None:
        """Let it go on, or pass the step if it is not there yet."""
        self._released.set()
        self._wake()


class _Caller:
    """A connection of the application's, with what has come on it."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self.sock = sock
        self.port = port
        self.data = b""
        self.gone = False
        self.busy = False
        self.keep = True


def _asked(body: bytes) -> tuple[str, str] | None:
    """The id that a call is about, and its key or ""; None where it has no id."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    match found:
        case {"order": str(order), "key": str(key)}:
            return order, key
        case {"order": str(order)}:
            return order, ""
        case _:
            return None


class Ledgers:
    """A context manager: it serves as long as the block lasts."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._first: list[str] = []
        self._second: list[str] = []
        self._keys: set[str] = set()
        self._holds: list[Hold] = []
        self._held: list[tuple[Hold, Callable[[], None]]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._wake_fd, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._newest: _Caller | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._serve, name="ledgers", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending = True
        self._wake()
        self._thread.join()
        os.close(self._wake_fd)
        os.close(self._waker)

    @property
    def url(self) -> str:
        """Where the application finds them."""
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def books(self) -> Books:
        """Both ledgers as they stand."""
        return Books(tuple(self._first), tuple(self._second))

    def hold(self, order: str, step: Step) -> Hold:
        """Hold that request at that step, when it comes there, until it is released."""
        hold = Hold(order, step, self._wake)
        self._holds.append(hold)
        return hold

    def caller(self) -> int:
        """The port of the connection on which sendPresent was called last: whose process is inside a request.

        0: it has been answered.
        """
        newest = self._newest
        return newest.port if newest is not None and newest.busy else 0

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"!")
        except BlockingIOError:
            pass  # it will wake anyway

    # --- The thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)
        while not self._ending:
            for key, _ in self._selector.select(self._until_next()):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Caller):
                    self._receive(key.data)
                else:
                    os.read(self._wake_fd, 1024)
            self._go_on()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.data, _Caller):
                key.data.sock.close()
        self._listener.close()
        self._selector.close()

    def _until_next(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _go_on(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        free = [then for hold, then in self._held if hold.released]
        self._held = [(hold, then) for hold, then in self._held if not hold.released]
        for then in free:
            then()

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), then))

    def _at(self, step: Step, order: str, caller: _Caller, then: Callable[[], None]) -> None:
        """The request is at a step: it waits there, or goes on."""
        for hold in self._holds:
            if (hold.order, hold.step) == (order, step) and not hold.released:
                self._held.append((hold, then))
                hold.port = caller.port
                hold.reached.set()
                return
        then()

    # --- What is asked -------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, (_, port) = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(sock, selectors.EVENT_READ, _Caller(sock, port))

    def _receive(self, caller: _Caller) -> None:
        try:
            data = caller.sock.recv(PIECE)
        except OSError:
            data = b""
        caller.data += data
        if not data or len(caller.data) > CALL_MAX:
            self._leave(caller)
        else:
            self._read(caller)

    def _read(self, caller: _Caller) -> None:
        head, mark, rest = caller.data.partition(b"\r\n\r\n")
        if not mark or caller.busy:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        announced = fields.get("content-length", "0")
        length = int(announced) if announced.isdecimal() else 0
        if len(rest) < length:
            return
        caller.data = rest[length:]
        caller.busy = True
        caller.keep = fields.get("connection", "").lower() != "close" and first.endswith("HTTP/1.1")
        match first.split(" ")[:2], _asked(rest[:length]):
            case ["POST", "/sendPresent"], (order, key):
                self._send_present(caller, order, key)
            case ["POST", "/order"], (order, key):
                self._write(caller, order, key)
            case ["GET", "/ready"], _:
                self._answer(caller)
            case _:
                self._leave(caller)

    def _record(self, ledger: list[str], order: str, key: str) -> None:
        if key not in self._keys:
            ledger.append(order)
        if key:
            self._keys.add(key)

    def _send_present(self, caller: _Caller, order: str, key: str) -> None:
        """Whoever has called and is killed has called: the present is sent all the same."""
        self._newest = caller

        def send() -> None:
            self._record(self._first, order, key)
            self._at(Step.SENT, order, caller, lambda: self._after(self._latency / 2, lambda: self._answer(caller)))

        self._at(Step.ASKED, order, caller, lambda: self._after(self._latency / 2, send))

    def _write(self, caller: _Caller, order: str, key: str) -> None:
        """As a transaction: one whose writer is gone before its turn has not been."""

        def write() -> None:
            if not caller.gone:
                self._record(self._second, order, key)
                self._at(Step.WRITTEN, order, caller, lambda: self._answer(caller))

        self._at(Step.WRITING, order, caller, write)

    def _answer(self, caller: _Caller) -> None:
        if caller.gone:
            return
        caller.busy = False
        connection = "keep-alive" if caller.keep else "close"
        text = f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: {connection}\r\n\r\nok\n"
        try:
            caller.sock.send(text.encode())
        except OSError:
            caller.keep = False
        if caller.keep:
            self._read(caller)
        else:
            self._leave(caller)

    def _leave(self, caller: _Caller) -> None:
        if not caller.gone:
            caller.gone, caller.busy = True, False
            self._selector.unregister(caller.sock)
            caller.sock.close()
