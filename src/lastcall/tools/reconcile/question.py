"""What is asked: two sides, what an order is known by, what must agree, and which orders are judged.

The vocabulary of everything in this package. Nothing here reads anything.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lastcall.tools.reconcile.places import Place

ROW, AT, USABLE = "_row", "_at", "_usable"
"""Columns of every spool beside those that were asked for: which row of its source it was, its time in UTC,
and whether every value is what its column should be."""


class NoVerdict(Exception):
    """The ledgers cannot be compared; the text says why, and what to do about it."""


class Kind(enum.Enum):
    """What the values of a column are, and so when two of them are the same."""

    TEXT = "text"
    """Letter by letter."""
    NUMBER = "number"
    """By its exact decimal value: 10.1 is 10.10."""
    TIME = "time"
    """The same instant, in whatever zone it is written."""
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that both sides have, under the name that the comparison calls it by."""

    name: str
    kind: Kind | None = None
    """None: whatever the sources declare it to be, and text where neither does."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two ledgers: where it is, and how it is to be read."""

    name: str
    """`left` or `right`."""
    place: Place
    columns: Mapping[str, str] = field(default_factory=dict)
    """Expressions by the name of the column that they give; a column without one has the same name in the source."""
    query: str | None = None
    where: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    null: str | None = None
    """A text of the source that means null."""
    zone: str | None = None
    """The zone of times that name none."""


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that the verdict depends on."""

    left: Side
    right: Side
    keys: tuple[Column, ...]
    compared: tuple[Column, ...] = ()
    time: str | None = None
    """The column that says when an order was made."""
    now: datetime = field(default_factory=datetime.now)
    since: datetime | None = None
    until: datetime | None = None
    grace: float = 0.0
    """Seconds for which an order may still be on its way to the other ledger."""
    allow_empty: bool = False
    max_broken: int = 1000

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.left, self.right

    def columns(self) -> Iterator[Column]:
        """Every column that is read, each once: keys, compared ones, the time."""
        yield from self.keys
        yield from self.compared
        if self.time is not None:
            yield Column(AT, Kind.TIME)

    def source(self, side: Side, column: Column) -> str:
        """The expression that gives this column on this side."""
        name = self.time if column.name == AT and self.time is not None else column.name
        return side.columns.get(name, quoted(name))


_PLAIN = re.compile(r"[A-Za-z]\w*", re.ASCII)


def column(text: str) -> Column:
    """`amount` or `amount:number`. Raises NoVerdict."""
    name, colon, kind = text.strip().partition(":")
    if not _PLAIN.fullmatch(name):
        raise NoVerdict(
            f"{name!r} is no name for a column here: call it something plain, "
            f"and say for each side what it is: --left-column 'amount=\"{name}\"'"
        )
    if not colon:
        return Column(name)
    if kind not in {one.value for one in Kind}:
        raise NoVerdict(f"{text!r}: a column is {', '.join(one.value for one in Kind)}, and not {kind!r}")
    return Column(name, Kind(kind))


def columns(texts: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of an option that may be given more than once, and name several. Raises NoVerdict."""
    return tuple(column(text) for given in texts for text in given.split(",") if text.strip())


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it."""
    return "'" + text.replace("'", "''") + "'"


def file(path: Path) -> str:
    """A path as DuckDB reads it: this file and no other, though its name may look like a pattern."""
    return literal(re.sub(r"([*?\[])", r"[\1]", str(path)))
