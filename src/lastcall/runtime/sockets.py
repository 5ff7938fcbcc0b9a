"""Listeners: opened by the master, or taken over from whoever had them before; shared by all workers of a pool.

One socket per address for the whole pool: with one per worker (SO_REUSEPORT) the kernel's queue of a worker that ends is
lost with it.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lastcall.core.address import Address
from lastcall.protocol.papers import Papers
from lastcall.runtime.heritage import Inherited, Source, identify

_STREAM: Final = int(socket.SOCK_STREAM)
_RESET: Final = struct.pack("ii", 1, 0)
"""struct linger (socket(7)): on, for 0 seconds."""


class ListenError(Exception):
    """An address that cannot be listened on; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and what requests that come through it are told."""

    sock: socket.socket
    number: int
    """Its identity in this pool, through all generations: what a connection in the inbox knows it by."""
    address: Address
    fastcgi: bool
    name: str
    """SERVER_NAME."""
    port: str
    """SERVER_PORT."""
    family: int
    """Of the socket, as a plain number."""
    file: tuple[int, int] | None = None
    """Device and inode of a UNIX socket's path when it was bound."""
    source: Source | None = None
    """Where it was taken over from; None: it is our own."""
    lent: bool = False
    """A service manager goes on listening when we have ended: it is neither unlinked nor shut down."""
    activated: bool = False
    """It needs no address in the configuration."""

    @property
    def protocol(self) -> str:
        return "fastcgi" if self.fastcgi else "http"

    @property
    def papers(self) -> Papers:
        """What whoever has it after us must know."""
        return Papers(self.protocol, str(self.address), self.number, self.file, self.lent, self.activated)

    @property
    def fd(self) -> int:
        return self.sock.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        """The next connection and its address; as `socket.accept`, which makes enum members of family and type each time.

        That is two microseconds of the fifty that a request on a connection of its own costs.
        """
        fd, address = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what accept() itself calls
        return socket.socket(self.family, _STREAM, 0, fd), address

    def __str__(self) -> str:
        return f"{self.protocol} {bound(self.sock, self.address)}"


@dataclass(frozen=True, slots=True)
class SocketFile:
    """Who may connect to a UNIX socket: mode, and owner and group by name or number ("" leaves them)."""

    mode: int
    owner: str = ""
    group: str = ""


class _Numbers:
    """Numbers for listeners, none twice: neither in this process nor among those that it has taken over."""

    def __init__(self) -> None:
        self._next = 0

    def fresh(self) -> int:
        self._next += 1
        return self._next - 1

    def take(self, number: int) -> None:
        self._next = max(self._next, number + 1)


_numbers = _Numbers()


def reserve(numbers: Iterable[int]) -> None:
    """Give these numbers to no new listener."""
    for number in numbers:
        _numbers.take(number)


def listen(address: Address, *, fastcgi: bool, backlog: int, access: SocketFile) -> Listener:
    """Open a listener, non-blocking. Raises ListenError."""
    try:
        sock = _unix(address.path, access) if address.family == "unix" else _tcp(address)
        sock.listen(backlog)
    except OSError as error:
        raise ListenError(_explain(address, error)) from error
    file = identify(address.path) if address.family == "unix" else None
    papers = Papers("fastcgi" if fastcgi else "http", number=_numbers.fresh(), file=file)
    return _listener(sock, address, papers, None)


def adopt(inherited: Inherited, address: Address, *, fastcgi: bool, backlog: int) -> Listener:
    """A listener on a socket that was there before us. Its number stays: connections in the inbox go by it."""
    papers, sock = inherited.papers, inherited.sock
    if not papers.lent:
        sock.listen(backlog)  # which sets the bound of its queue anew; a socket unit has a bound of its own (Backlog=)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number = _numbers.fresh() if papers.number is None else papers.number
    file = papers.file or (identify(address.path) if address.family == "unix" else None)
    protocol = "fastcgi" if fastcgi else "http"
    return _listener(sock, address, Papers(protocol, "", number, file, papers.lent, papers.activated), inherited.source)


def _listener(sock: socket.socket, address: Address, papers: Papers, source: Source | None) -> Listener:
    sock.setblocking(False)
    name, port = "localhost", "80"
    if address.family != "unix":
        host, bound_port = sock.getsockname()[:2]
        name = host if host not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104 - compared, not bound
        port = str(bound_port)
    assert papers.number is not None
    return Listener(
        sock, papers.number, address, papers.protocol == "fastcgi", name, port, int(sock.family), papers.file, source,
        papers.lent, papers.activated,
    )  # fmt: skip


def _tcp(address: Address) -> socket.socket:
    family = socket.AF_INET6 if address.family == "tcp6" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted connections inherit it: a response's last segment is not held back for an ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str, access: SocketFile) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            sock.bind("\0" + path[1:])
            return sock
        _remove_stale(path)
        mask = os.umask(0o777 & ~access.mode)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        if access.owner or access.group:
            os.chown(path, _uid(access.owner), _gid(access.group))
    except KeyError as error:
        sock.close()
        raise OSError(errno.EINVAL, f"no such user or group: {error.args[0]}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _uid(owner: str) -> int:
    """By name or number; -1 leaves it. Raises KeyError."""
    return -1 if not owner else int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid


def _gid(group: str) -> int:
    return -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on; leave anything else, so that bind(2) says so."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.setblocking(False)
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:
            pass  # EAGAIN: its queue is full, so somebody is there


def bound(sock: socket.socket, address: Address) -> str:
    """The address as it came to be: with the port that the kernel chose."""
    if address.family == "unix":
        return f"unix:{address.path}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if address.family == "tcp6" else f"{host}:{port}"


def _explain(address: Address, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {address}: address already in use (who has it: ss -lptn, or lastcall status; "
            "after a stop with --hold it is a lastcall-holder, which `lastcall stop` ends)"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {address}: permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {address}: no interface of this machine has that address"
    return f"cannot listen on {address}: {reason}"


def reset_at_close(sock: socket.socket) -> None:
    """Have close(2) end the connection with RST: half of an answer must not pass for the whole."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # broken already


def unlink(listener: Listener) -> None:
    """Remove a UNIX listener's path, if it still leads to this socket: somebody else may have bound it since."""
    address = listener.address
    if address.family == "unix" and not address.abstract and identify(address.path) == listener.file:
        with contextlib.suppress(OSError):  # in a directory that is not ours: an orphan's user is not the master's
            Path(address.path).unlink(missing_ok=True)
