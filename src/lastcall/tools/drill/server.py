"""A target at work: started, restarted in the way that was asked for, and ended with everybody whom it has started."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from lastcall.core.exits import SIGNALS
from lastcall.runtime import custody
from lastcall.tools.drill.engine import Request
from lastcall.tools.drill.load import PACKAGE
from lastcall.tools.drill.probe import ask
from lastcall.tools.drill.processes import (
    Failed,
    Process,
    alive,
    children,
    command_line,
    kill,
    name,
    owner,
    pause,
    session,
    sweep,
    wait_until,
)
from lastcall.tools.drill.strategies import (
    Broken,
    KillMaster,
    KillWorker,
    Misconfigured,
    Nothing,
    Recycle,
    Reload,
    Restart,
    Slow,
    Stop,
    Succeed,
    Way,
)
from lastcall.tools.drill.targets import GIFT, Place, Target

START_S: Final = 30.0
"""Seconds in which a server starts, on a slow machine too."""
OVER_S: Final = 60.0
"""Seconds in which an operation ends."""
STOP_S: Final = 30.0
"""Seconds in which a server stops; then it is killed, as a service manager does it."""
SLOW_S: Final = 1.0
"""Seconds that the slow code takes to load."""
REPAIR_S: Final = 2.0
"""Seconds until somebody has repaired the broken code."""
LOOK_AT_IT_S: Final = 1.0
"""Seconds that an operator looks at a new master before he ends the old one."""
PORTS: Final = range(20_000, 30_000)
"""Below the kernel's range for outgoing connections: one of our clients could else have the port between two starts."""


class Gone(Exception):
    """The server has ended when it should not have; the text says how."""


@dataclass(frozen=True, slots=True)
class Done:
    """What an operation was, and how it ended."""

    what: str
    ok: bool = True
    note: str = ""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on: whichever, so that two drills at a time do not choose the same."""
    for _ in range(1000):
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed(f"no port from {PORTS.start} to {PORTS.stop} is free")


class Server:
    """One target in one place. `start` it, `operate` on it, `close` it."""

    def __init__(self, target: Target, place: Place, env: Mapping[str, str], dice: random.Random) -> None:
        self.target = target
        self.place = place
        self.boot = place.folder / "boot"
        self.boot.write_text("")
        self.log = place.folder / "server.log"
        self._dice = dice
        self._sessions: list[Process] = []
        path = [str(GIFT), str(PACKAGE) if target.kind == "lastcall" else "", os.environ.get("PYTHONPATH", "")]
        self._env = {"DRILL_BOOT": str(self.boot), "PYTHONPATH": os.pathsep.join(filter(None, path)), **env}
        self._master = 0
        self._ready = Request(target="/ready", params=dict(target.params))

    @property
    def master(self) -> int:
        """The master's pid."""
        return self._master

    def start(self) -> None:
        """Start it, and wait until it serves. Raises Failed."""
        # A session that is over is forgotten: its number may become somebody else's.
        self._sessions = [process for process in self._sessions if session(process.pid)]
        process = Process(self.target.command(self.place), self.log, env=self._env, cwd=self.place.folder)
        self._sessions.append(process)
        self._master = process.pid
        process.wait_until(self.serves, "it serves", START_S)

    def close(self) -> None:
        """End it and all that it has started, at once."""
        for process in self._sessions:
            with contextlib.suppress(Failed):  # nothing more can be done about one that survives SIGKILL
                process.kill()

    def serves(self) -> bool:
        """Whether it answers."""
        return ask(self.place.address, self._ready, fastcgi=self.target.fastcgi) == 200

    def workers(self) -> set[int]:
        """The pids of its workers, whatever they are doing. Who keeps connections or semaphores for others is none."""
        return {
            pid
            for pid in children(self._master)
            if name(pid) != custody.NAME and "resource_tracker" not in command_line(pid)
        }

    # --- What an operator does -----------------------------------------------------------------

    def operate(self, way: Way, port: int = 0) -> Done:
        """Do it, and return when it is over: all workers are there again, and it serves. Raises Failed.

        `port`: of a connection by which the worker is known that is to be killed, where one is.
        """
        match way:
            case Nothing():
                return Done("nothing")
            case Restart(number):
                return self._restart(number)
            case Reload(number):
                return self._reload(number)
            case Succeed():
                return self._succeed()
            case Recycle():
                return self._recycle()
            case KillWorker():
                return self._kill_worker(port)
            case KillMaster(sweep_first):
                return self._kill_master(sweep_first)
            case Slow(number):
                return self._slow(number)
            case Broken(number):
                return self._broken(number, self.boot, "raise", "code that cannot be loaded")
            case Misconfigured(number):
                text = self.place.config.read_text() + "no such setting = 1\n"
                return self._broken(number, self.place.config, text, "a configuration that cannot be read")
            case Stop():
                return self._stop()
        assert_never(way)

    def _signal(self, number: signal.Signals) -> str:
        if not kill(self._master, number):
            raise Failed(f"the master (pid {self._master}) has ended by itself\n{self._said()}")
        return f"kill -{SIGNALS[number].removeprefix('SIG')} {self._master}"

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip()

    def _gone(self) -> bool:
        """Whether the master has ended. One of ours is reaped by that."""
        for process in self._sessions:
            if process.pid == self._master:
                return process.ended is not None
        return not alive(self._master)

    def _wait_gone(self) -> str:
        """Until the master has ended, by force if need be. Returns what went wrong."""
        try:
            wait_until(self._gone, "the master ends", STOP_S)
        except Failed:
            for process in self._sessions:
                if session(process.pid):
                    sweep(process.pid)
            wait_until(self._gone, "the master ends", OVER_S)
            return f"it had not ended within {STOP_S:g} s, and was killed"
        return ""

    def _start_again(self) -> str:
        """Start it as somebody does who is in a hurry: until it works. Returns what went wrong before it did."""
        problems = []
        for _ in range(5):
            try:
                self.start()
            except Failed as failed:
                problems.append(str(failed).strip().splitlines()[-1])
                for process in self._sessions[-1:]:
                    process.kill()
                pause(0.2)
            else:
                return "; ".join(dict.fromkeys(problems))
        raise Failed(f"it does not start again: {problems[-1]}")

    def _wait_replaced(self, before: set[int]) -> None:
        """Until all workers are others, as many as there should be, and it serves. Raises Failed and Gone."""

        def replaced() -> bool:
            if self._gone():
                raise Gone(f"the master has ended\n{self._said()}")
            now = self.workers()
            return len(now) >= self.place.workers and not now & before and self.serves()

        wait_until(replaced, "all workers have been replaced", OVER_S)

    def _restart(self, number: signal.Signals) -> Done:
        what = self._signal(number)
        note = _joined(self._wait_gone(), self._start_again())
        return Done(f"{what}, start", not note, note)

    def _reload(self, number: signal.Signals) -> Done:
        before = self.workers()
        what = self._signal(number)
        try:
            self._wait_replaced(before)
        except Gone as gone:
            return Done(what, False, _joined(str(gone).splitlines()[0], self._start_again()))
        return Done(what)

    def _succeed(self) -> Done:
        old = self._master
        pid_file = self.place.folder / "pid.2"
        what = self._signal(signal.SIGUSR2)
        wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), "a second master is there", OVER_S)
        self._master = int(pid_file.read_text())
        wait_until(lambda: len(self.workers()) >= self.place.workers, "the second master has workers", OVER_S)
        pause(LOOK_AT_IT_S)
        kill(old, signal.SIGTERM)
        first = next((process for process in self._sessions if process.pid == old), None)
        wait_until(
            lambda: not alive(old) if first is None else first.ended is not None, "the first master ends", OVER_S
        )
        # Until it has taken the first one's place it would not hear the next USR2.
        wait_until(lambda: not pid_file.exists(), "the second master takes its place", OVER_S)
        wait_until(self.serves, "it serves", OVER_S)
        return Done(f"{what}, kill -TERM {old}")

    def _recycle(self) -> Done:
        before, ended = self.workers(), 0

        def replaced() -> bool:
            nonlocal before, ended
            now = self.workers()
            ended += len(before - now)
            before = now
            return ended >= self.place.workers

        try:
            wait_until(replaced, "as many workers have been replaced as there are", OVER_S / 2)
        except Failed:
            return Done(f"{ended} workers ended", ended > 0, f"only {ended} of {self.place.workers} were replaced")
        return Done(f"{ended} workers ended")

    def _kill_worker(self, port: int) -> Done:
        before = sorted(self.workers())
        if not before:
            raise Failed("it has no workers")
        victim = (owner(port, before) if port else None) or self._dice.choice(before)
        kill(victim, signal.SIGKILL)
        left = {victim}

        def back() -> bool:
            if self._gone():
                raise Gone(f"the master has ended\n{self._said()}")
            now = self.workers()
            return len(now) >= self.place.workers and not now & left and self.serves()

        try:
            wait_until(back, "the worker has been replaced", OVER_S)
        except Gone as gone:
            return Done(f"kill -KILL {victim}", False, _joined(str(gone).splitlines()[0], self._start_again()))
        return Done(f"kill -KILL {victim}")

    def _kill_master(self, sweep_first: bool) -> Done:
        what = self._signal(signal.SIGKILL)
        self._wait_gone()
        if sweep_first:
            for process in self._sessions:
                try:
                    sweep(process.pid, signal.SIGTERM, 5.0)
                except Failed:
                    sweep(process.pid)
        note = self._start_again()
        return Done(f"{what}, start", not note, note)

    def _slow(self, number: signal.Signals) -> Done:
        self.boot.write_text(f"wait {SLOW_S:g}")
        try:
            done = self._reload(number)
        finally:
            self.boot.write_text("")
        return Done(f"{done.what}, to code that takes {SLOW_S:g} s to load", done.ok, done.note)

    def _broken(self, number: signal.Signals, file: Path, text: str, what: str) -> Done:
        whole, before = file.read_text(), self.workers()
        file.write_text(text)
        try:
            ordered = f"{self._signal(number)}, to {what}"
            with contextlib.suppress(Failed):  # it is not over until somebody repairs it
                wait_until(self._gone, "it gives up", REPAIR_S)
        finally:
            file.write_text(whole)
        if self._gone():
            note = f"the master ended with {self._sessions[-1].ended}"
            self._sweep_all()
            return Done(f"{ordered}; repaired, start", False, _joined(note, self._start_again()))
        kill(self._master, number)
        try:
            self._wait_replaced(before)
        except Gone:
            self._sweep_all()
            self._start_again()
            return Done(f"{ordered}; repaired, reloaded, started", False, "the master ended after the repair")
        return Done(f"{ordered}; repaired, reloaded")

    def _sweep_all(self) -> None:
        """Whoever is left of a master that has ended: the address must be free."""
        for process in self._sessions:
            if session(process.pid):
                sweep(process.pid)

    def _stop(self) -> Done:
        what = self._signal(signal.SIGTERM)
        note = self._wait_gone()
        return Done(what, not note, note)


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
