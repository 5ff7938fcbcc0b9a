"""The port on a real system: signalfd, epoll, fork, waitpid."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lastcall.runtime.port import Signalled, Woken

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PRCTL: Final = _LIBC.prctl
_SIGINFO: Final = struct.Struct("<IiiII108x")
"""struct signalfd_siginfo (signalfd(2)): signo, errno, code, pid, uid."""
_SIGSET_BYTES: Final = 128
"""sizeof(sigset_t) of glibc and musl; the kernel reads the first eight."""
_SIGNALS_MAX: Final = 32
_EVENTS_MAX: Final = 256
_BESIDES_S: Final = 0.05
"""Seconds between two looks at what epoll has had no room for."""


class Posix:
    """See `port.Port`. Blocks `signals` for good: from now on they are read, never delivered, and none is lost."""

    def __init__(self, signals: Iterable[int]) -> None:
        self.signals = frozenset((*signals, signal.SIGCHLD))
        signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        self._signal_fd = _signalfd(self.signals)
        self._epoll = select.epoll()
        self._epoll.register(self._signal_fd, select.EPOLLIN)
        self._besides: set[int] = set()
        import time  # noqa: PLC0415 - here, so that `now` is found where the other calls are

        self.now = time.monotonic

    def fork(self) -> int:
        return os.fork()

    def start(self, path: str, argv: Sequence[str], environ: Mapping[str, str], files: Mapping[int, int]) -> int:
        actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in files.items()]
        return os.posix_spawn(path, list(argv), environ, file_actions=actions, setsigmask=())

    def kill(self, pid: int, number: int) -> None:
        os.kill(pid, number)

    def kill_by(self, pidfd: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    def reap(self) -> list[tuple[int, int]]:
        dead: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return dead
            if pid == 0:
                return dead
            dead.append((pid, status))

    def wait(self, timeout: float | None) -> Woken:
        if self._besides:
            timeout = _BESIDES_S if timeout is None else min(timeout, _BESIDES_S)
        events = self._epoll.poll(timeout, _EVENTS_MAX)
        readable = tuple(fd for fd, _ in events if fd != self._signal_fd)
        signals = self._read_signals() if len(readable) < len(events) else ()
        return Woken(signals, (*readable, *self._look_besides()) if self._besides else readable)

    def _look_besides(self) -> tuple[int, ...]:
        poll = select.poll()
        for fd in self._besides:
            poll.register(fd, select.POLLIN)
        return tuple(fd for fd, _ in poll.poll(0))

    def _read_signals(self) -> tuple[Signalled, ...]:
        try:
            data = os.read(self._signal_fd, _SIGINFO.size * _SIGNALS_MAX)
        except BlockingIOError:
            return ()
        return tuple(Signalled(signo, pid, uid) for signo, _, _, pid, uid in _SIGINFO.iter_unpack(data))

    def watch(self, fd: int) -> None:
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOSPC):  # memory, or fs.epoll.max_user_watches
                raise
            self._besides.add(fd)

    def unwatch(self, fd: int) -> None:
        if fd in self._besides:
            self._besides.remove(fd)
        else:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """In a new worker: let go of the master's descriptors. The signals stay blocked until the worker says otherwise."""
        self._epoll.close()
        os.close(self._signal_fd)


def die_with_master(master: int) -> None:
    """Have the kernel kill this process when its master dies; 0 takes that back (prctl(2), PR_SET_PDEATHSIG).

    For a worker that boots: it has nothing to finish, and hears nothing yet. Forgotten by the kernel at a change of user.
    """
    _PRCTL(1, signal.SIGKILL if master else 0, 0, 0, 0)
    if master and os.getppid() != master:
        os._exit(0)  # it died before we had asked


def _signalfd(signals: Iterable[int]) -> int:
    """signalfd(2), which Python does not have. Non-blocking, close-on-exec."""
    mask = bytearray(_SIGSET_BYTES)
    for number in signals:
        mask[(number - 1) // 8] |= 1 << (number - 1) % 8
    flags = os.O_NONBLOCK | os.O_CLOEXEC  # SFD_NONBLOCK, SFD_CLOEXEC: the same numbers (signalfd.h)
    fd: int = _LIBC.signalfd(-1, (ctypes.c_char * _SIGSET_BYTES).from_buffer(mask), flags)
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd
