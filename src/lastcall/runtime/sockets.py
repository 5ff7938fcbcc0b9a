"""Listeners: opened by the master (or by systemd), shared by all workers of a pool.

One socket per address for the whole pool: with one per worker (SO_REUSEPORT) the kernel's queue of a worker that ends is
lost with it.
"""

from __future__ import annotations

import errno
import grp
import itertools
import os
import pwd
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lastcall.core.address import Address, parse
from lastcall.protocol import handover

_STREAM: Final = int(socket.SOCK_STREAM)


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
        return f"{'fastcgi' if self.fastcgi else 'http'} {bound(self.sock, self.address)}"


@dataclass(frozen=True, slots=True)
class SocketFile:
    """Who may connect to a UNIX socket: mode, and owner and group by name or number ("" leaves them)."""

    mode: int
    owner: str = ""
    group: str = ""


_numbers = itertools.count()


def listen(address: Address, *, fastcgi: bool, backlog: int, access: SocketFile) -> Listener:
    """Open a listener, non-blocking. Raises ListenError."""
    try:
        sock = _unix(address.path, access) if address.family == "unix" else _tcp(address)
        sock.listen(backlog)
    except OSError as error:
        raise ListenError(_explain(address, error)) from error
    sock.setblocking(False)
    number = next(_numbers)
    if address.family == "unix":
        return Listener(sock, number, address, fastcgi, "localhost", "80", int(sock.family))
    host, port = sock.getsockname()[:2]
    name = host if host not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104 - compared, not bound
    return Listener(sock, number, address, fastcgi, name, str(port), int(sock.family))


def left(listener: Listener) -> handover.Listener:
    """A listener as it is written down for the next image of the master."""
    return handover.Listener(
        listener.fd, listener.number, str(listener.address), listener.fastcgi, listener.name, listener.port
    )


def adopt(there: handover.Listener) -> Listener:
    """A listener that another image of this process has opened. Those that are opened later get higher numbers."""
    global _numbers  # noqa: PLW0603 - a counter of the process
    _numbers = itertools.count(max(there.number + 1, next(_numbers)))
    address = parse(there.address)
    return Listener(socket.socket(fileno=there.fd), there.number, address, there.fastcgi, there.name, there.port)


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
        return f"cannot listen on {address}: address already in use (who has it: ss -lptn, or lastcall status)"
    if error.errno == errno.EACCES:
        return f"cannot listen on {address}: permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {address}: no interface of this machine has that address"
    return f"cannot listen on {address}: {reason}"


def unlink(listener: Listener) -> None:
    """Remove a UNIX listener's path, if it still leads to this socket."""
    address = listener.address
    if address.family != "unix" or address.path.startswith("@"):
        return
    Path(address.path).unlink(missing_ok=True)
