"""SQLite journals' files: what stands in one, written and read. Which files there are, and whose, is `sqlite.py`'s.

One file has one connection that writes, for ever: SQLite before 3.51.3 can corrupt a WAL that several write to and
checkpoint. Everybody else reads, through connections that cannot write and so never checkpoint.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lastcall.durable.journal import JournalError
from lastcall.durable.record import Asked, Record, Response, State, Step, StepState, number

PATIENCE: Final = 5.0
"""Seconds to wait for a lock of SQLite's: a reader that recovers a dead writer's file holds one, for milliseconds."""
# Rows stand in the order in which they came, and steps behind one another, so that one page takes several: a key's number is
# a hash, and rows in its order would each touch a page of their own, and read it first.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS requests (
    row INTEGER PRIMARY KEY, number INTEGER NOT NULL UNIQUE, key TEXT NOT NULL, id TEXT NOT NULL, fingerprint TEXT NOT NULL,
    method TEXT NOT NULL, target TEXT NOT NULL, begun REAL NOT NULL, changed REAL NOT NULL, owner TEXT NOT NULL,
    attempt INTEGER NOT NULL, state INTEGER NOT NULL, why TEXT NOT NULL, asked BLOB, response BLOB);
CREATE TABLE IF NOT EXISTS steps (
    row INTEGER NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
    at REAL NOT NULL, result BLOB NOT NULL, PRIMARY KEY (row, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parked ON requests (state) WHERE state = 3;
"""
_COLUMNS: Final = "key, id, fingerprint, method, target, begun, changed, owner, attempt, state, why, asked, response"
_BRIEF: Final = "key, id, fingerprint, method, target, begun, changed, owner, attempt, state, why, NULL, NULL"
_PUT: Final = "INSERT INTO requests VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_PUT_STEP: Final = "INSERT OR REPLACE INTO steps VALUES (?,?,?,?,?,?,?)"
PARK: Final = "UPDATE requests SET state = ?, why = ?, changed = ?, response = ? WHERE number = ? AND attempt = ?"
END: Final = PARK.replace("response = ?", "response = ?, asked = NULL")
"""A request has ended, or is parked, which is to run again; with its number and attempt."""
_FIND: Final = f"SELECT row, {_COLUMNS} FROM requests WHERE number = ?"  # noqa: S608 - a constant
_STEPS: Final = "SELECT seq, name, state, attempt, at, result FROM steps WHERE row = ? ORDER BY seq"
PAGE: Final = 2048
"""Bytes of a page, in files that are made from now on: each change writes a whole one, and a usual request fits into one."""
UNSETTLED: Final = 16 << 20
"""Bytes of a WAL, about, after which it is worked into its file."""
CACHE_KIB: Final = 8192
"""Of each file that is written: the index of some hundred thousand keys."""


class Pin:
    """A question that is never read to its end, on the connection that writes: as long as it is open, a write takes two
    locks of SQLite's and not six, for the connection's view of the file stays, and is moved on by its own writes alone.

    It also keeps the WAL from being worked into the file, so that is done here, in between.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        self._db = db
        self.limit = UNSETTLED
        self._written = 0
        self._asked: sqlite3.Cursor | None = None
        self._ask()

    def _ask(self) -> None:
        self._asked = self._db.execute("SELECT 1 FROM sqlite_schema")  # has more rows than the one that this looks at

    def wrote(self, length: int) -> None:
        """A row of this length was written. Never raises: what is written stays, whatever becomes of the WAL."""
        self._written += length + 2 * PAGE
        if self._written > self.limit:
            self._written = 0
            with contextlib.suppress(sqlite3.Error):  # no room: the next time
                self._settle()

    def close(self) -> None:
        """Before the connection is closed, which would live on as long as its question does."""
        if self._asked is not None:
            self._asked.close()
            self._asked = None

    def _settle(self) -> None:
        """As far as nobody else reads what was before."""
        self.close()
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            self._ask()


def failure(error: sqlite3.Error) -> JournalError:
    """SQLite's error as ours."""
    return JournalError(f"the journal: {error}")


def connect(path: Path, *, durability: str) -> sqlite3.Connection:
    """The one connection that writes. Raises sqlite3.Error, DatabaseError for what is no journal or is damaged."""
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("PRAGMA journal_mode = WAL")
        # NORMAL, not OFF: after a power cut the last requests may be missing, but the file is whole.
        db.execute("PRAGMA synchronous = " + ("FULL" if durability == "power" else "NORMAL"))
        db.execute(f"PRAGMA wal_autocheckpoint = {UNSETTLED // PAGE}")
        db.execute("PRAGMA journal_size_limit = 33554432")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check(db)
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    ((said,),) = db.execute("PRAGMA quick_check(1)").fetchall()
    if said != "ok":
        raise sqlite3.DatabaseError(said)


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, and never checkpoints. Raises sqlite3.Error."""
    return sqlite3.connect(
        f"file:{path}?mode=ro", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )


def is_made(db: sqlite3.Connection) -> bool:
    """Whether a file has its tables. One that is just being made has no request, and its making will be seen."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'parked'").fetchone() is not None


def _record(row: Sequence[Any], steps: Sequence[Step] = ()) -> Record:
    key, identity, fingerprint, method, target, begun, changed, owner, attempt, state, why, asked, response = row
    return Record(
        key, identity, fingerprint, method, target, begun, changed, owner, attempt, State(state), why,
        msgspec.msgpack.decode(asked, type=Asked) if asked else None,
        msgspec.msgpack.decode(response, type=Response) if response else None, tuple(steps),
    )  # fmt: skip


def find(db: sqlite3.Connection, key: str) -> Record | None:
    """A record with its steps, as it is at one moment. Raises sqlite3.Error."""
    for row, *fields in db.execute(_FIND, (number(key),)):
        if fields[0] != key:
            raise JournalError("two keys with the same digest: this one cannot be kept beside the other")
        steps = [Step(seq, name, StepState(state), *rest) for seq, name, state, *rest in db.execute(_STEPS, (row,))]
        return _record(fields, steps)
    return None


def find_at_once(db: sqlite3.Connection, key: str) -> Record | None:
    """As `find`, where somebody else may write between its two statements."""
    if not db.execute("SELECT 1 FROM requests WHERE number = ?", (number(key),)).fetchone():
        return None
    db.execute("BEGIN")
    try:
        return find(db, key)
    finally:
        db.execute("COMMIT")


def put(db: sqlite3.Connection, record: Record, *, fresh: bool = False) -> int:
    """Write a record and its steps, over whatever has its key (`fresh`: nothing has); its row. Raises sqlite3.Error."""
    asked = None if record.asked is None else msgspec.msgpack.encode(record.asked)
    response = None if record.response is None else msgspec.msgpack.encode(record.response)
    row = (
        number(record.key), record.key, record.id, record.fingerprint, record.method, record.target, record.begun,
        record.changed, record.owner, record.attempt, int(record.state), record.why, asked, response,
    )  # fmt: skip
    if fresh:
        return db.execute(_PUT, row).lastrowid or 0
    with transaction(db):
        _delete(db, number(record.key))
        place = db.execute(_PUT, row).lastrowid or 0
        for step in record.steps:
            put_step(db, place, step)
    return place


def put_step(db: sqlite3.Connection, row: int, step: Step) -> None:
    """Write a step of the request in this row, over what was written about it before."""
    db.execute(_PUT_STEP, (row, step.seq, step.name, int(step.state), step.attempt, step.at, step.result))


def delete(db: sqlite3.Connection, *places: int) -> None:
    """Forget the records of these numbers, and their steps."""
    with transaction(db):
        for place in places:
            _delete(db, place)


def _delete(db: sqlite3.Connection, place: int) -> None:
    db.execute("DELETE FROM steps WHERE row IN (SELECT row FROM requests WHERE number = ?)", (place,))
    db.execute("DELETE FROM requests WHERE number = ?", (place,))


def rows_running(db: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """Key and row of each request that has not ended."""
    return iter(db.execute("SELECT key, row FROM requests WHERE state = 1").fetchall())


class transaction:  # noqa: N801 - reads as the statement that it is
    """`with transaction(db)`: all of it or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def briefly(db: sqlite3.Connection, where: str, *values: object) -> Iterator[Record]:
    """Records without what was asked, answered, and done. `where` is a constant of the caller's."""
    for row in db.execute(f"SELECT {_BRIEF} FROM requests WHERE {where}", values):  # noqa: S608
        yield _record(row)


def salvage(path: Path) -> tuple[list[Record], bool]:
    """What can still be read of a damaged file, and whether that is all of it."""
    found: list[Record] = []
    try:
        db = read_only(path)
    except sqlite3.Error:
        return found, False
    try:
        for (key,) in db.execute("SELECT key FROM requests"):
            record = find(db, key)
            if record is not None:
                found.append(record)
    except (sqlite3.Error, JournalError, msgspec.MsgspecError, ValueError):
        return found, False
    else:
        return found, True
    finally:
        db.close()
