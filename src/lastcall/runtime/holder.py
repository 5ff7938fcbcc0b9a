"""The holder: the process that a stopped master leaves its listeners and its inbox with, until the next start claims them.

It serves nobody. New clients wait in the listeners' queues; kept connections, which the workers put into the inbox as in a
reload, wait here. When its time is up, or at SIGTERM, it does what a final stop does, without workers: nobody new gets in,
and whoever waits is answered with 503.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, assert_never

import msgspec

from lastcall.core import notes
from lastcall.protocol.hold import PACKET_MAX, Do, Held, Word
from lastcall.protocol.papers import Papers
from lastcall.runtime import farewell, rights, rundir, sender, service
from lastcall.runtime.closing import LOOK, Closing
from lastcall.runtime.heritage import Inherited, Source, identify
from lastcall.runtime.inbox import Inbox, Parcel
from lastcall.runtime.logs import ErrorLog
from lastcall.runtime.posix import Posix
from lastcall.runtime.sockets import Listener

NAME: Final = "hold.sock"
PATIENCE: Final = 5.0
"""Seconds that either side waits for the other's packets."""
CLIENTS_MAX: Final = 8
SPARE: Final = 64
"""Descriptors that are left for other things than connections."""
FEEDING_MAX: Final = 30.0
"""Seconds after DONE in which the claimant's workers must have taken the connections that were kept for them."""
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
SIGNALS: Final = (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
_PR_SET_NAME: Final = 15


@dataclass(frozen=True, slots=True)
class Estate:
    """What a master leaves behind."""

    pool: str
    listeners: tuple[Listener, ...]
    inbox: Inbox
    seconds: float
    run_dir: Path
    keep_dir: bool
    """The run directory is the operator's: it is not removed in the end."""
    error_log: ErrorLog
    door: socket.socket
    """`hold.sock`, listening: there before the master has gone."""


def open_door(directory: Path) -> socket.socket:
    """Listen on `hold.sock` in the run directory, for our own user only. Raises OSError."""
    (directory / NAME).unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    mask = os.umask(0o077)
    try:
        door.bind(f"/proc/self/fd/{folder}/{NAME}")  # sun_path holds 107 bytes, a run directory may have more
        door.listen(CLIENTS_MAX)
    except OSError:
        door.close()
        raise
    finally:
        os.umask(mask)
        os.close(folder)
    door.setblocking(False)
    return door


def become_holder(estate: Estate, let_go: Callable[[], None]) -> NoReturn:
    """Never returns, and never raises. `let_go` closes the master's descriptors."""
    try:
        let_go()
        os.setsid()
        os.chdir("/")
        # Whoever reads what the master prints waits for the last holder of that pipe; a log there is still written.
        service.redirect(2 if estate.error_log.path == "-" else None)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"lastcall-holder", 0, 0, 0)  # what `ss -lptn` shows
        _Holder(estate).run()
    except BaseException as error:
        estate.error_log.write(notes.Trouble(f"the holder, pid {os.getpid()}, broke: {error!r}"))
    finally:
        os._exit(0)


class _Holder:
    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._port = Posix(SIGNALS)
        self._held: deque[Parcel] = deque()
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE - len(estate.listeners)
        self._deadline = self._port.now() + estate.seconds
        self._clients: dict[int, socket.socket] = {}
        self._claimant: socket.socket | None = None
        self._feeding = False
        self._kept: frozenset[int] = frozenset()
        self._ended = ""
        self._done = False
        self._file = identify(str(estate.run_dir / NAME))

    def run(self) -> None:
        count = len(self._estate.listeners)
        self._write(notes.Holding(count, self._estate.seconds, os.getpid()))
        self._port.watch(self._estate.door.fileno())
        self._port.watch(self._estate.inbox.fileno())
        self._take()
        while not self._ended and not self._done:
            self._turn()
        if self._done:
            self._give_up_the_rest()
            self._write(notes.HoldEnded(os.getpid(), "a new master serves"))
        else:
            self._write(notes.HoldEnded(os.getpid(), self._ended))
            self._close(self._estate.listeners)
        self._leave()
        if not self._estate.keep_dir and rundir.holder(self._estate.run_dir) is None:
            with contextlib.suppress(OSError):
                self._estate.run_dir.rmdir()

    def _turn(self) -> None:
        woken = self._port.wait(self._patience())
        for signalled in woken.signals:
            if signalled.number in STOPS:
                self._ended = "stopped by " + sender.describe(signalled.pid, signalled.uid)
            elif signalled.number == signal.SIGUSR1:
                self._estate.error_log.reopen()
        for fd in woken.readable:
            if fd == self._estate.door.fileno():
                self._accept()
            elif fd in self._clients:
                self._hear(fd)
        if self._claimant is None:
            self._take()
            if self._deadline <= self._port.now() and not self._ended:
                self._ended = f"nobody has claimed it within {self._estate.seconds:g} seconds"
        elif self._feeding:
            self._feed()

    def _patience(self) -> float | None:
        if self._feeding and self._held:
            return LOOK
        return None if self._claimant else max(0.0, self._deadline - self._port.now())

    # --- Connections -----------------------------------------------------------------

    def _take(self) -> None:
        """Empty the inbox, whose bound is for passing through: this is where connections wait."""
        while len(self._held) < self._room:
            parcel = self._estate.inbox.take()
            if parcel is None:
                return
            self._held.append(parcel)
        with contextlib.suppress(OSError):
            self._port.unwatch(self._estate.inbox.fileno())  # no room: they stay where they are

    def _feed(self) -> None:
        while self._held and self._estate.inbox.put(self._held[0]):
            socket.close(self._held.popleft().fd)

    # --- Clients ----------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            client, _ = self._estate.door.accept()
        except OSError:
            return
        _, uid = sender.peer(client)
        if uid not in (0, os.geteuid()) or len(self._clients) >= CLIENTS_MAX:
            client.close()
            return
        client.settimeout(PATIENCE)
        self._clients[client.fileno()] = client
        self._port.watch(client.fileno())

    def _hear(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            packet = client.recv(PACKET_MAX)
            word = msgspec.json.decode(packet, type=Word) if packet else None
        except (OSError, msgspec.MsgspecError):
            word = None
        try:
            if word is not None:
                self._obey(client, word)
                return
        except OSError:
            pass  # it has gone while it was answered
        self._part_from(fd, client)

    def _part_from(self, fd: int, client: socket.socket) -> None:
        self._port.unwatch(fd)
        del self._clients[fd]
        client.close()
        if client is self._claimant:
            # It has died, or its application does not load: there may be another try.
            self._claimant = None
            self._feeding = False
            self._deadline = max(self._deadline, self._port.now() + self._estate.seconds)
            with contextlib.suppress(OSError):
                self._port.watch(self._estate.inbox.fileno())
            self._write(notes.Holding(len(self._estate.listeners), self._estate.seconds, os.getpid()))

    def _obey(self, client: socket.socket, word: Word) -> None:
        match word.do:
            case Do.STATUS:
                client.send(msgspec.json.encode(self._status()))
            case Do.STOP:
                self._ended = "stopped by " + _who(client)
            case Do.CLAIM:
                if self._claimant is None:
                    self._hand_on(client)
            case Do.SERVING:
                self._keep(word.kept)
            case Do.DONE:
                self._keep(word.kept)
                self._done = True
            case _:
                assert_never(word.do)

    def _status(self) -> Held:
        left = max(0.0, self._deadline - self._port.now())
        listeners = [str(listener) for listener in self._estate.listeners]
        return Held(os.getpid(), listeners, left, len(self._held), self._claimant is not None)

    def _hand_on(self, client: socket.socket) -> None:
        """Copies of everything; ours stay until the claimant serves."""
        with contextlib.suppress(OSError):
            self._port.unwatch(self._estate.inbox.fileno())
        self._claimant = client
        for listener in self._estate.listeners:
            rights.send(client, msgspec.json.encode(listener.papers), [listener.fd])
        ends = [end.fileno() for end in self._estate.inbox.ends]
        rights.send(client, msgspec.json.encode(self._status()), ends)

    def _keep(self, numbers: list[int]) -> None:
        self._kept = frozenset(numbers)
        homeless = [parcel for parcel in self._held if parcel.listener not in self._kept]
        if homeless:
            self._held = deque(parcel for parcel in self._held if parcel.listener in self._kept)
            self._refuse(homeless, "the service no longer listens where this came in")
        self._feeding = True
        self._feed()

    # --- The end ----------------------------------------------------------------------

    def _give_up_the_rest(self) -> None:
        """The claimant serves: what it has not taken over ends here."""
        deadline = self._port.now() + FEEDING_MAX
        poll = select.poll()
        while self._held and self._port.now() < deadline:
            poll.poll(LOOK * 1000)
            self._feed()
        left = tuple(each for each in self._estate.listeners if each.number not in self._kept)
        if left or self._held:
            self._close(left)

    def _close(self, listeners: tuple[Listener, ...]) -> None:
        """Let nobody new in, and answer whoever waits."""
        inbox = self._estate.inbox if not self._done else Inbox()
        closing = Closing(listeners, inbox, self._port.now())
        poll = select.poll()  # of nothing: we only let time pass
        while not closing.over:
            closing.look(self._port.now())
            while (parcel := inbox.take()) is not None:
                self._held.append(parcel)
            poll.poll(LOOK * 1000)
        self._held.extend(closing.end())
        self._leave()  # a start that has come too late to claim anything has waited for this, and can listen now
        self._refuse(list(self._held), self._ended or "the service no longer listens there")

    def _refuse(self, parcels: list[Parcel], why: str) -> None:
        fastcgi = {listener.number for listener in self._estate.listeners if listener.fastcgi}
        pool = self._estate.pool
        farewell.refuse(
            parcels, fastcgi.__contains__, "the service is stopped",
            lambda request, client: self._write(notes.Refused(pool, request, client, why)),
        )  # fmt: skip

    def _leave(self) -> None:
        """Nobody can claim anything any more."""
        path = self._estate.run_dir / NAME
        if identify(str(path)) == self._file:
            path.unlink(missing_ok=True)
        for client in (*self._clients.values(), self._estate.door):
            client.close()

    def _write(self, note: notes.Note) -> None:
        self._estate.error_log.write(note)


def _who(client: socket.socket) -> str:
    return sender.describe(*sender.peer(client))


# --- The other side ------------------------------------------------------------


class HoldError(Exception):
    """A holder that is there, but does not answer as it should."""


class HoldEndedError(HoldError):
    """It has ended before it was asked: its listeners are closed."""


class Claim:
    """A claim on what a holder has. A worker calls `close()` first thing after fork."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.found: list[Inherited] = []
        self.inbox: tuple[socket.socket, socket.socket] | None = None
        self.pid = 0

    def receive(self) -> None:
        """Take copies of everything. Raises HoldError."""
        self._say(Word(Do.CLAIM))
        try:
            while self.inbox is None:
                packet, fds = rights.receive(self._sock, PACKET_MAX, 2)
                if len(fds) == 1:
                    papers = msgspec.json.decode(packet, type=Papers)
                    self.found.append(Inherited(socket.socket(fileno=fds[0]), Source.HOLDER, papers))
                elif len(fds) == 2:
                    self.pid = msgspec.json.decode(packet, type=Held).pid
                    self.inbox = socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1])
                else:
                    raise HoldEndedError
        except ConnectionError as error:
            raise HoldEndedError from error
        except (OSError, msgspec.MsgspecError) as error:
            raise HoldError(f"the holder has not answered: {error}") from error

    def serving(self, kept: list[int]) -> None:
        """The first worker serves: the connections that were held come back."""
        self._say(Word(Do.SERVING, kept))

    def done(self, kept: list[int]) -> None:
        """All is ours; the holder goes."""
        self._say(Word(Do.DONE, kept))
        self.close()

    def stop(self) -> None:
        """It is not to wait for another start."""
        self._say(Word(Do.STOP))
        self.close()

    def close(self) -> None:
        self._sock.close()

    def _say(self, word: Word) -> None:
        with contextlib.suppress(OSError):  # it has gone: then nothing is held any more
            self._sock.send(msgspec.json.encode(word), socket.MSG_NOSIGNAL)


def claim(directory: Path) -> Claim | None:
    """What a holder in this run directory has; None where there is none. Raises HoldError."""
    sock = reach(directory)
    if sock is None:
        return None
    claimed = Claim(sock)
    try:
        claimed.receive()
    except HoldError as error:
        for inherited in claimed.found:
            inherited.sock.close()
        claimed.close()
        if isinstance(error, HoldEndedError):
            return None
        raise
    return claimed


def held(directory: Path) -> Held | None:
    """What a holder in this run directory has to say; None where there is none, or it does not answer."""
    sock = reach(directory)
    if sock is None:
        return None
    with sock:
        try:
            sock.send(msgspec.json.encode(Word(Do.STATUS)), socket.MSG_NOSIGNAL)
            return msgspec.json.decode(sock.recv(PACKET_MAX), type=Held)
        except (OSError, msgspec.MsgspecError):
            return None


def stop(directory: Path, timeout: float) -> bool:
    """Have the holder in this run directory end, and wait for its end; whether it has."""
    sock = reach(directory)
    if sock is None:
        return False
    with sock:
        sock.settimeout(timeout)
        try:
            sock.send(msgspec.json.encode(Word(Do.STOP)), socket.MSG_NOSIGNAL)
            return sock.recv(PACKET_MAX) == b""
        except ConnectionError:
            return True
        except OSError:
            return False


def reach(directory: Path) -> socket.socket | None:
    """A connection to the holder of a run directory; None where there is none."""
    try:
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{NAME}")
    except OSError:
        sock.close()
        return None
    finally:
        os.close(folder)
    return sock
