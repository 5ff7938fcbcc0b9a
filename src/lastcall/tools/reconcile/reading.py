"""One side into the spool, wherever it is: files and commands here, databases in `stores`.

A side is read whole or not at all: a command that fails, a file that is not in its encoding, a quote that is never
closed end in NoVerdict. Single rows that are none are kept aside, with their line.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import shutil
import subprocess
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, assert_never, cast

import msgspec

from lastcall.tools.reconcile import expressions, stores
from lastcall.tools.reconcile.duck import Duck, Tell
from lastcall.tools.reconcile.places import Command, File, Server, Sqlite
from lastcall.tools.reconcile.question import ROW, Kind, NoVerdict, Question, Side, quoted
from lastcall.tools.reconcile.question import file as pattern
from lastcall.tools.reconcile.spool import Broken, Raw, Reading, read_csv

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

CHUNK_BYTES = 1 << 20
LINE_BYTES = 2_000_000
"""DuckDB's bound on a line of CSV; a longer one is a broken row."""
SHOWN = 200
"""Characters of a broken row that are kept."""


def read(duck: Duck, question: Question, side: Side, folder: Path, tell: Tell) -> Reading:
    """All rows of a side. Raises NoVerdict."""
    made = {
        column.name: expressions.check(duck, column.name, question.source(side, column))
        for column in question.columns()
    }
    raw = Raw(duck, question, side, made, folder)
    tell(f"{side.place.label}: ...")
    match side.place:
        case File():
            _file(raw, side.place, folder, tell)
        case Command():
            _file(raw, File(_printed(side.place, side, folder), side.place.format), folder, tell)
        case Sqlite():
            stores.sqlite(raw, side.place, tell)
        case Server(scheme="postgresql"):
            stores.postgresql(raw, side.place, tell)
        case Server(scheme="mysql"):
            stores.mysql(raw, side.place, tell)
        case Server():
            stores.mongodb(raw, side.place, tell)
        case _:
            assert_never(side.place)
    if raw.reading.rows == 0 and not (question.allow_empty and not raw.reading.broken):
        raise NoVerdict(f"{side.place.label} has no rows; if that may be, say --allow-empty{_but(raw.reading)}")
    if raw.reading.rows == 0:
        _nothing(raw)
    return raw.reading


def _but(reading: Reading) -> str:
    if not reading.broken:
        return ""
    number = len(reading.broken)
    return f" ({'a line of it is no row' if number == 1 else f'{number} lines of it are no rows'}: {reading.broken[0].why})"


def _nothing(raw: Raw) -> None:
    """A part without rows, so that the other side has something to be compared with."""
    columns = ", ".join(f"NULL::VARCHAR AS {quoted(need)}" for need in raw.needs)
    raw.part(f"(SELECT 0::BIGINT AS {ROW}, {columns} WHERE false)")


def _printed(place: Command, side: Side, folder: Path) -> Path:
    """What a command has printed, in a file. Raises NoVerdict when it does not end well."""
    path = folder / f"{side.name}.out"
    with path.open("wb") as output, (folder / f"{side.name}.err").open("wb+") as errors:
        shell = ["/bin/sh", "-c", place.line]
        done = subprocess.run(shell, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, check=False)
        errors.seek(max(0, errors.tell() - 500))
        said = errors.read().decode(errors="replace").strip()
    if done.returncode != 0:
        ended = f"code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise NoVerdict(
            f"{place.label}: ended with {ended}, and so half of it may be missing" + (f": {said}" if said else "")
        )
    return path


def _file(raw: Raw, place: File, folder: Path, tell: Tell) -> None:
    side = raw.reading.side
    if side.query or side.where:
        raise NoVerdict(f"{place.label}: a query and a WHERE are for databases")
    try:
        with place.path.open("rb") as file:
            if not place.path.is_file():  # a pipe can be read only once
                kept = folder / f"{side.name}.out"
                with kept.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
                place = replace(place, path=kept)
    except OSError as error:
        raise NoVerdict(f"{place.path}: {error.strerror}") from None
    match place.format:
        case "parquet":
            _parquet(raw, place, tell)
        case "jsonl":
            _json_lines(raw, place, tell)
        case _:
            _csv(raw, place, folder, tell)


# --- Text ---------------------------------------------------------------------


def _encoding(path: Path, named: str | None) -> str:
    """What it is written in: what was said, else what its first bytes say, else UTF-8. Raises NoVerdict."""
    if named is not None:
        try:
            return codecs.lookup(named).name
        except LookupError:
            raise NoVerdict(f"{named!r} is no encoding: utf-8, utf-16, latin-1, cp1251 are") from None
    try:
        with _opened(path) as file:
            start = file.read(4)
    except _TORN as error:
        raise NoVerdict(f"{path.name}: cannot be unpacked to its end: {error}") from None
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"


_TORN = (OSError, EOFError, zlib.error)
"""What a packed file raises that is none, is damaged, or ends too early."""


def _opened(path: Path) -> BinaryIO:
    opened = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115 (whoever calls closes it)
    return cast("BinaryIO", opened)


def _as_utf8(place: File, encoding: str, folder: Path, name: str) -> Path:
    """The file, unpacked and in UTF-8; itself, if it is that. Raises NoVerdict."""
    if encoding == "utf-8" and place.path.suffix.lower() != ".gz":
        return place.path
    target = folder / f"{name}.utf8"
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        with _opened(place.path) as source, target.open("w", encoding="utf-8", newline="") as file:
            while chunk := source.read(CHUNK_BYTES):
                text = decoder.decode(chunk)
                file.write(text)
                line += text.count("\n")
            file.write(decoder.decode(b"", final=True))
    except UnicodeDecodeError as error:
        raise NoVerdict(f"{place.label}: not {encoding} from line {line} on: {error.reason}") from None
    except _TORN as error:
        raise NoVerdict(f"{place.label}: cannot be unpacked to its end: {error}") from None
    return target


# --- CSV ----------------------------------------------------------------------


def _csv(raw: Raw, place: File, folder: Path, tell: Tell) -> None:
    """DuckDB reads it, with its first line as the names of its columns."""
    side, reading = raw.reading.side, raw.reading
    path = _as_utf8(place, _encoding(place.path, side.encoding), folder, side.name)
    delimiter = {"\\t": "\t"}.get(side.delimiter or "", side.delimiter) or place.delimiter
    names = _header(path, delimiter, place.label)
    lacking = [need for need in raw.needs if need not in names]
    if lacking:
        raise stores.no_column(place.label, lacking, names)
    twice = [need for need in raw.needs if names.count(need) > 1]
    if twice:
        raise NoVerdict(f"{place.label} has more than one column {', '.join(twice)}")
    # what is not needed gets a name that nobody can have meant: DuckDB wants each of them to be different
    unique = [name if name in raw.needs else f"{number} {name}" for number, name in enumerate(names)]
    more = ", skip = 1, store_rejects = true, rejects_scan = 'rejected_in', rejects_table = 'rejected'"
    rows = read_csv(path, dict.fromkeys(unique, "VARCHAR"), delimiter, side.null or "", more)
    raw.part(f"(SELECT row_number() OVER () AS {quoted(ROW)}, * FROM {rows})", what=f"{place.label}: reading")
    stores.declare(raw, {})
    reading.counted = "line"
    skipped = _keep_rejected(raw, path, place.label)
    reading.locate = Lines(path, delimiter, reading.rows, skipped)
    tell(f"{place.label}: {reading.rows:,} rows")


def _records(file: TextIO, delimiter: str) -> CsvReader:
    """Python's reader, for what DuckDB does not tell; with DuckDB's bound on a line, which is above Python's."""
    csv.field_size_limit(LINE_BYTES)
    return csv.reader(file, delimiter=delimiter)


def _header(path: Path, delimiter: str, label: str) -> list[str]:
    if len(delimiter) != 1:
        raise NoVerdict(f"{label}: a delimiter is one character, and {delimiter!r} is not")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = [name.strip() for name in next(_records(file, delimiter), [])]
        for name in names:
            name.encode()  # what is not UTF-8 was escaped, for only the first line is ours to judge
    except (UnicodeEncodeError, csv.Error) as error:
        raise NoVerdict(
            f"{label}: its first line cannot be read: {error}; is it in another encoding? (--left-encoding)"
        ) from None
    return names


def _keep_rejected(raw: Raw, path: Path, label: str) -> set[int]:
    """Put aside the lines that DuckDB could not make rows of. Raises NoVerdict when more than a line is lost."""
    skipped = set()
    limit = raw.question.max_broken + 1
    found = raw.duck.run(
        "SELECT line_byte_position, any_value(error_type), any_value(error_message), any_value(csv_line[1:4096]) "
        f"FROM rejected GROUP BY 1 ORDER BY 1 LIMIT {limit}"
    )
    raw.duck.run("DROP TABLE rejected; DROP TABLE rejected_in")
    lines = _lines_at(path, [position for position, *_ in found])
    for (_, kind, why, text), line in zip(found, lines, strict=True):
        if kind == "UNQUOTED VALUE" and "\n" in text.rstrip("\r\n"):
            raise NoVerdict(
                f"{label}:{line}: a quote is opened here that is not closed in its place: "
                f"{text.count(chr(10))} lines or more are inside it"
            )
        if kind == "INVALID ENCODING":
            why = "not in UTF-8; if all of it is in another encoding: --left-encoding latin-1 (or --right-encoding)"
        raw.reading.broken.append(Broken(line, text.rstrip("\r\n")[:SHOWN], why))
        skipped.add(line)
    return skipped


def _lines_at(path: Path, positions: Sequence[int]) -> list[int]:
    """On which lines these bytes are; the positions rise."""
    lines, line, at = [], 1, 0
    with path.open("rb") as file:
        for position in positions:
            while at < position:
                chunk = file.read(min(CHUNK_BYTES, position - at))
                if not chunk:
                    break
                line, at = line + chunk.count(b"\n"), at + len(chunk)
            lines.append(line)
    return lines


class Lines:
    """On which line each row of a CSV file begins: called with rows, it says so.

    A file with as many lines as rows need not be read again.
    """

    def __init__(self, path: Path, delimiter: str, rows: int, skipped: Collection[int]) -> None:
        self._path, self._delimiter, self._rows, self._skipped = path, delimiter, rows, skipped

    def __call__(self, rows: Collection[int]) -> Mapping[int, int]:
        if not rows or (not self._skipped and self._line_ends() <= self._rows + 1):
            return {row: row + 1 for row in rows}
        wanted, found, row = set(rows), {}, 0
        with self._path.open(encoding="utf-8", errors="replace", newline="") as file:
            reader = _records(file, self._delimiter)
            next(reader)
            begun = reader.line_num + 1
            for values in reader:
                if values and begun not in self._skipped:
                    row += 1
                    if row in wanted:
                        found[row] = begun
                begun = reader.line_num + 1
        return {row: found.get(row, 0) for row in rows}

    def _line_ends(self) -> int:
        with self._path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))


# --- JSON lines ---------------------------------------------------------------


def _json_lines(raw: Raw, place: File, tell: Tell) -> None:
    """One object a line. A number is kept as it is written, not as the nearest binary fraction."""
    side = raw.reading.side
    encoding = _encoding(place.path, side.encoding)
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
    names: set[str] = set()
    raw.reading.counted = "line"

    def documents() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(_text_lines(place, encoding), 1):
            if not line.strip():
                continue
            try:
                document = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                _no_row(raw, place, number, line, error)
                continue
            if found.lacking and len(names) < stores.NAMES:
                names.update(document)
            yield number, document

    def rows() -> Iterator[tuple[int, Sequence[object]]]:
        for number, document in documents():
            yield number, found.row(document)

    found = stores.Documents(raw.needs, iter(()))
    stores.stream(raw, rows(), place.label, tell)
    if found.lacking and raw.reading.rows:
        raise stores.no_column(place.label, found.lacking, sorted(names))


def _no_row(raw: Raw, place: File, number: int, line: bytes, error: Exception) -> None:
    """Put a line aside that is no object. Raises NoVerdict where it cannot be one among many."""
    if number == 1 and line.lstrip().startswith(b"["):
        raise NoVerdict(f"{place.label} is a JSON array, and one object a line is wanted: jq -c '.[]'")
    raw.reading.broken.append(Broken(number, line.decode(errors="replace").strip()[:SHOWN], str(error)))
    if len(raw.reading.broken) > raw.question.max_broken:
        raise NoVerdict(
            f"{place.label}: more than {raw.question.max_broken} lines are no JSON objects: {error} in line {number}"
        )


def _text_lines(place: File, encoding: str) -> Iterator[bytes]:
    """Its lines in UTF-8. Raises NoVerdict."""
    done = 0
    try:
        with _opened(place.path) as file:
            if encoding == "utf-8":
                first = file.readline()
                yield from itertools.chain([first.removeprefix(codecs.BOM_UTF8)] if first else [], file)
                return
            for line in io.TextIOWrapper(file, encoding=encoding, newline="\n"):
                yield line.encode()
                done += 1
    except UnicodeDecodeError as error:
        raise NoVerdict(f"{place.label}: not {encoding} after line {done}: {error.reason}") from None
    except _TORN as error:
        raise NoVerdict(f"{place.label}: cannot be read to its end: {error}") from None


# --- Parquet ------------------------------------------------------------------

_PARQUET_KINDS = (("DECIMAL", Kind.NUMBER), ("TIMESTAMP", Kind.TIME), ("DATE", Kind.TIME), ("BOOLEAN", Kind.BOOL),
                  ("DOUBLE", Kind.NUMBER), ("FLOAT", Kind.NUMBER))  # fmt: skip


def _parquet(raw: Raw, place: File, tell: Tell) -> None:
    """DuckDB reads it; what is not text is written as text, exactly."""
    raw.reading.counted = "row"
    source = f"read_parquet({pattern(place.path)}, file_row_number = true)"
    declared = {name: str(kind) for name, kind, *_ in raw.duck.run(f"DESCRIBE SELECT * FROM {source}")}
    known = [name for name in declared if name != "file_row_number"]
    lacking = [need for need in raw.needs if need not in known]
    if lacking:
        raise stores.no_column(place.label, lacking, known)
    texts = ", ".join(f"CAST({quoted(need)} AS VARCHAR) AS {quoted(need)}" for need in raw.needs)
    rows = f"(SELECT file_row_number + 1 AS {quoted(ROW)}, {texts} FROM {source})"
    raw.part(rows, what=f"{place.label}: reading")
    stores.declare(raw, {name: _parquet_kind(kind) for name, kind in declared.items()})
    tell(f"{place.label}: {raw.reading.rows:,} rows")


def _parquet_kind(declared: str) -> Kind:
    for start, kind in _PARQUET_KINDS:
        if declared.startswith(start) and not declared.endswith("]"):
            return kind
    return Kind.NUMBER if declared in expressions.INTEGERS else Kind.TEXT
