"""Workers that are killed at a chosen line of their code, for a world with one connection and the real master's rescue.

A worker here is the real one, in a process of its own, with a real custodian, a real slot, real sockets; it counts the lines
that it executes in what deals with connections, and sends itself SIGKILL before a given one. So every point between
accept(2) and the end of an answer is tried, without anybody having to list them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, Final

from lastcall.core import cuts
from lastcall.core.address import parse
from lastcall.core.replay import Replay
from lastcall.core.settings import Settings
from lastcall.core.slot import Slot, State
from lastcall.core.trust import Trust
from lastcall.gateway.wsgi import FileWrapper
from lastcall.protocol.exchange import Request
from lastcall.runtime import board, custody, inbox, label, sockets
from lastcall.runtime import rescue as rescuing
from lastcall.runtime.cutlist import Death
from lastcall.runtime.logs import ErrorLog
from lastcall.runtime.port import Woken
from lastcall.runtime.rescue import Fate, Grave, Rescue
from lastcall.runtime.worker import connection, worker
from lastcall.runtime.worker.worker import Place, Worker
from support import fcgi, http
from support.processes import WITHIN_S

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from _typeshed import TraceFunction

WATCHED: Final = frozenset({connection.__file__, worker.__file__, board.__file__, inbox.__file__, label.__file__})
"""The modules whose lines count: all that touches a connection, the inbox, or the slot."""
END: Final = b"done"
"""What every answer of `app` ends with."""
QUIET_S: Final = 2.0
"""Seconds in which an answer comes that is on its way: everybody is on this machine, and nobody has anything else to do."""


@dataclass(frozen=True)
class Scene:
    """What a client asks, over which kind of socket."""

    name: str
    first: bytes
    second: bytes = b""
    eager: bool = False
    """The second request is sent the moment that the first answer is there; else with the first."""
    departs: bytes = b""
    """What is missing of the first request, and is sent when the worker has given the connection away, as in a reload."""
    fastcgi: bool = False
    unix: bool = False
    ends: bool = False
    """The client waits for the end of the connection, as it has asked for."""

    @property
    def asked(self) -> int:
        return 2 if self.second else 1


class Lone(Worker):
    """A worker without an attendant: the application is called in the loop."""

    def serve(self, connection: connection.Connection, request: Request, body: BinaryIO | None) -> None:
        self.call(connection, request, body, 0)
        self.settle(connection, time.monotonic())

    def work(self) -> None:
        """Do all that there is to be done."""
        self._listen(on=True)
        while self._ready or select.select([self.epoll], [], [], 0)[0]:
            self._turn()


class Port:
    """As much of `port.Port` as burials need."""

    now = staticmethod(time.monotonic)

    def watch(self, fd: int) -> None:
        pass

    def unwatch(self, fd: int) -> None:
        pass

    def fork(self) -> int:
        raise NotImplementedError

    def start(self, path: str, argv: Sequence[str], environ: Mapping[str, str], files: Mapping[int, int]) -> int:
        raise NotImplementedError

    def kill(self, pid: int, number: int) -> None:
        raise NotImplementedError

    def kill_by(self, pidfd: int, number: int) -> None:
        raise NotImplementedError

    def reap(self) -> list[tuple[int, int]]:
        raise NotImplementedError

    def wait(self, timeout: float | None) -> Woken:
        raise NotImplementedError


@dataclass
class Outcome:
    """What the client saw, and what was done."""

    statuses: list[int] = field(default_factory=list)
    ended: str = ""
    """What became of the connection instead of the next answer; "" if all were answered."""
    runs: list[str] = field(default_factory=list)
    """The requests that the application was called for."""
    fates: list[Fate] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    """Of the connection, at each death."""


class World:
    """A pool, and a client that has sent its request before anybody is there to read it."""

    def __init__(self, folder: Path, scene: Scene, slots: board.Board, log: ErrorLog) -> None:
        self.scene = scene
        self._runs = folder / "runs"
        self._runs.write_bytes(b"")
        self._file = folder / "file"
        self._file.write_bytes(b"x" * 100 + END)
        (folder / "u.sock").unlink(missing_ok=True)
        address = parse(f"unix:{folder}/u.sock" if scene.unix else "127.0.0.1:0")
        self._listener = sockets.listen(address, fastcgi=scene.fastcgi, backlog=8, access=sockets.SocketFile(0o600))
        self._inbox = inbox.Inbox()
        self._board = slots
        self._log = log
        self._outcome = Outcome()
        self._rescue = Rescue(
            Port(), self._board, self._inbox, lambda: Replay("safe"), self._outcome.fates.extend, lambda _: None,
            lambda _: None,
        )  # fmt: skip
        self._serial = 0
        self._asked_twice = False
        self.client = http.Connection(
            str(address) if scene.unix else "{}:{}".format(*self._listener.sock.getsockname())
        )
        self.client.send(scene.first + (b"" if scene.eager else scene.second))

    def close(self) -> None:
        self.client.close()
        self._listener.sock.close()
        self._inbox.close()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._runs.open("ab", buffering=0) as runs:
            runs.write(f"{method} {path}\n".encode())
        if path == "/file":
            start_response("200 OK", [("Content-Length", str(self._file.stat().st_size))])
            return FileWrapper(self._file.open("rb"))
        start_response("200 OK", [])
        return iter([b"a part, ", b"and ", END]) if path == "/stream" else [b"at once, and " + END]

    def _worker(self) -> Lone:
        self._serial += 1
        slot = self._board.claim(0, pid=os.getpid(), generation=1, serial=self._serial, lanes=1)
        place = Place(
            settings=Settings(workers=1), serial=self._serial, generation=1, listeners=(self._listener,), former=(),
            inbox=self._inbox, board=self._board, slot=slot, error_log=self._log, access_log=None, trust=Trust(()),
            bequest=None, say=lambda _report, _text: None, spend_after=0,
        )  # fmt: skip
        return Lone(place, self._app)

    # --- Lives ---------------------------------------------------------------------------

    def life(self, last: int) -> bool:
        """A worker lives for so many lines at most, and is buried; whether there was anything left to do for it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said, say = os.pipe()
        ward = self._rescue.attach(ours)
        pid = os.fork()
        if pid == 0:
            try:
                os.close(said)
                ours.close()
                self._live(theirs, last, say)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        theirs.close()
        os.close(say)
        self._serial += 1
        _, status = os.waitpid(pid, 0)
        os.set_blocking(said, False)  # its custodian has the other end, and waits for us
        with os.fdopen(said, "rb", buffering=0) as file:
            words = file.read(64) or b""
        self._asked_twice |= b"2" in words
        self._bury(ward, pid, status)
        assert status == signal.SIGKILL, self._log_text()
        return b"s" not in words

    def _live(self, link: socket.socket, last: int, say: int) -> None:
        custody.place(link, [self._listener])
        lone = self._worker()
        lines = 0

        def line() -> None:
            nonlocal lines
            lines += 1
            if self.scene.eager and not self._asked_twice and self._answer_is_there():
                self._asked_twice = True
                self.client.send(self.scene.second)
                os.write(say, b"2")
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)

        def within(_frame: FrameType, event: str, _arg: object) -> TraceFunction:
            if event == "line":
                line()
            return within

        def trace(frame: FrameType, _event: str, _arg: object) -> TraceFunction | None:
            return within if frame.f_code.co_filename in WATCHED else None

        sys.settrace(trace)
        lone.work()
        if self.scene.departs:
            lone.resting = True
            lone._sweep(time.monotonic())
        sys.settrace(None)
        os.write(say, b"s")
        os.kill(os.getpid(), signal.SIGKILL)

    def _answer_is_there(self) -> bool:
        if not select.select([self.client.socket], [], [], 0)[0]:
            return False
        return END in self.client.socket.recv(1 << 16, socket.MSG_PEEK)

    def _bury(self, ward: rescuing.Ward, pid: int, status: int) -> None:
        slot = self._board.read(0)
        states = self._board.states(0)
        self._outcome.states.append(_state(slot, states))
        death = Death("www", pid, self._serial, 1, status, cuts.Kind.DIED, 0, 0, time.monotonic(), time.time())
        fd = ward.sock.fileno()
        lanes = tuple((lane, "") for lane in slot.lanes) if slot.serial == self._serial else ()
        self._rescue.bury(ward, Grave(death, lanes, states))
        while self._rescue.owns(fd):
            assert select.select([fd], [], [], WITHIN_S)[0], "the custodian says nothing"
            self._rescue.hear(fd)
        os.waitpid(ward.keeper, 0)
        self._board.wipe(0)
        self._board.wipe_states(0)

    def outcome(self) -> Outcome:
        """Have a worker that is not killed do the rest, and look at what the client has got."""
        lone = self._worker()
        try:
            with contextlib.suppress(OSError):
                self.client.send(self.scene.departs)
            lone.work()
            if self.scene.eager and not self._asked_twice:
                self._await(lone)
                with contextlib.suppress(OSError):
                    self.client.send(self.scene.second)
            self._await(lone)
            self._read_answers()
        finally:
            for each in list(lone.connections.values()):
                lone.close(each)
            lone.epoll.close()
            os.close(lone._nudge)
            self._board.wipe(0)
        self._outcome.runs = self._runs.read_text().split("\n")[:-1]
        return self._outcome

    def _read_answers(self) -> None:
        outcome = self._outcome
        self.client.socket.settimeout(QUIET_S)
        try:
            while len(outcome.statuses) < self.scene.asked:
                status, body = self._answer()
                assert status != 200 or body.endswith(END)
                outcome.statuses.append(status)
        except TimeoutError:
            outcome.ended = "silence"
        except (http.Closed, fcgi.Cut, OSError) as error:
            outcome.ended = repr(error)
        else:
            assert not self.client.leftover + self._more(), "more than was asked for"
            assert not self.scene.ends or self.client.closed(), "the client waits for the end"

    def _answer(self) -> tuple[int, bytes]:
        """The next one. Raises TimeoutError, Closed, Cut, OSError."""
        if self.scene.fastcgi:
            response = fcgi.receive(self.client.socket)
            return int(response.status.split()[0]), response.body
        answer = self.client.response()
        return answer.status, answer.body

    def _more(self) -> bytes:
        """What has come besides; an end is nothing."""
        if not select.select([self.client.socket], [], [], 0)[0]:
            return b""
        try:
            return self.client.socket.recv(1 << 16, socket.MSG_PEEK)
        except ConnectionResetError:
            return b""

    def _await(self, lone: Lone) -> None:
        """Until there is something for the client, or nothing to wait for."""
        until = time.monotonic() + QUIET_S
        while not select.select([self.client.socket], [], [], 0.001)[0] and time.monotonic() < until:
            self._rescue.expire(time.monotonic())
            if not (lone.connections or self._rescue.busy or select.select([lone.epoll], [], [], 0)[0]):
                return
            lone.work()
        lone.work()

    def _log_text(self) -> str:
        return Path(self._log.path).read_text()


def _state(slot: Slot, states: bytes) -> State:
    if slot.lanes:
        return State(states[slot.lanes[0].fd])
    return State(max(states))


def lives(folder: Path, scene: Scene, *, before: tuple[int, ...] = ()) -> Iterator[tuple[int, Outcome]]:
    """Try each line as the last one of a worker, and yield it with what has come of it.

    `before`: other workers have died at these lines before.
    """
    slots, log = board.Board(folder / "board", create=True), ErrorLog(str(folder / "log"))
    last = 0
    goes_on = True
    try:
        while goes_on:
            last += 1
            world = World(folder, scene, slots, log)
            try:
                for line in before:
                    world.life(line)
                goes_on = world.life(last)
                yield last, world.outcome()
            finally:
                world.close()
    finally:
        os.close(log.fileno())
