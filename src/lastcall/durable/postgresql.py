"""The journal of several machines in PostgreSQL: any of them may take over a dead one's work.

Two tables and one of claims, whose names begin with `lastcall_`. Every write is a transaction of its own, and waits for the
disk (synchronous_commit). What this process writes about a request names its attempt.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import psycopg

from lastcall.durable import judge, orders
from lastcall.durable.journal import JournalError, Lost, Terms
from lastcall.durable.leases import LEASE, SOMEBODY, Leases, holder
from lastcall.durable.record import Asked, Record, Response, State, Step, StepState

ORPHANS_MAX: Final = 1000
"""Requests without an end that one look sees, the oldest first: more than run at one time."""
CONNECT_S: Final = 5
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS lastcall_requests (
    key text PRIMARY KEY, id text NOT NULL, fingerprint text NOT NULL, method text NOT NULL, target text NOT NULL,
    begun double precision NOT NULL, changed double precision NOT NULL, owner text NOT NULL, attempt integer NOT NULL,
    state smallint NOT NULL, why text NOT NULL, asked bytea, response bytea);
CREATE INDEX IF NOT EXISTS lastcall_unfinished ON lastcall_requests (state) WHERE state IN (1, 3);
CREATE INDEX IF NOT EXISTS lastcall_ids ON lastcall_requests (id text_pattern_ops);
CREATE TABLE IF NOT EXISTS lastcall_steps (
    key text NOT NULL REFERENCES lastcall_requests ON DELETE CASCADE, seq integer NOT NULL, name text NOT NULL,
    state smallint NOT NULL, attempt integer NOT NULL, at double precision NOT NULL, result bytea NOT NULL,
    PRIMARY KEY (key, seq));
CREATE TABLE IF NOT EXISTS lastcall_claims (key text PRIMARY KEY, holder text NOT NULL, until timestamptz NOT NULL);
"""
_LOCK: Final = 0x6C617374
"""An advisory lock for making the tables: CREATE TABLE IF NOT EXISTS is no remedy for two at once."""
_COLUMNS: Final = "key, id, fingerprint, method, target, begun, changed, owner, attempt, state, why, asked, response"
_BRIEF: Final = "key, id, fingerprint, method, target, begun, changed, owner, attempt, state, why, NULL, NULL"
_MINE: Final = (
    "WITH mine AS (SELECT key FROM lastcall_requests WHERE key = %s AND attempt = %s AND state = 1 FOR UPDATE)"
)

Connection = psycopg.Connection[tuple[Any, ...]]


class Postgresql:
    """See `journal.Journal`. One connection, made again when it breaks."""

    def __init__(
        self, url: str, terms: Terms | None = None, *, lease: float = LEASE, now: Callable[[], float] = time.time
    ) -> None:
        """Raises JournalError where the server cannot be reached."""
        self._url = url
        self._terms = terms or Terms()
        self._now = now
        self._lock = threading.RLock()
        self._db: Connection | None = None
        self._until = f"now() + interval '{lease} seconds'"
        self.holder = holder()
        self._leases = Leases(
            self.holder, lease, take=self._take, steal=self._steal, renew=self._renew, give=self._give
        )
        with self._connected() as db:
            db.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            db.execute(_SCHEMA)
            db.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._lock:
            try:
                if self._db is None or self._db.closed:
                    self._db = psycopg.connect(
                        self._url, autocommit=True, connect_timeout=CONNECT_S, application_name="lastcall"
                    )
                yield self._db
            except psycopg.Error as error:
                if isinstance(error, psycopg.OperationalError) and self._db is not None:
                    self._db.close()
                raise JournalError(f"the journal: {' '.join(str(error).split())}") from error

    # --- Claims -----------------------------------------------------------------------

    def claim(self, key: str, patience: float) -> bool:
        return self._leases.claim(key, patience)

    def release(self, key: str) -> None:
        self._leases.release(key)

    def _take(self, key: str) -> str | None:
        with self._connected() as db:
            taken = db.execute(
                f"INSERT INTO lastcall_claims VALUES (%s, %s, {self._until}) ON CONFLICT (key) DO UPDATE"  # noqa: S608
                " SET holder = excluded.holder, until = excluded.until"
                # Ours is one that could not be given up: the server was away.
                " WHERE lastcall_claims.until < now() OR lastcall_claims.holder = excluded.holder",
                (key, self.holder),
            )
            if taken.rowcount == 1:
                return None
            found = db.execute("SELECT holder FROM lastcall_claims WHERE key = %s", (key,)).fetchone()
            return SOMEBODY if found is None else str(found[0])  # just given up: the next try gets it

    def _steal(self, key: str, other: str) -> bool:
        with self._connected() as db:
            taken = db.execute(
                f"UPDATE lastcall_claims SET holder = %s, until = {self._until} WHERE key = %s AND holder = %s",  # noqa: S608
                (self.holder, key, other),
            )
            return taken.rowcount == 1

    def _renew(self, keys: list[str]) -> None:
        with self._connected() as db:
            db.execute(
                f"UPDATE lastcall_claims SET until = {self._until} WHERE holder = %s AND key = ANY(%s)",  # noqa: S608
                (self.holder, keys),
            )

    def _give(self, key: str) -> None:
        with self._connected() as db:
            db.execute("DELETE FROM lastcall_claims WHERE key = %s AND holder = %s", (key, self.holder))

    # --- Reading ----------------------------------------------------------------------

    def find(self, key: str) -> Record | None:
        with self._connected() as db:
            return _whole(db, "key = %s", key)

    def orphans(self) -> Sequence[str]:
        with self._connected() as db:
            rows = db.execute(
                "SELECT key, holder, coalesce(until < now(), true)"
                " FROM lastcall_requests LEFT JOIN lastcall_claims USING (key) WHERE state = 1 ORDER BY begun LIMIT %s",
                (ORPHANS_MAX,),
            ).fetchall()
        return [key for key, other, ended in rows if self._leases.is_left(key, other, ended=ended)]

    def listing(self, state: State | None = None, limit: int = 1000) -> Sequence[Record]:
        where = "" if state is None else f"WHERE state = {int(state)}"
        with self._connected() as db:
            rows = db.execute(f"SELECT {_BRIEF} FROM lastcall_requests {where} ORDER BY begun DESC LIMIT %s", (limit,))  # noqa: S608
            return [_record(row, ()) for row in rows]

    def show(self, identity: str) -> Record | None:
        with self._connected() as db:
            names = db.execute(
                "SELECT id FROM lastcall_requests WHERE starts_with(id, %s) ORDER BY id LIMIT 10", (identity,)
            ).fetchall()
            if len(names) > 1:
                raise JournalError(f"{identity}: there are several: {', '.join(name for (name,) in names)}")
            return _whole(db, "id = %s", names[0][0]) if names else None

    # --- Writing ----------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        with self._connected() as db:
            done = db.execute(
                f"INSERT INTO lastcall_requests ({_COLUMNS}) VALUES ({','.join(['%s'] * 13)}) ON CONFLICT DO NOTHING",  # noqa: S608
                _row(record),
            )
            _require(done.rowcount)

    def adopt(self, record: Record) -> None:
        with self._connected() as db:
            done = db.execute(
                "UPDATE lastcall_requests SET attempt = %s, owner = %s, changed = %s WHERE key = %s AND attempt = %s",
                (record.attempt, record.owner, record.changed, record.key, record.attempt - 1),
            )
            _require(done.rowcount)

    def note(self, record: Record, step: Step) -> None:
        with self._connected() as db:
            done = db.execute(
                f"{_MINE} INSERT INTO lastcall_steps SELECT key, %s, %s, %s, %s, %s, %s FROM mine"  # noqa: S608
                " ON CONFLICT (key, seq) DO UPDATE SET name = excluded.name, state = excluded.state,"
                " attempt = excluded.attempt, at = excluded.at, result = excluded.result",
                (record.key, record.attempt, step.seq, step.name, int(step.state), step.attempt, step.at, step.result),
            )
            _require(done.rowcount)

    def erase(self, record: Record, step: Step) -> None:
        with self._connected() as db:
            done = db.execute(
                f"{_MINE} DELETE FROM lastcall_steps USING mine WHERE lastcall_steps.key = mine.key AND seq = %s",  # noqa: S608
                (record.key, record.attempt, step.seq),
            )
            _require(done.rowcount)

    def end(self, record: Record, state: State, *, response: Response | None = None, why: str = "") -> None:
        said = None if response is None else msgspec.msgpack.encode(response)
        with self._connected() as db:
            done = db.execute(
                "UPDATE lastcall_requests SET state = %s, why = %s, changed = %s, response = %s,"
                " asked = CASE WHEN %s THEN asked END WHERE key = %s AND attempt = %s AND state IN (1, 3)",
                (int(state), why, self._now(), said, state is State.PARKED, record.key, record.attempt),
            )
            _require(done.rowcount)

    def forget(self, record: Record) -> None:
        with self._connected() as db:
            db.execute(
                "DELETE FROM lastcall_requests WHERE key = %s AND attempt = %s AND state = 1",
                (record.key, record.attempt),
            )

    def revive(self, record: Record, steps: Sequence[Step]) -> None:
        fresh = judge.revived(record, steps, self._now())
        with self._connected() as db, db.transaction():
            done = db.execute(
                "UPDATE lastcall_requests SET state = 1, why = '', changed = %s, attempt = %s"
                " WHERE key = %s AND attempt = %s AND state = 3",
                (fresh.changed, fresh.attempt, record.key, record.attempt),
            )
            _require(done.rowcount)
            db.execute("DELETE FROM lastcall_steps WHERE key = %s", (record.key,))
            for step in steps:
                db.execute(
                    "INSERT INTO lastcall_steps VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (record.key, step.seq, step.name, int(step.state), step.attempt, step.at, step.result),
                )

    def tidy(self) -> None:
        with self._connected() as db:
            db.execute(
                "DELETE FROM lastcall_requests WHERE state IN (2, 4) AND changed < %s",
                (self._now() - self._terms.keep,),
            )
            db.execute("DELETE FROM lastcall_claims WHERE until < now() - interval '1 hour'")

    def order(self, verb: str, identity: str, result: bytes | None = None) -> str:
        return orders.at_once(self, orders.Order(verb, identity, result))

    def close(self) -> None:
        self._leases.close()
        with self._lock:
            if self._db is not None:
                self._db.close()


def _require(rows: int) -> None:
    if rows != 1:
        raise Lost("the journal: the request was taken over by somebody else")


def _row(record: Record) -> tuple[object, ...]:
    asked = None if record.asked is None else msgspec.msgpack.encode(record.asked)
    return (
        record.key, record.id, record.fingerprint, record.method, record.target, record.begun, record.changed,
        record.owner, record.attempt, int(record.state), record.why, asked, None,
    )  # fmt: skip


def _whole(db: Connection, where: str, value: str) -> Record | None:
    """A record with its steps. Whoever needs them to agree holds the claim."""
    row = db.execute(f"SELECT {_COLUMNS} FROM lastcall_requests WHERE {where}", (value,)).fetchone()  # noqa: S608
    if row is None:
        return None
    rows = db.execute(
        "SELECT seq, name, state, attempt, at, result FROM lastcall_steps WHERE key = %s ORDER BY seq", (row[0],)
    )
    return _record(row, [Step(seq, name, StepState(state), *rest) for seq, name, state, *rest in rows])


def _record(row: tuple[Any, ...], steps: Sequence[Step]) -> Record:
    key, identity, fingerprint, method, target, begun, changed, owner, attempt, state, why, asked, response = row
    return Record(
        key, identity, fingerprint, method, target, begun, changed, owner, attempt, State(state), why,
        msgspec.msgpack.decode(asked, type=Asked) if asked else None,
        msgspec.msgpack.decode(response, type=Response) if response else None, tuple(steps),
    )  # fmt: skip
