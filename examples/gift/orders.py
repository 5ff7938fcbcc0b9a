"""Our ledger: the orders, in SQLite, in MongoDB, or in a file.

An order is written once; writing it again changes nothing. What `write` has returned from survives a power cut.

Neither store may cross a fork: a MongoClient has threads and sockets of its own, and SQLite's locks belong to the
process that took them. So `open_orders` is called by the process that uses what it returns.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """A present that was sent, for whom, and the platform's receipt for it."""

    id: str
    present: str
    user: str
    receipt: int
    written: float


class Orders(Protocol):
    """Where orders are kept. Safe to use from any thread of one process."""

    def write(self, order: Order) -> None:
        """Keep an order for ever."""

    def find(self, order_id: str) -> Order | None:
        """The order of that id."""

    def ids(self) -> Iterator[str]:
        """The ids of all orders."""

    def close(self) -> None:
        """Let go of files and connections."""


class SqliteOrders:
    """Orders in one SQLite file that all workers write to.

    A rollback journal and not a WAL: SQLite before 3.51.3 can corrupt a WAL that several processes write to, and most
    systems ship such a one. Writers take turns either way. `synchronous=FULL`: an order that we said yes to is on
    the disk.
    """

    _BUSY_S = 10.0
    """How long a writer waits for its turn."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mine = threading.local()

    def write(self, order: Order) -> None:
        """Keep an order for ever."""
        row = (order.id, order.present, order.user, order.receipt, order.written)
        self._db().execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?)", row)

    def find(self, order_id: str) -> Order | None:
        """The order of that id."""
        row = self._db().execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        return Order(*row) if row else None

    def ids(self) -> Iterator[str]:
        """The ids of all orders."""
        return (row[0] for row in self._db().execute("SELECT id FROM orders"))

    def close(self) -> None:
        """Close this thread's connection."""
        self._db().close()
        del self._mine.db

    def _db(self) -> sqlite3.Connection:
        """One connection for each thread, opened when the thread first needs it."""
        try:
            db: sqlite3.Connection = self._mine.db
        except AttributeError:
            db = self._mine.db = sqlite3.connect(self._path, timeout=self._BUSY_S, isolation_level=None)
            db.execute("PRAGMA journal_mode = PERSIST")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(
                "CREATE TABLE IF NOT EXISTS orders"
                " (id TEXT PRIMARY KEY, present TEXT, user TEXT, receipt INTEGER, written REAL) WITHOUT ROWID"
            )
        return db


class FileOrders:
    """Orders in a file, one JSON object a line: whatever the service is written in can append to it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def write(self, order: Order) -> None:
        """Keep an order for ever."""
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if order.id not in {found.id for found in map(_order, file)}:
                file.write(json.dumps(dataclasses.asdict(order)).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def find(self, order_id: str) -> Order | None:
        """The order of that id."""
        return next((order for order in self._all() if order.id == order_id), None)

    def ids(self) -> Iterator[str]:
        """The ids of all orders."""
        return (order.id for order in self._all())

    def close(self) -> None:
        """Nothing is open."""

    def _all(self) -> Iterator[Order]:
        return map(_order, self._path.read_bytes().splitlines() if self._path.exists() else ())


def _order(line: bytes) -> Order:
    return Order(**json.loads(line))


class MongoOrders:
    """Orders in the collection `orders` of a MongoDB replica set.

    `w="majority"`: a single node may acknowledge a write and lose it when it is killed; a majority does not.
    """

    def __init__(self, uri: str, database: str | None) -> None:
        # Here, and not above: whoever keeps orders in SQLite need not install pymongo.
        import pymongo  # noqa: PLC0415

        self._client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            uri, w="majority", journal=True, serverSelectionTimeoutMS=10_000, appname="gift"
        )
        where = self._client[database] if database else self._client.get_default_database("gift")
        self._orders = where["orders"]

    def write(self, order: Order) -> None:
        """Keep an order for ever."""
        fields = {
            "present": order.present,
            "user": order.user,
            "receipt": order.receipt,
            "written": order.written,
        }
        self._orders.update_one({"_id": order.id}, {"$setOnInsert": fields}, upsert=True)

    def find(self, order_id: str) -> Order | None:
        """The order of that id."""
        match self._orders.find_one({"_id": order_id}):
            case {
                "present": str(present),
                "user": str(user),
                "receipt": int(receipt),
                "written": float(written),
            }:
                return Order(order_id, present, user, receipt, written)
            case _:
                return None

    def ids(self) -> Iterator[str]:
        """The ids of all orders."""
        return (str(found["_id"]) for found in self._orders.find({}, {"_id": 1}))

    def drop(self) -> None:
        """Forget every order: for demonstrations, which clean up after themselves."""
        self._client.drop_database(self._orders.database)

    def close(self) -> None:
        """Close the connections, and end the client's threads."""
        self._client.close()


def open_orders(where: str, database: str | None = None) -> Orders:
    """The store that `sqlite:PATH`, `file:PATH` or `mongodb://...` names. `database` overrules the one in a MongoDB URI."""
    match where.partition(":"):
        case "sqlite", ":", path if path:
            return SqliteOrders(path)
        case "file", ":", path if path:
            return FileOrders(path)
        case "mongodb" | "mongodb+srv", ":", _:
            return MongoOrders(where, database)
        case _:
            raise ValueError(f"{where!r} names no store: sqlite:PATH, file:PATH or mongodb://...")
