"""Closing time: how the pool's own listeners end without losing anybody who has reached them.

The kernel completes handshakes on its own: a client that stands in a listener's queue believes that it is served, and is
reset when the listener closes. So, in this order, and in the master, which is never busy with a request:

1. Nobody new gets in. UNIX: the path is removed and the socket shut down for new clients; its queue stays. TCP: the
   listener drops SYNs, but not the last packet of a handshake under way (`_freeze`).
2. The queue is emptied into the inbox, whose connections the workers serve until they are told that no more will come.
3. When nothing has come for QUIET, and no handshake is or may be under way, the TCP socket is shut down: for all
   processes that have it, at once. From then on clients are refused.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lastcall.runtime.inbox import Inbox, Parcel
from lastcall.runtime.sockets import Listener, unlink

QUIET: Final = 0.1
"""Seconds without a new connection after which a frozen listener is closed: many times what a handshake's last packet takes
on a local network. Of one that takes longer the kernel knows: see HALF_OPEN_MAX."""
HALF_OPEN_MAX: Final = 3.5
"""Seconds that handshakes under way are waited for; after them they are a flood, or gone. A full queue drops the last packet
of a handshake, and the client believes that it is connected: it is heard when it sends that again (after 0.2, 0.4, 0.8, 1.6,
3.2 seconds), or when the kernel asks again (after 1, 2, 4). In the first six seconds of a connection no two of these are
further apart."""
CLOSING_MAX: Final = 5.0
"""Seconds after which a queue is closed as soon as it is empty, though clients still get in: see `_freeze`."""
LOOK: Final = 0.02
"""Seconds between two looks at the queue."""
BACKLOG: Final = 65535
"""How long the queue may become while it is closed; the kernel has an upper bound of its own (net.core.somaxconn)."""

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
_FILTER: Final = (
    (0x30, 0, 0, 13),  # ldb [13]: the flags of the TCP header, which is what the filter sees, on IPv4 and IPv6
    (0x54, 0, 0, 0x12),  # and 0x12: SYN and ACK
    (0x15, 0, 1, 0x02),  # jeq 0x02: SYN alone
    (0x06, 0, 0, 0),  # ret 0: drop
    (0x06, 0, 0, 0x40000),  # ret: take all of it
)
_SYN_RECV: Final = b"03"
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("32xI")
"""SK_MEMINFO_DROPS (linux/sock_diag.h): packets that a socket has dropped."""


class Closing:
    """The end of these listeners. To be looked at when it is `due`, until it is `over`; then the inbox gets no more."""

    def __init__(self, listeners: Iterable[Listener], inbox: Inbox, now: float) -> None:
        """Let nobody new in. From here on whoever accepts from these listeners must `thaw` what it accepts."""
        self._inbox = inbox
        self._waiting: deque[Parcel] = deque()
        self._open = list(listeners)
        self._frozen: list[Listener] = []
        self._began = self._heard = now
        self._overflowed = any(_has_overflowed(listener.sock) for listener in self._open)
        for listener in self._open:
            if listener.address.family == "unix":
                unlink(listener)
                _shut(listener)
            elif _freeze(listener.sock):
                self._frozen.append(listener)
                # Whoever was turned away by a full queue comes back, and many in one moment: they were turned away in one.
                listener.sock.listen(BACKLOG)

    @property
    def over(self) -> bool:
        """Every queue is closed, and all that was in them is in the inbox."""
        return not self._open and not self._waiting

    def due(self, now: float) -> float | None:
        """When to look again."""
        return None if self.over else now + LOOK

    def look(self, now: float) -> None:
        """Take whoever stands in a queue, and close those that will stay empty."""
        for listener in list(self._open):
            if self._empty(listener):
                self._heard = now
            if listener not in self._frozen or self._is_quiet(now):
                # Without a pause between the last look and this: a client that comes in between is reset.
                self._empty(listener)
                _shut(listener)
                self._empty(listener)  # UNIX: the queue has outlived the shutdown
                self._open.remove(listener)
        self._hand_over()

    def end(self) -> list[Parcel]:
        """Nobody is left to serve: close what is open, and return whoever has not been served."""
        for listener in self._open:
            self._empty(listener)
            _shut(listener)
            self._empty(listener)
        self._open.clear()
        while (parcel := self._inbox.take()) is not None:
            self._waiting.append(parcel)
        rest = list(self._waiting)
        self._waiting.clear()
        return rest

    def _is_quiet(self, now: float) -> bool:
        elapsed = now - self._began
        if now - self._heard < QUIET:
            return elapsed >= CLOSING_MAX
        if self._overflowed and elapsed < HALF_OPEN_MAX:
            return False
        return elapsed >= QUIET + HALF_OPEN_MAX or not _half_open(self._frozen)

    def _empty(self, listener: Listener) -> bool:
        """Accept until nobody waits; whether anybody did."""
        before = len(self._waiting)
        while (parcel := accept(listener)) is not None:
            self._waiting.append(parcel)
        return len(self._waiting) > before

    def _hand_over(self) -> None:
        while self._waiting and self._inbox.put(self._waiting[0]):
            _close(self._waiting.popleft())


def accept(listener: Listener) -> Parcel | None:
    """The next connection of a queue, as it travels through the inbox; None when there is none that can be taken."""
    while True:
        try:
            sock, address = listener.sock.accept()
        except OSError as error:
            if error.errno == errno.ECONNABORTED:
                continue
            return None  # none waits; or, with EMFILE, there is no room until those that we have are handed over
        thaw(sock)
        client, port = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
        return Parcel(sock.detach(), listener.number, client, port, b"")


def thaw(sock: socket.socket) -> None:
    """Free an accepted connection of what it has inherited from a frozen listener."""
    if sock.family == socket.AF_UNIX:
        return
    for level, option in ((socket.SOL_SOCKET, _SO_DETACH_FILTER), _least_hops(sock)):
        try:
            sock.setsockopt(level, option, 0)
        except OSError:
            pass  # ENOENT: it had no filter


def _freeze(sock: socket.socket) -> bool:
    """Have the kernel drop the SYNs that come for a listener; whether it does.

    By a filter, which takes CAP_NET_ADMIN. Without it by the least number of hops that a packet must have left, set to
    what hardly anybody begins with: the kernel asks for it when a SYN arrives, but not when a handshake is completed.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _FILTER)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_FILTER), ctypes.addressof(buffer))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        try:
            sock.setsockopt(*_least_hops(sock), 255)
        except OSError:
            return False
    return True


def _least_hops(sock: socket.socket) -> tuple[int, int]:
    if sock.family == socket.AF_INET6:
        return socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT
    return socket.IPPROTO_IP, _IP_MINTTL


def _shut(listener: Listener) -> None:
    try:
        listener.sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # ENOTCONN: it is shut already


def _has_overflowed(sock: socket.socket) -> bool:
    """Whether a listener's queue was ever full, before it is frozen.

    Then there may be clients that believe to be connected and of whom the kernel has no record: it answers them with SYN
    cookies, and drops the cookie that comes back to a full queue.
    """
    try:
        (drops,) = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    except (OSError, struct.error):
        return False
    return bool(drops)


def _half_open(listeners: list[Listener]) -> bool:
    """Whether a handshake for one of these listeners is under way, as far as the kernel says."""
    ports = {b"%04X" % listener.sock.getsockname()[1] for listener in listeners}
    for name in ("tcp", "tcp6"):
        try:
            table = Path(f"/proc/net/{name}").read_bytes()
        except OSError:
            continue
        for line in table.splitlines()[1:]:
            fields = line.split(None, 4)
            if fields[3] == _SYN_RECV and fields[1].rpartition(b":")[2] in ports:
                return True
    return False


def _close(parcel: Parcel) -> None:
    socket.close(parcel.fd)
