"""Where a ledger is: a file, a database, or what a command prints. Decides what an address means; opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

FORMATS = ("csv", "jsonl", "parquet")
_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_SCHEMES = {
    "postgresql": "postgresql", "postgres": "postgresql",
    "mysql": "mysql", "mariadb": "mysql",
    "mongodb": "mongodb", "mongodb+srv": "mongodb",
}  # fmt: skip
_LABEL = 60


class BadAddress(Exception):
    """It leads nowhere; the text says what would."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of rows."""

    path: Path
    format: str
    delimiter: str = ","

    @property
    def label(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class Command:
    """What a command prints, once it has ended well."""

    line: str
    format: str

    @property
    def label(self) -> str:
        return self.line if len(self.line) <= _LABEL else f"{self.line[:_LABEL]}..."


@dataclass(frozen=True, slots=True)
class Sqlite:
    """A table of a SQLite file; no table where a query is given."""

    path: Path
    table: str

    @property
    def label(self) -> str:
        return f"{self.path.name}#{self.table}" if self.table else self.path.name


@dataclass(frozen=True, slots=True)
class Server:
    """A table or a collection of a database server."""

    scheme: str
    """`postgresql`, `mysql` or `mongodb`."""
    url: str
    """With the database as its path, and with its password."""
    database: str
    table: tuple[str, ...]
    """With its schema, if it was named; empty where a query is given."""

    @property
    def label(self) -> str:
        return ".".join((self.database, *self.table))


Place = File | Command | Sqlite | Server


def parse(text: str, form: str | None, environ: Mapping[str, str]) -> Place:
    """The place that an address means. Raises BadAddress."""
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if name not in environ:
            raise BadAddress(f"{text}: there is no environment variable {name}")
        return parse(environ[name], form, environ)
    if text.startswith("cmd:"):
        if form not in FORMATS[:2]:
            raise BadAddress(f"{text}: say what the command prints, --left-format csv or jsonl (or --right-format)")
        return Command(text.removeprefix("cmd:"), form)
    if text.startswith("sqlite:"):
        path, _, table = text.removeprefix("sqlite:").partition("#")
        return Sqlite(Path(path), table)
    scheme, colon, _ = text.partition("://")
    if colon:
        return _server(scheme, text)
    return _file(Path(text), form)


def _server(scheme: str, text: str) -> Server:
    if scheme not in _SCHEMES:
        raise BadAddress(f"{redacted(text)}: {scheme}:// is none of {', '.join(f'{one}://' for one in _SCHEMES)}")
    parts = urlsplit(text)
    if _SCHEMES[scheme] == "mysql":
        try:
            _ = parts.port
        except ValueError as error:
            raise BadAddress(f"{redacted(text)}: {error}") from None
    database, _, table = unquote(parts.path.lstrip("/")).partition(".")
    if not database:
        raise BadAddress(f"{redacted(text)}: name the database and the table, {scheme}://.../gift.orders")
    url = f"{parts.scheme}://{parts.netloc}/{database}" + (f"?{parts.query}" if parts.query else "")
    # a collection's name may hold dots, a table's are its schema's
    names = (table,) if _SCHEMES[scheme] == "mongodb" else tuple(table.split("."))
    return Server(_SCHEMES[scheme], url, database, names if table else ())


def _file(path: Path, form: str | None) -> File:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    known = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if form is None and known is None:
        raise BadAddress(
            f"{path}: its name does not say what it is; --left-format (or --right-format) {'|'.join(FORMATS)}"
        )
    return File(path, form or known or "csv", "\t" if suffixes[-1:] == [".tsv"] else ",")


def redacted(text: str) -> str:
    """An address without its password."""
    text = re.sub(r"(://[^/@:?]*):[^/?]*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", text)
