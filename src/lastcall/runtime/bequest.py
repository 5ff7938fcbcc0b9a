"""A worker's door: where the next master is let in, when there is none, and what it is given then.

The links to the master keep their descriptors' numbers: the new master's are put in their place (dup2), so that nobody else
in the process, and not the custodian either, which shares the table, need know of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lastcall.protocol import adoption
from lastcall.protocol.adoption import Claim, Stage, Standing
from lastcall.runtime import rights, sender
from lastcall.runtime.board import Board
from lastcall.runtime.heritage import identify
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.sockets import Listener

BACKLOG: Final = 8
"""Of a door: each master knocks once or twice."""
PATIENCE: Final = 5.0
"""Seconds for a claimant that has connected to say so."""


@dataclass(slots=True)
class Bequest:
    """What a worker leaves to whoever is master next. Its custodian has a copy: it speaks for a worker that is dead."""

    door: socket.socket
    path: Path
    """Of the door: absolute, for the application may be somewhere else."""
    owner: int
    """The user that the master ran as: only this one's claims count, and root's."""
    timeout: float
    """Seconds for which another master is waited for."""
    serial: int
    pid: int
    link: socket.socket
    custody: socket.socket | None
    listeners: Sequence[Listener]
    inbox: Inbox
    outputs: Sequence[tuple[str, int]]
    """Streams, and our copies of their reading ends: without them whoever prints while there is no master gets EPIPE."""
    board: Board
    slot: int
    file: tuple[int, int] | None = None
    """What the door's path led to when it was bound."""

    def admit(self, stage: Stage, spent: str = "", rests: Sequence[bytes] = ()) -> Claim | None:
        """Let in who stands at the door, and make it the master; None: it was nobody of ours.

        Raises BlockingIOError where nobody stands there, and OSError.
        """
        guest, _ = self.door.accept()
        with guest:
            _, uid = sender.peer(guest)
            if uid not in (0, self.owner):
                return None
            guest.settimeout(PATIENCE)
            try:
                packet, fds = rights.receive(guest, adoption.PACKET_MAX, 1)
                claim = msgspec.json.decode(packet, type=Claim)
            except OSError:
                return None
            except msgspec.MsgspecError:
                claim = Claim(adoption.FORMAT, 0, wanted=False)
            for fd in fds:
                if self.custody is not None:
                    os.dup2(fd, self.custody.fileno(), inheritable=False)
                os.close(fd)
            if not claim.wanted or claim.format != adoption.FORMAT:
                return Claim(adoption.FORMAT, claim.pid, wanted=False)
            guest.settimeout(None)
            os.dup2(guest.fileno(), self.link.fileno(), inheritable=False)
            self._introduce(guest, stage, spent, rests)
        return claim

    def _introduce(self, guest: socket.socket, stage: Stage, spent: str, rests: Sequence[bytes]) -> None:
        standing = Standing(
            adoption.FORMAT, self.serial, self.pid, stage, spent, self.custody is not None,
            [listener.papers for listener in self.listeners], [stream for stream, _ in self.outputs], list(rests),
        )  # fmt: skip
        fds = [listener.fd for listener in self.listeners] + [end.fileno() for end in self.inbox.ends]
        fds += [fd for _, fd in self.outputs]
        try:
            rights.send(guest, msgspec.json.encode(standing), fds, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has died again: its end is noticed where the link is heard

    def open(self) -> None:
        """From now on somebody may knock, and sees who we are: SO_PEERCRED is of who calls listen(2). Raises OSError."""
        self.file = identify(str(self.path))
        self.door.listen(BACKLOG)
        self.door.setblocking(False)

    def close(self) -> None:
        """Nobody is to knock any more. In a directory that is not the worker's own the path stays, and leads nowhere."""
        self.door.close()
        with contextlib.suppress(OSError):
            if identify(str(self.path)) == self.file:  # else it is another worker's by now
                self.path.unlink(missing_ok=True)
