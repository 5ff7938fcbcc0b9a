"""The heritage: sockets that were there before us, and that we take over instead of opening our own.

They come through an exec, from a holder (`runtime/holder.py`), or from systemd. Whoever listens at an address asks here
first (`claim`). What nobody has claimed is closed by `close_rest`, and no later than when the start has succeeded.
"""

from __future__ import annotations

import enum
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lastcall.core import address as addresses
from lastcall.core.address import Address
from lastcall.protocol.papers import Papers


class Source(enum.Enum):
    """Where a socket comes from. The first ones are claimed first."""

    EXEC = "exec"
    """This process has had it since before it executed a new lastcall."""
    ORPHANS = "orphans"
    """The workers of a master that has died have kept it."""
    HOLDER = "holder"
    """A stopped master has left it behind."""
    STORED = "stored"
    """A stopped master has given it to systemd (FDSTORE)."""
    ACTIVATION = "activation"
    """systemd has opened it (a socket unit)."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that was there before us. Whoever claims it owns it."""

    sock: socket.socket
    source: Source
    papers: Papers = field(default_factory=Papers)

    def answers(self, protocol: str, address: Address) -> bool:
        """Whether it is what `--http ADDRESS` or `--fastcgi ADDRESS` asks for."""
        if self.papers.protocol not in ("", protocol) or not _listens(self.sock):
            return False
        if address.family == "unix":
            same = self.sock.family == socket.AF_UNIX and _path(self.sock) == address.path
            return same and (address.abstract or self._path_leads_here(address.path))
        if self.sock.family == socket.AF_UNIX:
            return False
        return self.papers.address == str(address) or _bound_to(self.sock, address)

    def _path_leads_here(self, path: str) -> bool:
        """A socket whose path was removed, or bound again by somebody else, hears nobody any more."""
        identity = identify(path)
        return identity is not None and self.papers.file in (None, identity)

    def address(self) -> Address:
        """Where it listens, whatever anybody has configured."""
        if self.papers.address:
            return addresses.parse(self.papers.address)
        if self.sock.family == socket.AF_UNIX:
            return Address("unix", path=_path(self.sock))
        host, port = self.sock.getsockname()[:2]
        return Address("tcp6" if self.sock.family == socket.AF_INET6 else "tcp", host, port)


class Heritage:
    """All that was there before us: listening sockets, and the two ends of an inbox, or None."""

    def __init__(
        self, found: Iterable[Inherited] = (), inbox: tuple[socket.socket, socket.socket] | None = None
    ) -> None:
        order = list(Source)
        self._found = sorted(found, key=lambda each: order.index(each.source))
        self.inbox = inbox

    def claim(self, protocol: str, address: Address) -> Inherited | None:
        """The socket that this listener is to use instead of one of its own; nobody else gets it afterwards."""
        for each in self._found:
            if each.answers(protocol, address):
                self._found.remove(each)
                return each
        return None

    def claim_activated(self) -> list[Inherited]:
        """Sockets that systemd has given a protocol (FileDescriptorName=http): listeners that need no configuration."""
        activated = [each for each in self._found if each.papers.activated]
        for each in activated:
            self._found.remove(each)
        return activated

    def numbers(self) -> list[int]:
        """The numbers that are taken: connections on their way know their listener by them."""
        return [each.papers.number for each in self._found if each.papers.number is not None]

    def rest(self) -> list[Inherited]:
        """What nobody has claimed."""
        return list(self._found)

    def close_rest(self) -> None:
        """Close what nobody has claimed, the inbox apart."""
        for each in self._found:
            each.sock.close()
        self._found = []


def identify(path: str) -> tuple[int, int] | None:
    """What a path leads to: device and inode; None for nothing."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listens(sock: socket.socket) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _path(sock: socket.socket) -> str:
    name = sock.getsockname()
    if isinstance(name, bytes):
        return "@" + os.fsdecode(name[1:])
    return str(name)


def _bound_to(sock: socket.socket, address: Address) -> bool:
    host, port = sock.getsockname()[:2]
    if port != address.port:
        return False
    if host == "::" and address.host == "0.0.0.0":  # noqa: S104 - systemd's `ListenStream=8000`: both at once
        return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    family = socket.AF_INET6 if address.family == "tcp6" else socket.AF_INET
    if sock.family != family:
        return False
    try:
        meant = socket.getaddrinfo(address.host, port, family, socket.SOCK_STREAM)
    except OSError:
        return False
    # Scopes of IPv6 (fe80::1%eth0) are the same number on both sides.
    return sock.getsockname() in [place for *_, place in meant]
