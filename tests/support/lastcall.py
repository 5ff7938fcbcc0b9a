"""A running `lastcall serve`, as an operator sees it: a command line, signals, a log, the control commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lastcall.protocol.control import Status
from lastcall.runtime import custody
from lastcall.tools.drill.processes import session
from support.processes import ROOT, WITHIN_S, Process, children, comm, eventually, free_port, lines

READY = "ready to handle connections"
TAKEN_OVER = "NOTICE: took over "
PROGRAM = (sys.executable, "-m", "lastcall")


class Server:
    """One instance with a run directory of its own. The fixture `serve` makes them."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        http: str | bool = True,
        fastcgi: str | bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        program: Sequence[str] = PROGRAM,
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`http` and `fastcgi`: True for a free port, "unix" for a socket in the folder, or an address, or False.

        `prefix`: a command that ends in executing what follows it, as env(1) does.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir(exist_ok=True)
        self.error_log = folder / "error.log"
        self._http = self._address(http, "http")
        self._fastcgi = self._address(fastcgi, "fastcgi")
        # The checkout's own package, installed or not, wherever the process stands.
        self._env = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
            **(env or {}),
        }
        listen = ["--http", self._http] if self._http else []
        listen += ["--fastcgi", self._fastcgi] if self._fastcgi else []
        own = ["--run-dir", str(self.run_dir), "--error-log", str(self.error_log)]
        self._arguments = [*prefix, *program, "serve", *arguments, *listen, *own]
        self._cwd = cwd or folder
        self._pass_fds = pass_fds
        self._former: list[Process] = []
        self.process = self._start()

    def _start(self) -> Process:
        return Process(
            self._arguments, self.folder / "output.log", env=self._env, cwd=self._cwd, pass_fds=self._pass_fds
        )

    def start_again(self) -> None:
        """Start it once more, as it was started, after it has ended; the caller waits for what it waits for."""
        assert self.process.ended is not None, "it still runs"
        self._former.append(self.process)
        self.process = self._start()

    def kill_master(self) -> None:
        """SIGKILL for the master alone; returns when it is gone."""
        self.process.signal(signal.SIGKILL)
        self.process.wait()

    def wait_log_of_the_dead(self, text: str) -> None:
        """Wait until its workers have written a text, though the master has ended."""
        eventually(lambda: text in self.log(), f"{text!r} in\n{self.everything()}")

    def again(self) -> subprocess.CompletedProcess[str]:
        """The same command line once more, while it runs; its outcome."""
        return subprocess.run(
            self._arguments, env={**os.environ, **self._env}, cwd=self._cwd, capture_output=True, text=True,
            timeout=WITHIN_S, check=False,
        )  # fmt: skip

    def be_taken_over(self) -> None:
        """Start the next master, and wait until it has what this one has left."""
        before = self.log().count(TAKEN_OVER)
        self.start_again()
        self.wait_log(TAKEN_OVER, before + 1)

    def wait_ready(self) -> Server:
        """Wait until the first generation is in service."""
        self.wait_log(READY)
        return self

    def _address(self, wanted: str | bool, name: str) -> str:
        match wanted:
            case True:
                return f"127.0.0.1:{free_port()}"
            case False:
                return ""
            case "unix":
                return f"unix:{self.folder / name}.sock"
            case str():
                return wanted

    @property
    def http_address(self) -> str:
        """Where it speaks HTTP."""
        assert self._http
        return self._http

    @property
    def fastcgi_address(self) -> str:
        """Where it speaks FastCGI."""
        assert self._fastcgi
        return self._fastcgi

    def bound(self, protocol: str) -> str:
        """Where it listens: with the port that the kernel chose, for `:0`."""
        (found,) = (text for text in self.status().listen if text.startswith(f"{protocol} "))
        return found.partition(" ")[2]

    @property
    def pid(self) -> int:
        """The master's pid."""
        return self.process.pid

    def workers(self) -> list[int]:
        """The pids of the master's workers, whatever they are doing."""
        return [pid for pid in self.processes() if comm(pid) != custody.NAME]

    def processes(self) -> list[int]:
        """The pids of the master's processes, workers and custodians: its own, and those that it has adopted."""
        orphans = [pid for former in self._former for pid in session(former.pid)]
        return [*(children(self.pid) if self.process.ended is None else session(self.pid)), *orphans]

    def log(self) -> str:
        """The error log so far."""
        return self.error_log.read_text(errors="replace") if self.error_log.exists() else ""

    def log_lines(self, pattern: str = "") -> list[str]:
        """The lines of the error log in which a pattern is found."""
        return lines(self.error_log, pattern)

    def everything(self) -> str:
        """The error log and the output: for whoever has to find out why a test failed."""
        return f"--- error log\n{self.log()}\n--- output\n{self.process.text()}"

    def wait_log(self, text: str, times: int = 1, within: float = WITHIN_S) -> None:
        """Wait until a text stands in the error log, so many times."""
        eventually(
            lambda: self.log().count(text) >= times or self._fail_if_ended(text),
            f"{text!r}, {times} times, in\n{self.everything()}",
            within,
        )

    def _fail_if_ended(self, text: str) -> bool:
        ended = self.process.ended
        assert ended is None, f"ended with {ended} before it said {text!r}\n{self.everything()}"
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        self.process.signal(number)

    def command(self, *arguments: str, within: float = WITHIN_S) -> subprocess.CompletedProcess[str]:
        """`lastcall COMMAND --run-dir ...`, whatever its exit code."""
        command, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "lastcall", command, "--run-dir", str(self.run_dir), *rest],
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def status(self) -> Status:
        """`lastcall status --json`."""
        done = self.command("status", "--json")
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.everything()}"
        return msgspec.json.decode(done.stdout, type=Status)

    def wait(self, within: float = WITHIN_S) -> int:
        """Wait until it has ended by itself, and return the exit code."""
        return self.process.wait(within)

    def stop(self, within: float = WITHIN_S) -> int:
        """SIGTERM, wait, nobody left; the exit code."""
        code = self.process.stop(within)
        left = [pid for former in self._former for pid in session(former.pid)]
        assert not left, f"{left} were adopted, and outlive the master\n{self.everything()}"
        return code

    def kill(self) -> None:
        """SIGKILL for the master and all of its workers."""
        for process in (self.process, *self._former):
            process.kill()


class Servers:
    """Starts servers, each in a folder of its own, and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[Server] = []

    def __call__(
        self,
        *arguments: str,
        http: str | bool = True,
        fastcgi: str | bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        program: Sequence[str] = PROGRAM,
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        wait: bool = True,
    ) -> Server:
        """`lastcall serve ARGUMENTS`, in service unless `wait` is False."""
        where = self._folder / f"lastcall-{len(self._servers)}"
        server = Server(
            where, *arguments, http=http, fastcgi=fastcgi, env=env, cwd=cwd, program=program, prefix=prefix,
            pass_fds=pass_fds,
        )  # fmt: skip
        self._servers.append(server)
        return server.wait_ready() if wait else server

    def logs(self) -> str:
        """The error logs of all of them."""
        return "".join(server.log() for server in self._servers)

    def kill(self) -> None:
        """SIGKILL for all that still run."""
        for server in self._servers:
            server.kill()
