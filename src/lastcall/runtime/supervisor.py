"""The supervisor: a small process that starts the next master when one has died without having said goodbye.

It serves nobody, and holds nothing: what there is to take over the next master takes from the workers (`adoption.py`).
Signals that it gets are for the master. It decides one thing: whether another start helps.
"""

from __future__ import annotations

import os
import signal
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

from lastcall.core import exits, notes
from lastcall.core.settings import Settings
from lastcall.runtime import service
from lastcall.runtime.logs import ErrorLog
from lastcall.runtime.posix import Posix
from lastcall.runtime.service import Foreground
from lastcall.runtime.upgrade import Program

VARIABLE: Final = "_LASTCALL_SUPERVISED"
"""In the master's environment: the descriptor of who waits in the foreground, or nothing."""
DEATHS_MAX: Final = 5
"""Deaths within WINDOW after which no other master is started."""
WINDOW: Final = 60.0
"""Seconds."""
BACKOFF: Final = 0.1
"""Seconds before the first start after a death; doubled by each further one within WINDOW."""
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
SIGNALS: Final = (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


def take(environ: MutableMapping[str, str]) -> tuple[bool, Foreground | None]:
    """Whether this process is supervised, and who waits to hear how its start went. To be asked once."""
    told = environ.pop(VARIABLE, None)
    if told is None:
        return False, None
    if not told.isdigit():
        return True, None
    os.set_inheritable(int(told), False)
    return True, Foreground(int(told))


def run(program: Program, settings: Settings) -> int:
    """Start masters until one has ended in order; its exit code. Raises OSError when the log cannot be opened."""
    foreground = service.daemonize() if settings.daemon else None
    log = ErrorLog(settings.error_log, notes.Level[settings.log_level.upper()])
    if foreground is not None:
        service.redirect(None if settings.error_log == "-" else log.fileno())
    return _Supervisor(program, log, foreground).run()


@dataclass(slots=True)
class _Supervisor:
    program: Program
    log: ErrorLog
    foreground: Foreground | None
    port: Posix = field(default_factory=lambda: Posix(SIGNALS))
    master: int = 0
    """0: none runs."""
    start_at: float | None = 0.0
    deaths: list[float] = field(default_factory=list)
    died: bool = False
    """One has died: what is left of it is to be taken over, and a start that fails is tried again."""

    def run(self) -> int:
        while True:
            now = self.port.now()
            if self.start_at is not None and self.start_at <= now:
                self._start()
            woken = self.port.wait(None if self.start_at is None else max(0.0, self.start_at - now))
            for signalled in woken.signals:
                self._pass_on(signalled.number)
            for pid, status in self.port.reap():
                if pid == self.master and (code := self._ended(status)) is not None:
                    return code

    def _start(self) -> None:
        """With the signals blocked: a master reads those that come before it is ready to."""
        waits = self.foreground.fd if self.foreground is not None else -1
        actions = [(os.POSIX_SPAWN_DUP2, waits, waits)] if waits >= 0 else []
        environ = {**os.environ, VARIABLE: str(waits) if waits >= 0 else ""}
        with self.program.at_home():
            self.master = os.posix_spawn(
                self.program.path, list(self.program.argv), environ, file_actions=actions, setsigmask=SIGNALS
            )
        self.start_at = None
        if self.foreground is not None:
            self.foreground.leave()
            self.foreground = None

    def _pass_on(self, number: int) -> None:
        if number == signal.SIGCHLD:
            return
        if number == signal.SIGUSR1:
            self.log.reopen()
        if not self.master and number in STOPS:
            self._start()  # there may be workers, which only a master can stop
        if self.master:
            os.kill(self.master, number)

    def _ended(self, status: int) -> int | None:
        """Try again, or return the exit code."""
        pid, self.master = self.master, 0
        code = exits.code(status)
        if code == exits.OK or (code in exits.KNOWN and not self.died):
            return code
        now = self.port.now()
        self.died = True
        self.deaths = [*(at for at in self.deaths if now - at < WINDOW), now]
        if len(self.deaths) > DEATHS_MAX:
            self.log.write(notes.SupervisionEnds(pid, status, DEATHS_MAX))
            return exits.SOFTWARE
        delay = BACKOFF * 2 ** (len(self.deaths) - 1)
        self.log.write(notes.MasterDied(pid, status, delay))
        self.start_at = now + delay
        return None
