"""A stage with the user's own server on it."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from lastcall.tools.drill.engine import Client, Request
from lastcall.tools.drill.judge import Books
from lastcall.tools.drill.ledgers import Hold
from lastcall.tools.drill.probe import ask, connect
from lastcall.tools.drill.processes import Failed, Process, environment, pause, session, wait_until
from lastcall.tools.drill.results import Path as Way
from lastcall.tools.drill.results import Settings
from lastcall.tools.drill.server import OVER_S, START_S, Done
from lastcall.tools.drill.spec import Spec
from lastcall.tools.drill.stage import RUN_S_MAX
from lastcall.tools.drill.steps import Step
from lastcall.tools.drill.strategies import TITLES, Strategy

FOREIGN_S: Final = 60.0
FOREIGN_MOST: Final = 3000
"""A load on another machine than ours has less time, and fewer requests: it is a drill, not a weapon."""
SAID: Final = 500
"""Characters of what a command says that are kept."""
END_S: Final = 20.0
"""Seconds that the server has at the end to finish and go."""


class Custom:
    """`Stage`, by a description."""

    settings: dict[str, str]

    def __init__(self, spec: Spec, strategy: str, settings: Settings, folder: Path) -> None:
        self.name = spec.name
        self.title = f"{spec.name} ({spec.url.host})"
        self.protocol = "FastCGI" if spec.url.fastcgi else "HTTP"
        self.strategy = strategy
        self._deed = spec.strategies.get(strategy)
        self.strategy_title = TITLES[Strategy.NONE] if self._deed is None else self._deed.title
        self.path = Way.DIRECT
        self.seconds, self.most = (RUN_S_MAX, 0) if spec.url.loopback else (FOREIGN_S, FOREIGN_MOST)
        self.settings = {"url": f"{spec.url.host}{spec.url.target}"}
        self._spec = spec
        self._run = secrets.token_hex(3)
        self._keep = settings.keep
        self._body = settings.body
        self._log = folder / "server.log"
        self._process: Process | None = None
        self._sessions: list[Process] = []
        self._books: Books | None = None

    def open(self) -> None:
        """Start it, where we are to; it has to serve."""
        if self._spec.start:
            self._start()
        else:
            wait_until(self._serves, f"{self.name} serves", START_S)

    def close(self) -> None:
        """End what we have started, and let it finish; nobody else is touched."""
        for process in self._sessions:
            process.signal(signal.SIGTERM)
            with contextlib.suppress(Failed):
                process.wait(END_S)
            with contextlib.suppress(Failed):
                process.kill()

    def operate(self, hold: Hold | None = None) -> Done:
        """What the user says."""
        assert hold is None, "nobody holds a request inside a user's server"
        if self._deed is None:
            return Done("nothing")
        command = self._deed.do.replace("{pid}", str(self._pid()))
        done = self._shell(command)
        note = (
            "" if done.returncode == 0 else f"exit code {done.returncode}: {(done.stderr + done.stdout).strip()[:SAID]}"
        )
        if self._deed.start:
            process = self._process
            if process is not None:
                process.wait(OVER_S)
            self._start()
            return Done(f"{command}, start", not note, note)
        pause(self._deed.wait)
        if self.strategy != Strategy.STOP:
            wait_until(self._serves, f"{self.name} serves again", OVER_S)
        return Done(command, not note, note)

    def workers(self) -> set[int]:
        """Nobody has told us who works for it."""
        return set()

    def client(self, name: str) -> Client:
        """Straight to it. Its ids are of this run only, for the user's ledgers hold those of others, too."""
        return Client(f"{name}.{self._run}", self._spec.url.address, fastcgi=self._spec.url.fastcgi, keep=self._keep)

    def request(self) -> Request:
        """As it was described. `--body` fills one that has a body of its own."""
        request = self._spec.request
        if self._body and request.body is not None:
            return msgspec.structs.replace(request, body=request.body.replace("{filling}", "x" * self._body))
        return request

    def books(self) -> Books | None:
        """What the user's commands print."""
        if self._spec.ledgers is None:
            return None
        first, second = (self._ids(command) for command in self._spec.ledgers)
        return Books(first, second)

    def hold(self, order: str, step: Step) -> Hold | None:  # noqa: ARG002 (nobody holds it)
        """No."""
        return None

    def errors(self) -> list[tuple[float, str, str]]:
        """We do not know where its web server logs."""
        return []

    def _start(self) -> None:
        self._sessions = [process for process in self._sessions if session(process.pid)]
        self._process = Process(self._spec.start, self._log, env=self._spec.env, cwd=self._spec.folder)
        self._sessions.append(self._process)
        self._process.wait_until(self._serves, f"{self.name} serves", START_S)

    def _serves(self) -> bool:
        url = self._spec.url
        if not self._spec.ready:
            try:
                connect(url.address, 1.0).close()
            except OSError:
                return False
            return True
        status = ask(
            url.address, Request(target=self._spec.ready, params=self._spec.request.params), fastcgi=url.fastcgi
        )
        return status is not None and status < 400

    def _pid(self) -> int:
        if self._spec.pid_file is not None:
            try:
                return int(self._spec.pid_file.read_text())
            except (OSError, ValueError) as error:
                raise Failed(f"{self._spec.pid_file} has no pid: {error}") from None
        return self._process.pid if self._process is not None else 0

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=OVER_S, check=False,
                stdin=subprocess.DEVNULL, cwd=self._spec.folder, env={**environment(), **self._spec.env},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"{command!r} has not ended within {OVER_S:g} s") from None

    def _ids(self, command: str) -> tuple[str, ...]:
        done = self._shell(command)
        if done.returncode != 0:
            raise Failed(f"{command!r}: exit code {done.returncode}: {(done.stderr + done.stdout).strip()[:SAID]}")
        return tuple(done.stdout.split())
