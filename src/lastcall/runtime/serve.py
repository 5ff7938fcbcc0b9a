"""`lastcall serve`: from settings to a running master, and from its end to the exit code.

The order matters: signals are blocked before anything else, so that none is lost; the run directory is locked before
anything in it is touched; listeners are open before the first worker; privileges are dropped in the workers only.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from lastcall.config.origins import ConfigErrors, Loaded
from lastcall.core import accesslog, exits, notes
from lastcall.core.settings import Settings
from lastcall.runtime import control, rundir, service, sockets
from lastcall.runtime.board import Board
from lastcall.runtime.inbox import Inbox
from lastcall.runtime.logs import AccessLog, ErrorLog
from lastcall.runtime.master import SIGNALS, Master, ReloadRefused, Resources, Surroundings
from lastcall.runtime.posix import Posix
from lastcall.runtime.sockets import Listener, ListenError

BOARD: Final = "board"
"""The board's file in the run directory."""


class StartError(Exception):
    """The start has failed; the text says why and what to do."""


def serve(loaded: Loaded, again: Callable[[], Loaded]) -> int:
    """Run until stopped; returns the exit code: 0, 70 (the application), 78 (configuration or start)."""
    settings = loaded.settings
    foreground: service.Foreground | None = None
    try:
        if settings.daemon:
            foreground = service.daemonize()
        server = _Server(settings, again, foreground)
    except (StartError, OSError, service.ServiceError, rundir.RunDirError) as error:
        message = f"lastcall: {error}"
        if foreground is None:
            print(message, file=sys.stderr)
        else:
            foreground.failed(exits.CONFIG, message)
        return exits.CONFIG
    return server.run(loaded)


class _Log(ErrorLog):
    """Remembers why the start was given up."""

    given_up = ""

    def write(self, note: notes.Note) -> None:
        if isinstance(note, notes.GivingUp):
            self.given_up = note.why
        super().write(note)


class _Server:
    """What lives as long as the master: opened in order by the constructor, closed in reverse by `run`."""

    def __init__(self, settings: Settings, again: Callable[[], Loaded], foreground: service.Foreground | None) -> None:
        self._again = again
        self._foreground = foreground
        self._settings = settings
        self._warned: set[str] = set()
        self.port = Posix(SIGNALS)
        service.limits(settings.rlimit_files, settings.rlimit_core)
        if settings.chdir:
            os.chdir(settings.chdir)
        if settings.umask is not None:
            os.umask(settings.umask)
        directory = Path(settings.run_dir) if settings.run_dir else _default_run_dir(settings)
        self._run_dir = rundir.RunDir.open(directory, (control.NAME, BOARD), keep=bool(settings.run_dir))
        self._pid_file = service.PidFile(Path(settings.pid)) if settings.pid else None
        try:
            if self._pid_file is not None:
                self._pid_file.claim()
            self.log = self._open_log()
            resources = self._open(settings, None)
            board = Board(self._run_dir.path / BOARD, create=True)
            self._control = _control(self._run_dir.path)
        except BaseException:
            if self._pid_file is not None:
                self._pid_file.remove()
            self._run_dir.close()
            raise
        self._notifier = service.Notifier.take()
        self._around = Surroundings(
            port=self.port, board=board, inbox=Inbox(), control=self._control, error_log=self.log,
            notifier=self._notifier, run_dir=str(self._run_dir.path), ready=self._ready, renew=self._renew,
            release=self._release, let_go=self._let_go,
        )  # fmt: skip
        self._listeners = resources.listeners
        self._master = Master(self._around, resources)

    def _open_log(self) -> _Log:
        """In a daemon stdout and stderr are the log as well, or nothing: it must not hold the terminal of its start."""
        path, level = self._settings.error_log, notes.Level[self._settings.log_level.upper()]
        if self._foreground is None:
            return _Log(path, level)
        if path == "-":
            service.redirect(None)
        log = _Log(path, level)
        service.redirect(log.fileno())
        return log

    def run(self, loaded: Loaded) -> int:
        self._warn(loaded)
        self.log.write(notes.Running(os.getpid()))
        gc.collect()
        gc.freeze()  # a worker's collector then leaves the master's memory shared
        code = self._master.run()
        for listener in self._listeners:
            sockets.unlink(listener)
            listener.sock.close()
        self._control.close(unlink=True)
        if self._pid_file is not None:
            self._pid_file.remove()
        self._run_dir.close()
        if code:
            self._tell_why(code)
        return code

    def _tell_why(self, code: int) -> None:
        """Whoever has started us hears why there is nothing; before, only the log did."""
        message = (
            f"lastcall: {self.log.given_up or 'the start has failed'}\n(the error log is {self._settings.error_log})"
        )
        if self._foreground is not None:
            self._foreground.failed(code, message)
        elif self._settings.error_log != "-":
            print(message, file=sys.stderr)

    def _warn(self, loaded: Loaded) -> None:
        """Say what is doubtful in the configuration; at a reload, only what is so for the first time."""
        for text in (str(problem).removeprefix("warning: ") for problem in loaded.warnings):
            if text not in self._warned:
                self._warned.add(text)
                self.log.write(notes.Caution(f"configuration: {text}"))

    def _ready(self) -> None:
        if self._foreground is not None:
            self._notifier.main_pid(os.getpid())
            self._foreground.ready()

    def _let_go(self) -> None:
        self.port.close()
        self._run_dir.leave()
        if self._pid_file is not None:
            self._pid_file.leave()
        if self._foreground is not None:
            self._foreground.leave()

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
                    known = sockets.listen(address, fastcgi=fastcgi, backlog=settings.backlog, access=access)
                    opened.append(known)
                listeners.append(known)
            log = self._access_log(settings, before)
        except (ListenError, OSError) as error:
            for listener in opened:
                listener.sock.close()
            raise StartError(str(error)) from error
        return Resources(_with_tmp_dir(settings, self._run_dir.path), tuple(listeners), log)

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
            loaded = self._again()
            resources = self._open(loaded.settings, before)
        except ConfigErrors as errors:
            raise ReloadRefused("\n".join(str(problem) for problem in errors.problems if problem.fatal)) from errors
        except StartError as error:
            raise ReloadRefused(str(error)) from error
        self._warn(loaded)
        if loaded.settings.log_level != before.settings.log_level:
            self.log.level = notes.Level[loaded.settings.log_level.upper()]
        self._listeners = tuple(dict.fromkeys((*self._listeners, *resources.listeners)))
        return resources

    def _release(self, used: list[Resources]) -> None:
        """Close the listeners and logs that no generation uses any more."""
        kept = {id(listener) for resources in used for listener in resources.listeners}
        for listener in self._listeners:
            if id(listener) not in kept:
                sockets.unlink(listener)
                listener.sock.close()
        self._listeners = tuple(listener for listener in self._listeners if id(listener) in kept)


def _known(before: Resources | None, address: object, *, fastcgi: bool) -> Listener | None:
    for listener in before.listeners if before is not None else ():
        if listener.address == address and listener.fastcgi == fastcgi:
            return listener
    return None


def _default_run_dir(settings: Settings) -> Path:
    protocol, address = settings.listeners[0]
    return rundir.choose(f"{protocol}-{address}")


def _control(directory: Path) -> control.ControlServer:
    """The control socket, for our own user only: whatever the umask, and whoever may enter the directory."""
    mask = os.umask(0o077)
    try:
        return control.ControlServer(directory)
    finally:
        os.umask(mask)


def _with_tmp_dir(settings: Settings, run_dir: Path) -> Settings:
    """A worker that becomes another user may not enter the run directory: it spools where everybody may."""
    if settings.tmp_dir:
        return settings
    place = str(run_dir)
    if settings.user:
        with contextlib.suppress(FileNotFoundError):  # a read-only root without /tmp: small bodies need none
            place = tempfile.gettempdir()
    return replace(settings, tmp_dir=place)
