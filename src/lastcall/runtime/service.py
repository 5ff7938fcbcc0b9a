"""Being a service: pid file, going to the background, privileges, limits, and the service manager.

Mistakes of the operator come as ServiceError, whose text says what is wrong and what to do. What is said to the service
manager is never worth a failure: the Notifier raises nothing.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import resource
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from lastcall.core import exits
from lastcall.protocol import notify
from lastcall.runtime import locks, rights


class ServiceError(Exception):
    """The service cannot be set up as it was asked for; the text is one line for the operator."""


# --- The pid file ------------------------------------------------------------

CLAIM_TRIES: Final = 10
"""How often the pid file may change hands while we claim it."""


class PidFile:
    """Digits and a newline, in place or not there at all; ours as long as we hold its lock.

    A file whose lock nobody holds is stale, whatever process has its number today. A worker calls `leave()` first
    thing after fork.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    @classmethod
    def adopt(cls, path: Path, fd: int) -> PidFile:
        """The file that another image of this process has written, still locked through `fd`."""
        self = cls(path)
        self._fd = fd
        return self

    @property
    def fd(self) -> int:
        """Of the lock; -1: not ours."""
        return self._fd

    def claim(self) -> None:
        """Write our pid. Raises ServiceError when another instance is alive, or it cannot be written."""
        fresh = self.path.with_name(f".{self.path.name[:200]}.{os.getpid()}")
        try:
            self._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                os.fchmod(self._fd, 0o644)  # whatever the umask: other programs read it
                os.write(self._fd, b"%d\n" % os.getpid())
                locks.take(self._fd)
                self._put_in_place(fresh)
            except BaseException:
                os.close(self._fd)
                self._fd = -1
                raise
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise ServiceError(f"cannot write the pid file {self.path}: {error.strerror}") from error

    def _put_in_place(self, fresh: Path) -> None:
        for _ in range(CLAIM_TRIES):
            with contextlib.suppress(FileExistsError):
                os.link(fresh, self.path)
                return
            try:
                old = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                continue
            try:
                if not stat.S_ISREG(os.fstat(old).st_mode):
                    raise ServiceError(f"the pid file {self.path} is no ordinary file")
                if not locks.take(old):
                    raise ServiceError(f"already running as pid {locks.read_pid(old)} (pid file {self.path})")
                if locks.same_file(old, self.path):
                    fresh.replace(self.path)
                    return
            finally:
                os.close(old)
        raise ServiceError(f"the pid file {self.path} keeps changing hands")

    def leave(self) -> None:
        """In a new worker: let go of the lock, which stays the master's."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Remove the file if it is still ours."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):  # read-only by now, or gone with its directory: nothing is left to do
            if locks.same_file(self._fd, self.path):
                self.path.unlink(missing_ok=True)
        self.leave()


# --- The background ----------------------------------------------------------

_OUTCOME: Final = struct.Struct("=iI")
"""Exit code and length of the message that follows."""
_MESSAGE_MAX: Final = 1 << 16


class Foreground:
    """The process that the operator started, seen from the daemon: it waits to hear how the start went."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """What it is told by; -1: nobody waits any more."""
        return self._fd

    def ready(self) -> None:
        """The service is up: the foreground exits 0."""
        self._tell(exits.OK, "")

    def failed(self, code: int, message: str) -> None:
        """The start has failed: the foreground prints the message and exits with the code."""
        self._tell(code, message)

    def leave(self) -> None:
        """In a new worker: the waiting is not for us."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _tell(self, code: int, message: str) -> None:
        if self._fd < 0:
            return
        text = message.encode("utf-8", "backslashreplace")[:_MESSAGE_MAX]
        with contextlib.suppress(BrokenPipeError):  # somebody was too impatient to wait
            os.write(self._fd, _OUTCOME.pack(code, len(text)) + text)
        self.leave()


def daemonize() -> Foreground:
    """Go to the background: returns in the daemon only. To be called before there are threads, locks or listeners.

    The process that was started stays until the daemon has said `ready` or `failed`, or has died. The working
    directory and the umask stay: both have settings of their own.
    """
    fill_standard()
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    _flush()
    if os.fork() != 0:
        os.close(ours)
        _wait_for_outcome(theirs)
    os.close(theirs)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)  # so that the daemon leads no session, and no terminal can become its own
    with _null() as null:
        os.dup2(null, 0)
    return Foreground(ours)


def _wait_for_outcome(fd: int) -> NoReturn:
    head = _read_exactly(fd, _OUTCOME.size)
    if len(head) == _OUTCOME.size:
        code, length = _OUTCOME.unpack(head)
        message = _read_exactly(fd, length)
    else:
        code, message = exits.SOFTWARE, b"lastcall: the daemon died before it was ready; its error log may say why"
    if message:
        os.write(2, message.rstrip(b"\n") + b"\n")
    os._exit(code)


def _read_exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := os.read(fd, count - len(data))):
        data += more
    return data


def redirect(output: int | None) -> None:
    """Have stdout and stderr lead to this file (the error log; again after it was reopened), or nowhere.

    Before the first worker is forked: whoever reads what the foreground prints waits for the last holder of that pipe.
    """
    _flush()
    with _null() as null:
        for standard in (1, 2):
            os.dup2(null if output is None else output, standard)


def fill_standard() -> None:
    """Open on /dev/null what is closed of stdin, stdout and stderr: no socket or log must become one of them."""
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed before Python began
            stream.flush()


@contextlib.contextmanager
def _null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        if fd > 2:  # where 0 to 2 were closed it is one of them, and stays
            os.close(fd)


# --- Privileges --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom to become. `name` is "" for a number without an entry in the user database."""

    uid: int
    gid: int
    name: str


def identify(user: str, group: str) -> Identity:
    """The identity of a user and a group, by name or number; "" is: as started, and the user's. Raises ServiceError."""
    uid, gid, name = os.geteuid(), os.getegid(), ""
    if user:
        uid, gid, name = _find_user(user, group)
    if group:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise ServiceError(f"cannot get gid for group '{group}': there is no such group") from None
    return Identity(uid, gid, name)


def _find_user(user: str, group: str) -> tuple[int, int, str]:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        if not user.isdigit():
            raise ServiceError(f"cannot get uid for user '{user}': there is no such user") from None
        if not group:
            raise ServiceError(f"user {user} has no entry in the user database: name a group, too") from None
        return int(user), -1, ""
    return entry.pw_uid, entry.pw_gid, entry.pw_name


def drop_privileges(user: str, group: str, umask: int | None = None) -> None:
    """Become this user for good, and see that there is no way back; USER, LOGNAME and HOME become the user's, too.

    In a worker, after everything that needs root. Raises ServiceError; also for another identity than our own when we
    are not root (php-fpm goes on as who it is: the application then writes files that the next start cannot read).
    """
    if umask is not None:
        os.umask(umask)
    if not user and not group:
        return
    wanted = identify(user, group)
    if os.geteuid() != 0:
        if (wanted.uid, wanted.gid) != (os.geteuid(), os.getegid()):
            raise ServiceError(f"only root can run workers as {user or 'another user'}, group {group or wanted.gid}")
        return
    try:
        # Groups while we still may, the user last: after it nothing else could be changed.
        if wanted.name:
            os.initgroups(wanted.name, wanted.gid)
        else:
            os.setgroups([wanted.gid])
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    except OSError as error:
        raise ServiceError(f"cannot become uid {wanted.uid} gid {wanted.gid}: {error.strerror}") from error
    _verify(wanted)
    if user:
        _call_ourselves(wanted)


def _call_ourselves(identity: Identity) -> None:
    """In the environment. A number without an entry has no name and no home, and must not keep root's."""
    for name in ("USER", "LOGNAME", "HOME"):
        os.environ.pop(name, None)
    if identity.name:
        os.environ.update(USER=identity.name, LOGNAME=identity.name, HOME=pwd.getpwnam(identity.name).pw_dir)


def _verify(wanted: Identity) -> None:
    if os.getresuid() != (wanted.uid,) * 3 or os.getresgid() != (wanted.gid,) * 3:
        raise ServiceError(f"became uid {os.getresuid()} gid {os.getresgid()} instead of {wanted.uid}, {wanted.gid}")
    if wanted.uid == 0:
        return
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise ServiceError(f"could become root again after becoming uid {wanted.uid}: is CAP_SETUID kept?")


# --- Limits ------------------------------------------------------------------

FILES_DEFAULT: Final = 1 << 16
"""Up to which the limit on open files is raised by itself; containers allow a thousand million, and there are programs
that close every descriptor they might have."""

_UNLIMITED: Final = resource.RLIM_INFINITY


def limits(rlimit_files: int | None, rlimit_core: int | None) -> None:
    """Set the limits on open files and on the size of core dumps; -1 is unlimited. Raises ServiceError.

    Without a number the soft limit on open files is raised towards the hard one.
    """
    if rlimit_files is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES_DEFAULT if hard == _UNLIMITED else min(hard, FILES_DEFAULT)
        if soft != _UNLIMITED and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    else:
        _limit(resource.RLIMIT_NOFILE, "rlimit_files", rlimit_files)
    if rlimit_core is not None:
        _limit(resource.RLIMIT_CORE, "rlimit_core", rlimit_core)


def _limit(which: int, name: str, wanted: int) -> None:
    _, hard = resource.getrlimit(which)
    if which == resource.RLIMIT_NOFILE and wanted == _UNLIMITED:
        wanted = int(Path("/proc/sys/fs/nr_open").read_text())  # the kernel takes no more, not even from root
    above = hard != _UNLIMITED and (wanted == _UNLIMITED or wanted > hard)
    try:
        resource.setrlimit(which, (wanted, wanted if above else hard))
    except (ValueError, PermissionError) as error:
        most = "unlimited" if hard == _UNLIMITED else hard
        value = "unlimited" if wanted == _UNLIMITED else wanted
        raise ServiceError(f"{name} {value} cannot be set: the hard limit is {most} (see ulimit -H)") from error


# --- systemd -----------------------------------------------------------------


MANAGERS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE")
"""The variables that the service manager speaks through."""
STORE_PATIENCE: Final = 1.0
"""Seconds that a service manager with a full queue (net.unix.max_dgram_qlen) may take to make room."""


class Notifier:
    """Tells the service manager how we are, where there is one. Never raises, and but for `store` never waits."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self.variables = {name: environ[name] for name in MANAGERS if name in environ}
        """What the manager has told us, for another image of this process."""
        self._address = notify.address(environ.get("NOTIFY_SOCKET", ""))
        self._room = notify.store_size(environ.get("FDSTORE", ""))
        usec, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        self._interval = notify.watchdog_interval(usec, watched, pid)

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """A notifier from the environment, from which its variables are removed: they are not for workers."""
        notifier = cls(environ, os.getpid())
        for name in MANAGERS:
            environ.pop(name, None)
        return notifier

    def interval(self) -> float | None:
        """Seconds after which to call `watchdog` again, half of what is allowed; None where nobody watches us."""
        return None if self._interval is None else self._interval / 2

    @property
    def listened_to(self) -> bool:
        """There is a service manager."""
        return self._address is not None

    @property
    def room(self) -> int:
        """Descriptors that it says it would keep for us; 0 also from one that does not say (systemd before 254)."""
        return self._room

    def store(self, name: str, fd: int) -> bool:
        """Have a descriptor kept for our next start; waits, for no other message is as dear, but for STORE_PATIENCE."""
        return self._send(notify.store(name), fd, patience=STORE_PATIENCE)

    def unstore(self, name: str) -> bool:
        return self._send(notify.unstore(name))

    def ready(self, status: str = "") -> bool:
        """The start or the reload is over. As the others: whether somebody was told."""
        return self._send(notify.ready(status))

    def reloading(self, status: str = "") -> bool:
        return self._send(notify.reloading(time.monotonic_ns() // 1000, status))

    def stopping(self, status: str = "") -> bool:
        return self._send(notify.stopping(status))

    def status(self, text: str) -> bool:
        return self._send(notify.status(text))

    def watchdog(self) -> bool:
        return self._send(notify.watchdog())

    def main_pid(self, pid: int) -> bool:
        """For `--daemon` under Type=notify; the unit needs NotifyAccess=all."""
        return self._send(notify.main_pid(pid))

    def _send(self, message: bytes, *fds: int, patience: float = 0.0) -> bool:
        if self._address is None or not message:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
                sock.settimeout(patience)
                rights.send(sock, message, fds, 0, self._address)
        except OSError:
            return False  # full, gone, or never there: nothing of ours depends on it
        return True
