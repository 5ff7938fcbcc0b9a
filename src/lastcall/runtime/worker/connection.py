"""One client's connection inside a worker: its socket, its codec, what is on its way in and out."""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import struct
from typing import Final, Protocol

from lastcall.gateway.wsgi import ClientGone
from lastcall.protocol.exchange import Codec, Request
from lastcall.runtime.worker.body import Spool
from lastcall.runtime.worker.outgoing import NoRoom, Outgoing

DONT_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
HEAD_BYTES: Final = 8192
"""Read at a time while a head is awaited: most fit, and a larger buffer costs 0.3 microseconds more to make."""
BODY_BYTES: Final = 65536
_RESET: Final = struct.pack("ii", 1, 0)
"""struct linger (socket(7)): on, for 0 seconds."""
LINGER: Final = 2.0
"""Seconds after a refusal in which what the client still sends is read and dropped: closing with unread bytes would reset
the connection, and with it the answer on its way."""


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


class Connection:
    """A codec on a socket. Implements `gateway.wsgi.Sink`.

    All calls that touch the socket are non-blocking, but for `more` (a streamed body) and for a response that neither
    memory nor disk can hold.
    """

    __slots__ = (
        "_terms", "body", "client", "codec", "continued", "deadline", "ended", "fd", "lingering", "listener", "out",
        "port", "refused", "registered", "request", "served", "sock", "trusted",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, codec: Codec, listener: int, client: str, port: str, terms: Terms) -> None:
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
        self.continued = False
        self.out: Outgoing | None = None
        self.lingering = False
        self.refused = False
        self.ended = False  # the peer has closed its sending side
        self.served = 0
        self._terms = terms

    # --- In ------------------------------------------------------------------------

    def receive(self) -> bool:
        """Read what has arrived into the codec; False when nothing had. Raises OSError when the peer has reset."""
        try:
            data = self.sock.recv(HEAD_BYTES if self.request is None else BODY_BYTES, DONT_WAIT)
        except BlockingIOError:
            return False
        self.ended = not data
        self.codec.receive(data)
        return True

    def more(self) -> bytes:
        """The next bytes of a streamed body, waiting for them; b"" at its end. Raises OSError, ProtocolError."""
        codec = self.codec
        if not self.continued:
            self.continued = True
            if self.request is not None and self.request.expects_continue:
                self.write(codec.interim())
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
        if self.out:
            self._keep(data)
            return
        sent = self._send_now(data)
        if sent < len(data):
            self._keep(data[sent:])

    def _keep(self, data: bytes) -> None:
        out = self.out
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
            return self.sock.send(data, DONT_WAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ClientGone from error

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
        if head:
            self._keep(head)
        if count:
            try:
                self.out.add_file(fileno(), tell(), count)
            except OSError as error:
                raise ClientGone from error
        self.flush()

    # --- The end ---------------------------------------------------------------------

    def half_close(self) -> None:
        """Say that nothing more will be sent; keep reading (see LINGER)."""
        self.lingering = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self) -> None:
        """Have `close` end the connection with RST: the one way to say that a response without a length is not whole."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass

    def close(self) -> None:
        if self.out is not None:
            self.out.close()
        if self.body is not None:
            self.body.close()
        self.sock.close()
