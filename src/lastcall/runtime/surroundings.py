"""What the master's shell is given: its surroundings, what each generation is to have, and a worker as it knows it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lastcall.core.settings import Settings
from lastcall.core.trust import Trust
from lastcall.protocol import handover
from lastcall.protocol.adoption import door
from lastcall.runtime.board import Board
from lastcall.runtime.control import ControlServer
from lastcall.runtime.cutlist import CutList
from lastcall.runtime.holder import Claim
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.logs import AccessLog, ErrorLog, OutputReader
from lastcall.runtime.port import Port
from lastcall.runtime.removal import Removals
from lastcall.runtime.rescue import Ward
from lastcall.runtime.service import Notifier
from lastcall.runtime.sockets import Listener
from lastcall.runtime.testament import Testament
from lastcall.runtime.upgrade import Upgrade


class ReloadRefused(Exception):
    """The new configuration cannot be used; the text says why. Nothing has changed."""


@dataclass(slots=True)
class Resources:
    """What the workers of one generation are given."""

    settings: Settings
    listeners: tuple[Listener, ...]
    access_log: AccessLog | None
    trust: Trust


@dataclass(slots=True)
class Link:
    """A worker as the shell has it: its socket, its output, its place."""

    serial: int
    slot: int
    generation: int
    sock: socket.socket
    born: float
    pid: int = 0
    output: tuple[OutputReader, ...] = ()
    serving: bool = False
    """It has been told to serve, and not to rest since."""
    reported: float = 0.0
    """When its request in flight was last found overdue: the time at which that request had begun."""
    max_age: float = 0.0
    """Seconds for which it may serve, jitter included; 0: for ever."""
    ward: Ward | None = None
    """Its custodian; None where there is no custody."""
    pidfd: int = -1
    """Of a worker that is not our child: what tells when it ends, and what it is killed by."""
    dead: int | None = None
    """Its wait status: it has ended, and what it has left is being judged. Its pid may be somebody else's by now."""

    def leave(self) -> None:
        """In another process: close what is the master's."""
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        for reader in self.output:
            reader.leave()

    def close(self, run_dir: str) -> None:
        """It is gone, and its output has been read: nobody knocks at its door any more."""
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        with contextlib.suppress(OSError):
            Path(run_dir, door(self.serial)).unlink(missing_ok=True)


@dataclass(slots=True)
class Surroundings:
    """What the master is given at its start, and hands to nobody."""

    port: Port
    board: Board
    inbox: Inbox
    control: ControlServer
    error_log: ErrorLog
    notifier: Notifier
    cut_list: CutList
    run_dir: str
    ready: Callable[[], None]
    """Called once, when the pool first serves at full strength."""
    renew: Callable[[Resources], Resources]
    """Read the configuration again: what the next generation is to be given. Raises ReloadRefused."""
    estate: Callable[[], handover.Estate]
    """What is left to another image of the master, besides what the master knows."""
    upgrade: Upgrade
    release: Callable[[list[Resources]], None]
    """Close what none of these resources uses any more."""
    listeners: Callable[[], tuple[Listener, ...]]
    """All that are open, of whatever generation."""
    removals: Removals
    stored: Callable[[], bool]
    """The service manager keeps listeners and inbox for the next start."""
    unstore: Callable[[], None]
    """Have it keep them no more."""
    claim: Claim | None
    """On what a holder has, until all of it is ours."""
    leave_behind: Callable[[Settings, Callable[[], None]], int]
    """Leave listeners and inbox to a holder, whose pid it is; 0 where there can be none. Given what lets go of the rest."""
    let_go: Callable[[], None]
    """In a new worker: close what is the master's alone."""
    testament: Testament
    """What is written down for whoever is master next, should this one die."""
