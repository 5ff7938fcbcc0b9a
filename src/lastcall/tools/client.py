"""The control socket's client side: find an instance, tell it something, hear its replies. Every wait is bounded."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from lastcall.protocol.control import LINE_MAX, Command, Do, Reply, Status
from lastcall.runtime import sender

UNAVAILABLE = 69
"""EX_UNAVAILABLE: no instance, or it does not answer."""
TEMPORARY = 75
"""EX_TEMPFAIL: not done within the time given."""
NOT_ALLOWED = 77
"""EX_NOPERM: another user's instance."""
FAILED = 1
USAGE = 64

PATIENCE = 10.0
"""Seconds that an instance may take to answer what it need not wait for."""
SOCKET = "control.sock"


class Failed(Exception):
    """What we cannot do, in words for the terminal, and the exit code that goes with it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Instance(Protocol):
    """A living instance, as `runtime.rundir.instances` lists it."""

    @property
    def path(self) -> Path:
        """Its run directory."""

    @property
    def pid(self) -> int | None:
        """Its master's."""


# --- Finding -----------------------------------------------------------------


def find(run_dir: Path | None, pid_file: Path | None, instances: Callable[[], Sequence[Instance]]) -> Path:
    """The run directory of the instance that is meant. Raises Failed."""
    if run_dir is not None:
        return run_dir
    if pid_file is not None:
        return _of_pid(_pid_in(pid_file), pid_file, instances())
    found = instances()
    if not found:
        raise Failed("no instance of lastcall is running (or name its directory: --run-dir DIR)", UNAVAILABLE)
    if len(found) > 1:
        listed = "\n".join(f"  --run-dir {instance.path}   {_described(instance)}" for instance in found)
        raise Failed(f"{len(found)} instances are running, say which one is meant:\n{listed}", USAGE)
    return found[0].path


def _pid_in(file: Path) -> int:
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}: is the instance running?", UNAVAILABLE) from None
    if not text.isdecimal():
        raise Failed(f"{file} holds no pid", UNAVAILABLE)
    return int(text)


def _of_pid(pid: int, file: Path, instances: Sequence[Instance]) -> Path:
    for instance in instances:
        if instance.pid == pid:
            return instance.path
    # A run directory that was chosen with --run-dir is in no list; the master holds its lock open.
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                opened = entry.readlink()
                if opened.name == "lock" and (opened.parent / SOCKET).is_socket():
                    return opened.parent
    raise Failed(f"pid {pid} (from {file}) is no instance of lastcall that we can see", UNAVAILABLE)


def _described(instance: Instance) -> str:
    try:
        status = status_of(instance.path, timeout=2.0)
    except Failed as failed:
        return f"pid {instance.pid}: {failed.text}"
    return f"pool {status.pool}, pid {status.pid}, {', '.join(status.listen)}"


# --- Talking -----------------------------------------------------------------


class Connection:
    """One command and its replies. Raises Failed, and nothing of the system's."""

    def __init__(self, run_dir: Path, timeout: float) -> None:
        self._run_dir = run_dir
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._received = b""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
        except BaseException:
            self._sock.close()
            raise
        self.pid, _ = sender.peer(self._sock)
        """The master's; 0 where it is in a namespace of pids that we cannot see."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sock.close()

    def _connect(self) -> None:
        try:
            # sun_path holds 107 bytes, a run directory may have more: name it by a descriptor
            folder = os.open(self._run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Failed(f"{self._run_dir}: {error.strerror}: no instance is running there", UNAVAILABLE) from None
        try:
            self._sock.settimeout(self._left())
            self._sock.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        except PermissionError:
            raise Failed(f"the instance in {self._run_dir} is another user's", NOT_ALLOWED) from None
        except FileNotFoundError:
            raise Failed(f"no instance is running in {self._run_dir}", UNAVAILABLE) from None
        except ConnectionRefusedError:
            text = f"no instance is running in {self._run_dir}: the last one has left its socket behind"
            raise Failed(text, UNAVAILABLE) from None
        except OSError as error:
            raise Failed(f"the instance in {self._run_dir} cannot be reached: {error}", UNAVAILABLE) from None
        finally:
            os.close(folder)

    def send(self, command: Command) -> None:
        """Say it. A master that has gone is noticed when its reply is missing."""
        with suppress(OSError):
            self._sock.sendall(msgspec.json.encode(command) + b"\n")

    def replies(self) -> Iterator[Reply]:
        """What the master says, up to its final reply, or to the end of the connection."""
        while (line := self._line()) is not None:
            try:
                reply = msgspec.json.decode(line, type=Reply)
            except msgspec.MsgspecError as error:
                raise Failed(f"the instance's answer is not understood: {error}", UNAVAILABLE) from None
            yield reply
            if reply.final:
                return

    def closed(self) -> None:
        """Return when the master has closed the connection."""
        while self._line() is not None:
            pass

    def _line(self) -> bytes | None:
        while b"\n" not in self._received:
            if len(self._received) > LINE_MAX:
                raise Failed(f"the instance's answer is longer than {LINE_MAX} bytes", UNAVAILABLE)
            try:
                self._sock.settimeout(self._left())
                data = self._sock.recv(65536)
            except TimeoutError:
                raise Failed(f"no answer within {self._timeout:g} seconds", TEMPORARY) from None
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _left(self) -> float:
        # 0 would make the socket non-blocking
        return max(self._deadline - time.monotonic(), 0.001)

    def gone(self, process: int) -> None:
        """Return when the process behind this pidfd has ended."""
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(self._left() * 1000):
            text = f"the instance has not stopped within {self._timeout:g} seconds: it is still finishing requests"
            raise Failed(text, TEMPORARY)


def ask(run_dir: Path, command: Command, timeout: float, progress: Callable[[str], None]) -> Reply:
    """Say it and return the final reply; `progress` hears those before it. Raises Failed."""
    with Connection(run_dir, timeout) as connection:
        connection.send(command)
        for reply in connection.replies():
            if reply.final:
                return reply
            progress(reply.text)
    raise Failed("the instance has closed the connection without an answer: see its error log", UNAVAILABLE)


def status_of(run_dir: Path, timeout: float = PATIENCE) -> Status:
    """How the instance is. Raises Failed."""
    reply = ask(run_dir, Command(Do.STATUS), timeout, lambda _: None)
    if reply.status is None:
        raise Failed(reply.text or "the instance has sent no status", FAILED)
    return reply.status


def stop(run_dir: Path, timeout: float, progress: Callable[[str], None], *, final: bool = False) -> None:
    """Stop it, and return when its process is gone. Raises Failed."""
    with Connection(run_dir, timeout) as connection:
        process = _pidfd(connection.pid)
        try:
            connection.send(Command(Do.STOP, wait=True, final=final))
            for reply in connection.replies():
                if not reply.ok:
                    raise Failed(reply.text, FAILED)
                if not reply.final:
                    progress(reply.text)
            if process is None:
                connection.closed()
            else:
                connection.gone(process)
        finally:
            if process is not None:
                os.close(process)


def _pidfd(pid: int) -> int | None:
    """A descriptor that tells when the process ends; None where the kernel, or a sandbox, does not give one."""
    if pid <= 0:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
