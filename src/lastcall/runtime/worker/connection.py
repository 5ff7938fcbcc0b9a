"""One client's connection inside a worker: its socket, its codec, what is on its way in and out.

The kernel keeps the request: the codec is given what a peek has shown, and the bytes of a request leave the socket just
after the first byte of its answer has entered it. Until then whoever has the socket has the request, be it another worker
that the connection was handed to, or one that takes over from the dead; and in the moment between the two the kernel's
counts tell how far we were (`core/rescue.py`). A UNIX socket has no counts: there the request leaves first. What must hold
at every moment: the first `peeked` bytes in the kernel are the last `peeked` bytes that the codec has received.
"""

from __future__ import annotations

import ctypes
import io
import os
import select
import socket
import stat
import struct
from typing import Final, Protocol

from lastcall.core.rescue import WRAP
from lastcall.core.slot import REQUEST_BYTES, State
from lastcall.gateway.wsgi import ClientGone
from lastcall.protocol.exchange import Codec, Request
from lastcall.runtime import progress
from lastcall.runtime.inbox import Inbox, Parcel
from lastcall.runtime.sockets import reset_at_close
from lastcall.runtime.worker.body import Spool
from lastcall.runtime.worker.outgoing import NoRoom, Outgoing
from lastcall.runtime.worker.visits import Visit

DONT_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
HEAD_BYTES: Final = 8192
"""Read at a time while a head is awaited: most fit, and a larger buffer costs 0.3 microseconds more to make."""
BODY_BYTES: Final = 65536
PEEK_MAX: Final = 16384
"""Bytes of a request that the kernel keeps; a larger one is taken off as it arrives. What is unread must never keep the
client from sending the rest: 16 KiB come through an unread TCP connection even in segments of one byte as long as its
receive buffer has 32 KiB (measured; Linux starts at 128). For UNIX sockets, and smaller buffers, see `stalled`."""
PIECES_MAX: Final = 32
"""Pieces in which a request may come that the kernel keeps. A segment of one byte holds 700 of the kernel's memory, and
each look at it is a look at all that came before."""
LINGER: Final = 2.0
"""Seconds after a refusal in which what the client still sends is read and dropped: closing with unread bytes would reset
the connection, and with it the answer on its way."""
_PEEK: Final = socket.MSG_PEEK | DONT_WAIT
_DROP: Final = socket.MSG_TRUNC | DONT_WAIT
"""Read without a copy; AF_UNIX knows no MSG_TRUNC (for streams) and copies."""
_DROPPED: Final = bytearray(PEEK_MAX + 1)
"""Where nobody looks: shared by all connections and threads."""
UNIX_PIECE: Final = 32768
"""Bytes that a UNIX socket takes as one, or not at all (the kernel's largest buffer for one write is a little larger)."""
_HOLDING: Final = ctypes.PyDLL(None, use_errno=True)
"""The C library, called without letting go of the GIL: who does wakes another thread, and may lose the processor to it."""
_recv, _send = _HOLDING.recv, _HOLDING.send
_recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_recv.restype = _send.restype = ctypes.c_ssize_t
_UNSEEN: Final = ctypes.create_string_buffer(PEEK_MAX)
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("II")
"""Bytes of the receive buffer in use (bookkeeping included), and its size."""


class Terms(Protocol):
    """The settings that a connection needs."""

    @property
    def send_timeout(self) -> float: ...
    @property
    def body_timeout(self) -> float: ...
    @property
    def response_buffer(self) -> int: ...
    @property
    def tmp_dir(self) -> str: ...


class Pen(Protocol):
    """Writes into the slot what has become of a connection, for whoever finds it when this worker is dead."""

    def mark(self, fd: int, state: int) -> None: ...
    def answer(self, lane: int, written: int, length: int, taken: int, due: int, unread: int, kept: bool) -> None: ...
    def length(self, lane: int, length: int) -> None: ...
    def done(self, lane: int) -> None: ...
    def room(self, lane: int) -> int: ...


class Connection:
    """A codec on a socket. Implements `gateway.wsgi.Sink`.

    All calls that touch the socket are non-blocking, but for `more` (a streamed body) and for a response that neither
    memory nor disk can hold.
    """

    __slots__ = (
        "_before", "_first", "_glanced", "_pen", "_pieces", "_read", "_terms", "attempt", "body", "client", "codec",
        "continued", "counted", "deadline", "due", "ended", "fd", "lane", "lingering", "listener", "out", "peeked", "peeks",
        "port", "refused", "registered", "request", "running", "served", "sock", "trusted", "visit",
        "written",
    )  # fmt: skip

    def __init__(
        self, sock: socket.socket, codec: Codec, listener: int, client: str, port: str, terms: Terms,
        pen: Pen,
    ) -> None:  # fmt: skip
        self._pen = pen
        self.sock = sock
        self.fd = sock.fileno()
        self.codec = codec
        self.listener = listener
        self.client = client
        self.port = port
        self.trusted = False
        self.deadline = 0.0
        self.registered = 0  # the epoll events asked for; 0: not registered
        self.request: Request | None = None
        self.body: Spool | None = None
        self.lane: int | None = None  # where the request under way stands in the slot; None: it does not
        self.counted = bool(client)  # the kernel keeps count of what is written and read: TCP
        self.written: int | None = None  # bytes that were ever sent; None: ask the kernel
        self._before: int | None = None  # bytes that were read by others before us; None: ask the kernel
        self._read = 0
        self._first = 0  # `written` when the answer under way began
        self.attempt = 1  # of the request that is the next, or under way
        self.running = False  # the application runs, and not a byte of its answer has been sent
        self.continued = False  # the client has been told to go on and send its body
        self.peeks = True  # all that belongs to no finished request is in the kernel
        self.peeked = 0
        self.due = 0  # bytes of the request under way, which its answer will take off
        self._pieces = 0
        self._glanced = 0
        self.visit: Visit | None = None  # a request that we make of ourselves
        self.out: Outgoing | None = None
        self.lingering = False
        self.refused = False
        self.ended = False  # the peer has closed its sending side
        self.served = 0
        self._terms = terms

    @property
    def unanswered(self) -> bool:
        """Nothing was ever sent to the client, as far as the kernel keeps an account."""
        if self.served or not self.counted or not self.codec.idle:
            return False
        counts = progress.counts(self.sock)
        return counts is not None and counts.written == 0

    # --- In ------------------------------------------------------------------------

    def receive(self) -> bool:
        """Show the codec what has arrived; False when nothing had. Raises OSError when the peer has reset.

        There may be more than it has seen: no edge tells of that, so whoever waits for one arms it anew (`Worker.watch`).
        """
        if not self.peeks:
            return self._take_in()
        peeked = self.peeked
        try:
            data = self.sock.recv(HEAD_BYTES if peeked < HEAD_BYTES else PEEK_MAX, _PEEK)
        except BlockingIOError:
            return False
        if not peeked:
            self.ended = not data
            self.codec.receive(data)
        elif len(data) > peeked:
            self._pieces += 1
            self.codec.receive(data[peeked:])
        elif self._hung_up():
            # No peek sees the end behind unread bytes. Nothing will become of these: they can as well be taken.
            self.take()
            return self._take_in()
        else:
            return False
        self.peeked = len(data)
        return True

    def _take_in(self) -> bool:
        try:
            data = self.sock.recv(HEAD_BYTES if self.request is None else BODY_BYTES, DONT_WAIT)
        except BlockingIOError:
            return False
        self.ended = not data
        self._read += len(data)
        if not self.lingering:
            self.codec.receive(data)
            self.taken()
        return True

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLRDHUP)
        return bool(poll.poll(0))

    def news(self) -> bool:
        """Whether there is something that the codec has not seen: a byte, or the end."""
        try:
            return self.sock.recv_into(_DROPPED, self.peeked + 1, _PEEK) != self.peeked or self._hung_up()
        except BlockingIOError:
            return False
        except OSError:
            return True

    def hold(self, more: int = 0) -> None:
        """Before waiting for more: what was peeked stays in the kernel, if all of the request can.

        `more`: bytes that are known to come.
        """
        if self.peeked + max(more, 1) > PEEK_MAX or self._pieces > PIECES_MAX or self.codec.idle:
            self.take()

    def take(self) -> None:
        """Take off what was peeked: from here on it is in the codec alone, and so is what follows, until that is idle."""
        self.peeks = self.codec.idle
        if not self.peeks:
            self.taken()
        if self.peeked:
            self._drop(self.peeked)

    def fresh(self) -> None:
        """Nobody has had it before us: there is nothing to ask the kernel."""
        self.written = self._before = 0

    def taken(self) -> None:
        """The request that is to be answered is not in the kernel, or not as a whole."""
        self._pen.mark(self.fd, State.TAKEN)

    def said(self) -> None:
        """A refusal has been handed to the kernel: nobody is to give it again."""
        if not self.counted:
            progress.promise(self.sock, given=True)

    def settled(self) -> None:
        """Nothing of an answer is left to be sent: from here on it is the next request that counts, if there will be one."""
        if self.codec.keep:
            self._pen.mark(self.fd, State.WHOLE if self.peeks or self.codec.idle else State.TAKEN)
        else:
            self._pen.mark(self.fd, State.OVER)

    def _answer(self, length: int) -> None:
        """A byte of the answer is about to leave. First it is written down: a request that is answered is not run again.

        `length`: bytes that are given now.
        """
        self.running = False
        codec, pen = self.codec, self._pen
        if codec.under_way:
            rest = codec.outstanding if self.counted else None
            length = 0 if rest is None else length + rest
        if not (self.peeks or codec.idle) or (not self.counted and length > UNIX_PIECE):
            length = 0
        if self.counted and (self.written is None or self._before is None):
            self._count()
        if self.lane is not None:
            self._first = self.written or 0
            taken = ((self._before or 0) + self._read) % WRAP
            pen.answer(self.lane, self._first, length, taken, self.due, self.peeked, codec.keep)
        if self.due and not (self.counted and self.lane is not None):
            pen.mark(self.fd, State.TAKING)
            self._take_off()
        pen.mark(self.fd, State.OPEN_ENDED if codec.under_way and codec.open_ended else State.ANSWERING)

    def _count(self) -> None:
        """How much was written and read, by us and by others: it has come from another worker, or was sent in the loop."""
        counts = progress.counts(self.sock)
        if counts is None or counts.written is None:
            self.counted = False
            return
        self.written = counts.written
        if self._before is None:
            self._before = (counts.taken - self._read) % WRAP

    def _answer_last(self, length: int) -> None:
        """The last bytes of the answer are about to leave, after others: now it is known how many there are."""
        if self.lane is not None and self.counted and self.written is not None and (self.peeks or self.codec.idle):
            self._pen.length(self.lane, (self.written - self._first + length) % WRAP)

    def _take_off(self) -> None:
        """Take the request off. What follows is to send its answer, and nothing shall come between."""
        lane = self.lane if self.due <= REQUEST_BYTES else None
        into = _UNSEEN if lane is None else self._pen.room(lane)
        self._drop(self.due, max(0, _recv(self.fd, into, self.due, DONT_WAIT)))

    def whole(self) -> None:
        """The request under way is complete: the first byte of its answer will take it off, and nothing behind it."""
        if self.peeked:
            behind = self.codec.behind
            if behind is None:
                self.take()
            else:
                self.due = self.peeked - behind

    def _drop(self, count: int, done: int = 0) -> None:
        """Read what was peeked, and look at it no more; so much of it has been read."""
        left = count - done
        try:
            while left:
                left -= self.sock.recv_into(_DROPPED, left, _DROP) or left
        except OSError:
            pass  # broken: whoever sends or reads next is told so again
        self.peeked -= count
        self._read += count
        self.due = 0
        self._pieces = 0

    def carried(self) -> bytes | None:
        """What goes with the connection to another worker; None when it has to stay, for a body on disk or an error."""
        if self.peeks:
            return b""
        read = b"" if self.body is None else self.body.held()
        return None if read is None else self.codec.unserved(read)

    def stalled(self) -> bool:
        """Nothing has come since this was asked last, perhaps because what is unread leaves no room for more.

        A UNIX socket's unread bytes count against its sender, each piece with 700 bytes of bookkeeping: 278 pieces,
        and it waits. That cannot be seen from here.
        """
        before, self._glanced = self._glanced, self.peeked
        if self._glanced != before:
            return False
        if self.sock.family == socket.AF_UNIX:
            return True
        used, size = _MEMINFO.unpack(self.sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        return bool(used * 2 > size)

    def drop_body(self) -> None:
        """Let go of a body that was taken in."""
        if self.body is not None:
            self.body.close()
            self.body = None

    def more(self) -> bytes:
        """The next bytes of a streamed body, waiting for them; b"" at its end. Raises OSError, ProtocolError."""
        codec = self.codec
        if not self.continued:
            self.continued = True
            if self.request is not None and self.request.expects_continue:
                running, self.running = self.running, False  # it is no answer yet
                self.write(codec.interim())
                self.running = running
        while (data := codec.read()) is None:
            if not self._wait(select.POLLIN, self._terms.body_timeout):
                codec.keep = False
                raise TimeoutError(f"the client sent nothing for {self._terms.body_timeout:g} seconds")
            self.receive()
        return data

    def _wait(self, events: int, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, events)
        return bool(poll.poll(timeout * 1000 if timeout else None))

    # --- Out -----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.running:
            self._answer(len(data))
        elif not self.codec.under_way:
            self._answer_last(len(data))
        if self.out:
            self._keep(data)
            return
        try:
            sent = self._send_now(data)
        finally:
            if self.due:
                self._drop(self.due)
        if sent < len(data):
            if not self.counted:
                self._pen.mark(self.fd, State.OPEN_ENDED)  # not all of it, and nobody could tell
            self._keep(data[sent:])
        elif not self.counted and self.lane is not None and not self.codec.under_way:
            self._pen.done(self.lane)

    def _keep(self, data: bytes) -> None:
        out = self.out
        self.written = None
        if out is None:
            self.sock.setblocking(False)  # sendfile(2) knows no MSG_DONTWAIT
            out = self.out = Outgoing(self._terms.response_buffer, self._terms.tmp_dir)
        while data:
            try:
                out.add(data)
            except NoRoom:
                if not self._wait(select.POLLOUT, self._terms.send_timeout):
                    raise ClientGone from None
                if self.flush():
                    data = data[self._send_now(data) :]
            else:
                return

    def _send_now(self, data: bytes) -> int:
        try:
            sent = self.sock.send(data, DONT_WAIT) if self.counted else _send_at_once(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGone from error
        if self.written is not None:
            self.written = (self.written + sent) % WRAP
        return sent

    def flush(self) -> bool:
        """Send what was kept, as far as the client takes it; True when nothing is left. Raises ClientGone."""
        if not self.out:
            return True
        try:
            return self.out.flush(self.sock)
        except OSError as error:
            raise ClientGone from error

    def span(self, file: object) -> int | None:
        fileno = getattr(file, "fileno", None)
        tell = getattr(file, "tell", None)
        if fileno is None or tell is None:
            return None
        try:
            status = os.fstat(fileno())
            position: int = tell()
        except (OSError, ValueError, io.UnsupportedOperation):
            return None
        return max(0, status.st_size - position) if stat.S_ISREG(status.st_mode) else None

    def sendfile(self, head: bytes, file: object, count: int) -> None:
        fileno, tell = getattr(file, "fileno", None), getattr(file, "tell", None)
        assert fileno is not None
        assert tell is not None
        length = len(head) + count
        if self.running:
            self._answer(length)
        before, self.written = self.written, None
        if self.out is None:
            self.sock.setblocking(False)
            self.out = Outgoing(self._terms.response_buffer, self._terms.tmp_dir)
        try:
            if not self.out and count:
                sent = self.sock.send(head, DONT_WAIT | socket.MSG_MORE)
                head = head[sent:]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ClientGone from error
        finally:
            if self.due:
                self._drop(self.due)
        if head:
            self._keep(head)
        if count:
            try:
                self.out.add_file(fileno(), tell(), count)
            except OSError as error:
                raise ClientGone from error
        if self.flush() and before is not None:
            self.written = (before + length) % WRAP

    # --- The end ---------------------------------------------------------------------

    def half_close(self) -> None:
        """Say that nothing more will be sent; keep reading (see LINGER)."""
        self.take()
        self.peeks = False
        self.lingering = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self) -> None:
        """Have `close` end the connection with RST: the one way to say that a response without a length is not whole."""
        reset_at_close(self.sock)

    def close(self) -> None:
        """Close in order: what is unread would make it a reset."""
        if self.peeked:
            self._drop(self.peeked)
        self._pen.mark(self.fd, State.OVER)
        self.leave()

    def give(self, inbox: Inbox, parcel: Parcel) -> bool:
        """Put it into the inbox; False when there is no room. Afterwards it is no longer ours: `leave` it."""
        # Noted before, and not after: whoever finds it here as well must not give it to a second worker.
        state = State.PARTED if parcel.carried else State.GIVEN
        if inbox.put(parcel, lambda: self._pen.mark(self.fd, state)):
            return True
        self.settled()
        return False

    def leave(self) -> None:
        """Let go of it, whoever has it now."""
        if self.out is not None:
            self.out.close()
        self.drop_body()
        self.sock.close()
        self._pen.mark(self.fd, State.UNKNOWN)  # for the next connection that gets this number


def _send_at_once(fd: int, data: bytes) -> int:
    sent: int = _send(fd, data, len(data), DONT_WAIT)
    if sent < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return sent
