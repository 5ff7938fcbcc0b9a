"""The master's part of custody: what a dead worker has left is judged, and sent where it can be answered.

A burial has two halves, in any order: the worker is reaped, and its custodian has said all that it has found. When both are
there (or the custodian has taken too long, or was killed as well) each connection gets its verdict, from `core/rescue.py`.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lastcall.core import cuts, exits, notes, rescue
from lastcall.core.replay import Replay
from lastcall.core.rescue import Found, Verdict
from lastcall.core.slot import Lane, State
from lastcall.protocol.refusal import Refusal
from lastcall.runtime import custody, progress, rights
from lastcall.runtime.board import Board
from lastcall.runtime.custody import Rescued
from lastcall.runtime.cutlist import Death
from lastcall.runtime.doubts import Doubts
from lastcall.runtime.inbox import Inbox, Parcel
from lastcall.runtime.port import Port
from lastcall.runtime.sockets import reset_at_close

PATIENCE: Final = 5.0
"""Seconds for a custodian to say what it has found: it takes one millisecond, on a machine that swaps more."""
RETRY: Final = 0.02
"""Seconds until a full inbox is tried again."""
SHELTER: Final = 30.0
"""Seconds for which a connection that finds no room in the inbox is kept. By then nobody takes any out: it is closed."""
REMEMBERED: Final = 256
"""Kinds of requests whose deaths are counted; the oldest is forgotten first."""
QUARANTINE: Final = 600.0
"""Seconds for which a kind of request that has killed twice is not run."""
STATUSES: Final = {Verdict.REFUSE: 503, Verdict.LATE: 504, Verdict.POISON: 500}
PIECE: Final = 65536
PIECES_MAX: Final = 64
"""Of a request that is not run: what is taken off at once. A whole one is smaller; the rest is dropped later."""
OWED_MAX: Final = 1024
"""Refusals that are remembered, in case that the worker that was to give one dies as well; the oldest is forgotten first."""


@dataclass(slots=True)
class Grave:
    """A worker that has been reaped."""

    death: Death
    lanes: tuple[tuple[Lane, str], ...]
    """The requests in flight, and the line of code of each, or ""."""
    states: bytes
    """Of each of its descriptors."""
    slot: int = 0

    @property
    def blamed(self) -> bool:
        """By what it did itself: a crash, an exit, the memory it took. SIGKILL by hand is nobody's fault."""
        kind, number = self.death.kind, self.death.status & 0x7F
        known = self.death.status != exits.UNKNOWN
        return kind is cuts.Kind.OOM or (kind is cuts.Kind.DIED and known and number != signal.SIGKILL)

    def overdue(self, lane: Lane) -> bool:
        """Whether this request is the one that was cut for having run too long."""
        late = self.death.clock - lane.begun > self.death.request_timeout
        return self.death.kind is cuts.Kind.REQUEST_TIMEOUT and late


@dataclass(slots=True)
class Ward:
    """A worker's custodian, as the master has it."""

    sock: socket.socket
    keeper: int = 0
    found: list[tuple[Rescued, int]] = field(default_factory=list)
    said_all: bool = False
    grave: Grave | None = None
    deadline: float | None = None
    adopted: bool = False
    """It is not our child: it is not ours to reap."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A refusal that a worker was to give."""

    refusal: Refusal
    written: int | None
    """Bytes that the connection had been written until then; None where the kernel does not count."""
    until: float
    """When it has been given, or never will be: the connection may carry other requests by then."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a request in flight; what the cut list says."""

    lane: Lane
    where: str
    death: Death
    verdict: Verdict | None
    """None: there was nobody left to answer."""

    @property
    def done(self) -> str:
        """In words, for the cut list."""
        said = "nobody to answer" if self.verdict is None else self.verdict.value
        return f"{said}, kept in the journal" if self.lane.durable and self.verdict is not Verdict.AGAIN else said


_Order = tuple[Verdict, Rescued, int, Found]


class Rescue:
    """All burials under way."""

    def __init__(
        self, port: Port, board: Board, inbox: Inbox, rule: Callable[[], Replay], tell: Callable[[list[Fate]], None],
        note: Callable[[notes.Note], None], over: Callable[[int], None],
    ) -> None:  # fmt: skip
        """`over` is told the serial of each worker whose burial is."""
        self._port = port
        self._board = board
        self._inbox = inbox
        self._rule = rule
        self._tell = tell
        self._note = note
        self._over = over
        self.saved = 0
        """Connections that were sent where they are answered."""
        self._wards: dict[int, Ward] = {}  # by descriptor
        self._early: dict[int, Ward] = {}  # they have said all, and their workers are not reaped yet
        self._keepers: set[int] = set()
        self._homeless: list[tuple[Parcel, float]] = []
        self._retry_at: float | None = None
        self._deaths: dict[str, tuple[int, float]] = {}  # fingerprint -> how many, when last
        self._owed: dict[int, Owed] = {}  # by the connection's cookie
        self._doubts = Doubts(inbox)

    def attach(self, sock: socket.socket, keeper: int = 0, *, adopted: bool = False) -> Ward:
        """Listen to a worker's custodian."""
        ward = Ward(sock, keeper, adopted=adopted)
        self._wards[sock.fileno()] = ward
        self._port.watch(sock.fileno())
        if keeper and not adopted:
            self._keepers.add(keeper)
        return ward

    def owns(self, fd: int) -> bool:
        return fd in self._wards

    def is_keeper(self, pid: int) -> bool:
        """Whether a reaped process was a custodian; forgets it."""
        for fd in list(self._wards):
            self.hear(fd)
        known = pid in self._keepers
        self._keepers.discard(pid)
        return known

    def hear(self, fd: int) -> None:
        """Take in what a custodian says."""
        ward = self._wards[fd]
        while not ward.said_all:
            try:
                said = custody.receive(ward.sock)
            except OSError as error:
                if error.errno in rights.NO_ROOM:
                    return
                said = None
            if said is None:
                ward.said_all = True
                break
            report, fds = said
            ward.keeper = report.pid
            if not ward.adopted:
                self._keepers.add(report.pid)
            ward.found += zip(report.found, fds, strict=False)
            ward.said_all = report.last
        self._conclude(ward)

    def bury(self, ward: Ward | None, grave: Grave) -> None:
        """The worker has been reaped. Without a custodian nobody can be answered."""
        if ward is None:
            self._settle(None, grave)
            return
        ward.grave = grave
        ward.deadline = self._port.now() + PATIENCE
        if ward.sock.fileno() in self._wards:
            self.hear(ward.sock.fileno())
        else:
            self._conclude(ward)

    def _conclude(self, ward: Ward) -> None:
        """Hear no more of who has said all, for the end is readable for ever; judge, once its worker is buried as well."""
        if not ward.said_all:
            return
        fd = ward.sock.fileno()
        if self._wards.pop(fd, None) is not None:
            self._port.unwatch(fd)
        if ward.grave is None:
            self._early[fd] = ward
        else:
            self._early.pop(fd, None)
            self._settle(ward, ward.grave)
            custody.take(ward.sock, [])
            ward.sock.close()

    def next_deadline(self) -> float | None:
        times = [ward.deadline for ward in self._wards.values() if ward.deadline is not None]
        times += [due for due in (self._retry_at, self._doubts.due(self._port.now())) if due is not None]
        return min(times, default=None)

    def expire(self, now: float) -> None:
        """Do without custodians that do not answer; try again to find room for connections."""
        for ward in list(self._wards.values()):
            if ward.deadline is not None and ward.deadline <= now:
                ward.said_all = True
                self._conclude(ward)
        for rescued, fd in self._doubts.look(now):
            self._send(_parcel(rescued, fd), now + SHELTER)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            waiting, self._homeless = self._homeless, []
            for parcel, until in waiting:
                if until <= now:
                    self._note(notes.Trouble(f"a connection of {parcel.client} found no worker, and is closed"))
                    _close(parcel.fd)
                else:
                    self._send(parcel, until)

    # --- Verdicts -----------------------------------------------------------------------

    def _settle(self, ward: Ward | None, grave: Grave) -> None:
        """First all of it is written down, then it is done: who is answered is in the list."""
        found = [] if ward is None else ward.found
        lanes = {lane.fd: (lane, where) for lane, where in grave.lanes}
        fates: list[Fate] = []
        orders: list[_Order] = []
        for rescued, fd in found:
            state = State(grave.states[rescued.was]) if rescued.was < len(grave.states) else State.OPEN_ENDED
            running, where = lanes.pop(rescued.was, (None, ""))
            if self._doubts:
                self._doubts.forget(fd)
            if running is None and state is State.GIVEN:
                self._doubts.add(rescued, fd, self._port.now())
                continue
            true = progress.examine(fd, running, state)
            if running is not None and true.lane is None and not running.kept:
                _end(fd)  # answered, and its client waits for the end of the connection
                continue
            if running is None and self._owed and self._owes(rescued, fd, state):
                continue
            verdict = self._judge(true.lane, true.state, grave)
            orders.append((verdict, rescued, fd, true))
            if true.lane is not None:
                fates.append(Fate(true.lane, where, grave.death, verdict))
        fates += [Fate(lane, where, grave.death, None) for lane, where in lanes.values()]
        if fates:
            self._tell(fates)
        if ward is not None:
            self._carry_out_all(orders, ward, grave.slot)
        self._over(grave.death.serial)

    def _carry_out_all(self, orders: list[_Order], ward: Ward, slot: int) -> None:
        """Each is the custodian's until it is in the inbox, and said to be there first: should we die, it is in one hand."""
        running = [order for order in orders if order[3].lane is not None]
        idle = [order for order in orders if order[3].lane is None]
        batches = [[order] for order in running]
        batches += [idle[start : start + custody.BATCH] for start in range(0, len(idle), custody.BATCH)]
        for batch in batches:
            for verdict, rescued, fd, found in batch:
                plain = verdict in (Verdict.PASS_ON, Verdict.AGAIN) and not found.carried
                state = State.GIVEN if plain else State.PARTED
                given = functools.partial(self._board.mark, slot, rescued.was, state)
                self._carry_out(verdict, rescued, fd, found, given)
            custody.take(ward.sock, [rescued.was for _, rescued, *_ in batch])
        self.saved += sum(verdict is not Verdict.CUT for verdict, *_ in orders)

    def _owes(self, rescued: Rescued, fd: int, state: State) -> bool:
        """Whether the dead worker was to give a refusal on this connection, and it is not over: have another give it, or end
        the connection.
        """
        with socket.socket(fileno=fd) as sock:
            owed = self._owed.pop(progress.cookie(sock), None)
            counts = None if owed is None else progress.counts(sock)
            promised = progress.promised(sock)
            sock.detach()
        if owed is None or owed.until <= self._port.now():
            return False
        if rescue.is_owed(state, owed.written, None if counts is None else counts.written, promised=promised):
            self._refuse(rescued, fd, owed.refusal)
            return True
        if owed.refusal.keep and state is not State.ANSWERING:
            return False
        _end(fd)
        return True

    def _judge(self, lane: Lane | None, state: State, grave: Grave) -> Verdict:
        if lane is None:
            return rescue.judge(None, state, rule=self._rule())
        if grave.overdue(lane):
            return Verdict.CUT if state >= State.ANSWERING else Verdict.LATE
        alone = len(grave.lanes) == 1
        taken_by = self._count(lane) if grave.blamed and alone else 0
        verdict = rescue.judge(lane, state, rule=self._rule(), taken_by=taken_by)
        if verdict is Verdict.AGAIN and grave.blamed and not alone and lane.attempt >= rescue.BLAMED_MAX:
            # One of several has done it twice, and nobody knows which: none is run a third time, none is called poison.
            return Verdict.REFUSE
        if verdict is Verdict.POISON:
            self._note(notes.Poison(lane.request, QUARANTINE))
            self._board.quarantine(rescue.fingerprint(lane.method, lane.uri), self._port.now() + QUARANTINE)
        return verdict

    def _count(self, lane: Lane) -> int:
        """How many workers requests like this one have taken with them lately, this one included."""
        key, now = rescue.fingerprint(lane.method, lane.uri), self._port.now()
        deaths, last = self._deaths.pop(key, (0, now))
        deaths = deaths + 1 if now - last <= QUARANTINE else 1
        self._deaths[key] = (deaths, now)
        if len(self._deaths) > REMEMBERED:
            del self._deaths[next(iter(self._deaths))]
        return deaths

    def _carry_out(
        self, verdict: Verdict, rescued: Rescued, fd: int, found: Found, given: Callable[[], None]
    ) -> None:  # fmt: skip
        attempt = 1 if found.lane is None else found.lane.attempt
        match verdict:
            case Verdict.PASS_ON:
                if found.due:
                    _take_off(fd, found.due)
            case Verdict.AGAIN:
                attempt += 1
            case Verdict.REFUSE | Verdict.LATE | Verdict.POISON:
                self._refuse(rescued, fd, _refusal(STATUSES[verdict], found), given)
                return
            case Verdict.CUT:
                if found.state is State.OVER:
                    _take_off(fd)
                with socket.socket(fileno=fd) as sock:
                    if found.state is State.OPEN_ENDED:
                        reset_at_close(sock)
                return
        parcel = _parcel(rescued, fd, carried=found.carried, attempt=attempt)
        self._send(parcel, self._port.now() + SHELTER, given)

    def _refuse(self, rescued: Rescued, fd: int, refusal: Refusal, given: Callable[[], None] | None = None) -> None:
        """Have a worker refuse the request. Its bytes are dropped: whoever finds the connection without the refusal, for
        that worker has died as well, must not run it.
        """
        _take_off(fd)
        with socket.socket(fileno=fd) as sock:
            cookie, counts = progress.cookie(sock), progress.counts(sock)
            if sock.family == socket.AF_UNIX:
                progress.promise(sock, given=False)
            sock.detach()
        if cookie:
            until = self._port.now() + SHELTER
            self._owed[cookie] = Owed(refusal, None if counts is None else counts.written, until)
        if len(self._owed) > OWED_MAX:
            del self._owed[next(iter(self._owed))]
        parcel = _parcel(rescued, fd, refusal=refusal)
        self._send(parcel, self._port.now() + SHELTER, given)

    def _send(self, parcel: Parcel, until: float, given: Callable[[], None] | None = None) -> None:
        """`given` is called when it is about to be in the inbox."""
        if self._inbox.put(parcel, given):
            _close(parcel.fd)
            return
        self._homeless.append((parcel, until))
        self._retry_at = self._retry_at or self._port.now() + RETRY

    @property
    def busy(self) -> bool:
        """A burial is not over, or a connection waits for room."""
        return bool(self._homeless or self._doubts) or any(ward.grave is not None for ward in self._wards.values())

    def finish(self) -> None:
        """At the very end, when nobody else is waited for: wait until all burials are over, PATIENCE at most."""
        poll = select.poll()
        for fd in self._wards:
            poll.register(fd, select.POLLIN)
        while any(ward.grave is not None for ward in self._wards.values()):
            left = (self.next_deadline() or 0) - self._port.now()
            for fd, _ in poll.poll(max(0.0, left) * 1000 + 1):
                if fd in self._wards:
                    self.hear(fd)
                if fd not in self._wards:
                    poll.unregister(fd)
            self.expire(self._port.now())

    def homeless(self) -> list[Parcel]:
        """Connections that wait for room in the inbox. They are the caller's afterwards."""
        parcels = [parcel for parcel, _ in self._homeless]
        parcels += [_parcel(rescued, fd) for rescued, fd in self._doubts.look(self._port.now(), last=True)]
        self._homeless.clear()
        self._retry_at = None
        return parcels

    def let_go(self) -> None:
        """In a new worker: close what is the master's."""
        for ward in (*self._wards.values(), *self._early.values()):
            ward.sock.close()
            for _, fd in ward.found:
                _close(fd)
        for parcel, _ in self._homeless:
            _close(parcel.fd)
        self._doubts.let_go()


def _parcel(
    rescued: Rescued, fd: int, *, carried: bytes = b"", attempt: int = 1, refusal: Refusal | None = None
) -> Parcel:  # fmt: skip
    return Parcel(fd, rescued.listener, rescued.client, rescued.port, carried, False, attempt, refusal)


def _refusal(status: int, found: Found) -> Refusal:
    lane = found.lane
    if lane is None:
        return Refusal(status, "The worker that was reading this request has died. The application had not begun.")
    detail = {
        500: "This request has ended the workers that ran it; it is not run again.",
        503: "The worker that was running this request has died before it had answered.",
        504: "This request was ended for having run too long.",
    }[status]
    keep = bool(lane.exchange) and lane.kept and found.clean
    step = "" if lane.step is None else lane.step.name
    if lane.durable and status == 503:
        detail += " It is in the journal, and will be completed."
    return Refusal(
        status, detail, lane.method, lane.exchange, lane.request_id, step, begun=True, keep=keep, durable=lane.durable
    )


def _take_off(fd: int, count: int = PIECE * PIECES_MAX) -> None:
    """Drop so much of what has arrived on a connection."""
    with socket.socket(fileno=fd) as sock:
        try:
            while count > 0 and (data := sock.recv(min(count, PIECE), socket.MSG_DONTWAIT)):
                count -= len(data)
        except OSError:
            pass  # nothing is left; or the client has gone, which whoever answers finds out
        finally:
            sock.detach()


def _end(fd: int) -> None:
    """Close a connection on which all has been said. What is unread would make it a reset, and overtake the answer."""
    _take_off(fd)
    _close(fd)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass
