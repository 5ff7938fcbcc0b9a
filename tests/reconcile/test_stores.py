"""Ledgers in databases, all of them real: what each holds comes out exactly, and one that fails gives no verdict."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bson import Decimal128, Int64, ObjectId

from reconcile.conftest import Ask
from support.mariadb import MariaDb
from support.mongod import Mongod
from support.postgresql import Postgres

LEDGER = (
    "id,amount,user,at,paid\n"
    'o-1,12345678901234567890.05,ann,2017-06-25T05:28:01.123Z,true\n'
    'o-2,-0.10,"b ""o"" b,\n",2017-06-25T05:28:01.000Z,false\n'
    'o-3,,"",,\n'
    "o-4,7,имя\\,2017-06-25T00:00:00Z,true\n"
)  # fmt: skip
"""What all of them hold: long numbers, quotes, line ends, nothing, an empty text, other letters, a backslash."""
COMPARED = ("--compare", "amount:number,user,at:time,paid:bool")
USERS = ("ann", 'b "o" b,\n', "", "имя\\")


# --- SQLite -------------------------------------------------------------------


def test_sqlite(ask: Ask, folder: Path) -> None:
    """Texts for decimals and times, as its users have them; it is only read."""
    path = folder / "orders.db"
    with closing(sqlite3.connect(path)) as orders, orders:
        orders.execute("CREATE TABLE orders (id TEXT, amount, user TEXT, at TEXT, paid INTEGER)")
        rows: list[tuple[object, ...]] = [
            ("o-1", "12345678901234567890.05", USERS[0], "2017-06-25T05:28:01.123Z", 1),
            ("o-2", -0.1, USERS[1], "2017-06-25 08:28:01+03:00", 0),
            ("o-3", None, USERS[2], None, None),
            ("o-4", 7, USERS[3], "2017-06-25 00:00:00Z", 1),
        ]
        orders.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
    path.chmod(0o400)
    done = ask(LEDGER, f"sqlite:{path}#orders", *COMPARED)
    assert (done.code, done.counts) == (0, {"matched": 4}), done.err + done.out
    done = ask(LEDGER, f"sqlite:{path}", "--right-query", "SELECT * FROM orders WHERE id > 'o-2'; ")
    assert done.keys("only_left") == ["o-1", "o-2"]
    done = ask(LEDGER, f"sqlite:{path}#orders", "--right-where", "id > 'o-2'")
    assert done.keys("only_left") == ["o-1", "o-2"]
    assert "no such table: nothing" in ask(LEDGER, f"sqlite:{path}#nothing").err
    done = ask("id,usr\na,1\n", f"sqlite:{path}#orders", "--compare", "usr")
    assert "orders.db#orders has no column usr; it has id, amount, user, at, paid" in done.err


def test_a_binary_fraction_is_the_shortest_decimal_that_is_it(ask: Ask, folder: Path) -> None:
    """0.1 is 0.1, and a large or small one is written out."""
    with closing(sqlite3.connect(folder / "x.db")) as orders, orders:
        orders.execute("CREATE TABLE x (id TEXT, x REAL)")
        orders.executemany("INSERT INTO x VALUES (?, ?)", [("a", 0.1), ("b", 1e20), ("c", 1.5e-7), ("d", 0.1 + 0.2)])
    right = "id,x\na,0.10\nb,100000000000000000000\nc,0.00000015\nd,0.3\n"
    done = ask(f"sqlite:{folder}/x.db#x", right, "--compare", "x")
    assert (done.counts, done.keys("different")) == ({"matched": 3, "different": 1}, ["d"])


def test_a_database_that_is_none(ask: Ask, folder: Path) -> None:
    """SQLite says so, and there is no verdict."""
    (folder / "x.db").write_bytes(b"not a database" * 100)
    done = ask(f"sqlite:{folder}/x.db#x", "id\na\n")
    assert done.code == 2
    assert "SQLite says: file is not a database" in done.err


# --- PostgreSQL ---------------------------------------------------------------


def table(postgres: Postgres, name: str) -> str:
    """A table as `lastcall reconcile` takes it."""
    return postgres.url().replace("/postgres?", f"/postgres.{name}?")


@pytest.mark.xdist_group("databases")
def test_postgresql(ask: Ask, postgres: Postgres) -> None:
    """Numerics, instants and booleans by their types, whatever zone its sessions are in."""
    statements = (
        "ALTER DATABASE postgres SET timezone TO 'Asia/Tokyo'",
        "ALTER DATABASE postgres SET datestyle TO 'SQL, DMY'",
        'CREATE TABLE orders (id text, amount numeric, "user" text, at timestamptz, paid boolean, local timestamp)',
        f"""INSERT INTO orders VALUES
            ('o-1', 12345678901234567890.050, 'ann', '2017-06-25T05:28:01.123Z', true, '2017-06-25 08:28:01'),
            ('o-2', -0.1, E'b "o" b,\\n', '2017-06-25T05:28:01Z', false, NULL), ('o-3', NULL, '', NULL, NULL, NULL),
            ('o-4', 7, '{USERS[3]}', '2017-06-25 00:00:00Z', true, NULL)""",  # noqa: S608
    )
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    done = ask(LEDGER, table(postgres, "orders"), "--compare", "amount,user,at,paid")
    assert (done.code, done.counts) == (0, {"matched": 4}), done.err + done.out
    done = ask(LEDGER, table(postgres, "public.orders"), "--right-where", "id <> 'o-3'", "--compare", "user")
    assert (done.keys("only_left"), done.finding("o-3").get("right_lines")) == (["o-3"], None)
    local = "SELECT id, local AS \"at\" FROM orders WHERE id = 'o-1'"
    done = ask("id,at\no-1,2017-06-25T05:28:01Z\n", table(postgres, "x"), "--right-query", local, "--time", "at")
    assert "at of postgres.x names no time zone" in done.err
    done = ask(
        "id,at\no-1,2017-06-25T05:28:01Z\n", table(postgres, "x"), "--right-query", local,
        "--compare", "at", "--right-zone", "Europe/Moscow",
    )  # fmt: skip
    assert done.code == 0


@pytest.mark.xdist_group("databases")
def test_postgresql_that_fails(ask: Ask, postgres: Postgres) -> None:
    """Before the first row, or after some hundred thousand."""
    assert 'relation "nothing" does not exist' in ask("id\na\n", table(postgres, "nothing")).err
    half = "SELECT 1000000 / (250000 - n) AS id FROM generate_series(1, 300000) n"
    done = ask("id\na\n", table(postgres, "x"), "--right-query", half)
    assert done.code == 2
    assert "PostgreSQL says: division by zero" in done.err
    cut = "SELECT CASE WHEN n = 250000 THEN pg_terminate_backend(pg_backend_pid())::text ELSE 'a' END AS id"
    done = ask(
        "id\na\n", table(postgres, "x"), "--right-query", f"{cut} FROM generate_series(1, 300000) n -- and no more"
    )
    assert done.code == 2
    assert "PostgreSQL says: " in done.err
    assert "terminating connection" in done.err
    nobody = ask("id\na\n", "postgresql://gift:secret@127.0.0.1:1/gift.orders?connect_timeout=2")
    assert nobody.code == 2
    assert "secret" not in nobody.err + nobody.out


# --- MariaDB ------------------------------------------------------------------


@pytest.mark.xdist_group("databases")
def test_mysql(ask: Ask, mariadb: MariaDb) -> None:
    """TIMESTAMP is an instant, DATETIME needs a zone, and 0 and 1 are booleans if the other side says so."""
    mariadb.run(
        "CREATE TABLE orders (id VARCHAR(20), amount DECIMAL(30, 3), user VARCHAR(50), at TIMESTAMP(3) NULL, "
        "paid BOOLEAN, local DATETIME) CHARSET utf8mb4",
        "SET time_zone = '+00:00'",
        f"""INSERT INTO orders VALUES
            ('o-1', 12345678901234567890.05, 'ann', '2017-06-25 05:28:01.123', 1, '2017-06-25 08:28:01'),
            ('o-2', -0.1, 'b "o" b,\\n', '2017-06-25 05:28:01', 0, NULL), ('o-3', NULL, '', NULL, NULL, NULL),
            ('o-4', 7, '{USERS[3]}\\', '2017-06-25 00:00:00', 1, NULL)""",  # noqa: S608
    )
    done = ask(LEDGER, mariadb.address("orders"), "--compare", "amount,user,at,paid:bool")
    assert (done.code, done.counts) == (0, {"matched": 4}), done.err + done.out
    local = "SELECT id, local AS at FROM orders WHERE id = 'o-1'"
    right = mariadb.address("x")
    done = ask("id,at\no-1,2017-06-25T05:28:01Z\n", right, "--right-query", local, "--compare", "at")
    assert "names no time zone" in done.err
    zone = ("--right-zone", "Europe/Moscow")
    assert ask("id,at\no-1,2017-06-25T05:28:01Z\n", right, "--right-query", local, "--compare", "at", *zone).code == 0


@pytest.mark.xdist_group("databases")
def test_mysql_that_fails(ask: Ask, mariadb: MariaDb) -> None:
    """A query that breaks off after the first rows; an address that it has no use for."""
    assert "MySQL says: Table 'gift.nothing' doesn't exist" in ask("id\na\n", mariadb.address("nothing")).err
    half = "SELECT seq AS id, IF(seq < 250000, 1, (SELECT 1 UNION SELECT 2)) AS x FROM seq_1_to_300000"
    done = ask("id,x\na,1\n", mariadb.address("x"), "--right-query", half, "--compare", "x")
    assert done.code == 2
    assert "Subquery returns more than 1 row" in done.err
    assert "an address of MySQL may have" in ask("id\na\n", "mysql://db/gift.orders?colour=red").err


# --- MongoDB ------------------------------------------------------------------


@pytest.fixture
def orders(mongod: Mongod) -> Iterator[tuple[str, Any]]:
    """An empty collection, and its address."""
    with mongod.client() as client:
        collection = client["gift_reconcile"]["orders"]
        collection.drop()
        yield mongod.uri.replace("/?", "/gift_reconcile.orders?"), collection


@pytest.mark.xdist_group("mongod")
def test_mongodb(ask: Ask, orders: tuple[str, Any]) -> None:
    """Its numbers of four kinds, paths into documents, and a field that is not there."""
    address, collection = orders
    moscow = timezone(timedelta(hours=3))
    midnight, half_past = datetime(2017, 6, 25, tzinfo=UTC), datetime(2017, 6, 25, 5, 28, 1, tzinfo=UTC)
    collection.insert_many([
        {"_id": "o-1", "total": {"amount": Decimal128("12345678901234567890.05")}, "user": USERS[0],
         "at": datetime(2017, 6, 25, 8, 28, 1, 123000, moscow), "paid": True},
        {"_id": "o-2", "total": {"amount": -0.1}, "user": USERS[1], "at": half_past, "paid": False},
        {"_id": "o-3", "user": USERS[2], "total": None},
        {"_id": "o-4", "total": {"amount": Int64(7)}, "user": USERS[3], "at": midnight, "paid": True},
    ])  # fmt: skip
    mapped = ("--right-column", "id=_id", "--right-column", "amount=total.amount")
    done = ask(LEDGER, address, "--compare", "amount,user,at,paid", *mapped)
    assert (done.code, done.counts) == (0, {"matched": 4}), done.err + done.out
    done = ask(LEDGER, address, *mapped[:2], "--right-where", '{"total.amount": {"$gt": 1}}')
    assert done.keys("only_left") == ["o-2", "o-3"]
    done = ask("id,usr\no-1,1\n", address, *mapped[:2], "--compare", "usr")
    assert "has no column usr; it has _id, at, paid, total, user" in done.err
    assert "a filter is a JSON object" in ask(LEDGER, address, *mapped[:2], "--right-where", "{amount: 1}").err


@pytest.mark.xdist_group("mongod")
def test_an_object_id_is_its_digits(ask: Ask, orders: tuple[str, Any]) -> None:
    """As the other company has it in its export."""
    address, collection = orders
    name = ObjectId()
    collection.insert_one({"_id": name, "x": Decimal128("1E+3")})
    done = ask(f"id,x\n{name},1000\n", address, "--right-column", "id=_id", "--compare", "x")
    assert done.code == 0


@pytest.mark.xdist_group("mongod")
def test_mongodb_that_fails(ask: Ask, orders: tuple[str, Any]) -> None:
    """A server that is not there, and a query that it refuses."""
    address, collection = orders
    collection.insert_one({"_id": 1})
    done = ask("id\na\n", address, "--right-column", "id=_id", "--right-where", '{"$nothing": 1}')
    assert done.code == 2
    assert "MongoDB says: unknown top level operator: $nothing" in done.err
    done = ask("id\na\n", "mongodb://gift:secret@127.0.0.1:1/gift.orders?serverSelectionTimeoutMS=300")
    assert done.code == 2
    assert "secret" not in done.err + done.out
