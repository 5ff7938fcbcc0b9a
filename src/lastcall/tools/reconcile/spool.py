"""The spool: what both sides said, as Parquet files in a folder of this run. It is the evidence of a verdict.

Two steps. `Raw` takes a source's rows as it gives them, every value as text, a part of some hundred thousand rows at a
time. When both sides are there, `settle` decides of what kind each column is, and `write` makes the ledger that is
compared: typed, exact, times in UTC. A row of which a value is not what its column should be is marked in it.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lastcall.tools.reconcile.duck import Duck
from lastcall.tools.reconcile.expressions import Expression
from lastcall.tools.reconcile.question import (
    AT,
    ROW,
    USABLE,
    Column,
    Kind,
    NoVerdict,
    Question,
    Side,
    file,
    literal,
    quoted,
)

PART_ROWS = 200_000
"""Rows of a part: some tens of megabytes as text, which are on disk for a moment."""
DIGITS = 38
"""What a decimal of DuckDB, Spark and Parquet has room for."""

_NUMBER = r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*"
_DAY = r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)"
_ZONED = _DAY + _CLOCK + r" ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)\s*"
_LOCAL = _DAY + _CLOCK + r"?\s*"


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that could not be read, or used."""

    line: int
    text: str
    why: str


@dataclass(slots=True)
class Reading:
    """What was read from one side."""

    side: Side
    parts: list[Path] = field(default_factory=list)
    kinds: dict[str, Kind] = field(default_factory=dict)
    """What the source itself declares each column to be; text says nothing."""
    rows: int = 0
    broken: list[Broken] = field(default_factory=list)
    counted: str = ""
    """What `_row` counts in the source: its lines, its rows, or nothing that can be found again in a database."""
    locate: Callable[[Collection[int]], Mapping[int, int]] = field(default=lambda rows: {row: row for row in rows})
    """The line of each of these rows, where `_row` counts rows and they can have more lines than one."""

    @property
    def relation(self) -> str:
        """All parts, as SQL reads them."""
        return f"read_parquet([{', '.join(map(file, self.parts))}])"


# --- What a source gives ------------------------------------------------------


class Raw:
    """Turns the rows of one side into parts. Its text format is CSV with a word of this run's own for null."""

    def __init__(
        self, duck: Duck, question: Question, side: Side, made: Mapping[str, Expression], folder: Path
    ) -> None:
        self.duck, self.question, self.reading = duck, question, Reading(side)
        self.made, self._folder = made, folder
        self.null = f"\\N{secrets.token_hex(8)}"
        self.needs = tuple(dict.fromkeys(need for one in made.values() for need in one.needs))

    def part(self, relation: str, values: Sequence[object] = (), what: str | None = None) -> None:
        """Read one more part out of a relation that has `_row` and all columns that are needed, as text."""
        path = self._folder / f"{self.reading.side.name}-{len(self.reading.parts):05}.raw.parquet"
        made = ", ".join(f"CAST({one.sql} AS VARCHAR) AS {quoted(name)}" for name, one in self.made.items())
        select = f"SELECT {quoted(ROW)}, {made} FROM {relation}"
        rows = self.duck.run(
            f"COPY ({select}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)", values, what
        )
        self.reading.parts.append(path)
        self.reading.rows += rows[0][0]

    def text_part(self, blocks: Iterable[bytes | str]) -> None:
        """One more part out of lines of our own CSV: the line's number, then the needed columns in their order."""
        path = self._folder / f"{self.reading.side.name}.part.csv"
        with path.open("wb") as part:
            part.writelines(block.encode() if isinstance(block, str) else block for block in blocks)
        self.part(self._read_csv(path))
        path.unlink()

    def row_part(self, rows: Iterable[Sequence[object]]) -> None:
        """One more part out of rows of texts, with `self.null` where there is nothing."""
        path = self._folder / f"{self.reading.side.name}.part.csv"
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as part:
            csv.writer(part).writerows(rows)
        self.part(self._read_csv(path))
        path.unlink()

    def _read_csv(self, path: Path) -> str:
        columns = {ROW: "BIGINT"} | dict.fromkeys(self.needs, "VARCHAR")
        return read_csv(path, columns, ",", self.null)


def read_csv(path: Path, columns: Mapping[str, str], delimiter: str, null: str, more: str = "") -> str:
    """DuckDB's reader without any of its guesses."""
    named = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns.items())
    return (
        f"read_csv({file(path)}, columns = {{{named}}}, auto_detect = false, header = false, "
        f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', nullstr = {literal(null)}, "
        f"allow_quoted_nulls = false, strict_mode = true, encoding = 'utf-8'{more})"
    )


# --- What is compared ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Type:
    """What a column has become, on both sides."""

    kind: Kind
    scale: int = 0
    """Places after the point, of numbers: as many as the longest has."""

    @property
    def sql(self) -> str:
        match self.kind:
            case Kind.TEXT:
                return "VARCHAR"
            case Kind.NUMBER:
                return f"DECIMAL({DIGITS}, {self.scale})"
            case Kind.TIME:
                return "TIMESTAMP"
            case Kind.BOOL:
                return "BOOLEAN"


def settle(duck: Duck, question: Question, left: Reading, right: Reading) -> dict[str, Type]:
    """Of what kind each column is: what was asked for, else what the sources declare. Raises NoVerdict."""
    found = {}
    for column in question.columns():
        kind = column.kind or _declared(column, left, right)
        scale = _scale(duck, column, (left, right)) if kind is Kind.NUMBER else 0
        if kind is Kind.TIME:
            for reading in (left, right):
                _need_zone(duck, question, column, reading)
        found[column.name] = Type(kind, scale)
    return found


def _declared(column: Column, left: Reading, right: Reading) -> Kind:
    kinds = {reading.kinds.get(column.name, Kind.TEXT) for reading in (left, right)} - {Kind.TEXT}
    if kinds == {Kind.BOOL, Kind.NUMBER}:
        return Kind.BOOL  # MySQL's and SQLite's booleans are 0 and 1
    if len(kinds) > 1:
        said = " and ".join(sorted(kind.value for kind in kinds))
        raise NoVerdict(f"{column.name} is {said}: say what it should be, {column.name}:text for example")
    return kinds.pop() if kinds else Kind.TEXT


def _scale(duck: Duck, column: Column, readings: Iterable[Reading]) -> int:
    """Places after the point that hold every number of both sides exactly. Raises NoVerdict."""
    name = quoted(column.name)
    whole = f"length(ltrim(split_part(trim({name}), '.', 1), '+-0'))"
    places = f"length(rtrim(split_part(trim({name}), '.', 2), '0'))"
    before = after = 0
    for reading in readings:
        where = f"WHERE regexp_full_match({name}, {literal(_NUMBER)})"
        ((one, other),) = duck.run(f"SELECT max({whole}), max({places}) FROM {reading.relation} {where}")
        before, after = max(before, one or 0), max(after, other or 0)
    if before + after > DIGITS:
        text = f"{column.name} has numbers with {before} digits before the point and others with {after} after it"
        raise NoVerdict(f"{text}, which is more than {DIGITS} together: compare it as {column.name}:text")
    return after


def _need_zone(duck: Duck, question: Question, column: Column, reading: Reading) -> None:
    """Insist on a zone where times name none: a guess would be hours off and look right. Raises NoVerdict."""
    side = reading.side
    name = question.time if column.name == AT else column.name
    if side.zone is not None:
        duck.run("SELECT timezone(?, TIMESTAMP '2000-01-01')", [side.zone])
        return
    where = f"WHERE regexp_full_match({quoted(column.name)}, {literal(_LOCAL)}) LIMIT 1"
    found = duck.run(f"SELECT {quoted(column.name)} FROM {reading.relation} {where}")
    if found:
        raise NoVerdict(
            f"{name} of {side.place.label} names no time zone ({found[0][0].strip()}): "
            f"say which it is, --{side.name}-zone UTC or --{side.name}-zone Europe/Berlin"
        )


def write(duck: Duck, question: Question, reading: Reading, types: Mapping[str, Type], path: Path) -> None:
    """Write the ledger that is compared; a row with a broken value is in `reading.broken` as well. Raises NoVerdict."""
    side = reading.side
    typed = {name: _typed(quoted(name), one, side.zone) for name, one in types.items()}
    made = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in typed.items())
    keys = [quoted(column.name) for column in question.keys]
    good = " AND ".join(
        [f"{key} IS NOT NULL AND {key} <> ''" for key in keys]
        + [
            f"({quoted(name)} IS NULL OR {sql} IS NOT NULL)"
            for name, sql in typed.items()
            if types[name].kind is not Kind.TEXT
        ]
    )
    # a column and not a WHERE, for which DuckDB would compute every value a second time
    select = f"SELECT {quoted(ROW)}, {made}, {good} AS {USABLE} FROM {reading.relation}"
    copy = f"COPY ({select}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
    duck.run(copy, what=f"{side.place.label}: {reading.rows:,} rows into the spool")
    if duck.run(f"SELECT count(*) FROM read_parquet({file(path)}) WHERE NOT {USABLE}")[0][0]:
        reading.broken += _broken(duck, question, reading, typed, types, good)
    if len(reading.broken) > question.max_broken:
        first = reading.broken[0]
        raise NoVerdict(
            f"{side.place.label}: more than {question.max_broken} rows cannot be used, which is no ledger; the first is "
            f"line {first.line}: {first.why} (--max-broken N allows more)"
        )


def _typed(name: str, one: Type, zone: str | None) -> str:
    """A text as what it means; null where it means nothing."""
    match one.kind:
        case Kind.TEXT:
            return name
        case Kind.NUMBER:
            return (
                f"CASE WHEN regexp_full_match({name}, {literal(_NUMBER)}) THEN TRY_CAST(trim({name}) AS {one.sql}) END"
            )
        case Kind.BOOL:
            return f"TRY_CAST(trim({name}) AS BOOLEAN)"
        case Kind.TIME:
            written = f"regexp_replace(regexp_replace(trim({name}), ' ?(Z|UTC)$', '+00'), ' ([+-])', '\\1')"
            instant = f"timezone('UTC', TRY_CAST({written} AS TIMESTAMPTZ))"
            zoned = f"WHEN regexp_full_match({name}, {literal(_ZONED)}) THEN {instant}"
            if zone is None:
                return f"CASE {zoned} END"
            here = f"timezone('UTC', timezone({literal(zone)}, TRY_CAST(trim({name}) AS TIMESTAMP)))"
            return f"CASE {zoned} WHEN regexp_full_match({name}, {literal(_LOCAL)}) THEN {here} END"


def _broken(
    duck: Duck, question: Question, reading: Reading, typed: Mapping[str, str], types: Mapping[str, Type], good: str
) -> list[Broken]:
    """The rows that were not kept, each with what is wrong with it."""
    names = list(typed)
    raw = ", ".join(quoted(name) for name in names)
    right = ", ".join(f"{sql} IS NOT NULL" for sql in typed.values())
    limit = question.max_broken + 1 - len(reading.broken)
    rows = duck.run(
        f"SELECT {quoted(ROW)}, {raw}, {right} FROM {reading.relation} "
        f"WHERE ({good}) IS NOT TRUE ORDER BY 1 LIMIT {max(limit, 1)}"
    )
    keys = {column.name for column in question.keys}
    found = []
    for line, *rest in rows:
        values, fits = rest[: len(names)], rest[len(names) :]
        why = [f"no {name}" for name, value in zip(names, values, strict=True) if name in keys and not value]
        why += [
            f"{question.time if name == AT else name} is no {types[name].kind.value}: {value[:80]!r}"
            for name, value, fit in zip(names, values, fits, strict=True)
            if value is not None and not fit and types[name].kind is not Kind.TEXT
        ]
        found.append(Broken(line, ", ".join("" if value is None else value for value in values)[:200], "; ".join(why)))
    lines = reading.locate([one.line for one in found])
    return [replace(one, line=lines[one.line]) for one in found]


# --- The folder ---------------------------------------------------------------


def private(path: Path) -> None:
    """A folder that only its owner may enter, made if it is not there. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(path, 0o700)  # noqa: PTH101 (the same for a folder that was there)
