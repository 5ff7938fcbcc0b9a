"""The farewell: connections that nobody will serve are answered all the same, and closed so that the answer arrives.

A client that was accepted, or stands in a queue, has been promised an answer. `503` with `Retry-After` and `Connection:
close` is one: it says that nothing was done.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

from lastcall.protocol import fastcgi, http1
from lastcall.protocol.exchange import Codec, ProtocolError
from lastcall.runtime.inbox import Parcel

WAIT: Final = 0.5
"""Seconds that a request on its way is waited for: FastCGI can only answer a request, and HTTP clients answer best."""
LINGER: Final = 2.0
"""Seconds in which a client may take its answer; what it still sends is read and dropped."""
_PIECE: Final = 65536


class _Guest:
    """A connection on its way out."""

    def __init__(self, parcel: Parcel, *, is_fastcgi: bool, now: float) -> None:
        self.sock = socket.socket(fileno=parcel.fd)
        self.sock.setblocking(False)
        self.client = parcel.client or "unix"
        self.request = ""
        self.refused = False
        self.deadline = now + WAIT
        self._refusal = parcel.refusal
        self._codec: Codec
        self._codec = fastcgi.Connection() if is_fastcgi else http1.Connection(http1.Limits(), http1.Stamp())
        if parcel.carried:
            self._codec.receive(parcel.carried)

    def hear(self, why: str, now: float) -> bool:
        """Take what has arrived, and answer once there is a request; False when the connection is to be closed."""
        try:
            data: bytes | None = self.sock.recv(_PIECE)
        except BlockingIOError:
            data = None
        except OSError:
            return False
        if self.refused:
            return data != b"" and now < self.deadline
        if data is not None:
            self._codec.receive(data)
        try:
            request = self._codec.request()
            if request is not None:
                self.request = f"{request.method} {request.target}"
        except ProtocolError:
            self.request = "what is no request"
        if (
            self.request
            or data == b""
            or self.deadline <= now
            or (self._refusal is not None and self._refusal.exchange)
        ):
            self._refuse(why, now)
        return True

    def _refuse(self, why: str, now: float) -> None:
        self.refused = True
        self.deadline = now + LINGER
        try:
            refusal = self._refusal
            answer = self._codec.refuse(503, why) if refusal is None else self._codec.turn_away(refusal)
            self.sock.send(answer, socket.MSG_NOSIGNAL)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.deadline = now


def refuse(
    parcels: Iterable[Parcel], is_fastcgi: Callable[[int], bool], why: str, told: Callable[[str, str], None]
) -> None:
    """Answer 503 to these connections, and close them; `told` hears each request and its client.

    Takes at most WAIT + LINGER seconds, and no longer than the clients do.
    """
    now = time.monotonic()
    poll = select.poll()
    guests: dict[int, _Guest] = {}
    for parcel in parcels:
        guests[parcel.fd] = _Guest(parcel, is_fastcgi=is_fastcgi(parcel.listener), now=now)
        poll.register(parcel.fd, select.POLLIN)
    ready = list(guests)
    while guests:
        for fd in ready:
            guest = guests[fd]
            refused = guest.refused
            stays = guest.hear(why, now)
            if guest.request and not refused and guest.refused:
                told(guest.request, guest.client)
            if not stays:
                poll.unregister(fd)
                guest.sock.close()
                del guests[fd]
        if guests:
            due = min(guest.deadline for guest in guests.values())
            readable = {fd for fd, _ in poll.poll(max(0.0, due - time.monotonic()) * 1000 + 1)}
            now = time.monotonic()
            ready = [fd for fd, guest in guests.items() if fd in readable or guest.deadline <= now]
