"""The run directory of an instance: where it is, whose it is, and who is alive.

An instance holds the lock of its directory as long as it lives, however it ends. Directories stand under a few bases,
so that the other commands find them; none of the bases is the home or the working directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import re
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lastcall.runtime import locks

LOCK: Final = "lock"
"""The file whose lock is held; it holds the master's pid."""
NAME_MAX: Final = 100
"""Characters of a default name: a UNIX socket's path can be longer than a file's name may be."""
LOCK_TRIES: Final = 10
"""How often the lock file may vanish while we take it; each time an instance has ended just then."""


class RunDirError(Exception):
    """A run directory that cannot be used; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A living lastcall."""

    path: Path
    pid: int


def bases() -> list[Path]:
    """Where run directories of this user may be, best first. They need not exist."""
    uid = os.geteuid()
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    found = [Path(given)] if given.startswith("/") else []
    if uid == 0:
        found.append(Path("/run/lastcall"))
    if session.startswith("/"):
        found.append(Path(session, "lastcall"))
    if uid != 0:
        # What a unit with User= and RuntimeDirectory=lastcall was given; a session that cron and su do not know of.
        found += [path for path in (Path("/run/lastcall"), Path(f"/run/user/{uid}/lastcall")) if _is_own(path)]
    found += [Path(f"/tmp/lastcall-{uid}"), Path(f"/dev/shm/lastcall-{uid}")]  # noqa: S108 - checked when opened
    return list(dict.fromkeys(found))


def choose(name: str) -> Path:
    """The default directory of an instance: its name (`http 127.0.0.1:8000`) under the first base that can be used.

    Makes the base, not the directory. Raises RunDirError when there is no base.
    """
    reasons: list[str] = []
    for base in bases():
        try:
            _make_private(base)
            if not os.access(base, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            reasons.append(f"{base}: {error.strerror}")
        except RunDirError as error:
            reasons.append(str(error))
        else:
            return base / file_name(name)
    raise RunDirError(f"no place for the run directory, name one with --run-dir ({'; '.join(reasons)})")


def file_name(name: str) -> str:
    """A name made fit for a file's: `http 127.0.0.1:8000` -> `http-127.0.0.1-8000`. Different names stay different."""
    short = re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-.")
    plain = re.fullmatch(r"[a-z]+[ -][0-9A-Za-z.-]+[:-][0-9]+", name)
    if plain and len(short) <= NAME_MAX:
        return short
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{short[: NAME_MAX - 9]}-{digest}"


def instances() -> list[Instance]:
    """This user's living instances with a default directory, in order of their paths."""
    found: set[tuple[Path, int]] = set()
    for base in bases():
        with contextlib.suppress(OSError):
            for path in (base, *base.iterdir()):
                pid = holder(path)
                if pid is not None:
                    found.add((path, pid))
    return [Instance(path, pid) for path, pid in sorted(found)]


def left(name: str) -> list[Path]:
    """This user's default directories in which something of this name was left, in order of their paths."""
    found: set[Path] = set()
    for base in bases():
        with contextlib.suppress(OSError):
            found.update(path for path in (base, *base.iterdir()) if (path / name).exists())
    return sorted(found)


def holder(path: Path) -> int | None:
    """The pid of the instance that uses this directory; None when nobody does, or it may not be looked at."""
    try:
        return locks.holder(path / LOCK)
    except OSError:
        return None


def spool(run_dir: Path) -> Path:
    """Where bodies are kept when nobody says where: with the system's temporary files, else in the run directory.

    Not there first: it is often a tmpfs, and what lies there is memory.
    """
    try:
        found = Path(tempfile.gettempdir())
    except FileNotFoundError:  # a read-only root
        return run_dir
    # The working directory is tempfile's last resort, and not ours: it is the application's.
    return run_dir if found.samefile(Path.cwd()) and not found.stat().st_mode & stat.S_ISVTX else found


class RunDir:
    """The directory of this instance, locked. A worker calls `leave()` first thing after fork."""

    def __init__(
        self, path: Path, fd: int, leftovers: tuple[str, ...], *, keep: bool, estate: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        self.path = path
        self.fd = fd
        """Of the lock. The lock lasts until every copy of this descriptor is closed."""
        self._leftovers = leftovers
        self._estate = estate
        self._left = False
        self._keep = keep

    @classmethod
    def open(
        cls, path: Path, leftovers: Iterable[str] = (), *, keep: bool = False, estate: Iterable[str] = ()
    ) -> RunDir:  # fmt: skip
        """Make it if need be, lock it, and remove from it the `leftovers` (names) of an instance that has died.

        Its `estate` (names, or patterns of them) may be wanted, and stays until `forget`. `keep` a directory that the
        operator has named: it may have been given to us with care. Raises RunDirError when another instance uses it, or it
        cannot be trusted.
        """
        try:
            _make_private(path)
            fd = _lock(path)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            raise RunDirError(f"{path}: {error.strerror}, name another one with --run-dir") from error
        self = cls(path, fd, tuple(leftovers), keep=keep, estate=tuple(estate))
        self._left = any(True for name in self._estate for _ in path.glob(name))
        self._clear(self._leftovers)
        return self

    @classmethod
    def adopt(cls, path: Path, fd: int, leftovers: Iterable[str] = (), *, keep: bool = False) -> RunDir:
        """The directory that another image of this process has opened, still locked through `fd`."""
        return cls(path, fd, tuple(leftovers), keep=keep)

    @property
    def kept(self) -> bool:
        """It was named by the operator, and is not removed."""
        return self._keep

    def leave(self) -> None:
        """In a new worker: let go of the lock, which stays the master's. Nothing is removed."""
        os.close(self.fd)

    def abandon(self) -> None:
        """As `close`, after a start that has failed: what it has found it leaves to the next one."""
        self._close(estate=not self._left)

    def close(self) -> None:
        """Remove what is ours, and the directory unless it is to be kept or not empty; then unlock."""
        self._close(estate=True)

    def _close(self, *, estate: bool) -> None:
        self._clear(self._leftovers)
        if estate:
            self.forget()
        if locks.same_file(self.fd, self.path / LOCK):
            (self.path / LOCK).unlink(missing_ok=True)
        if not self._keep:
            with contextlib.suppress(OSError):
                self.path.rmdir()  # not empty: the cut list, and whatever else has to outlive us
        os.close(self.fd)

    def forget(self) -> None:
        """Remove what a later instance could take over."""
        self._clear(self._estate)

    def _clear(self, names: Iterable[str]) -> None:
        for name in names:
            for path in self.path.glob(name):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _lock(directory: Path) -> int:
    """The lock file, locked. Raises OSError, and RunDirError when somebody else has the lock."""
    path = directory / LOCK
    for _ in range(LOCK_TRIES):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not locks.take(fd):
            pid = locks.read_pid(fd)
            os.close(fd)
            text = f"another lastcall, pid {pid}, uses {directory} (--run-dir gives this one a directory of its own)"
            raise RunDirError(text)
        if locks.same_file(fd, path):
            return fd
        os.close(fd)  # its owner has removed it between our open and our lock: begin anew
    raise RunDirError(f"{path} keeps vanishing")


def _make_private(path: Path) -> None:
    """Make a directory that nobody else may enter, or see that the one there is ours. Raises OSError, RunDirError."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        if path.parent.stat().st_mode & stat.S_IWOTH:
            raise RunDirError(f"{path} is a symbolic link in a directory that everybody may write to: remove it")
        found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise RunDirError(f"{path} is not a directory")
    if found.st_uid != os.geteuid():
        raise RunDirError(f"{path} belongs to {_user(found.st_uid)}, not to {_user(os.geteuid())}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RunDirError(f"{path} can be written to by others: chmod go-w {path}")


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
