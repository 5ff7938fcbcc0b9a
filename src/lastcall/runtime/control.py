"""The control socket's server side: commands in, replies out, nobody waited for.

A client that is slow, silent, or sends garbage costs one of CLIENTS_MAX places and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lastcall.protocol.control import LINE_MAX, Command, Reply
from lastcall.protocol.handover import Client
from lastcall.runtime import sender

NAME: Final = "control.sock"
CLIENTS_MAX: Final = 64
COMMAND_MAX: Final = 4096
"""Bytes of a command's line."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that has arrived, and from whom. `ticket` is what its answer goes by."""

    ticket: int
    command: Command
    pid: int
    uid: int


@dataclass(slots=True)
class _Client:
    sock: socket.socket
    ticket: int
    received: bytes = b""
    heard: bool = False
    """It has said its command. What it says after that is no command, and is dropped."""
    silent: bool = False
    """It will say nothing more, and listens: `socat` closes its sending side when it has sent all."""


class ControlServer:
    """All of it non-blocking; the master's loop says when a descriptor is readable."""

    def __init__(self, directory: Path) -> None:
        """Listen on `control.sock` in the run directory, however long its path. Raises OSError."""
        self._path = directory / NAME
        self._path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        folder = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        try:
            self._sock.bind(f"/proc/self/fd/{folder}/{NAME}")  # sun_path holds 107 bytes, a run directory may have more
        finally:
            os.close(folder)
        self._sock.listen(CLIENTS_MAX)
        self._clients: dict[int, _Client] = {}
        self._tickets = 0

    @classmethod
    def adopt(cls, directory: Path, fd: int, clients: Iterable[Client]) -> ControlServer:
        """The server that another image of this process has opened, with those who wait for its answers."""
        self = cls.__new__(cls)
        self._path = directory / NAME
        self._sock = socket.socket(fileno=fd)
        self._clients = {
            client.fd: _Client(socket.socket(fileno=client.fd), client.ticket, client.received) for client in clients
        }
        self._tickets = max((client.ticket for client in self._clients.values()), default=0)
        return self

    def clients(self) -> list[Client]:
        """Those who have not been answered, as `adopt` wants them."""
        return [Client(fd, client.ticket, client.received) for fd, client in self._clients.items()]

    def fileno(self) -> int:
        return self._sock.fileno()

    def accept(self) -> int | None:
        """Take a new client; its descriptor, to be watched. None when there is none, or no place."""
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return None
        if len(self._clients) >= CLIENTS_MAX:
            sock.close()
            return None
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINE_MAX)
        self._tickets += 1
        self._clients[sock.fileno()] = _Client(sock, self._tickets)
        return sock.fileno()

    def owns(self, fd: int) -> bool:
        return fd in self._clients

    def silent(self, fd: int) -> bool:
        """A client is there that will say nothing more: it need not be watched."""
        return fd in self._clients and self._clients[fd].silent

    def read(self, fd: int) -> Asked | None:
        """What a client asks, once its line is complete. The client may be gone afterwards, or `silent`."""
        client = self._clients[fd]
        try:
            data = client.sock.recv(COMMAND_MAX)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            client.silent = client.heard and not _gone(client.sock)
            if not client.silent:
                self._drop(fd)
            return None
        if client.heard:
            return None
        client.received += data
        line, newline, _ = client.received.partition(b"\n")
        if not newline:
            if len(client.received) > COMMAND_MAX:
                self.answer(client.ticket, Reply(ok=False, text="the command is too long"))
            return None
        try:
            command = msgspec.json.decode(line, type=Command)
        except msgspec.DecodeError as error:
            self.answer(client.ticket, Reply(ok=False, text=f"not a command: {error}"))
            return None
        client.heard = True
        return Asked(client.ticket, command, *sender.peer(client.sock))

    def answer(self, ticket: int, reply: Reply) -> None:
        """Send a line; after a final one the client is dropped. A client that is gone already is nobody's trouble."""
        for fd, client in self._clients.items():
            if client.ticket == ticket:
                line = msgspec.json.encode(reply) + b"\n"
                assert len(line) <= LINE_MAX
                # The buffer was made large enough for any line; what does not fit all the same is a client that does
                # not read, and is cut off: nobody here waits for it.
                with contextlib.suppress(OSError):
                    client.sock.send(line, socket.MSG_NOSIGNAL)
                if reply.final:
                    self._drop(fd)
                return

    def _drop(self, fd: int) -> None:
        self._clients.pop(fd).sock.close()

    def close(self, *, unlink: bool) -> None:
        """Close everything; `unlink` in the master only, a worker just lets go."""
        for fd in list(self._clients):
            self._drop(fd)
        self._sock.close()
        if unlink:
            self._path.unlink(missing_ok=True)


def _gone(sock: socket.socket) -> bool:
    """Whether the peer has closed both ways, not only its sending side."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
