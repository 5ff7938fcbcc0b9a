"""lastcall whose system calls fail when they are told to.

    python -m support.faults FOLDER serve app:app ...

A file `FOLDER/WHO.CALL` that says `SKIP ERRNO` has a call of that name fail, once, in that process: `master`, `worker` or
`keeper`; so many succeed before. Nothing of this is in the product: functions of Python are replaced before it runs. EMFILE
is real: the process may have no more descriptors while the call is made.
"""

from __future__ import annotations

import errno
import functools
import os
import resource
import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from lastcall.runtime import custody, progress
from lastcall.runtime.posix import Posix
from support.processes import comm

OPTIONS: Final = (socket.TCP_INFO, progress.SO_COOKIE)
"""Those of getsockopt(2) that may fail: others cannot."""
UPGRADE: Final = ("memfd_create", "posix_spawn", "execve")
"""What only a restart does."""
P = ParamSpec("P")
T = TypeVar("T")


class Faults:
    """What is to fail, as a folder says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._master = os.getpid()

    def __call__(self, name: str, real: Callable[P, T]) -> Callable[P, T]:
        """The same call, which fails when it is told to."""

        @functools.wraps(real)
        def call(*arguments: P.args, **named: P.kwargs) -> T:
            number = 0 if name == "getsockopt" and arguments[2] not in OPTIONS else self._due(name)
            if number == 0:
                return real(*arguments, **named)
            if number != errno.EMFILE:
                raise OSError(number, os.strerror(number))
            _, most = before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
            try:
                return real(*arguments, **named)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)

        return call

    def _due(self, name: str) -> int:
        file = self._folder / f"{self._who()}.{name}"
        try:
            skip, number = map(int, file.read_text().split())
        except (FileNotFoundError, ValueError):
            return 0
        if skip:
            file.write_text(f"{skip - 1} {number}")
            return 0
        file.unlink()
        return number

    def _who(self) -> str:
        pid = os.getpid()
        if pid == self._master:
            return "master"
        return "keeper" if comm(pid) == custody.NAME else "worker"


class Epoll:
    """The master's epoll; registering may fail."""

    def __init__(self, faults: Faults) -> None:
        real = select.epoll()
        self.register = faults("epoll_ctl", real.register)
        self.unregister = real.unregister
        self.poll = real.poll
        self.close = real.close


def install(faults: Faults) -> None:
    """Replace what may fail."""
    init = Posix.__init__

    def begin(self: Posix, signals: tuple[int, ...]) -> None:
        init(self, signals)
        self._epoll.close()
        self._epoll = Epoll(faults)  # type: ignore[assignment]
        self._epoll.register(self._signal_fd, select.EPOLLIN)

    Posix.__init__ = begin  # type: ignore[method-assign,assignment]
    for name in ("fork", "pipe2", "open", "fsync", "pidfd_open", "dup", "listdir", *UPGRADE):
        setattr(os, name, faults(name, getattr(os, name)))
    for name in ("sendmsg", "recvmsg", "getsockopt", "recv"):
        setattr(socket.socket, name, faults(name, getattr(socket.socket, name)))
    socket.socketpair = faults("socketpair", socket.socketpair)


def main() -> None:
    """Be lastcall, with faults."""
    from lastcall import cli  # noqa: PLC0415 (what is imported before is what is replaced)

    install(Faults(Path(sys.argv.pop(1))))
    cli.main(prog_name="lastcall")


if __name__ == "__main__":
    main()
