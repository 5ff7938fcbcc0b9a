"""A worker's loop: accepts, reads, calls the application, sends, in one thread that never waits for a client.

What it decides: which connection is served next, and when one is given up. `sync` and `threads` differ only in where the
application is called (`serve`).
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final

from lastcall.core import notes, rescue
from lastcall.core import slot as layout
from lastcall.core.accesslog import Record
from lastcall.core.settings import Settings
from lastcall.core.trust import UNIX, Trust, request_id
from lastcall.gateway import marks, wsgi
from lastcall.protocol import fastcgi, http1
from lastcall.protocol.exchange import ProtocolError, Request
from lastcall.protocol.link import Report
from lastcall.protocol.refusal import Refusal
from lastcall.runtime.bequest import Bequest
from lastcall.runtime.board import Board, SlotWriter
from lastcall.runtime.closing import HALF_OPEN_MAX, Closing, thaw
from lastcall.runtime.inbox import Inbox, Parcel
from lastcall.runtime.logs import AccessLog, ErrorLog
from lastcall.runtime.sockets import Listener
from lastcall.runtime.worker import memory
from lastcall.runtime.worker.body import Spool, stream
from lastcall.runtime.worker.connection import LINGER, Connection
from lastcall.runtime.worker.errors import ErrorStream
from lastcall.runtime.worker.visits import VISITOR, Seat, Visit

SWEEP: Final = 1.0
"""Seconds between two looks at the connections' deadlines: the precision of all timeouts."""
STOP_GRACE: Final = 0.5
"""Seconds that an idle kept connection is listened to after a stop: a request on its way is answered, with a close."""
FRESH_GRACE: Final = HALF_OPEN_MAX
"""The same for a TCP connection on which nothing was ever answered. The packet with its request may have been dropped by a
full queue, and be sent again after as long as that."""
ACCEPT_PAUSE: Final = 0.5
"""Seconds without accepting after the system ran out of descriptors or memory."""
EVENTS_MAX: Final = 256
MORE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""What is asked for a connection with bytes that were seen and stay unread: they are no event, more of them are one."""
_OUT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True)
class Place:
    """Everything that a worker is given by the master: who it is, and what it shares with others."""

    settings: Settings
    serial: int
    generation: int
    listeners: tuple[Listener, ...]
    former: tuple[Listener, ...]
    """Nobody listens there any more, but connections that came through them live on."""
    inbox: Inbox
    board: Board
    slot: SlotWriter
    error_log: ErrorLog
    access_log: AccessLog | None
    trust: Trust
    say: Callable[[Report, str], None]
    bequest: Bequest | None
    """What the next master is given, should this one die; None: nobody is waited for."""
    spend_after: int
    """Requests after which this worker is due for recycling (jitter included); 0: never."""


class Worker:
    """One process's share of the pool's work. `run` returns when it has been told to drain and nothing is left."""

    multithread = False
    choosy = False
    """`may_read` is to be asked."""

    @property
    def queued(self) -> int:
        """Requests that have arrived and wait for a thread. Callable from any thread."""
        return 0

    def __init__(self, place: Place, app: wsgi.Application) -> None:
        settings = place.settings
        self.place = place
        self.settings = settings
        self.app = app
        self.epoll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.pid = os.getpid()
        self._master_pid = os.getppid()
        self.draining = False  # told by the attendant, as is `resting`
        self.resting = False  # takes nothing new, gives away what is idle, and stays
        self.requests = 0
        self.spent = ""  # why it is due for recycling
        self.closing: Closing | None = None  # of an orphan that ends: what it closes itself
        self._weighed = 0  # the number of requests at the last look at the memory
        self._accepting = False
        self._stopping = False
        self._overfull = False  # the inbox is, and will be: connections end here
        self._last = False  # of a stopping pool: nobody else will come
        self._sources = (place.inbox.fileno(), *(listener.fd for listener in place.listeners))
        self._accept_again = 0.0
        self._complained = 0.0
        self._next_sweep = 0.0
        self._ready: deque[Connection] = deque()  # a pipelined request is at hand: no event will say so
        self._visits: deque[Visit] = deque()
        self._nudge = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stamp = http1.Stamp()
        self._stamped = 0
        self._limits = http1.Limits(settings.max_head, settings.max_request_line, settings.max_headers)
        self._header_timeout = settings.header_timeout or math.inf
        self._body_timeout = settings.body_timeout or math.inf
        self._send_timeout = settings.send_timeout or math.inf
        self._keepalive_timeout = settings.keepalive_timeout  # 0: connections are not kept
        self._ready_path = settings.ready_path or None
        self._trace_key = f"HTTP_{settings.trace_header.upper().replace('-', '_')}"
        self._trust = place.trust
        self._id_prefix = os.urandom(6).hex()
        self._ids = itertools.count(1)
        self._wants_usage = place.access_log is not None and place.access_log.form.wants_usage
        self._tmp_dir = settings.tmp_dir
        self.errors = ErrorStream(place.error_log, settings.pool, self.pid)
        self._listeners = {listener.fd: listener for listener in place.listeners}
        self._by_number = {listener.number: listener for listener in (*place.former, *place.listeners)}
        self._bases = {number: self._base(listener) for number, listener in self._by_number.items()}
        self._bases[VISITOR] = self._base(place.listeners[0]) if place.listeners else {}
        self.epoll.register(self._nudge, select.EPOLLIN)

    def _base(self, listener: Listener) -> wsgi.Environ:
        """The environ that all requests of a listener share."""
        return {
            "SCRIPT_NAME": "",
            "SERVER_NAME": listener.name,
            "SERVER_PORT": listener.port,
            "SERVER_SOFTWARE": "lastcall",
            "REMOTE_ADDR": "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": self.errors,
            "wsgi.multithread": self.multithread,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": wsgi.FileWrapper,
            "wsgi.input_terminated": True,
        }

    # --- The loop ----------------------------------------------------------------------

    def run(self) -> None:
        self._listen(on=True)
        while not self._finished():
            self._turn()

    def _turn(self) -> None:
        events = self.epoll.poll(self._timeout(), EVENTS_MAX)
        now = time.monotonic()
        if self._stamped != int(now):
            self._stamp_date(int(now))
        connections = self.connections
        for fd, _ in events:
            # The listener first: its wake-up was ours alone (EPOLLEXCLUSIVE), and an application call may take long.
            if fd not in connections:
                self._on_other(fd, now)
        for fd, mask in events:
            connection = connections.get(fd)
            if connection is not None and connection.registered:  # else it was served since, or is inside a request
                self._on_event(connection, mask, time.monotonic())
        while self._ready:
            connection = self._ready.popleft()
            if self.connections.get(connection.fd) is connection:
                self._advance(connection, now)
        if self._next_sweep <= now:
            self._sweep(now)

    def _timeout(self) -> float | None:
        if self._ready:
            return 0
        if self.connections or self._accept_again or self.draining:
            return SWEEP if not (self.draining or self.resting) else STOP_GRACE / 5
        if self.settings.max_memory and self.requests != self._weighed:
            return SWEEP
        return None

    def _finished(self) -> bool:
        return self.draining and not self._accepting and not self.may_take and not self.connections

    def _stamp_date(self, second: int) -> None:
        self._stamped = second
        self._stamp.lines = f"Server: lastcall\r\nDate: {http_date(time.time())}\r\n"

    def obey(self, master: int) -> None:
        """Another process is the master now. Callable from any thread."""
        self._master_pid = master

    def nudge(self) -> None:
        """Wake the loop; callable from any thread."""
        os.eventfd_write(self._nudge, 1)

    def _on_other(self, fd: int, now: float) -> None:
        if fd == self._nudge:
            try:
                os.eventfd_read(self._nudge)
            except BlockingIOError:
                pass
            self.on_nudge(now)
        elif fd == self.place.inbox.fileno():
            self._take(now)
        elif fd in self._listeners:
            self._accept(self._listeners[fd], now)

    def visit(self, visit: Visit) -> None:
        """Take in a request of our own; callable from any thread."""
        self._visits.append(visit)
        self.nudge()

    def on_nudge(self, now: float) -> None:
        while self._visits:
            self._welcome(self._visits.popleft(), now)
        if self.draining:
            self._drain(now)
        elif self.resting:
            self._listen(on=False)
            self._next_sweep = now  # which tries to give away what is idle, and tries again while the inbox is full
        if self.may_accept():
            self._listen(on=True)

    def may_accept(self) -> bool:
        """Whether there is room for another connection, and nothing speaks against taking one."""
        return self.may_take and not self._accept_again and len(self.connections) < self.settings.max_connections

    # --- Accepting ------------------------------------------------------------------------

    def _listen(self, *, on: bool) -> None:
        """Take connections from the listeners and the inbox, or leave them to others."""
        on = on and self.may_take
        if on == self._accepting:
            return
        self._accepting = on
        for fd in self._sources:
            if on:
                self.epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            else:
                self.epoll.unregister(fd)

    @property
    def may_take(self) -> bool:
        """Whether new connections are this worker's business. Those of a stopping pool come through the inbox."""
        return not (self.draining or self.resting) or (self._stopping and not self._last)

    def _accept(self, listener: Listener, now: float) -> bool:
        """Take one connection, though we may have stopped listening in this turn: its wake-up was ours alone."""
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _OUT_OF:
                self._pause(error, now)
            return False  # ECONNABORTED and the like: the client was faster
        if self.place.board.frozen:
            thaw(sock)
        client, port = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
        self._adopt(sock, listener, client, port, now)
        return True

    def _pause(self, error: OSError, now: float) -> None:
        self._listen(on=False)
        self._accept_again = now + ACCEPT_PAUSE
        if self._complained <= now:
            self._complained = now + 10
            self.note(notes.Trouble(f"[pool {self.settings.pool}] child {self.pid} cannot accept: {error.strerror}"))

    def _take(self, now: float) -> bool:
        parcel = self.place.inbox.take()
        if parcel is None:
            if self.place.inbox.starved:
                self._pause(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), now)
            return False
        listener = self._by_number.get(parcel.listener)
        if listener is None:  # one that this generation no longer has
            os.close(parcel.fd)
            return True
        sock = socket.socket(listener.family, socket.SOCK_STREAM, fileno=parcel.fd)
        self._adopt(sock, listener, parcel.client, parcel.port, now, parcel)
        return True

    def _adopt(
        self, sock: socket.socket, listener: Listener, client: str, port: int, now: float, parcel: Parcel | None = None
    ) -> None:
        codec = fastcgi.Connection() if listener.fastcgi else http1.Connection(self._limits, self._stamp)
        connection = Connection(sock, codec, listener.number, client, str(port), self.settings, self.place.slot)
        connection.trusted = self._trust(client or UNIX)
        connection.deadline = now + self._header_timeout
        self.connections[connection.fd] = connection
        self.place.slot.connections = len(self.connections)
        if parcel is not None:
            connection.continued = parcel.continued
            connection.attempt = parcel.attempt
            if parcel.carried:
                codec.receive(parcel.carried)
                connection.peeks = False
        if parcel is None:
            connection.fresh()
        if parcel is not None and parcel.refusal is not None:
            self._turn_away(connection, parcel.refusal)
        else:
            connection.settled()
            self._on_readable(connection, now)
        if len(self.connections) >= self.settings.max_connections:
            self._listen(on=False)

    def _welcome(self, visit: Visit, now: float) -> None:
        """A request of our own, with the environ that it had when it first came."""
        connection = Connection(visit.sock, fastcgi.Connection(), VISITOR, "", "0", self.settings, self.place.slot)
        connection.visit = visit
        connection.fresh()
        connection.deadline = now + self._header_timeout
        self.connections[connection.fd] = connection
        self.place.slot.connections = len(self.connections)
        connection.settled()
        self._on_readable(connection, now)

    # --- One connection ----------------------------------------------------------------------

    def _on_event(self, connection: Connection, mask: int, now: float) -> None:
        if mask & select.EPOLLOUT:
            self._on_writable(connection, now)
        else:
            self._on_readable(connection, now)

    def may_read(self, connection: Connection) -> bool:  # noqa: ARG002 - a choosy worker looks at it
        """Whether this worker wants what arrives on a connection; False when it has gone to the inbox instead."""
        return True

    def _on_readable(self, connection: Connection, now: float) -> None:
        if self.choosy and not self.may_read(connection):
            return
        try:
            arrived = connection.receive()
        except OSError:
            self.close(connection)
            return
        if connection.lingering:
            if connection.ended:
                self.close(connection)
            return
        if arrived or not (connection.registered or connection.codec.idle):  # new, or come with bytes from the inbox
            self._advance(connection, now)
        elif not connection.registered:
            self.watch(connection, select.EPOLLIN)

    def _on_writable(self, connection: Connection, now: float) -> None:
        try:
            done = connection.flush()
        except wsgi.ClientGone:
            self.close(connection)
            return
        if done:
            connection.settled()
            self.settle(connection, now)
        else:
            connection.deadline = now + self._send_timeout

    def _advance(self, connection: Connection, now: float) -> None:
        """Go on with a connection as far as the bytes at hand allow."""
        codec = connection.codec
        try:
            if connection.request is None and not self._begin(connection, now):
                return
            request = connection.request
            assert request is not None
            probed = request.path == self._ready_path and request.method in ("GET", "HEAD")
            serve = self._tell_readiness if probed else self.serve
            if request.length == 0:
                connection.whole()
                serve(connection, request, None)
            elif self.settings.body == "stream":
                connection.take()
                serve(connection, request, stream(connection.more))
            elif self._collect(connection, request, now):
                connection.whole()
                body = connection.body
                serve(connection, request, None if body is None else body.open())
        except ProtocolError as error:
            self._refuse(connection, error.status, error.detail, codec.outgoing())
        except wsgi.ClientGone:
            self.close(connection)

    def _begin(self, connection: Connection, now: float) -> bool:
        codec = connection.codec
        request = codec.request()
        owed = codec.outgoing() if request is None or request.params else b""
        if owed:
            connection.take()  # in part it is answered now
            connection.write(owed)
        if request is None:
            if connection.ended:
                self.close(connection)
            elif owed and not codec.keep and codec.idle:
                self._linger(connection, now)  # refused by the codec itself: an unknown role, an abort
            else:
                if not codec.idle and connection.deadline > now + self._header_timeout:
                    connection.deadline = now + self._header_timeout  # its first byte: the head is due
                self._await(connection)
            return False
        connection.request = request
        if self.place.board.has_quarantine and self._is_poison(request, now):
            refusal = Refusal(500, "Requests like this one have ended the workers that ran them.", request.method)
            self._turn_away(connection, refusal)
            return False
        if request.length is not None and 0 < self.settings.max_body < request.length:
            raise ProtocolError(413, f"a request body may have {self.settings.max_body} bytes here")
        return True

    def _collect(self, connection: Connection, request: Request, now: float) -> bool:
        """Take in the body; True when it is complete."""
        data = connection.codec.read()
        body = connection.body
        if body is None:
            if data == b"":
                return True  # FastCGI's way to say that there is none
            body = connection.body = Spool(self.settings.body_buffer, self._tmp_dir)
        try:
            while data:
                body.add(data)
                data = connection.codec.read()
                if 0 < self.settings.max_body < body.size:
                    raise ProtocolError(413, f"a request body may have {self.settings.max_body} bytes here")
        except OSError as error:
            self.note(notes.Trouble(f"a request body could not be kept in {self._tmp_dir}: {error.strerror}"))
            raise ProtocolError(503, "the request body could not be kept") from error
        if data is not None:
            return True
        if connection.ended:
            raise ProtocolError(400, "the connection was closed inside a request body")
        if request.expects_continue and not connection.continued:
            connection.continued = True
            if not body.size:
                connection.write(connection.codec.interim())
        connection.deadline = now + self._body_timeout
        self._await(connection, (request.length or 0) - body.size)
        return False

    def _await(self, connection: Connection, more: int = 0) -> None:
        """Wait for the rest of a request; `more`: bytes that are known to come."""
        connection.hold(more)
        self.watch(connection, MORE if connection.peeked else select.EPOLLIN)

    def _refuse(self, connection: Connection, status: int, detail: str, owed: bytes = b"") -> None:
        """Answer what cannot be run, and close: slowly, for an answer that is reset is no answer."""
        self.note(notes.Remark(f"[pool {self.settings.pool}] refused {connection.client or UNIX}: {status} {detail}"))
        connection.take()
        self._dismiss(connection, owed + connection.codec.refuse(status, detail))

    def _dismiss(self, connection: Connection, answer: bytes) -> None:
        """Send the last answer on a connection: the application has no part in it."""
        try:
            connection.write(answer)
        except wsgi.ClientGone:
            self.close(connection)
            return
        connection.said()
        connection.drop_body()  # its room is needed now, and the connection may linger
        connection.request = None
        connection.refused = not connection.codec.keep
        if not connection.refused and not connection.out:
            connection.settled()
        self.settle(connection, time.monotonic())

    def _is_poison(self, request: Request, now: float) -> bool:
        method, uri = request.method[: layout.TEXTS["method"]], request.target[: layout.TEXTS["uri"]]
        return self.place.board.is_quarantined(rescue.fingerprint(method, uri), now)

    def _turn_away(self, connection: Connection, refusal: Refusal) -> None:
        """Answer a request that is not to be run, or not again, and close: of its bytes some may be gone already."""
        connection.take()
        connection.peeks = False
        connection.taken()
        connection.running = True  # what is written now is an answer
        self._dismiss(connection, connection.codec.turn_away(refusal))

    def settle(self, connection: Connection, now: float) -> None:
        """An exchange is over for the application: send what is left, then the next request, or the close."""
        codec = connection.codec
        if connection.out:
            connection.deadline = now + self._send_timeout
            self.watch(connection, select.EPOLLOUT)
            return
        if codec.torn:
            connection.reset()
            self.close(connection)
            return
        if not codec.keep or (connection.ended and codec.idle):
            if codec.idle and not connection.refused and self.settings.body != "stream":
                self.close(connection)  # all that was sent has been read: nothing to reset
            else:
                self._linger(connection, now)
            return
        connection.deadline = now + self._keepalive_timeout
        if (self.draining or self.resting) and self._depart(connection, now):
            return
        if not codec.idle:
            self._ready.append(connection)
        elif connection.peeked:
            connection.take()  # records of FastCGI that are nobody's
        else:
            connection.peeks = True
        self.watch(connection, select.EPOLLIN)

    def _linger(self, connection: Connection, now: float) -> None:
        """Close slowly: nothing more is sent, and what still comes is read and dropped."""
        connection.half_close()
        connection.deadline = now + LINGER
        self.watch(connection, select.EPOLLIN)

    def watch(self, connection: Connection, events: int) -> None:
        # MORE is asked for again even so: what is there then is an event once more. So nothing is missed that a look
        # has not seen: bytes that did not fit into it, or an end that came together with the last of them.
        if connection.registered == events != MORE:
            return
        if connection.registered:
            self.epoll.modify(connection.fd, events)
        else:
            self.epoll.register(connection.fd, events)
        connection.registered = events

    def unwatch(self, connection: Connection) -> None:
        if connection.registered:
            self.epoll.unregister(connection.fd)
            connection.registered = 0

    def close(self, connection: Connection) -> None:
        """Let go of it, by hand as in `give_away`: what has come from a dead worker may be in its custodian's hands, too."""
        if self.connections.pop(connection.fd, None) is None:
            return
        self.unwatch(connection)
        connection.close()
        self.place.slot.connections = len(self.connections)
        if not self._accepting and self.may_accept():
            self._listen(on=True)

    # --- The application ------------------------------------------------------------------------

    def inside(self) -> list[tuple[layout.Lane, int]]:
        """The requests in flight, and the thread that each of them runs in. Callable from any thread."""
        raise NotImplementedError

    def serve(self, connection: Connection, request: Request, body: BinaryIO | None) -> None:
        """Call the application, then `settle`. What `sync` and `threads` differ in."""
        raise NotImplementedError

    def _tell_readiness(self, connection: Connection, _request: Request, _body: BinaryIO | None) -> None:
        """Answer a probe for the whole pool: in the loop, without the application, counted and logged nowhere."""
        codec = connection.codec
        status, text = (
            ("503 Service Unavailable", b"stopping\n") if self.place.board.leaving else ("200 OK", b"ready\n")
        )
        if self._stopping or not self._keepalive_timeout:
            codec.keep = False
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
        connection.running = True  # what is written now is an answer
        connection.write(codec.head(status, headers, len(text)) + codec.data(text) + codec.end())
        if not connection.out:
            connection.settled()
        self._finish(connection)
        self.settle(connection, time.monotonic())

    @staticmethod
    def _finish(connection: Connection) -> None:
        """A request has been answered: nothing of it is kept."""
        connection.request = None
        connection.continued = False
        connection.attempt = 1
        connection.served += 1
        connection.drop_body()

    def call(self, connection: Connection, request: Request, body: BinaryIO | None, lane: int) -> None:
        """Call the application for one request, on whatever thread this is, and write down how it went."""
        env = wsgi.environ(request, self._bases[connection.listener], body or BytesIO())
        identity = self._identify(connection, request, env)
        if body is not None and request.length is None and connection.body is not None:
            env["CONTENT_LENGTH"] = str(connection.body.size)  # the chunked coding is undone: say what is there
        began = time.monotonic()
        slot = self.place.slot
        version = slot.begin(
            lane, began, identity, request.method, request.target, connection.client, str(env.get(self._trace_key, "")),
            connection.fd, connection.codec.exchange, connection.attempt, connection.codec.keep,
        )  # fmt: skip
        marks.begin(slot, lane, version)
        if connection.attempt > 1:
            env["lastcall.attempt"] = connection.attempt
        if self.settings.journal:
            env["lastcall.durable"] = Seat(slot, lane, (str(env["SCRIPT_NAME"]), str(env["PATH_INFO"])))
        self.errors.request_id = identity
        if self._stopping or self._overfull or not self._keepalive_timeout:
            connection.codec.keep = False
        before = resource.getrusage(resource.RUSAGE_THREAD) if self._wants_usage else None
        connection.lane = lane
        connection.running = True
        outcome = wsgi.run(self.app, env, connection.codec, connection)
        connection.running = False
        connection.lane = None
        if outcome.gone:
            connection.codec.keep = False
        if not connection.out:
            slot.done(lane)
            connection.settled()
        slot.end(lane)
        self._finish(connection)
        if outcome.error:
            self.note(
                notes.AppFailed(
                    self.settings.pool, self.pid, f"{request.method} {request.target}", identity, outcome.error
                )
            )
        if self.place.access_log is not None:
            self._log_access(self.place.access_log, request, env, outcome, began, identity, before)
        self.requests += 1
        if 0 < self.place.spend_after <= self.requests:
            self._spend(f"{self.requests} requests")

    def _spend(self, why: str) -> None:
        """Say, once, that this worker is due for recycling."""
        if not self.spent:
            self.spent = why
            self.place.say(Report.SPENT, why)

    def _identify(self, connection: Connection, request: Request, env: wsgi.Environ) -> str:
        """Fill in who is asking; returns the request's id."""
        identity = connection.visit.request_id if connection.visit is not None else ""
        if not request.params:
            env["REMOTE_ADDR"] = connection.client
            env["REMOTE_PORT"] = connection.port
        if connection.trusted:
            given = env.get("HTTP_X_REQUEST_ID")
            if given is not None:
                identity = request_id(str(given))
            if not request.params:
                forwarded = env.get("HTTP_X_FORWARDED_FOR")
                if forwarded is not None:
                    env["REMOTE_ADDR"] = self._trust.client(str(forwarded), connection.client)
                if env.get("HTTP_X_FORWARDED_PROTO") == "https":
                    env["wsgi.url_scheme"] = "https"
        if not identity:
            identity = f"{self._id_prefix}{next(self._ids):08x}"
        env["lastcall.request_id"] = identity
        return identity

    def _log_access(
        self, log: AccessLog, request: Request, env: wsgi.Environ, outcome: wsgi.Outcome, began: float, identity: str,
        before: resource.struct_rusage | None,
    ) -> None:  # fmt: skip
        ended = time.time()
        duration = time.monotonic() - began
        record = Record(
            method=request.method, target=request.target, path=request.path, query=request.query,
            protocol=request.version, status=outcome.status, sent=outcome.sent,
            received=request.length or 0, client=str(env.get("REMOTE_ADDR") or "-"), began=ended - duration,
            duration=duration, request_id=identity, pid=self.pid, parent_pid=self._master_pid,
            pool=self.settings.pool, environ=env, headers=outcome.headers,
        )  # fmt: skip
        if before is not None:
            after = resource.getrusage(resource.RUSAGE_THREAD)
            record.cpu_user = after.ru_utime - before.ru_utime
            record.cpu_system = after.ru_stime - before.ru_stime
            record.memory = after.ru_maxrss * 1024  # the worker's peak: Python keeps no account per request
        log.write(record)

    def note(self, note: notes.Note) -> None:
        self.place.error_log.write(note)

    # --- Deadlines ---------------------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        leaves = self.draining or self.resting
        self._next_sweep = now if leaves else now + SWEEP
        if self._accept_again and self._accept_again <= now:
            self._accept_again = 0.0
            if self.may_accept():
                self._listen(on=True)
        if self.settings.max_memory and self.requests != self._weighed:
            self._weigh()
        for connection in list(self.connections.values()):
            if leaves and self._departs(connection) and self._depart(connection, now):
                continue
            if connection.peeked and connection.registered & select.EPOLLIN and connection.stalled():
                connection.take()
                self.watch(connection, select.EPOLLIN)
            if connection.deadline <= now and connection.registered:
                self._expire(connection, now)
        if self._stopping and self._closed() and not self.connections and not self._take(now):
            self._last = True
            self._listen(on=False)

    def _closed(self) -> bool:
        """Whether nobody new comes into the inbox, from us neither."""
        return self.place.board.closed and (self.closing is None or self.closing.over)

    def _weigh(self) -> None:
        """Look at the memory, where requests have run since the last time."""
        self._weighed = self.requests
        too_much = memory.excess(self.settings.max_memory)
        if too_much:
            self._spend(too_much)

    def _expire(self, connection: Connection, now: float) -> None:
        """Too late, unless it has spoken while we were busy."""
        if connection.lingering or connection.registered & select.EPOLLOUT:
            self.close(connection)
            return
        self._on_readable(connection, now)
        if connection.fd not in self.connections or connection.deadline > now:
            return
        if connection.request is not None:
            self._refuse(connection, 408, "the request body did not arrive in time")
        elif not connection.codec.idle:
            self._refuse(connection, 408, "the request head did not arrive in time")
        else:
            self._linger(connection, now)  # a request that crosses with our close is not reset

    # --- Draining ----------------------------------------------------------------------------------

    def _drain(self, now: float) -> None:
        """Take nothing new, but what the master takes from a stopping pool's queues; give away what others can serve."""
        if self.place.board.stopping and not self._stopping:
            self._stopping = True
            self._listen(on=False)
            self._sources = (self.place.inbox.fileno(),)  # the master empties the queues: runtime/closing.py
        elif not self._stopping:
            self._listen(on=False)
        self._next_sweep = now  # which tries to give away what is idle, and tries again while the inbox is full

    def _departs(self, connection: Connection) -> bool:
        """Whether no request runs on it; the rest of one that is still arriving can arrive elsewhere."""
        waits = connection.registered & select.EPOLLIN and not connection.out and not connection.lingering
        return bool(waits) and (connection.request is None or not self.place.board.stopping)

    def _depart(self, connection: Connection, now: float) -> bool:
        """An idle connection of a draining worker: to the inbox, while there are others to take it."""
        if self.place.board.stopping:
            grace = FRESH_GRACE if connection.unanswered else STOP_GRACE
            connection.deadline = min(connection.deadline, now + grace)
            return False
        if self.give_away(connection):
            return True
        if self.place.board.parking:  # no room, and nobody makes any
            self._overfull = True
            connection.deadline = min(connection.deadline, now + STOP_GRACE)
        return False  # the next sweep tries again

    def give_away(self, connection: Connection) -> bool:
        """Put a connection on which no request runs into the inbox; False when it has to stay here."""
        carried = connection.carried() if connection.visit is None else None
        if carried is None:
            return False
        parcel = Parcel(
            connection.fd, connection.listener, connection.client, int(connection.port), carried, connection.continued
        )
        if not connection.give(self.place.inbox, parcel):
            return False
        # By hand: epoll forgets a descriptor only when its last duplicate is closed, and one is on its way.
        self.unwatch(connection)
        self.connections.pop(connection.fd, None)
        connection.leave()
        self.place.slot.connections = len(self.connections)
        return True


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(now: float) -> str:
    """IMF-fixdate (RFC 9110 section 5.6.7). Not strftime: an application may have set a locale."""
    t = time.gmtime(now)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {clock} GMT"
