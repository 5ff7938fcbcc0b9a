"""Ledgers in databases: SQLite, PostgreSQL, MySQL and MariaDB, MongoDB. Each is one query, streamed.

Decides how every value of a database is written as text without losing anything of it. The drivers are imported when
they are needed; one that is missing is told with the command that installs it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lastcall.tools.reconcile.duck import Tell, missing
from lastcall.tools.reconcile.places import Server, Sqlite
from lastcall.tools.reconcile.question import ROW, Kind, NoVerdict
from lastcall.tools.reconcile.spool import PART_ROWS, Raw

BATCH_ROWS = 2000
CONNECT_S = 20
NAMES = 20
"""Columns that are named to somebody who asked for one that is not there."""


def no_column(label: str, wanted: Sequence[str], known: Sequence[str]) -> NoVerdict:
    """What is said about columns that a source has not; `known` are those that it has."""
    named = ", ".join(known[:NAMES]) + (", ..." if len(known) > NAMES else "")
    return NoVerdict(f"{label} has no column {', '.join(wanted)}; it has {named or 'none'}")


# --- Values as text -----------------------------------------------------------


def plain(number: float) -> str:
    """A binary fraction as people and databases write it, the shortest decimal that is this number and no other."""
    text = repr(number)
    return format(Decimal(text), "f") if "e" in text and text[-1].isdigit() else text


def exact(value: Decimal) -> str:
    """Exactly, and without an exponent."""
    return format(value, "f")


def _moment(value: dt.datetime) -> str:
    return value.isoformat(" ") if value.tzinfo is None else value.astimezone(dt.UTC).isoformat(" ")


def _binary(value: bytes) -> str:
    return value.hex()


class Writers(dict[type, Callable[[Any], str]]):
    """How each type is written; what nobody knows is written as JSON."""

    def __init__(self, null: str) -> None:
        super().__init__({
            str: str, int: str, float: plain, Decimal: exact, bool: lambda value: "true" if value else "false",
            dt.datetime: _moment, dt.date: str, bytes: _binary, type(None): lambda _: null,
        })  # fmt: skip

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        for base in kind.__mro__[1:-1]:
            if base in self:  # bson's Int64 is an int
                return self[base]
        return lambda value: json.dumps(value, default=str, sort_keys=True, ensure_ascii=False)


KINDS: Mapping[str, Kind] = {
    "int": Kind.NUMBER, "float": Kind.NUMBER, "Decimal": Kind.NUMBER, "Int64": Kind.NUMBER, "Decimal128": Kind.NUMBER,
    "bool": Kind.BOOL, "datetime": Kind.TIME,
}  # fmt: skip
"""What a value's type says about its column, by the type's name."""


def kind_of(types: set[type]) -> Kind:
    """What a column is in which these types were seen; text where they do not agree."""
    kinds = {KINDS.get(one.__name__, Kind.TEXT) for one in types if one is not type(None)}
    return kinds.pop() if len(kinds) == 1 else Kind.TEXT


def stream(
    raw: Raw, rows: Iterator[tuple[int, Sequence[object]]], label: str, tell: Tell, writers: Writers | None = None
) -> None:
    """Put numbered rows of Python values, in the order of `raw.needs`, into parts; remember what types were seen."""
    writers = writers or Writers(raw.null)
    seen: list[set[type]] = [set() for _ in raw.needs]

    def written(batches: Iterator[list[tuple[int, Sequence[object]]]]) -> Iterator[list[object]]:
        for batch in batches:
            for types, column in zip(seen, zip(*(row for _, row in batch), strict=True), strict=True):
                types.update(map(type, column))
            for line, row in batch:
                yield [line, *(writers[value.__class__](value) for value in row)]

    def batches(part: Iterator[tuple[int, Sequence[object]]]) -> Iterator[list[tuple[int, Sequence[object]]]]:
        while batch := list(islice(part, BATCH_ROWS)):
            yield batch

    while first := list(islice(rows, 1)):
        raw.row_part(written(batches(_chain(first, islice(rows, PART_ROWS - 1)))))
        tell(f"{label}: {raw.reading.rows:,} rows")
    for name, one in raw.made.items():
        source = kind_of(seen[raw.needs.index(one.needs[0])]) if one.plain else one.kind
        raw.reading.kinds[name] = source


def _chain(
    first: list[tuple[int, Sequence[object]]], rest: Iterator[tuple[int, Sequence[object]]]
) -> Iterator[tuple[int, Sequence[object]]]:
    yield from first
    yield from rest


def declare(raw: Raw, kinds: Mapping[str, Kind]) -> None:
    """Remember of what kind the source says that its columns are."""
    for name, one in raw.made.items():
        raw.reading.kinds[name] = kinds.get(one.needs[0], Kind.TEXT) if one.plain else one.kind


# --- SQLite -------------------------------------------------------------------


def sqlite(raw: Raw, place: Sqlite, tell: Tell) -> None:
    """A table, or a query, of a SQLite file, which is only read. Raises NoVerdict."""
    side = raw.reading.side
    if not place.path.is_file():
        raise NoVerdict(f"{place.path}: there is no such file")
    select = _select(side.query, side.where, (place.table,) if place.table else (), ANSI, place.label)
    try:
        with closing(sqlite3.connect(f"{place.path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("BEGIN")  # one state of the file, however long it takes
            known = [one[0] for one in connection.execute(f"SELECT * FROM ({select}\n) LIMIT 0").description]
            names = _names(raw, known, place.label)
            cursor = connection.execute(f"SELECT {_list(names, ANSI)} FROM ({select}\n)")
            stream(raw, enumerate(cursor, 1), place.label, tell)
    except sqlite3.Error as error:
        raise NoVerdict(f"{place.label}: SQLite says: {error}") from None


ANSI = '"'
"""What quotes a name in standard SQL."""


def _select(query: str | None, where: str | None, table: Sequence[str], quote: str, label: str) -> str:
    """The query that gives the ledger. Raises NoVerdict."""
    if query is not None:
        if where is not None:
            raise NoVerdict(f"{label}: a query has its own WHERE")
        return query.rstrip().rstrip(";")
    if not table:
        raise NoVerdict(
            f"{label}: name a table (sqlite:FILE#TABLE, .../DATABASE.TABLE) or give a query, --left-query SQL"
        )
    named = ".".join(_quote(name, quote) for name in table)
    return f"SELECT * FROM {named}" + (f" WHERE {where}" if where else "")


def _quote(name: str, quote: str) -> str:
    return quote + name.replace(quote, quote * 2) + quote


def _list(names: Sequence[str], quote: str) -> str:
    return ", ".join(_quote(name, quote) for name in names)


def _names(raw: Raw, known: Sequence[str], label: str) -> Sequence[str]:
    """The columns that are needed. Raises NoVerdict when one of them is not there."""
    lacking = [name for name in raw.needs if name not in known]
    if lacking:
        raise no_column(label, lacking, known)
    return raw.needs


# --- PostgreSQL ---------------------------------------------------------------

_PG_KINDS = {
    **dict.fromkeys((20, 21, 23, 26, 700, 701, 1700), Kind.NUMBER),
    **dict.fromkeys((1082, 1114, 1184), Kind.TIME),
    16: Kind.BOOL,
}
"""By the type's object id (pg_type.dat), which no version changes."""


def postgresql(raw: Raw, place: Server, tell: Tell) -> None:
    """A table or a query, by COPY: the server writes the text, in one state of the database. Raises NoVerdict."""
    try:
        import psycopg  # noqa: PLC0415 (an extra)
    except ImportError:
        raise missing("PostgreSQL", "pip install 'psycopg[binary]'") from None
    side = raw.reading.side
    select = _select(side.query, side.where, place.table, ANSI, place.label)
    try:
        with psycopg.connect(place.url, connect_timeout=CONNECT_S, autocommit=False) as connection:
            connection.read_only = True
            for name, value in (("timezone", "UTC"), ("datestyle", "ISO"), ("client_encoding", "UTF8")):
                connection.execute(f"SET {name} TO '{value}'")
            described = connection.execute(f"SELECT * FROM ({select}\n) ledger LIMIT 0".encode()).description or ()
            names = _names(raw, [one.name for one in described], place.label)
            declare(raw, {one.name: _PG_KINDS.get(one.type_code, Kind.TEXT) for one in described})
            texts = ", ".join(f"{_quote(name, ANSI)}::text" for name in names)
            inner = f"SELECT row_number() OVER () AS {ROW}, {texts} FROM ({select}\n) ledger"
            copy = f"COPY ({inner}) TO STDOUT (FORMAT csv, NULL '{raw.null}')"
            with connection.cursor() as cursor, cursor.copy(copy.encode()) as blocks:
                _parts(raw, iter(blocks), place.label, tell)
    except psycopg.Error as error:
        raise NoVerdict(f"{place.label}: PostgreSQL says: {' '.join(str(error).split())}") from None


def _parts(raw: Raw, blocks: Iterator[bytes | bytearray | memoryview], label: str, tell: Tell) -> None:
    """PostgreSQL sends a row in each message, and so a part may end after any."""
    while first := next(blocks, None):
        raw.text_part(_bytes(first, islice(blocks, PART_ROWS - 1)))
        tell(f"{label}: {raw.reading.rows:,} rows")


def _bytes(first: bytes | bytearray | memoryview, rest: Iterator[bytes | bytearray | memoryview]) -> Generator[bytes]:
    yield bytes(first)
    for block in rest:
        yield bytes(block)


# --- MySQL --------------------------------------------------------------------

_MYSQL_KINDS = {
    **dict.fromkeys((0, 1, 2, 3, 4, 5, 8, 9, 13, 246), Kind.NUMBER),
    **dict.fromkeys((7, 10, 12), Kind.TIME),
}
"""By the type's number in the protocol."""
_MYSQL_TIMESTAMP = 7
"""The only type that has a zone: the session's."""


def mysql(raw: Raw, place: Server, tell: Tell) -> None:
    """A table or a query of MySQL or MariaDB, row by row as the server sends it. Raises NoVerdict."""
    try:
        import pymysql.converters  # noqa: PLC0415 (an extra)
        import pymysql.cursors  # noqa: PLC0415
    except ImportError:
        raise missing("MySQL", "pip install pymysql") from None
    side = raw.reading.side
    select = _select(side.query, side.where, place.table, "`", place.label)
    try:
        # nothing is converted from what the server writes: its text is exact
        conv = pymysql.converters.encoders
        with closing(pymysql.connect(**_mysql_arguments(place), conv=conv)) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SET time_zone = '+00:00'")
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
                cursor.execute(f"SELECT * FROM ({select}\n) ledger LIMIT 0")
                described = cursor.description or ()
            names = _names(raw, [one[0] for one in described], place.label)
            with connection.cursor(pymysql.cursors.SSCursor) as cursor:
                cursor.execute(f"SELECT {_list(names, '`')} FROM ({select}\n) ledger")
                types = [one[1] for one in cursor.description or ()]
                rows = _with_zone(cursor, [position for position, one in enumerate(types) if one == _MYSQL_TIMESTAMP])
                stream(raw, enumerate(rows, 1), place.label, tell)
            declare(raw, {one[0]: _MYSQL_KINDS.get(one[1], Kind.TEXT) for one in described})
    except pymysql.MySQLError as error:
        raise NoVerdict(f"{place.label}: MySQL says: {error.args[-1]}") from None


def _mysql_arguments(place: Server) -> dict[str, Any]:
    """What an address of MySQL says; a password may come from MYSQL_PWD, as its own programs have it."""
    parts = urlsplit(place.url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    found: dict[str, Any] = {"database": place.database, "charset": "utf8mb4", "connect_timeout": CONNECT_S}
    found["host"] = parts.hostname or "localhost"
    found["port"] = parts.port or 3306
    found["user"] = unquote(parts.username) if parts.username else None
    found["password"] = unquote(parts.password) if parts.password else os.environ.get("MYSQL_PWD", "")
    known = {"unix_socket", "ssl_ca", "ssl_cert", "ssl_key"}
    if set(query) - known:
        raise NoVerdict(
            f"{place.label}: an address of MySQL may have {', '.join(sorted(known))}, and not {', '.join(query)}"
        )
    return found | query


def _with_zone(rows: Iterator[Sequence[object]], positions: Sequence[int]) -> Iterator[Sequence[object]]:
    if not positions:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for position in positions:
            if values[position] is not None:
                values[position] = f"{values[position]}+00"
        yield values


# --- MongoDB ------------------------------------------------------------------


def mongodb(raw: Raw, place: Server, tell: Tell) -> None:
    """A collection, as a majority of its replica set has it; a field that is not there is null. Raises NoVerdict."""
    try:
        import pymongo  # noqa: PLC0415 (an extra)
        from bson import Decimal128, ObjectId  # noqa: PLC0415
        from bson.errors import BSONError  # noqa: PLC0415
        from pymongo.collection import Collection  # noqa: PLC0415
        from pymongo.read_concern import ReadConcern  # noqa: PLC0415
    except ImportError:
        raise missing("MongoDB", "pip install pymongo") from None
    side = raw.reading.side
    if not place.table:
        raise NoVerdict(f"{place.label}: name the collection, mongodb://.../{place.database}.orders")
    writers = Writers(raw.null)
    writers[Decimal128] = lambda value: exact(value.to_decimal())
    writers[ObjectId] = str
    try:
        client: pymongo.MongoClient[dict[str, Any]]
        with pymongo.MongoClient(_patient(place.url), tz_aware=True) as client:
            collection: Collection[dict[str, Any]] = client[place.database].get_collection(
                place.table[0], read_concern=ReadConcern("majority")
            )
            wanted = dict.fromkeys(_outermost(raw.needs), 1) | ({} if "_id" in raw.needs else {"_id": 0})
            with collection.find(
                _filter(side.where or side.query, place.label), wanted, batch_size=BATCH_ROWS
            ) as found:
                rows = Documents(raw.needs, found)
                stream(raw, iter(rows), place.label, tell, writers)
            if rows.lacking and rows.count:
                known = sorted(collection.find_one() or ())
                raise no_column(place.label, rows.lacking, known)
    except (pymongo.errors.PyMongoError, BSONError, ValueError) as error:  # a ValueError is about the address
        raise NoVerdict(f"{place.label}: MongoDB says: {str(error).partition(', Timeout: ')[0]}") from None


def _patient(url: str) -> str:
    """An address that is given up sooner than by default, unless it says itself when."""
    option = "serverSelectionTimeoutMS"
    return url if option.lower() in url.lower() else f"{url}{'&' if '?' in url else '?'}{option}={CONNECT_S * 1000}"


def _outermost(paths: Sequence[str]) -> list[str]:
    """Paths without those that are inside others: MongoDB refuses a projection of both."""
    return [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]


def _filter(text: str | None, label: str) -> dict[str, Any]:
    """A filter in MongoDB's extended JSON. Raises NoVerdict."""
    from bson import json_util  # noqa: PLC0415 (an extra)

    try:
        found = json_util.loads(text) if text else {}
    except ValueError as error:
        raise NoVerdict(f"{label}: a filter is a JSON object, and {text} is none: {error}") from None
    if not isinstance(found, dict):
        raise NoVerdict(f"{label}: a filter is a JSON object, and {text} is none")
    return found


class Documents:
    """Rows out of documents: each path's value, None where there is none. Knows which paths were in none of them."""

    def __init__(self, paths: Sequence[str], documents: Iterator[Mapping[str, Any]]) -> None:
        self.lacking = list(paths)
        self.count = 0
        self._names = paths
        self._paths = [tuple(path.split(".")) for path in paths]
        self._flat = all(len(path) == 1 for path in self._paths)
        self._documents = documents

    def __iter__(self) -> Iterator[tuple[int, Sequence[object]]]:
        for number, document in enumerate(self._documents, 1):
            self.count = number
            yield number, self.row(document)

    def row(self, document: Mapping[str, Any]) -> list[object]:
        """The values of one document."""
        if self.lacking:  # most often only at the first
            self.lacking = [name for name in self.lacking if _at(document, name.split("."), _NOT_THERE) is _NOT_THERE]
        if self._flat:
            get = document.get
            return [get(name) for name in self._names]
        return [_at(document, path, None) for path in self._paths]


_NOT_THERE = object()


def _at(document: Any, path: Sequence[str], otherwise: object) -> object:
    """What is at the end of a path through a document."""
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return otherwise
        document = document[name]
    return document
