"""Taking over what a master that has died has left: its workers, their listeners, and the ledger of what they were doing.

The run directory's lock is ours, so that nobody else is master. What the dead one knew stands in its testament
(`runtime/testament.py`), what its workers do on the board, and they themselves answer at their doors. Which process a worker
is is told by its pid and the time of its start, never by the pid alone. The result is a `Handover`, as another image of this
process would have left it: what follows is the same.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from lastcall.core import exits, notes
from lastcall.core import lifecycle as lc
from lastcall.core.settings import Settings
from lastcall.protocol import adoption, handover
from lastcall.protocol.adoption import Claim, Stage, Standing
from lastcall.protocol.handover import Handover, Unreadable
from lastcall.protocol.link import Word
from lastcall.runtime import doors, identity, rights, sender, testament, upgrade
from lastcall.runtime.board import LAYOUT, Board
from lastcall.runtime.board import NAME as BOARD
from lastcall.runtime.heritage import Inherited, Source
from lastcall.runtime.port import Port

PATIENCE: Final = 5.0
"""Seconds for a worker to answer at its door: it takes a millisecond, on a machine that swaps more. One whose application
holds the GIL for longer is ours all the same, and is heard when it speaks."""
ENDING_MAX: Final = 8.0
"""Seconds in which workers that end without a master have closed their listeners: see `runtime/closing.py`."""
LOOK: Final = 0.05
WORDS: Final = {lc.Stage.RESTING: Word.REST, lc.Stage.DRAINING: Word.DRAIN, lc.Stage.CUTTING: Word.TRACE}
"""What a worker is told again, for its master may have died before it did. Those that are to serve are told by the loop."""

Output = tuple[int, str, bytes]


@dataclass(slots=True)
class Inheritance:
    """What there is to take over."""

    left: Handover
    """With our descriptors in the place of the dead master's, as far as there are any."""
    board: Board
    seconds: float
    """For which there was no master."""
    listeners: dict[int, Inherited] = field(default_factory=dict)
    inbox: tuple[socket.socket, socket.socket] | None = None

    @property
    def serving(self) -> bool:
        """Whether there is a pool to go on with; else one begins anew, beside those that finish what they have."""
        reign = self.left.reign
        able = {"ready", "resting"}
        going_on = {reign.current, reign.fallback, *reign.overtaken}
        return bool(self.inbox) and any(
            worker.ended is None and worker.stage in able and worker.generation in going_on for worker in reign.workers
        )

    def anew(self, settings: Settings, listeners: Iterable[int]) -> Handover:
        """Nobody is left that serves: the pool begins with a new generation; serials and counters go on."""
        reign = self.left.reign
        generation = reign.generation + 1
        used = {worker.generation for worker in reign.workers}
        kept = [release for release in reign.releases if release.generation in used]
        fresh = handover.Release(generation, upgrade.plain(settings), settings.workers, list(listeners))
        reign = msgspec.structs.replace(
            reign, current=generation, generation=generation, first=generation, fallback=None, overtaken=[],
            releases=[*kept, fresh], failures=[], forks_failed=0, spawn_after=0.0, why="", calm_since=None,
            untried=True, announced=False,
        )  # fmt: skip
        return msgspec.structs.replace(self.left, reign=reign)


def find(directory: Path, note: Callable[[notes.Note], None], port: Port) -> Inheritance | None:
    """What a master that has died has left in this run directory, which is ours; None where there is nothing to be had.

    Workers that cannot be taken over are told to end, and have closed their listeners when this returns. Raises OSError.
    """
    try:
        document = (directory / testament.NAME).read_bytes()
    except FileNotFoundError:
        return None
    try:
        left = _readable(handover.decode(document))
        board = Board(directory / BOARD, create=False)
    except (Unreadable, ValueError, OSError) as error:
        note(notes.NotTakenOver(str(error)))
        send_home(directory)
        return None
    if not _is_ending(board):
        found = _Roll(directory, board, left, port).call()
        if not _is_ending(board):
            return found
        _let_go(found)
    remains = _Roll(directory, board, left, port).remains()
    if len(remains.left.reign.workers) < len(left.reign.workers):
        note(notes.NotTakenOver("they are ending by themselves"))
    if board.stopping:
        _wait_until(lambda: board.closed or not any(doors_open(directory)))
    return remains


def _readable(left: Handover) -> Handover:
    """Raises Unreadable."""
    upgrade.machine(left.reign)
    if left.estate.board != LAYOUT:
        raise Unreadable(f"the board of lastcall {left.version} has another layout")
    return left


def _is_ending(board: Board) -> bool:
    """A stop had begun (with `parking` a holder has everything), or nobody has come in time: the rest is up to them."""
    return board.stopping or board.parking


# --- Who answers ---------------------------------------------------------------


@dataclass(slots=True)
class _Met:
    """A worker of the testament."""

    worker: handover.Worker
    pidfd: int
    """-1: it lives no more."""
    link: socket.socket | None = None
    custody: socket.socket | None = None
    standing: Standing | None = None
    outputs: list[Output] = field(default_factory=list)
    ended: bool = False
    """It says itself that it has ended in order."""


class _Roll:
    """Everybody that the testament names is called, all at once."""

    def __init__(self, directory: Path, board: Board, left: Handover, port: Port) -> None:
        self._directory = directory
        self._board = board
        self._left = left
        self._port = port
        self._listeners: dict[int, Inherited] = {}
        self._inbox: tuple[socket.socket, socket.socket] | None = None

    def call(self) -> Inheritance:
        since = self._board.masterless
        met = [self._knock(worker) for worker in self._left.reign.workers]
        self._listen(met)
        now = time.monotonic()
        workers = [_entry(each, now) for each in met]
        inheritance = Inheritance(self._left, self._board, now - since if since else 0.0, self._listeners, self._inbox)
        inheritance.left = self._rewritten(workers, now)
        return inheritance

    def remains(self) -> Inheritance:
        """What those have left that are dead, on a board of our own: the others, who are ending, keep theirs."""
        now = time.monotonic()
        met = [self._look(worker) for worker in self._left.reign.workers]
        dead = [each for each in met if each.pidfd < 0]
        (self._directory / BOARD).unlink()
        fresh = Board(self._directory / BOARD, create=True)
        for each in dead:
            fresh.inherit(self._board, each.worker.slot)
        for each in met:
            if each.pidfd >= 0:
                os.close(each.pidfd)
        since = self._board.masterless
        inheritance = Inheritance(self._left, fresh, now - since if since else 0.0)
        inheritance.left = self._rewritten([_entry(each, now) for each in dead], now)
        return inheritance

    def _look(self, worker: handover.Worker) -> _Met:
        slot = self._board.read(worker.slot)
        mine = slot.serial == worker.serial
        same_boot = self._left.estate.boot == identity.boot()
        pidfd = identity.find(worker.pid, slot.started) if mine and same_boot else -1
        return _Met(worker, pidfd, ended=mine and slot.ended)

    def _knock(self, worker: handover.Worker) -> _Met:
        met = self._look(worker)
        link = doors.knock(self._directory, adoption.door(worker.serial), PATIENCE)
        if link is not None and sender.peer(link)[0] != worker.pid:
            link.close()
            link = None
        if link is None:
            if met.pidfd >= 0:  # it cannot be told anything, and would use its slot for ever
                self._port.kill_by(met.pidfd, signal.SIGKILL)
                os.close(met.pidfd)
                met.pidfd = -1
            return met
        met.link = link
        claim = msgspec.json.encode(Claim(adoption.FORMAT, os.getpid()))
        theirs: socket.socket | None = None
        if worker.custody >= 0:
            met.custody, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            rights.send(link, claim, [theirs.fileno()] if theirs else [], socket.MSG_NOSIGNAL)
        if theirs is not None:
            theirs.close()
        return met

    def _listen(self, met: list[_Met]) -> None:
        waiting = {each.link.fileno(): each for each in met if each.link is not None}
        poll = select.poll()
        for fd in waiting:
            poll.register(fd, select.POLLIN)
        until = time.monotonic() + PATIENCE
        while waiting and (left := until - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                poll.unregister(fd)
                self._take(waiting.pop(fd))
        for each in met:
            if each.link is not None:
                each.link.settimeout(None)

    def _take(self, met: _Met) -> None:
        assert met.link is not None
        try:
            packet, fds = rights.receive(met.link, adoption.PACKET_MAX, adoption.RIGHTS_MAX)
            met.standing = msgspec.json.decode(packet, type=Standing) if packet else None
        except (OSError, msgspec.MsgspecError):
            return
        if met.standing is None:
            return
        for papers in met.standing.listeners:
            sock = socket.socket(fileno=fds.pop(0))
            if papers.number in self._listeners or papers.number is None:
                sock.close()
            else:
                self._listeners[papers.number] = Inherited(sock, Source.ORPHANS, papers)
        inbox = socket.socket(fileno=fds.pop(0)), socket.socket(fileno=fds.pop(0))
        if self._inbox is None:
            self._inbox = inbox
        else:
            for end in inbox:
                end.close()
        met.outputs = outputs(met.standing, fds)

    def _rewritten(self, workers: list[handover.Worker], now: float) -> Handover:
        reign, estate = self._left.reign, self._left.estate
        if estate.boot != identity.boot():
            reign = msgspec.structs.replace(reign, born=now - (time.time() - reign.started))
        listeners = [
            msgspec.structs.replace(listener, fd=self._listeners[listener.papers.number].sock.fileno())
            for listener in estate.listeners
            if listener.papers.number in self._listeners
        ]
        return Handover(
            self._left.format, self._left.version, msgspec.structs.replace(estate, listeners=listeners, clients=[]),
            msgspec.structs.replace(reign, workers=workers, waiting=[]), [],
        )  # fmt: skip


def outputs(standing: Standing, fds: list[int]) -> list[Output]:
    """What a worker prints; `fds` are the last that came with its standing."""
    rests = [*standing.rests, *[b""] * len(fds)]
    return list(zip(fds, standing.outputs, rests, strict=False))


def late(packet: bytes, fds: list[int]) -> list[Output]:
    """What a worker prints that answers when nobody waits for it any more. The rest of what it gives we have by now."""
    try:
        standing = msgspec.json.decode(packet, type=Standing)
    except msgspec.MsgspecError:
        standing = Standing(adoption.FORMAT, 0, 0, Stage.SERVING)
    known = len(fds) - len(standing.outputs)
    for fd in fds[:known]:
        os.close(fd)
    return outputs(standing, fds[known:])


def _entry(met: _Met, now: float) -> handover.Worker:
    """As it is written down for the loop."""
    worker, standing = met.worker, met.standing
    dead = met.pidfd < 0 or identity.ended(met.pidfd) or (standing is not None and standing.stage is Stage.DEAD)
    dead = dead or (standing is None and worker.stage == "booting")  # it has never been told to serve, and ends
    link = met.link
    if link is None:
        link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        other.close()
    if dead and met.pidfd >= 0:
        os.close(met.pidfd)
    stage, deadline, ready_at = worker.stage, worker.deadline, worker.ready_at
    if standing is not None and standing.stage is Stage.DRAINING and stage in ("booting", "ready", "resting"):
        stage, deadline = "draining", None
    elif stage == "booting" and not dead:
        stage, deadline, ready_at = "ready", None, now
    elif stage == "killed":
        stage, deadline = "cutting", now  # whether it was done, nobody knows
    return msgspec.structs.replace(
        worker, link=link.detach(), custody=-1 if met.custody is None else met.custody.detach(), stage=stage,
        deadline=deadline, ready_at=ready_at, serving=False, pidfd=-1 if dead else met.pidfd,
        ended=(exits.OK if met.ended else exits.UNKNOWN) if dead else None,
        spent=worker.spent or (standing.spent if standing is not None else ""),
        outputs=[handover.Output(fd, stream, rest) for fd, stream, rest in met.outputs],
    )  # fmt: skip


def words_again(state: lc.Master, serial: int) -> list[Word]:
    """What a worker is told again."""
    return [WORDS[worker.stage] for worker in state.workers if worker.serial == serial and worker.stage in WORDS]


# --- Who is not wanted ---------------------------------------------------------


def send_home(directory: Path) -> None:
    """Have everybody end in order who is there and cannot be understood: they look after their listeners themselves."""
    dismissal = msgspec.json.encode(Claim(adoption.FORMAT, os.getpid(), wanted=False))
    for path in directory.glob(adoption.DOORS):
        link = doors.knock(directory, path.name, PATIENCE)
        if link is not None:
            with link, contextlib.suppress(OSError):
                link.send(dismissal, socket.MSG_NOSIGNAL)
                link.recv(1)  # its end: the door is closed
    _wait_until(lambda: not any(doors_open(directory)))


def doors_open(directory: Path) -> Iterable[str]:
    """The doors of a run directory at which somebody is."""
    for path in directory.glob(adoption.DOORS):
        link = doors.knock(directory, path.name, PATIENCE)
        if link is not None:
            link.close()
            yield path.name


def _let_go(found: Inheritance) -> None:
    """They have begun to end while they were called: leave them to it."""
    for worker in found.left.reign.workers:
        for fd in (worker.link, worker.custody, worker.pidfd, *(output.fd for output in worker.outputs)):
            if fd >= 0:
                os.close(fd)
    for inherited in found.listeners.values():
        inherited.sock.close()
    for end in found.inbox or ():
        end.close()


def _wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + ENDING_MAX
    poll = select.poll()  # of nothing: we only let time pass
    while not done() and time.monotonic() < until:
        poll.poll(LOOK * 1000)
