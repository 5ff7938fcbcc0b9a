"""The journal of one machine: SQLite, one file for each worker at once, in a directory on a disk that stays.

    0.db, 1.db, ...      a file has one owner, who holds a flock on 0.lock: death releases it, and a new worker goes on
                         with the file. So there are as many files as there were workers at once
    claims               a byte for each key, locked (OFD) by whoever runs its request
    seen                 a byte for each key that was ever seen (`seen.py`)
    orders/              what `lastcall journal` wants done, for the owners to find

What a record means is `judge.py`'s, what stands in a file `files.py`'s. Here: which files there are, whose they are, and
where a request is looked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lastcall.durable import files, judge, orders
from lastcall.durable.files import failure
from lastcall.durable.journal import Full, JournalError, Lost, Terms
from lastcall.durable.record import Record, Response, State, Step, number
from lastcall.durable.seen import Seen

FILES_MAX: Final = 1024
"""Of a journal: more than any machine has workers."""
LOOK_AGAIN: Final = (0.001, 0.05)
"""Seconds between two tries to claim a key: the first, and the longest. A lock of this kind cannot be waited for with
an end."""
ROOM_EVERY: Final = 32
"""Requests between two looks at the size of the file."""
RESERVE: Final = 1.25
"""How far beyond its size a file may grow: room for what has begun."""
PRUNE_MAX: Final = 1000
"""Rows that one `tidy` looks at, so that it holds up nobody: it goes on where it has stopped."""
SETTLED_NS: Final = 100_000_000
"""Nanoseconds after which a change of the directory is not mistaken for the next one."""
INHERIT_AGAIN: Final = 600.0
"""Seconds until a file that nobody owns, and that has not changed, is looked at again: for what has become too old in it."""
_FLOCK: Final = struct.Struct("@hhqqi4x")
"""struct flock: type, whence, start, length, pid."""


class Sqlite:
    """A process's part of the journal. Made after a fork, never before: a child that inherits one must not use it."""

    def __init__(
        self, folder: Path, terms: Terms | None = None, *, tell: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Raises JournalError where there can be no journal."""
        self.folder = folder
        self._terms = terms or Terms()
        self._tell = tell
        self._now = now
        self._lock = threading.RLock()
        self._held: set[int] = set()  # by this process: its threads share the lock of the file
        self._unclaimed = threading.Condition(threading.Lock())
        self._others: dict[str, sqlite3.Connection] = {}
        self._changed = 0
        self._begun = 0
        self._cursor = -1
        self._inherited: dict[Path, tuple[tuple[int, int], float]] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claims = os.open(folder / "claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.path, self._mine = self._take_place()
            self._db = self._open()
            self._pin = files.Pin(self._db)
            self._seen = Seen(folder, self._numbers, now())
        except OSError as error:
            raise JournalError(f"the journal {folder}: {error.strerror}") from error
        self._running = dict(files.rows_running(self._db))
        """Of the requests in our file that have not ended: key and row."""
        _open.add(self)

    # --- Whose file ------------------------------------------------------------------------

    def _take_place(self) -> tuple[Path, int]:
        """The first file that nobody owns."""
        for each in range(FILES_MAX):
            path = self.folder / f"{each}.db"
            lock = _own(path)
            if lock is not None:
                return path, lock
        raise JournalError(f"the journal {self.folder} has {FILES_MAX} owners already")

    def _open(self) -> sqlite3.Connection:
        try:
            db = files.connect(self.path, durability=self._terms.durability)
        except sqlite3.OperationalError as error:  # a full disk, no permission: nothing is wrong with the file
            os.close(self._mine)
            raise failure(error) from error
        except sqlite3.DatabaseError as error:
            db = self._begin_anew(error)
        if self._terms.size:
            ((self._page,),) = db.execute("PRAGMA page_size").fetchall()
            self._pages = max(64, self._terms.size // self._terms.sharers // self._page)
            db.execute(f"PRAGMA max_page_count = {int(self._pages * RESERVE) + 256}")
        if self._terms.durability == "power":
            for directory in (self.folder, self.folder.parent):
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
                os.fsync(fd)
                os.close(fd)
        return db

    def _begin_anew(self, error: sqlite3.Error) -> sqlite3.Connection:
        """Our own file is damaged: begin a new one in its place, with what can be read of it."""
        found = self._set_aside(self.path, error)
        db = files.connect(self.path, durability=self._terms.durability)
        for record in found:
            files.put(db, record)
        return db

    def _set_aside(self, path: Path, error: sqlite3.Error) -> list[Record]:
        """Keep a damaged file under another name; what can be read of it."""
        there = path.with_name(f"{path.name}.broken-{int(self._now())}")
        found, whole = files.salvage(path)
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{there}{suffix}")
        rest = "all of its requests" if whole else "some of its requests, and there may be others in it,"
        self._tell(
            f"the journal's file {path} is damaged ({error}) and set aside as {there}: {rest} were taken over ({len(found)})"
        )
        return found

    def _numbers(self) -> Iterator[int]:
        """Of all keys in the journal. Raises OSError where a file cannot be read: its keys are not known."""
        for path in self.folder.glob("*.db"):
            try:
                db = files.read_only(path)
                try:
                    if files.is_made(db):
                        yield from (place for (place,) in db.execute("SELECT number FROM requests"))
                finally:
                    db.close()
            except sqlite3.Error as error:
                raise OSError(str(error)) from error

    # --- Claims ------------------------------------------------------------------------------

    def claim(self, key: str, patience: float) -> bool:
        place = number(key)
        if self._try(place):  # as nearly always
            return True
        deadline, pause = time.monotonic() + patience, LOOK_AGAIN[0]
        while not self._try(place):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._unclaimed:
                self._unclaimed.wait(min(pause, left))
            pause = min(pause * 2, LOOK_AGAIN[1])
        return True

    def _try(self, place: int) -> bool:
        with self._unclaimed:
            if place in self._held:
                return False
            try:
                fcntl.fcntl(self._claims, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
            except BlockingIOError:
                return False
            except OSError as error:
                raise JournalError(f"the journal {self.folder}: {error.strerror}") from error
            self._held.add(place)
            return True

    def release(self, key: str) -> None:
        place = number(key)
        with self._unclaimed:
            self._held.discard(place)
            try:
                fcntl.fcntl(self._claims, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, place, 1, 0))
            except OSError:
                pass  # it ends with this process
            self._unclaimed.notify_all()

    # --- Looking -----------------------------------------------------------------------------

    def find(self, key: str) -> Record | None:
        if not self._seen.may_have(number(key)):
            return None
        with self._lock, _TRANSLATED:
            found = [files.find(self._db, key)]
            found += [files.find_at_once(db, key) for db in self._read_others()]
        return judge.latest([record for record in found if record is not None])

    def _read_others(self) -> Iterator[sqlite3.Connection]:
        """The files of other workers, whoever owns them now."""
        changed = self.folder.stat().st_mtime_ns
        if changed != self._changed:
            whole = self._look_around()
            # What changes twice within a tick of the kernel's clock looks as if it had changed once.
            settled = abs(time.time_ns() - changed) > SETTLED_NS
            self._changed = changed if whole and settled else -1
        return iter(self._others.values())

    def _look_around(self) -> bool:
        """Open what is new, and close what was set aside. False when one of them is just being made."""
        whole = True
        there = {f"{path}:{path.stat().st_ino}": path for path in self.folder.glob("*.db") if path != self.path}
        for name in [name for name in self._others if name not in there]:
            self._others.pop(name).close()
        for name, path in there.items():
            if name in self._others:
                continue
            db = files.read_only(path)
            if files.is_made(db):
                self._others[name] = db
            else:
                whole = False
                db.close()
        return whole

    def orphans(self) -> Sequence[str]:
        with self._lock:
            return [key for key in list(self._running) if not self._is_claimed(number(key))]

    def _is_claimed(self, place: int) -> bool:
        if place in self._held:
            return True
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        said = fcntl.fcntl(self._claims, fcntl.F_OFD_GETLK, asked)
        return bool(_FLOCK.unpack(said)[0] != fcntl.F_UNLCK)

    # --- Writing -----------------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        self._begun += 1
        self._seen.add(number(record.key))
        with self._lock, _TRANSLATED:
            if self._terms.size and self._begun % ROOM_EVERY == 1:
                self._require_room()
            self._running[record.key] = files.put(self._db, record, fresh=True)
            self._pin.wrote(_length(record))

    def _require_room(self) -> None:
        ((pages,),) = self._db.execute("PRAGMA page_count").fetchall()
        ((free,),) = self._db.execute("PRAGMA freelist_count").fetchall()
        if pages - free >= self._pages:
            self._begun -= 1  # the next one is to look again
            raise Full(f"the journal is full: {(pages - free) * self._page} bytes in {self.path} (journal_size)")

    def adopt(self, record: Record) -> None:
        with self._lock, _TRANSLATED:
            self._running[record.key] = self._put(record)

    def _put(self, record: Record) -> int:
        """Over whatever has its key; its row."""
        row = files.put(self._db, record)
        self._pin.wrote(_length(record) + sum(len(step.result) for step in record.steps))
        return row

    def note(self, record: Record, step: Step) -> None:
        with self._lock:  # four times in a request with two steps: no more frames than needed
            try:
                files.put_step(self._db, self._running[record.key], step)
            except sqlite3.Error as error:
                raise failure(error) from error
            self._pin.wrote(len(step.result))

    def erase(self, record: Record, step: Step) -> None:
        with self._lock, _TRANSLATED:
            self._db.execute("DELETE FROM steps WHERE row = ? AND seq = ?", (self._running[record.key], step.seq))
            self._pin.wrote(0)

    def end(self, record: Record, state: State, *, response: Response | None = None, why: str = "") -> None:
        place = number(record.key)
        said = None if response is None else msgspec.msgpack.encode(response)
        sql = files.END if state is not State.PARKED else files.PARK
        with self._lock, _TRANSLATED:
            done = self._db.execute(sql, (int(state), why, self._now(), said, place, record.attempt))
            if done.rowcount != 1:
                raise Lost("the journal: the request was taken over by somebody else")
            self._running.pop(record.key, None)
            self._pin.wrote(len(said or b""))

    def forget(self, record: Record) -> None:
        with self._lock, _TRANSLATED:
            files.delete(self._db, number(record.key))
            self._running.pop(record.key, None)
            self._pin.wrote(0)

    # --- From time to time ---------------------------------------------------------------------

    def tidy(self) -> None:
        with self._lock, _TRANSLATED:
            for path in sorted(self.folder.glob("*.db")):
                if path != self.path:
                    self._inherit(path)
            for key in list(self._running):
                self._drop_stale(key)
            self._prune(self._db)
        orders.obey(self)

    def _inherit(self, path: Path) -> None:
        """Take over what is not finished in a file that nobody owns. Ended requests stay, to be read there."""
        known, since = self._inherited.get(path, ((0, 0), 0.0))
        if known == _signature(path) and self._now() - since < INHERIT_AGAIN:
            return
        lock = _own(path)
        if lock is None:
            return
        try:
            db = files.connect(path, durability=self._terms.durability)
        except sqlite3.Error as error:
            with contextlib.closing(os.fdopen(lock, "rb")):
                if isinstance(error, sqlite3.OperationalError):  # a full disk: nothing is wrong with the file
                    raise failure(error) from error
                for record in self._set_aside(path, error):
                    self._take_in(record)
            return
        try:
            for brief in list(files.briefly(db, "state IN (1, 3)")):
                if self._try(number(brief.key)):
                    try:
                        self._move(db, brief.key)
                    finally:
                        self.release(brief.key)
            self._prune(db)
        finally:
            db.close()
            self._inherited[path] = (_signature(path), self._now())
            os.close(lock)

    def _move(self, db: sqlite3.Connection, key: str) -> None:
        record = files.find(db, key)
        assert record is not None
        self._keep_best(record)
        files.delete(db, number(key))

    def _take_in(self, record: Record) -> None:
        """One that stood in a damaged file; if somebody runs it, he has it."""
        if self._try(number(record.key)):
            try:
                self._keep_best(record)
            finally:
                self.release(record.key)

    def _keep_best(self, record: Record) -> None:
        best = self.find(record.key)
        if best is None or best.attempt <= record.attempt:
            row = self._put(record)
            if record.state is State.RUNNING:
                self._running[record.key] = row

    def _drop_stale(self, key: str) -> None:
        """A request that somebody else has adopted, and may have finished since."""
        if self._is_claimed(number(key)) or not self._try(number(key)):
            return
        try:
            mine, best = files.find(self._db, key), self.find(key)
            if mine is not None and best is not None and best != mine and best.attempt >= mine.attempt:
                files.delete(self._db, number(key))
                self._running.pop(key, None)
        finally:
            self.release(key)

    def _prune(self, db: sqlite3.Connection) -> None:
        """Forget ended requests that are too old, some at a time."""
        rows = db.execute(
            "SELECT number, state, changed FROM requests WHERE number > ? ORDER BY number LIMIT ?",
            (self._cursor if db is self._db else -1, PRUNE_MAX),
        ).fetchall()
        if db is self._db:
            self._cursor = rows[-1][0] if len(rows) == PRUNE_MAX else -1
        too_old = self._now() - self._terms.keep
        gone = [place for place, state, changed in rows if state in (2, 4) and changed < too_old]
        if gone:
            files.delete(db, *gone)
            if db is self._db:
                self._pin.wrote(len(gone) * files.PAGE)

    # --- For people ------------------------------------------------------------------------------

    def revive(self, record: Record, steps: Sequence[Step]) -> None:
        with self._lock, _TRANSLATED:
            self._running[record.key] = self._put(judge.revived(record, steps, self._now()))

    def listing(self, state: State | None = None, limit: int = 1000) -> Sequence[Record]:
        with self._lock, _TRANSLATED:
            return listing([self._db, *self._read_others()], state, limit)

    def show(self, identity: str) -> Record | None:
        with self._lock, _TRANSLATED:
            return show([self._db, *self._read_others()], identity)

    def mine(self, identity: str) -> Record | None:
        """A parked request in this process's own file."""
        with self._lock, _TRANSLATED:
            for brief in files.briefly(self._db, "state = 3 AND id = ?", identity):
                return files.find(self._db, brief.key)
        return None

    def order(self, verb: str, identity: str, result: bytes | None = None) -> str:
        return orders.give(self.folder, verb, identity, result)

    def close(self) -> None:
        with self._lock:
            self._pin.close()
            for db in (*self._others.values(), self._db):
                db.close()
            self._others.clear()
            self._let_go()

    def _let_go(self) -> None:
        if self._claims < 0:
            return
        self._seen.close()
        os.close(self._claims)
        os.close(self._mine)
        self._claims = self._mine = -1


class Reader:
    """All files of a journal, to look at: writes nothing, owns nothing. For tools."""

    def __init__(self, folder: Path) -> None:
        """Raises JournalError."""
        if not folder.is_dir():
            raise JournalError(f"{folder}: there is no such directory")
        self._dbs: list[sqlite3.Connection] = []
        with _TRANSLATED:
            for path in sorted(folder.glob("*.db")):
                db = files.read_only(path)
                self._dbs.append(db)
                if not files.is_made(db):
                    self._dbs.pop().close()

    def listing(self, state: State | None = None, limit: int = 1000) -> Sequence[Record]:
        with _TRANSLATED:
            return listing(self._dbs, state, limit)

    def show(self, identity: str) -> Record | None:
        with _TRANSLATED:
            return show(self._dbs, identity)

    def close(self) -> None:
        for db in self._dbs:
            db.close()


def listing(dbs: Sequence[sqlite3.Connection], state: State | None, limit: int) -> list[Record]:
    """The newest records of several files, each request once."""
    found: dict[str, list[Record]] = {}
    for db in dbs:
        for record in files.briefly(db, "1 ORDER BY begun DESC LIMIT ?" if state is None else
                                    f"state = {int(state)} ORDER BY begun DESC LIMIT ?", limit):  # fmt: skip
            found.setdefault(record.id, []).append(record)
    best = [one for same in found.values() if (one := judge.latest(same)) is not None]
    return sorted(best, key=lambda one: -one.begun)[:limit]


def show(dbs: Sequence[sqlite3.Connection], identity: str) -> Record | None:
    """One request, by the first letters of its id."""
    found: list[Record | None] = []
    for db in dbs:
        briefs = list(files.briefly(db, "id >= ? AND id < ? LIMIT 10", identity, identity + "\U0010ffff"))
        found += [files.find_at_once(db, brief.key) for brief in briefs]
    records = [each for each in found if each is not None]
    names = sorted({each.id for each in records})
    if len(names) > 1:
        raise JournalError(f"{identity}: there are several: {', '.join(names)}")
    return judge.latest(records)


def _length(record: Record) -> int:
    """About: of what makes a row long."""
    return len(record.asked.body) if record.asked is not None else 0


def _signature(path: Path) -> tuple[int, int]:
    """What changes when somebody has written into a file, or has opened it to do so."""
    status = path.stat()
    try:
        return status.st_mtime_ns, path.with_name(f"{path.name}-wal").stat().st_mtime_ns
    except FileNotFoundError:
        return status.st_mtime_ns, 0


def _own(path: Path) -> int | None:
    """Become a file's owner until the descriptor is closed; None when somebody else is. Raises OSError."""
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


class _Translated:
    """`with _TRANSLATED`: what SQLite and the system say becomes a JournalError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise failure(error) from error
        if isinstance(error, OSError):
            raise JournalError(f"the journal: {error.strerror}") from error


_TRANSLATED: Final = _Translated()
_open: Final[weakref.WeakSet[Sqlite]] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A fork of the application's shares our locks: in it they are let go of, or they would outlive this process."""
    for journal in list(_open):
        journal._let_go()  # noqa: SLF001 - this module's own


os.register_at_fork(after_in_child=_let_go_in_child)
