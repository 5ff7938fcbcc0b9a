"""The inbox: connections that need a worker, on their way from one to another.

One SEQPACKET socketpair per pool, its ends inherited by every worker: whoever has a connection that it cannot serve now
puts it in, whoever is idle takes one out. A packet carries the descriptor (SCM_RIGHTS) and a small head: which listener
the connection came from, its client, and the bytes that were taken off it but not served (most often none: the kernel
keeps them). The kernel bounds the queue; a put that does not fit is refused, and the connection stays where it is.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from lastcall.protocol.refusal import Refusal
from lastcall.runtime import label

ROOM: Final = 4 << 20
"""Bytes that may wait in the inbox: some ten thousand connections."""
_SO_SNDBUFFORCE: Final = 32
_HEAD: Final = struct.Struct("<BHBH?BH")
"""label, listener, length of the client's address, its port, continued, attempt, length of a refusal."""
CARRIED_MAX: Final = 65536
"""Bytes taken off but not served that may travel with a connection: a request's head, or more of it."""
_PACKET_MAX: Final = _HEAD.size + 255 + 65535 + CARRIED_MAX
_RIGHTS: Final = socket.CMSG_SPACE(4)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A connection on its way. `listener` is the index of the listener it was accepted from.

    `continued`: its client has had its 100 Continue for the request that is under way.
    """

    fd: int
    listener: int
    client: str
    port: int
    carried: bytes
    continued: bool = False
    attempt: int = 1
    """Of the request that is the next to be read from it: how often it has been given to a worker."""
    refusal: Refusal | None = None
    """Not to be run: answer this, and close."""


class Inbox:
    """Both ends of the pool's inbox. Descriptors are the pool's: opened once, closed when the pool ends."""

    def __init__(self, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        """A new one, or one that was there before us, with the connections that lie in it."""
        if ends is None:
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._out, self._in = ends
        try:
            # A packet takes up about 768 bytes of it; the kernel gives twice this where net.core.wmem_max allows.
            self._in.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, ROOM)
        except OSError:
            self._in.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)  # without CAP_NET_ADMIN, up to wmem_max
        self._out.setblocking(False)
        self._in.setblocking(False)
        self.starved = False
        """The last look found no descriptor to take a connection with."""

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        """Where connections come out, and where they are put in: for whoever has the inbox after us."""
        return self._out, self._in

    def fileno(self) -> int:
        """Readable when a connection waits."""
        return self._out.fileno()

    def put(self, parcel: Parcel, about_to: Callable[[], None] | None = None) -> bool:
        """Hand a connection over; False when there is no room. The caller then closes its own descriptor, or keeps it.

        `about_to` is called just before, when everything is ready. Raises OSError for what is no open file.
        """
        client = parcel.client.encode("latin-1", "replace")[:255]
        if len(parcel.carried) > CARRIED_MAX:
            return False
        refusal = b"" if parcel.refusal is None else msgspec.json.encode(parcel.refusal)
        number = label.put(parcel.fd)
        head = _HEAD.pack(
            number, parcel.listener, len(client), parcel.port, parcel.continued, parcel.attempt, len(refusal)
        )
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [parcel.fd]))]
        if about_to is not None:
            about_to()
        try:
            self._in.sendmsg([head, client, refusal, parcel.carried], rights)
        except (
            OSError
        ):  # full (EAGAIN, ENOBUFS), or too many descriptors under way (ETOOMANYREFS): it stays where it is
            return False
        return True

    @property
    def empty(self) -> bool:
        """Nothing is on its way."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        return not poll.poll(0)

    def take(self) -> Parcel | None:
        """The next connection, or None when none waits, or there is no descriptor for it (`starved`)."""
        while True:
            try:
                os.close(os.dup(self._out.fileno()))  # what finds no descriptor is lost with its packet
            except OSError:
                self.starved = True
                return None
            self.starved = False
            try:
                packet, ancillary, _, _ = self._out.recvmsg(_PACKET_MAX, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError:
                # EMFILE is reported as a packet without rights; anything else has no connection in it either.
                return None
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    (fd,) = array.array("i", data[:4])
                    if label.taken(fd, packet[0]):
                        return _unpack(packet, fd)
                    os.close(fd)
                    break  # another copy of it was taken before
            else:
                return None

    def close(self) -> None:
        self._out.close()
        self._in.close()


def _unpack(packet: bytes, fd: int) -> Parcel:
    _, listener, length, port, continued, attempt, refused = _HEAD.unpack_from(packet)
    at = _HEAD.size + length
    client = packet[_HEAD.size : at].decode("latin-1")
    refusal = msgspec.json.decode(packet[at : at + refused], type=Refusal) if refused else None
    return Parcel(fd, listener, client, port, packet[at + refused :], continued, attempt, refusal)
