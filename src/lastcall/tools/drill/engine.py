"""The load: clients over raw sockets and one epoll, each request sent once and never again.

    python -m lastcall.tools.drill.engine PLAN SEEN

Reads a `Plan` as JSON, and writes each `Seen` as a line the moment it is known. SIGTERM: no new request begins, those
under way are waited for. A client that tries again would hide a loss, so none does.

*Closed loop*: a client sends a request, waits for the answer, thinks, and goes on. *Open loop*: requests arrive at a fixed
rate, whatever becomes of those before; each goes to the client that has been free for longest, or waits for the first that
will be. Its time counts from its arrival, so that a server that stalls for a second is not credited with the requests
that nobody could send meanwhile (coordinated omission).
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import select
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from lastcall.tools.drill.outcomes import Outcome, Seen
from lastcall.tools.drill.wire import Answer, FastCgiAnswer, HttpAnswer, fastcgi_request, http_request

RETRY: Final = 0.002
"""Seconds until a UNIX socket whose queue is full is asked again: for TCP the kernel does that, for UNIX nobody."""
PIECE: Final = 1 << 16


class Client(msgspec.Struct, frozen=True):
    """Somebody who asks one request after the other."""

    front: str
    """The name under which it is judged; ids begin with it, and a dot."""
    address: str
    fastcgi: bool = False
    keep: bool = True
    """One connection for all requests, or a new one for each."""
    slow: float = 0.0
    """Seconds between the two halves in which it sends a request."""


class Request(msgspec.Struct, frozen=True):
    """What is asked. In target and body, `{id}` is the request's id and `{client}` the client's number."""

    method: str = "GET"
    target: str = "/"
    headers: dict[str, str] = {}
    body: str | None = None
    params: dict[str, str] = {}
    """FastCGI: variables besides those that nginx sends."""

    def encode(self, client: Client, number: int, name: str) -> bytes:
        """The bytes of one request. It says who it is in X-Request-Id, too."""
        target = filled(self.target, name, number)
        body = None if self.body is None else filled(self.body, name, number).encode()
        headers = (("X-Request-Id", name), *self.headers.items())
        if client.fastcgi:
            return fastcgi_request(self.method, target, body, headers, keep=client.keep, params=self.params)
        return http_request(self.method, target, body, headers, keep=client.keep)


def filled(text: str, name: str, number: int) -> str:
    """A template with its two fields filled in; other braces are the text's own."""
    return text.replace("{id}", name).replace("{client}", str(number))


class Plan(msgspec.Struct, frozen=True):
    """What a load consists of."""

    clients: list[Client]
    request: Request = Request()
    pace: float = 0.0
    """Closed loop: seconds that a client thinks between two requests, half as much more or less; 0: not at all."""
    rate: float = 0.0
    """Open loop: requests a second that arrive; 0: the loop is closed."""
    requests: int = 0
    """Requests after which a client ends, or all of them in an open loop; 0: when it is told."""
    lifetime: float = 0.0
    """Seconds after which it ends by itself, whatever became of who would tell it; 0: never."""
    seed: int = 1
    connect_timeout: float = 10.0
    timeout: float = 30.0


class Asker:
    """One client at work. The engine watches its socket, and says when its time has come."""

    def __init__(self, client: Client, number: int, plan: Plan, engine: Engine) -> None:
        self.client = client
        self._number = number
        self._plan = plan
        self._engine = engine
        self._dice = random.Random(plan.seed * 1_000_003 + number)  # noqa: S311 (pauses, not a secret)
        self._sock: socket.socket | None = None
        self._connected = False
        self._answer: Answer | None = None
        self._out = b""
        self._rest = b""  # of a request that is sent slowly
        self._id = ""
        self._began = 0.0
        self._turn = 0.0  # when its turn came: in an open loop that may be later
        self._served = 0  # on this connection
        self._asked = 0
        self.stamp = 0  # of the one timer that counts; older ones are forgotten

    @property
    def idle(self) -> bool:
        """Between two requests."""
        return not self._id

    def pause(self) -> float:
        return self._plan.pace * self._dice.uniform(0.5, 1.5)

    def finished(self) -> bool:
        return 0 < self._plan.requests <= self._asked

    def begin(self, now: float, arrived: float) -> None:
        """The next request."""
        self._asked += 1
        self._id = f"{self.client.front}.{self._number}-{self._asked:05}".replace(" ", "_")
        self._began, self._turn = arrived, now
        self._answer = FastCgiAnswer() if self.client.fastcgi else HttpAnswer()
        self._out = self._plan.request.encode(self.client, self._number, self._id)
        if self.client.slow:
            half = len(self._out) // 2
            self._out, self._rest = self._out[:half], self._out[half:]
        if self._sock is not None and self.is_over():
            self._leave("closed while idle")
        if self._sock is None:
            self._connect(now)
        else:
            self._start(now)

    def is_over(self) -> bool:
        """Whether an idle connection has ended: clients and fronts look before they ask on it again.

        Its end may have come since the loop has heard of events, which is long ago where the machine is busy.
        """
        assert self._sock is not None
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _start(self, now: float) -> None:
        """On a connection that stands."""
        self._engine.due(self, now + (self.client.slow if self._rest else self._plan.timeout))
        self._send()

    # --- The connection --------------------------------------------------------------------

    def _connect(self, now: float) -> None:
        address = self.client.address
        unix = address.startswith("unix:")
        family = socket.AF_INET6 if address.startswith("[") else socket.AF_INET
        self._sock = socket.socket(socket.AF_UNIX if unix else family)
        self._sock.setblocking(False)
        self._connected = False
        self._served = 0
        if unix:
            where: str | tuple[str, int] = address.removeprefix("unix:")
        else:
            host, _, port = address.rpartition(":")
            where = (host.strip("[]"), int(port))
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._sock.connect_ex(where)
        if code in (0, errno.EINPROGRESS):
            self._engine.watch(self._sock, self, select.EPOLLOUT)
            self._engine.due(self, self._turn + self._plan.connect_timeout)
        elif code == errno.EAGAIN:
            self._sock.close()
            self._sock = None
            if now >= self._turn + self._plan.connect_timeout:
                self._lose(Outcome.CONNECT_TIMED_OUT)
            else:
                self._engine.due(self, now + RETRY)
        else:
            self._lose(Outcome.REFUSED, os.strerror(code))

    def on_event(self, mask: int) -> None:
        """The socket has something to say."""
        if not self._connected:
            assert self._sock is not None
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                outcome = Outcome.CONNECT_TIMED_OUT if code == errno.ETIMEDOUT else Outcome.REFUSED
                self._lose(outcome, os.strerror(code))
                return
            self._connected = True
            self._start(time.monotonic())
        elif mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive()
        elif self._out:
            self._send()

    def on_time(self, now: float) -> None:
        """What was waited for has not come: a request's end, a queue's turn, or the time to ask."""
        if self.idle:
            self._engine.turn(self, now)
        elif self._sock is None:
            self._connect(now)
        elif self._connected and self._rest:
            self._out, self._rest = self._out + self._rest, b""
            self._start(now)
        else:
            self._lose(Outcome.TIMED_OUT if self._connected else Outcome.CONNECT_TIMED_OUT)

    def _send(self) -> None:
        assert self._sock is not None
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            # The answer may have come before the reset: a server may refuse a body that it does not want to read.
            self._out = b""
            self._engine.watch(self._sock, self, select.EPOLLIN)
            self._receive(error)
            return
        self._engine.watch(self._sock, self, select.EPOLLIN | (select.EPOLLOUT if self._out else 0))

    def _receive(self, broken: OSError | None = None) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(PIECE)
        except BlockingIOError:
            if broken is not None:
                self._ended(broken)
            return
        except OSError as error:
            self._ended(error)
            return
        if not data:
            self._ended(broken)
        elif self._answer is None:
            self._leave("bytes that nobody asked for")
        else:
            self._answer.feed(data)
            if self._answer.done:
                self._succeed()

    def _ended(self, error: OSError | None) -> None:
        if self._answer is None:
            self._leave(error.strerror or "" if error else "")
            return
        self._answer.end()
        if self._answer.done:
            self._succeed()
        elif self._answer.begun:
            self._lose(Outcome.CUT, repr(error) if error else "")
        else:
            self._lose(Outcome.CLOSED if error is None else Outcome.RESET, repr(error) if error else "")

    def close(self) -> None:
        if self._sock is not None:
            self._engine.unwatch(self._sock)
            self._sock.close()
            self._sock = None

    # --- The outcome ---------------------------------------------------------------------------

    def _succeed(self) -> None:
        answer = self._answer
        assert answer is not None
        closing = self.client.keep and not answer.keep
        early = bool(self._out or self._rest)  # it was answered before it had been sent: what follows would be garbage
        self._served += 1
        if not self.client.keep or closing or early:
            self.close()
        self._tell(Outcome.ANSWERED, answer.status, closing=closing)

    def _lose(self, outcome: Outcome, detail: str = "") -> None:
        self.close()
        self._tell(outcome, 0, detail=detail)

    def _leave(self, detail: str) -> None:
        """An idle connection is gone. Nobody had asked for anything, and the next request takes a new one."""
        self.close()
        self._engine.write(Seen("", self.client.front, Outcome.LEFT, 0, time.monotonic(), 0.0, True, False, detail))

    def _tell(self, outcome: Outcome, status: int, *, closing: bool = False, detail: str = "") -> None:
        now = time.monotonic()
        kept = self._served > (1 if outcome is Outcome.ANSWERED else 0)
        took = now - self._began
        self._engine.write(Seen(self._id, self.client.front, outcome, status, self._began, took, kept, closing, detail))
        self._id = ""
        self._answer = None
        self._out = self._rest = b""
        self._engine.next(self, now)


ARRIVAL: Final = -1
"""Instead of a client's number, in the list of timers: the next request of an open loop."""
END: Final = -2


class Engine:
    """The loop."""

    def __init__(self, plan: Plan, out: BinaryIO) -> None:
        self.ending = False
        self._plan = plan
        self._out = out
        self._encoder = msgspec.json.Encoder()
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Asker, int]] = {}
        self._timers: list[tuple[float, int, int]] = []
        self._askers = dict(enumerate(Asker(client, number, plan, self) for number, client in enumerate(plan.clients)))
        self._numbers = {id(asker): number for number, asker in self._askers.items()}
        self._free: deque[Asker] = deque()
        self._waiting: deque[float] = deque()
        self._arrived = 0
        self._began = time.monotonic()
        if plan.rate:
            self._free.extend(self._askers.values())
            self._expect_arrival()
        else:
            for asker in self._askers.values():
                self.due(asker, self._began + asker.pause())
        if plan.lifetime:
            heapq.heappush(self._timers, (self._began + plan.lifetime, END, 0))

    def run(self, wake: int) -> None:
        """Until every client has finished. `wake` becomes readable when it is time to end."""
        self._epoll.register(wake, select.EPOLLIN)
        while self._askers:
            for fd, mask in self._epoll.poll(self._until_next()):
                if fd == wake:
                    os.read(wake, 64)
                    self._end()
                elif fd in self._watched:
                    self._watched[fd][0].on_event(mask)
            self._on_time()

    def _end(self) -> None:
        """No request begins any more but those that have arrived."""
        self.ending = True
        if not self._waiting:
            for asker in list(self._askers.values()):
                if asker.idle:
                    asker.close()
                    self.leave(asker)

    def _until_next(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _on_time(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            when, number, stamp = heapq.heappop(self._timers)
            if number == ARRIVAL:
                self._arrive(when, now)
            elif number == END:
                self._end()
            else:
                asker = self._askers.get(number)
                if asker is not None and asker.stamp == stamp:
                    asker.on_time(now)

    # --- The open loop -------------------------------------------------------------------------

    def _expect_arrival(self) -> None:
        """At a fixed rate, counted from the begin: an engine that was late once is not late for ever."""
        heapq.heappush(self._timers, (self._began + (self._arrived + 0.5) / self._plan.rate, ARRIVAL, 0))

    def _arrive(self, when: float, now: float) -> None:
        if self.ending:
            return
        self._arrived += 1
        if self._free:
            self._free.popleft().begin(now, when)
        else:
            self._waiting.append(when)
        if self._arrived == self._plan.requests:
            self._end()
        else:
            self._expect_arrival()

    def next(self, asker: Asker, now: float) -> None:
        """A client's request has ended: what it does now."""
        if self._plan.rate and self._waiting:
            # Not from within the end of the one before: a server that refuses would be asked deeper and deeper.
            self.due(asker, now)
        elif self.ending or (not self._plan.rate and asker.finished()):
            asker.close()
            self.leave(asker)
        elif self._plan.rate:
            asker.stamp += 1  # nothing is waited for any more
            self._free.append(asker)
        else:
            self.due(asker, now + asker.pause())

    # --- What clients ask for ------------------------------------------------------------------

    def turn(self, asker: Asker, now: float) -> None:
        """An idle client's time has come."""
        if self._plan.rate:
            if self._waiting:
                asker.begin(now, self._waiting.popleft())
            else:
                self.next(asker, now)
        elif not self.ending and not asker.finished():
            asker.begin(now, now)

    def due(self, asker: Asker, when: float) -> None:
        """Call its `on_time` then, and no more at any other time that it was to be called."""
        asker.stamp += 1
        heapq.heappush(self._timers, (when, self._numbers[id(asker)], asker.stamp))

    def watch(self, sock: socket.socket, asker: Asker, mask: int) -> None:
        """Call its `on_event` for these."""
        fd = sock.fileno()
        known = self._watched.get(fd)
        if known is None:
            self._epoll.register(fd, mask)
        elif known[1] != mask:
            self._epoll.modify(fd, mask)
        self._watched[fd] = (asker, mask)

    def unwatch(self, sock: socket.socket) -> None:
        if self._watched.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def leave(self, asker: Asker) -> None:
        """It asks nothing more."""
        self._askers.pop(self._numbers[id(asker)], None)

    def write(self, seen: Seen) -> None:
        self._out.write(self._encoder.encode(seen) + b"\n")


def main() -> None:
    """The load of a plan, until it has ended."""
    wake, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    plan, seen = map(Path, sys.argv[1:])
    with seen.open("ab", buffering=0) as out:
        Engine(msgspec.json.decode(plan.read_bytes(), type=Plan), out).run(wake)


if __name__ == "__main__":
    main()
