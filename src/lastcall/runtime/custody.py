"""Custody: what keeps a worker's connections alive when the worker is not.

Each worker has a *custodian*: a process that shares the worker's table of open files (clone(2) with CLONE_FILES), and
nothing else. Whatever the worker has open, the kernel keeps open for both; SIGKILL takes the worker away, and the table
stays. The custodian then picks the clients' connections out of it, sends them to the master, and ends. It costs a request
nothing: no copy, no system call, and no moment between accept(2) and an entry in some list.

(A duplicate of each connection, sent into a socketpair while a request runs, would do as well. It costs 6 microseconds a
request, and loses what is killed between accept(2) and sendmsg(2).)

The worker must not be asked to do anything for it: it is the worker that is dead. The custodian itself can be killed, too;
then its worker's clients see a close, as they would without it, and the cut list has their names all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import select
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec

from lastcall.core.slot import State
from lastcall.protocol.adoption import Stage
from lastcall.protocol.refusal import Refusal
from lastcall.runtime import farewell, rights
from lastcall.runtime.bequest import Bequest
from lastcall.runtime.inbox import Parcel
from lastcall.runtime.sockets import Listener, reset_at_close

NAME: Final = "lastcall-keeper"
"""Of the process, in ps and /proc/PID/comm: at most 15 bytes."""
BATCH: Final = 64
"""Connections in one packet; the kernel takes up to 253 (SCM_MAX_FD)."""
PACKET_MAX: Final = 65536
PATIENCE: Final = 1.0
"""Seconds for a custodian to make room for the master's word."""
GONE: Final = "The worker that was running this request has died, and its master as well."
_CLONE_FILES: Final = 0x400
_CLONE_SIBLING: Final = 0x8000
"""CLONE_PARENT (sched.h): the new process is a child of the master's, as the worker is."""
_SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220, "riscv64": 220}
_PR_SET_NAME: Final = 15
_PR_GET_NAME: Final = 16


class Rescued(msgspec.Struct, frozen=True, array_like=True):
    """A connection of a dead worker, whose descriptor comes with the packet."""

    was: int
    """Its number in the worker."""
    listener: int
    client: str
    port: int


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What a custodian says: first who it is, later what it has found."""

    pid: int
    found: list[Rescued] = []
    last: bool = False
    """That was all. The custodian keeps each until the master says that it is the master's own now (`take`)."""


@dataclass(frozen=True, slots=True)
class _Door:
    """A listener, as far as its connections can be told by it."""

    number: int
    family: int
    name: object

    def leads_to(self, family: int, name: object) -> bool:
        """Whether a connection with this local address has come through it."""
        if family != self.family:
            return False
        if isinstance(self.name, tuple) and isinstance(name, tuple):
            host, port = self.name[:2]
            return bool(port == name[1] and (host in ("0.0.0.0", "::") or host == name[0]))  # noqa: S104 - compared
        return name == self.name


def available() -> bool:
    """Whether this machine's clone(2) is known here."""
    return platform.machine() in _SYS_CLONE


def place(link: socket.socket, listeners: Iterable[Listener], bequest: Bequest | None = None) -> None:
    """In a new worker, before it has threads: give it a custodian, which reports to `link`. Raises OSError.

    When the master has died as well, what is left waits for the next one, at the worker's door (`bequest`).

    The custodian blocks every signal: what is sent to the whole group, or to all of a control group, is not for it.
    """
    doors = [_Door(listener.number, listener.sock.family, listener.sock.getsockname()) for listener in listeners]
    libc = ctypes.CDLL(None, use_errno=True)
    worker = os.pidfd_open(os.getpid())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    name = ctypes.create_string_buffer(16)
    libc.prctl(_PR_GET_NAME, name, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)  # before: from its first moment on it can be told from a worker
    try:
        flags = _CLONE_FILES | _CLONE_SIBLING | signal.SIGCHLD
        pid = libc.syscall(_SYS_CLONE[platform.machine()], flags, 0, 0, 0, 0)
        if pid < 0:
            number = ctypes.get_errno()
            os.close(worker)
            raise OSError(number, os.strerror(number))
        if pid == 0:
            _keep(link, worker, doors, bequest)
    finally:
        libc.prctl(_PR_SET_NAME, name, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _keep(link: socket.socket, worker: int, doors: list[_Door], bequest: Bequest | None) -> NoReturn:
    """Wait for the worker's end, hand over what it has left, and end. Until then the table is the worker's own."""
    try:
        with contextlib.suppress(OSError):  # the master may be dead, and another one come
            link.send(msgspec.json.encode(Report(os.getpid())))
        _wait(worker, None)
        os.close(worker)  # the table may be full, and looking at it takes a descriptor
        left = {rescued.was: rescued for fd in _descriptors() if (rescued := _client(fd, doors)) is not None}
        until = time.monotonic() + (bequest.timeout if bequest is not None else 0.0)
        while not _hand_over(link, left) and bequest is not None and _is_waited_for(bequest, left):
            if not _wait(bequest.door, max(0.0, until - time.monotonic())):
                _part(left, bequest)
                break
            with contextlib.suppress(BlockingIOError):
                bequest.admit(Stage.DEAD)
        if bequest is not None:
            bequest.close()
    finally:
        os._exit(0)


def _wait(fd: int | socket.socket, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def _hand_over(link: socket.socket, left: dict[int, Rescued]) -> bool:
    """Send everything to the master, and let go of what it says is its own; whether it has said that this was all.

    A master that dies in between has lost nothing but what it had just taken.
    """
    all_of_it = list(left.values())
    with contextlib.suppress(OSError):  # it is dead; what it has taken before is in our queue all the same
        for start in range(0, len(all_of_it), BATCH):
            batch = all_of_it[start : start + BATCH]
            rights.insist(link, msgspec.json.encode(Report(os.getpid(), batch)), [rescued.was for rescued in batch])
        link.send(msgspec.json.encode(Report(os.getpid(), last=True)))
    while True:
        try:
            packet = link.recv(PACKET_MAX)
        except ConnectionResetError:
            continue  # it has died with something unread: that is told once, and before what it has said
        if not packet:
            return False
        numbers = msgspec.json.decode(packet, type=list[int])
        for number in numbers or list(left):
            if left.pop(number, None) is not None:
                os.close(number)
        if not numbers:
            return True


def _is_waited_for(bequest: Bequest, left: dict[int, Rescued]) -> bool:
    """Whether another master is to come here: not where all is ending, and not for a worker that has ended in order."""
    board = bequest.board
    if board.stopping or board.parking:
        return False
    slot = board.read(bequest.slot)
    return bool(left) or (slot.serial == bequest.serial and not slot.ended)


def _part(left: dict[int, Rescued], bequest: Bequest) -> None:
    """Nobody has come: 503 to whoever has not been sent a byte of an answer; half of one is not to look like the whole."""
    slot, states = bequest.board.read(bequest.slot), bequest.board.states(bequest.slot)
    lanes = {lane.fd: lane for lane in (slot.lanes if slot.serial == bequest.serial else ())}
    parcels = []
    for number, rescued in left.items():
        if number < len(states) and states[number] < State.OVER:
            lane = lanes.get(number)
            refusal = None
            if lane is not None:
                step = "" if lane.step is None else lane.step.name
                refusal = Refusal(503, GONE, lane.method, lane.exchange, lane.request_id, step, begun=True)
            parcels.append(Parcel(number, rescued.listener, rescued.client, rescued.port, b"", refusal=refusal))
            continue
        if number < len(states) and states[number] in (State.GIVEN, State.PARTED):
            os.close(number)  # it may be another's
            continue
        with socket.socket(fileno=number) as sock:
            reset_at_close(sock)
    fastcgi = {listener.number for listener in bequest.listeners if listener.fastcgi}
    farewell.refuse(parcels, fastcgi.__contains__, GONE, lambda _request, _client: None)


def _descriptors() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths


def _client(fd: int, doors: list[_Door]) -> Rescued | None:
    """A client's connection, or None for anything else: the application has sockets of its own."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None  # no socket
    try:
        name, peer = sock.getsockname(), sock.getpeername()
        for door in doors:
            if door.leads_to(sock.family, name):
                host, port = peer[:2] if isinstance(peer, tuple) else ("", 0)
                return Rescued(fd, door.number, host, port)
    except OSError:
        pass  # a listener, or a connection whose peer has reset it
    finally:
        sock.detach()
    return None


def take(link: socket.socket, numbers: Iterable[int]) -> None:
    """In the master: these are ours now. None: nothing more is wanted, and the custodian ends."""
    word = msgspec.json.encode(list(numbers))
    with contextlib.suppress(OSError):
        try:
            link.send(word, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:  # a custodian closes what it is told about, and does nothing else: it is about to read
            poll = select.poll()
            poll.register(link, select.POLLOUT)
            poll.poll(PATIENCE * 1000)
            link.send(word, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive(link: socket.socket) -> tuple[Report, list[int]] | None:
    """In the master: the next report, and its descriptors; None at the end. Raises BlockingIOError."""
    packet, fds = rights.receive(link, PACKET_MAX, BATCH, socket.MSG_DONTWAIT)
    if not packet:
        return None
    try:
        return msgspec.json.decode(packet, type=Report), fds
    except msgspec.MsgspecError:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        return None
