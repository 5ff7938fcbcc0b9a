"""`lastcall serve`: from settings to a running master, and from its end to the exit code.

The order matters: signals are blocked before anything else, so that none is lost; the run directory is locked before
anything in it is touched; listeners are open before the first worker; privileges are dropped in the workers only.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lastcall import __version__
from lastcall.config.origins import DEFAULT, ConfigErrors, Loaded
from lastcall.core import accesslog, exits, notes
from lastcall.core.address import Address, parse
from lastcall.core.settings import Settings
from lastcall.core.trust import Trust
from lastcall.protocol import handover
from lastcall.protocol.adoption import DOORS
from lastcall.protocol.handover import Estate, Handover
from lastcall.protocol.papers import INBOX_IN, INBOX_OUT, stored_name
from lastcall.runtime import (
    activation,
    adoption,
    board,
    control,
    holder,
    identity,
    rundir,
    service,
    sockets,
    supervisor,
    testament,
    upgrade,
)
from lastcall.runtime.activation import Activation
from lastcall.runtime.adoption import Inheritance
from lastcall.runtime.board import LAYOUT, Board
from lastcall.runtime.cutlist import CutList
from lastcall.runtime.heritage import Heritage, Inherited, Source
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.logs import AccessLog, ErrorLog
from lastcall.runtime.master import SIGNALS, Master
from lastcall.runtime.posix import Posix
from lastcall.runtime.removal import Removals
from lastcall.runtime.sockets import Listener, ListenError
from lastcall.runtime.surroundings import ReloadRefused, Resources, Surroundings
from lastcall.runtime.upgrade import Program, Upgrade
from lastcall.runtime.worker import boot

LEFTOVERS: Final = (control.NAME,)
"""What an instance that has died leaves behind in it."""
ESTATE: Final = (board.NAME, testament.NAME, DOORS)
"""What it leaves to the next one, if that can use it."""
OUR_OWN: Final = frozenset({"daemon", "supervise", "pid", "run_dir", "hold", "tmp_dir"})
"""Settings that concern no worker, or are completed before they do."""


class StartError(Exception):
    """The start has failed; the text says why and what to do."""


def serve(loaded: Loaded, again: Callable[[], Loaded]) -> int:
    """Run until stopped; returns the exit code: 0, 70 (the application), 78 (configuration or start)."""
    settings = loaded.settings
    supervised, foreground = supervisor.take(os.environ)
    start = upgrade.program()
    try:
        if settings.supervise and not supervised:
            return supervisor.run(start, settings)
        given = activation.take()
        if settings.daemon and not supervised:
            foreground = service.daemonize()
        server = _Server(_begin(loaded, given), again, start, foreground)
        return server.run(loaded, given)
    except (StartError, OSError, service.ServiceError, rundir.RunDirError) as error:
        message = f"lastcall: {error}"
        if foreground is None:
            print(message, file=sys.stderr)
        else:
            foreground.failed(exits.CONFIG, message)
        return exits.CONFIG


def take_over(left: Handover, loaded: Loaded | ConfigErrors, again: Callable[[], Loaded]) -> int:
    """Go on as the next image of a running master; then as `serve`. A mistake in the configuration changes nothing."""
    start = upgrade.program()
    current = next(release for release in left.reign.releases if release.generation == left.reign.current)
    settings = loaded.settings if isinstance(loaded, Loaded) else upgrade.settings_of(current)
    server = _Server(_inherit(left.estate, settings), again, start, None)
    return server.resume(left, loaded)


@dataclass(slots=True)
class _Parts:
    """What a server is made of: opened for the first time, or inherited."""

    settings: Settings
    port: Posix
    run_dir: rundir.RunDir
    pid_file: service.PidFile | None
    log: _Log
    board: Board
    inbox: Inbox
    control: control.ControlServer
    notifier: service.Notifier
    heritage: Heritage
    claim: holder.Claim | None
    inheritance: Inheritance | None
    """What a master that has died has left."""
    spoken_for: bool
    """systemd has said what its sockets are for: no default address is needed."""
    kept_before: bool
    """systemd has kept our sockets between two starts."""
    delivered: bool = False
    """What is to be kept has been handed to systemd."""


def _surroundings(settings: Settings) -> None:
    """What holds for the whole process, workers included."""
    service.limits(settings.rlimit_files, settings.rlimit_core)
    if settings.chdir:
        os.chdir(settings.chdir)
    if settings.umask is not None:
        os.umask(settings.umask)


def _begin(loaded: Loaded, given: Activation) -> _Parts:
    """Open everything but listeners. Raises OSError, ServiceError, RunDirError; nothing is left behind then."""
    settings = _asked_for(loaded, spoken_for=given.speaks)
    port = Posix(SIGNALS)
    _surroundings(settings)
    directory = Path(settings.run_dir) if settings.run_dir else _default_run_dir(settings, given)
    run_dir = rundir.RunDir.open(directory, LEFTOVERS, keep=bool(settings.run_dir), estate=ESTATE)
    pid_file = service.PidFile(Path(settings.pid)) if settings.pid else None
    notifier = service.Notifier.take()
    try:
        if pid_file is not None:
            pid_file.claim()
        log = _open_log(settings, daemon=settings.daemon)
        left = adoption.find(run_dir.path, log.write, port)
        if left is None:
            run_dir.forget()
        slots = Board(run_dir.path / board.NAME, create=True) if left is None else left.board
        server = _control(run_dir.path)
    except BaseException:
        if pid_file is not None:
            pid_file.remove()
        run_dir.abandon()
        raise
    heritage, claim = _find_heritage(given, run_dir.path, log, left)
    return _Parts(
        settings, port, run_dir, pid_file, log, slots, Inbox(heritage.inbox), server, notifier, heritage, claim, left,
        spoken_for=given.speaks, kept_before=any(each.source is Source.STORED for each in given.found),
    )  # fmt: skip


def _find_heritage(
    given: Activation, run_dir: Path, log: ErrorLog, left: Inheritance | None
) -> tuple[Heritage, holder.Claim | None]:
    """All that was there before us. What a holder has is copies: it keeps its own until we serve."""
    claim: holder.Claim | None = None
    try:
        claim = holder.claim(run_dir)
    except holder.HoldError as error:
        log.write(notes.Caution(str(error)))
    orphaned = [] if left is None else list(left.listeners.values())
    found = [*given.found, *(claim.found if claim is not None else [])]
    inboxes = [left and left.inbox, claim and claim.inbox, given.inbox]
    inbox = next((ends for ends in inboxes if ends), None)
    for ends in inboxes:
        if ends and ends is not inbox:
            for end in ends:
                end.close()
    found = _others(found, orphaned)
    if left is None or not left.serving:  # else they are not claimed one by one: the pool goes on with all of them
        found = [*orphaned, *found]
    heritage = Heritage(found, inbox)
    sockets.reserve(heritage.numbers())
    return heritage, claim


def _others(found: list[Inherited], known: list[Inherited]) -> list[Inherited]:
    """Without those that are the same socket as one that we have already."""
    inodes = {os.fstat(each.sock.fileno()).st_ino for each in known}
    others = []
    for each in found:
        if os.fstat(each.sock.fileno()).st_ino in inodes:
            each.sock.close()
        else:
            others.append(each)
    return others


def _inherit(estate: Estate, settings: Settings) -> _Parts:
    """Take over what another image of this process has opened. The run directory and the pid file stay what they are."""
    port = Posix(SIGNALS)
    _surroundings(settings)
    run_dir = rundir.RunDir.adopt(Path(estate.run_dir), estate.lock, LEFTOVERS + ESTATE, keep=estate.keep_run_dir)
    pid_file = service.PidFile.adopt(Path(estate.pid_file), estate.pid_lock) if estate.pid_lock >= 0 else None
    try:
        log = _open_log(settings, daemon=settings.daemon)
    except OSError as error:
        log = _Log("-", notes.Level.NOTICE)
        log.write(notes.Trouble(f"the error log cannot be opened: {error}"))
    server = control.ControlServer.adopt(run_dir.path, estate.control, estate.clients)
    inbox_out, inbox_in = (socket.socket(fileno=fd) for fd in estate.inbox)
    return _Parts(
        settings, port, run_dir, pid_file, log, Board(run_dir.path / board.NAME, create=False), Inbox((inbox_out, inbox_in)),
        server, service.Notifier(estate.notify, os.getpid()), Heritage(), None, None, spoken_for=estate.spoken_for,
        kept_before=estate.kept_before, delivered=estate.delivered,
    )  # fmt: skip


class _Log(ErrorLog):
    """Remembers why the start was given up."""

    given_up = ""

    def write(self, note: notes.Note) -> None:
        if isinstance(note, notes.GivingUp):
            self.given_up = note.why
        super().write(note)


def _open_log(settings: Settings, *, daemon: bool) -> _Log:
    """In a daemon stdout and stderr are the log as well, or nothing: it must not hold the terminal of its start."""
    path, level = settings.error_log, notes.Level[settings.log_level.upper()]
    if not daemon:
        return _Log(path, level)
    if path == "-":
        service.redirect(None)
    log = _Log(path, level)
    service.redirect(log.fileno())
    return log


class _Server:
    """What lives as long as the master: the parts, and the listeners and logs of its generations."""

    def __init__(
        self, parts: _Parts, again: Callable[[], Loaded], start: Program, foreground: service.Foreground | None
    ) -> None:
        self.log = parts.log
        self._parts = parts
        self._settings = parts.settings
        self._hold = parts.settings.hold
        self._again = again
        self._foreground = foreground
        self._warned: set[str] = set()
        self._listeners: tuple[Listener, ...] = ()
        self._removals = Removals()
        self._around = Surroundings(
            port=parts.port, board=parts.board, inbox=parts.inbox, control=parts.control, error_log=parts.log,
            notifier=parts.notifier, cut_list=CutList(parts.run_dir.path), run_dir=str(parts.run_dir.path),
            ready=self._ready, renew=self._renew, estate=self._estate, upgrade=Upgrade(start, parts.port),
            release=self._release, listeners=lambda: self._listeners, removals=self._removals, claim=parts.claim,
            leave_behind=self._leave_behind, stored=self._stored, unstore=self._unstore, let_go=self._let_go,
            testament=testament.Testament(parts.run_dir.path),
        )  # fmt: skip

    def run(self, loaded: Loaded, given: Activation) -> int:
        """From the start to the end; returns the exit code. Raises StartError; nothing of ours is left behind then."""
        left = self._parts.inheritance
        if left is not None and left.serving:
            return self._inherit(left, loaded, given)
        try:
            resources = self._open(self._settings, None)
        except StartError:
            self._close(leaves=True, failed=True)
            raise
        self._close_rest(given)
        self._listeners = resources.listeners
        self._store()
        self.warn(loaded)
        self.log.write(notes.Running(os.getpid()))
        if left is None:
            return self._run(Master(self._around, resources), None, ())
        anew = left.anew(resources.settings, (listener.number for listener in resources.listeners))
        generations = {release.generation: self._inherited(release) for release in anew.reign.releases}
        generations[anew.reign.current] = resources
        master = Master.resume(self._around, generations, anew)
        master.take_over(left.seconds, anew.estate.pid)
        return self._run(master, None, ())

    def _inherit(self, left: Inheritance, loaded: Loaded, given: Activation) -> int:
        """Go on with the workers of a master that has died; begin a new generation where the configuration is another."""
        self.log.write(notes.Running(os.getpid()))
        for inherited in left.listeners.values():
            inherited.sock.detach()  # its descriptor stands in what was handed over
        generations = self._recall(left.left)
        reign = left.left.reign
        before = generations[reign.current]
        boot.prepare(before.settings, self.log)
        master = Master.resume(self._around, generations, left.left)
        fresh: Resources | None = None
        if left.left.version != __version__ or self._differs(before):
            try:
                fresh = self._renewed(loaded, before)
            except StartError as error:
                master.refuse((), str(error))
        self._close_rest(given)
        self._store()
        self.warn(loaded)
        master.take_over(left.seconds, left.left.estate.pid)
        return self._run(master, fresh, ())

    def _differs(self, before: Resources) -> bool:
        """Whether workers with these settings would be others, or have not all of the listeners that they should have."""
        wanted, had = (upgrade.plain(each) for each in (self._settings, before.settings))
        same = all(wanted[name] == had[name] for name in wanted if name not in OUR_OWN)
        listeners = [(each.protocol, each.address) for each in before.listeners]
        return not same or any(each not in listeners for each in self._settings.listeners)

    def _recall(self, left: Handover) -> dict[int, Resources]:
        """The listeners and the generations that were handed over."""
        self._listeners = tuple(self._crossed(listener) for listener in left.estate.listeners)
        self._removals.former = tuple(_recalled(former) for former in left.estate.former)
        sockets.reserve(listener.number for listener in self._removals.former)
        return {release.generation: self._inherited(release) for release in left.reign.releases}

    def resume(self, left: Handover, loaded: Loaded | ConfigErrors) -> int:
        """From where the last image has left off to the end; begins a new generation where the configuration allows."""
        generations = self._recall(left)
        before = generations[left.reign.current]
        self.log.write(notes.Running(os.getpid()))
        master = Master.resume(self._around, generations, left)
        fresh: Resources | None = None
        why = ""
        if isinstance(loaded, ConfigErrors):
            why = _fatal(loaded)
        else:
            try:
                fresh = self._renewed(loaded, before)
            except StartError as error:
                why = str(error)
        if fresh is None:
            master.refuse(left.tickets, why)
        return self._run(master, fresh, left.tickets)

    def _crossed(self, there: handover.Listener) -> Listener:
        """A listener that another image of this process has opened."""
        source = Source(there.source) if there.source else Source.EXEC
        inherited = Inherited(socket.socket(fileno=there.fd), source, there.papers)
        sockets.reserve([there.papers.number or 0])
        return self._adopt(inherited, there.papers.protocol, inherited.address(), self._settings.backlog)

    def _inherited(self, release: handover.Release) -> Resources:
        settings = upgrade.settings_of(release)
        listeners = tuple(listener for listener in self._listeners if listener.number in release.listeners)
        log = None
        try:
            log = self._access_log(settings, None)
        except OSError as error:
            self.log.write(notes.Trouble(f"the access log cannot be opened: {error}"))
        boot.kind(settings)
        return Resources(settings, listeners, log, Trust(settings.forwarded_allow_ips))

    def _run(self, master: Master, fresh: Resources | None, tickets: Iterable[int]) -> int:
        gc.collect()
        gc.freeze()  # a worker's collector then leaves the master's memory shared
        code = master.run(fresh, tickets)
        self._close(leaves=master.leaves)
        if code:
            self._tell_why(code)
        return code

    def _close(self, *, leaves: bool, failed: bool = False) -> None:
        """`leaves`: somebody else has the listeners. `failed`: nothing was begun; what there was is for the next try."""
        for listener in self._listeners:
            if not (leaves or listener.lent):
                sockets.unlink(listener)
            listener.sock.close()
        self._parts.control.close(unlink=True)
        if self._parts.pid_file is not None:
            self._parts.pid_file.remove()
        if failed:
            self._parts.run_dir.abandon()
        else:
            self._parts.run_dir.close()

    def _estate(self) -> Estate:
        parts = self._parts
        return Estate(
            run_dir=str(parts.run_dir.path), keep_run_dir=parts.run_dir.kept, lock=parts.run_dir.fd,
            pid_file=str(parts.pid_file.path) if parts.pid_file else "",
            pid_lock=parts.pid_file.fd if parts.pid_file else -1, board=LAYOUT,
            inbox=[end.fileno() for end in parts.inbox.ends], control=parts.control.fileno(),
            clients=parts.control.clients(), listeners=[_left(listener) for listener in self._listeners],
            former=[_remembered(listener) for listener in self._removals.former],
            notify=parts.notifier.variables, spoken_for=parts.spoken_for, kept_before=parts.kept_before,
            delivered=parts.delivered, boot=identity.boot(), pid=os.getpid(),
        )  # fmt: skip

    def _tell_why(self, code: int) -> None:
        """Whoever has started us hears why there is nothing; before, only the log did."""
        message = (
            f"lastcall: {self.log.given_up or 'the start has failed'}\n(the error log is {self._settings.error_log})"
        )
        if self._foreground is not None:
            self._foreground.failed(code, message)
        elif self._settings.error_log != "-":
            print(message, file=sys.stderr)

    def warn(self, loaded: Loaded) -> None:
        """Say what is doubtful in the configuration; at a reload, only what is so for the first time."""
        for text in (str(problem).removeprefix("warning: ") for problem in loaded.warnings):
            if text not in self._warned:
                self._warned.add(text)
                self.log.write(notes.Caution(f"configuration: {text}"))

    def _ready(self) -> None:
        if self._foreground is not None:
            self._parts.notifier.main_pid(os.getpid())
            self._foreground.ready()

    def _let_go(self) -> None:
        self._parts.port.close()
        self._parts.run_dir.leave()
        if self._parts.pid_file is not None:
            self._parts.pid_file.leave()
        if self._foreground is not None:
            self._foreground.leave()

    # --- What was there before us, and what is left behind ----------------------------------

    def _close_rest(self, given: Activation) -> None:
        for name in given.useless:
            self.log.write(notes.Caution(f"systemd has handed us {name}, which is no socket"))
        for each in self._parts.heritage.rest():
            if each.source is Source.ACTIVATION:
                text = f"systemd listens at {each.address()} for us, which no --http and no --fastcgi asks for"
                self.log.write(notes.Caution(text))
            elif each.source is Source.STORED:
                self._parts.notifier.unstore(stored_name(each.papers))
        self._parts.heritage.close_rest()

    def _stored(self) -> bool:
        """Whether the service manager keeps what we have given it. systemd before 254 does not say so: `hold` does."""
        if not self._parts.delivered:
            return False
        if self._parts.notifier.room:
            return self._parts.notifier.room >= len(self._listeners) + 2
        return self._hold > 0 or self._parts.kept_before

    def _store(self) -> None:
        if not self._parts.notifier.listened_to:
            return
        descriptors = dict(zip((INBOX_OUT, INBOX_IN), (end.fileno() for end in self._parts.inbox.ends), strict=True))
        descriptors |= {stored_name(each.papers): each.fd for each in self._listeners if not each.lent}
        self._parts.delivered = all(self._parts.notifier.store(name, fd) for name, fd in descriptors.items())

    def _unstore(self) -> None:
        for name in (INBOX_OUT, INBOX_IN, *(stored_name(listener.papers) for listener in self._listeners)):
            self._parts.notifier.unstore(name)

    def _leave_behind(self, settings: Settings, let_go: Callable[[], None]) -> int:
        if os.getpid() == 1:
            self.log.write(notes.Caution("nothing can be held: with process 1 all others of this container end"))
            return 0
        try:
            door = holder.open_door(self._parts.run_dir.path)
            pid = self._parts.port.fork()
        except OSError as error:
            self.log.write(notes.Trouble(f"nothing can be held: {error.strerror}"))
            return 0
        if pid == 0:
            estate = holder.Estate(
                pool=settings.pool, listeners=self._listeners, inbox=self._parts.inbox, seconds=settings.hold,
                run_dir=self._parts.run_dir.path, keep_dir=bool(self._settings.run_dir), error_log=self.log, door=door,
            )  # fmt: skip
            holder.become_holder(estate, let_go)
        door.close()
        return pid

    # --- Listeners, logs -----------------------------------------------------------------

    def _open(self, settings: Settings, before: Resources | None) -> Resources:
        """What a generation with these settings is to be given. Raises StartError; nothing is left open then."""
        opened: list[Listener] = []
        listeners: list[Listener] = []
        access = sockets.SocketFile(settings.socket_mode, settings.socket_owner, settings.socket_group)
        try:
            for protocol, address in settings.listeners:
                fastcgi = protocol == "fastcgi"
                known = _known(before, address, fastcgi=fastcgi)
                if known is None:
                    known = self._take(protocol, address, settings.backlog)
                if known is None:
                    known = sockets.listen(address, fastcgi=fastcgi, backlog=settings.backlog, access=access)
                    opened.append(known)
                listeners.append(known)
            listeners += self._activated(before, listeners, settings.backlog)
            log = self._access_log(settings, before)
        except (ListenError, OSError) as error:
            for listener in opened:
                listener.sock.close()
            raise StartError(str(error)) from error
        boot.prepare(settings, self.log)
        trust = Trust(settings.forwarded_allow_ips)
        if not settings.tmp_dir:
            settings = replace(settings, tmp_dir=str(rundir.spool(self._parts.run_dir.path)))
        return Resources(settings, tuple(listeners), log, trust)

    def _activated(self, before: Resources | None, configured: list[Listener], backlog: int) -> list[Listener]:
        """The listeners that nobody has configured: systemd has said what they are for."""
        if before is not None:
            return [each for each in before.listeners if each.activated and each not in configured]
        return [
            self._adopt(each, each.papers.protocol, each.address(), backlog)
            for each in self._parts.heritage.claim_activated()
        ]

    def _take(self, protocol: str, address: Address, backlog: int) -> Listener | None:
        """The listener for this address on a socket that was there before us, if there is one."""
        inherited = self._parts.heritage.claim(protocol, address)
        return None if inherited is None else self._adopt(inherited, protocol, address, backlog)

    def _adopt(self, inherited: Inherited, protocol: str, address: Address, backlog: int) -> Listener:
        listener = sockets.adopt(inherited, address, fastcgi=protocol == "fastcgi", backlog=backlog)
        self.log.write(notes.SocketInherited(listener.fd, sockets.bound(listener.sock, address)))
        return listener

    def _access_log(self, settings: Settings, before: Resources | None) -> AccessLog | None:
        if not settings.access_log:
            return None
        if before is not None and before.access_log is not None:
            old = before.settings
            if (old.access_log, old.access_format) == (settings.access_log, settings.access_format):
                return before.access_log
        return AccessLog(settings.access_log, accesslog.compile(settings.access_format), self.log)

    def _renew(self, before: Resources) -> Resources:
        try:
            return self._renewed(self._again(), before)
        except ConfigErrors as errors:
            raise ReloadRefused(_fatal(errors)) from errors
        except StartError as error:
            raise ReloadRefused(str(error)) from error

    def _renewed(self, loaded: Loaded, before: Resources) -> Resources:
        """What the next generation is given. Raises StartError."""
        settings = _asked_for(loaded, spoken_for=self._parts.spoken_for)
        resources = self._open(settings, before)
        self.warn(loaded)
        if loaded.settings.log_level != before.settings.log_level:
            self.log.level = notes.Level[loaded.settings.log_level.upper()]
        self._listeners = tuple(dict.fromkeys((*self._listeners, *resources.listeners)))
        self._hold = settings.hold
        self._store()
        return resources

    def _release(self, used: list[Resources]) -> None:
        """Close the listeners and logs that no generation uses any more."""
        kept = {id(listener) for resources in used for listener in resources.listeners}
        kept |= {id(listener) for listener in self._listeners if self._removals.holds(listener)}
        for listener in self._listeners:
            if id(listener) not in kept:
                if not listener.lent:
                    sockets.unlink(listener)
                    self._parts.notifier.unstore(stored_name(listener.papers))
                listener.sock.close()
        self._listeners = tuple(listener for listener in self._listeners if id(listener) in kept)


def _fatal(errors: ConfigErrors) -> str:
    return "\n".join(str(problem) for problem in errors.problems if problem.fatal)


def _known(before: Resources | None, address: object, *, fastcgi: bool) -> Listener | None:
    for listener in before.listeners if before is not None else ():
        if listener.address == address and listener.fastcgi == fastcgi:
            return listener
    return None


def _left(listener: Listener) -> handover.Listener:
    """A listener as it is written down for the next image of the master."""
    return handover.Listener(listener.fd, listener.papers, listener.source.value if listener.source else "")


def _remembered(listener: Listener) -> handover.Former:
    return handover.Former(listener.papers, listener.name, listener.port, listener.family)


def _recalled(former: handover.Former) -> Listener:
    """A listener that is closed: what its connections are known by."""
    papers, closed = former.papers, socket.socket()
    closed.close()
    return Listener(
        closed, papers.number or 0, parse(papers.address), papers.protocol == "fastcgi", former.name, former.port,
        former.family,
    )  # fmt: skip


def _asked_for(loaded: Loaded, *, spoken_for: bool) -> Settings:
    """The settings; without the default address where systemd has said what its sockets are for."""
    default = loaded.places["http"].file == DEFAULT
    return replace(loaded.settings, http=()) if spoken_for and default else loaded.settings


def _default_run_dir(settings: Settings, given: Activation) -> Path:
    spoken = [(each.papers.protocol, each.address()) for each in given.found if each.papers.activated]
    protocol, address = (*settings.listeners, *spoken)[0]
    return rundir.choose(f"{protocol}-{address}")


def _control(directory: Path) -> control.ControlServer:
    """The control socket, for our own user only: whatever the umask, and whoever may enter the directory."""
    mask = os.umask(0o077)
    try:
        return control.ControlServer(directory)
    finally:
        os.umask(mask)
