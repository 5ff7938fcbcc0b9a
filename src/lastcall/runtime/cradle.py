"""What is made for a new worker before it is forked: its sockets and pipes, both ends of each, and what it is told."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lastcall.core import notes
from lastcall.core.events import Spawn
from lastcall.core.settings import Settings
from lastcall.protocol import adoption
from lastcall.runtime import custody, doors
from lastcall.runtime.sockets import Listener
from lastcall.runtime.surroundings import Link, Resources, Surroundings
from lastcall.runtime.worker.boot import Birth, Door

OUT_OF: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOBUFS})
"""What the machine is short of, for now: the same will do later."""


@dataclass(slots=True)
class Cradle:
    """Ready for the fork."""

    link: Link
    birth: Birth
    custody: socket.socket | None
    """What the master hears the custodian by."""
    heard: list[int]
    """The reading ends of what the worker prints."""
    theirs: ExitStack
    """In the master: closes what is the worker's alone."""
    ours: ExitStack
    """In the worker: closes what is the master's alone."""
    both: ExitStack
    """Closes what both keep."""

    def abandon(self) -> None:
        """There was no fork: nothing stays open."""
        self.theirs.close()
        self.ours.close()
        self.both.close()


def prepare(
    spawn: Spawn, resources: Resources, around: Surroundings, former: tuple[Listener, ...], blocked: Iterable[int],
    now: float,
) -> Cradle:  # fmt: skip
    """Raises OSError, and leaves nothing open then."""
    settings = resources.settings
    with ExitStack() as theirs, ExitStack() as ours, ExitStack() as both:
        here, there = _pair(ours, theirs)
        link = Link(spawn.serial, spawn.slot, spawn.generation, here, now)
        if settings.max_age:
            link.max_age = settings.max_age + random.uniform(0, settings.max_age_jitter)  # noqa: S311
        pair = _pair(ours, theirs) if settings.custody == "on" and custody.available() else None
        door, heard, said = _door(spawn.serial, settings, around, theirs), [], []
        for _ in range(2 if settings.catch_output else 0):
            read, write = os.pipe2(os.O_CLOEXEC)
            theirs.callback(os.close, write)
            # The worker keeps what is read, too, for when nobody else reads it:
            (ours if door is None else both).callback(os.close, read)
            heard.append(read)
            said.append(write)
        around.board.wipe(spawn.slot)
        jitter = random.randint(0, settings.max_requests_jitter) if settings.max_requests else 0  # noqa: S311
        birth = Birth(
            settings=settings, serial=spawn.serial, generation=spawn.generation, slot=spawn.slot, link=there,
            listeners=resources.listeners, former=former, inbox=around.inbox, board=around.board,
            error_log=around.error_log, access_log=resources.access_log, trust=resources.trust,
            spend_after=settings.max_requests + jitter, output=(said[0], said[1]) if said else None,
            blocked=(*blocked, signal.SIGCHLD), custody=pair[1] if pair else None,
            door=None if door is None else Door(door, _path(around, spawn.serial), tuple(heard)),
        )  # fmt: skip
        return Cradle(link, birth, pair[0] if pair else None, heard, theirs.pop_all(), ours.pop_all(), both.pop_all())


def _pair(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours.enter_context(here), theirs.enter_context(there)


def _door(serial: int, settings: Settings, around: Surroundings, theirs: ExitStack) -> socket.socket | None:
    if not settings.orphan_timeout:
        return None
    try:
        door = doors.bind(Path(around.run_dir), adoption.door(serial))
    except OSError as error:
        if error.errno in OUT_OF:
            raise
        text = f"a worker has no door, and will end with its master: {around.run_dir}: {error.strerror}"
        around.error_log.write(notes.Caution(text))
        return None
    return theirs.enter_context(door)


def _path(around: Surroundings, serial: int) -> Path:
    return Path(around.run_dir).absolute() / adoption.door(serial)
