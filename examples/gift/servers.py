"""Who serves the gifts in the demonstration: php-fpm as in 2017, something that cuts as it does, and lastcall."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .stage import END_S, EXAMPLES, SBIN, Failed, begin, end, free_ports, program, python, wait_for_answer

HOLD = "20s"
"""For which lastcall's listeners wait between a stop and the next start: a start takes a second."""

FPM = """
[global]
pid = {folder}/fpm.pid
error_log = {folder}/fpm.log
[gift]
{user}
listen = 127.0.0.1:{port}
pm = static
pm.max_children = {workers}
clear_env = no
catch_workers_output = yes
"""


class Server(Protocol):
    """A server, as an init script knows it."""

    def start(self) -> str:
        """Start it, and return how it is called in the story. Raises Failed."""

    def stop(self) -> int:
        """SIGTERM, and wait until it has ended; its exit code."""

    @property
    def pid(self) -> int: ...


class _Started:
    """What all of them have: one process at a time."""

    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 when it does not run."""
        return self.process.pid if self.process else 0

    def stop(self) -> int:
        """SIGTERM, and wait until it has ended; its exit code."""
        process, self.process = self.process, None
        return 0 if process is None else end(process)


class PhpFpm(_Started):
    """The real one, with what Debian's configuration has: `process_control_timeout` is 0."""

    def __init__(self, folder: Path, workers: int, env: Mapping[str, str]) -> None:
        self._folder, self._env = folder, env
        self._binary = newest_fpm() or ""
        (port,) = free_ports(1)
        self.fastcgi = f"127.0.0.1:{port}"
        user = "user = root\ngroup = root" if os.geteuid() == 0 else ""
        config = FPM.format(folder=folder, port=port, workers=workers, user=user)
        (folder / "fpm.conf").write_text(config)

    def start(self) -> str:
        """Raises Failed."""
        root = ["--allow-to-run-as-root"] if os.geteuid() == 0 else []
        command = [self._binary, "--nodaemonize", "--fpm-config", str(self._folder / "fpm.conf"), *root]
        log = self._folder / "fpm.log"
        before = _count(log, "ready to handle connections")
        self.process = begin(command, self._folder / "fpm.out", **self._env)
        deadline = time.monotonic() + END_S
        while _count(log, "ready to handle connections") == before:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"php-fpm has not started\n{log.read_text() if log.exists() else ''}")
            time.sleep(0.02)
        return Path(self._binary).name


def newest_fpm() -> str | None:
    """`php-fpm8.2`, as Debian calls it, or `php-fpm`; None when there is none."""
    folders = [Path(folder) for folder in f"{os.environ.get('PATH', '')}:{SBIN}".split(":") if folder]
    names = {path.name for folder in folders for path in folder.glob("php-fpm*")}
    numbered = sorted(name for name in names if re.fullmatch(r"php-fpm\d\.\d", name))
    return program(numbered[-1] if numbered else "php-fpm")


def _count(log: Path, text: str) -> int:
    return log.read_text(errors="replace").count(text) if log.exists() else 0


class Cutting(_Started):
    """Where there is no php-fpm: a master and workers in Python, who die of SIGTERM as php-fpm's do."""

    def __init__(self, folder: Path, workers: int, env: Mapping[str, str]) -> None:
        self._log, self._env, self._workers = folder / "cutting.log", env, workers
        (self._port,) = free_ports(1)
        self.http = f"127.0.0.1:{self._port}"

    def start(self) -> str:
        """Raises Failed."""
        command = python("gift.cutting", "--port", str(self._port), "--workers", str(self._workers))
        self.process = begin(command, self._log, **self._env)
        wait_for_answer(f"http://{self.http}/ready", self.process, self._log)
        return "a manager that cuts as php-fpm does"


class Lastcall(_Started):
    """`lastcall serve`, and what an operator does to it."""

    def __init__(self, folder: Path, workers: int, env: Mapping[str, str]) -> None:
        self._folder, self._env, self._workers = folder, env, workers
        (port,) = free_ports(1)
        self.http, self.fastcgi = f"127.0.0.1:{port}", f"unix:{folder}/fastcgi.sock"
        self.run_dir = folder / "run"
        self.run_dir.mkdir()

    def start(self) -> str:
        """Raises Failed."""
        log, output = self._folder / "lastcall.log", self._folder / "lastcall.out"
        command = python("lastcall", "serve", "gift.app:app", "--app-dir", str(EXAMPLES), "--hold", HOLD)
        command += ["--http", self.http, "--fastcgi", self.fastcgi, "--workers", str(self._workers)]
        command += ["--run-dir", str(self.run_dir), "--error-log", str(log)]
        self.process = begin(command, output, **self._env)
        wait_for_answer(f"http://{self.http}/ready", self.process, log if log.exists() else output)
        return "lastcall"

    def command(self, *arguments: str) -> str:
        """`lastcall ...`, for this instance. Raises Failed."""
        done = subprocess.run(
            [*python("lastcall", arguments[0], "--run-dir", str(self.run_dir)), *arguments[1:]],
            capture_output=True, text=True, timeout=END_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Failed(f"lastcall {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def finish(self) -> int:
        """The last stop, after which nobody waits for another start; its exit code. Raises Failed."""
        process = self.process
        self.command("stop", "--final", "--wait")
        return process.wait(END_S) if process else 0

    def clear_away(self) -> None:
        """Whatever has happened, nothing of it stays: neither a master nor whoever holds its listeners."""
        with contextlib.suppress(Failed, subprocess.TimeoutExpired):
            self.command("stop", "--final", "--wait")
        self.stop()

    def reload_by_signal(self) -> None:
        """`kill -HUP`, and wait until the new generation is in service. Raises Failed."""
        before = self._reloaded()
        os.kill(self.pid, signal.SIGHUP)
        deadline = time.monotonic() + END_S
        while self._reloaded() == before:
            if time.monotonic() > deadline:
                raise Failed("the reload has not ended")
            time.sleep(0.05)

    def _reloaded(self) -> int:
        """The generation that the last reload brought into service; 0 before the first."""
        last = json.loads(self.command("status", "--json")).get("last_reload")
        if last is not None and not last["ok"]:
            raise Failed(f"the reload failed: {last['text']}")
        return last["generation"] if last else 0
