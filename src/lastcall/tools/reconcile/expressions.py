"""Small SQL expressions: how a column is made from those of the source, in DuckDB's dialect.

Decides whether a text is one scalar expression and no more, which columns it needs, and of what kind its values are.
In an expression every column of a source is text: what a CSV file holds is text, and the same expression should mean
the same for a CSV file and a database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lastcall.tools.reconcile.duck import Duck, first_line
from lastcall.tools.reconcile.question import Kind, NoVerdict, quoted

_FORBIDDEN = {"SUBQUERY": "a subquery", "STAR": "*", "PARAMETER": "a parameter", "LAMBDA_REF": "a lambda"}
INTEGERS = {
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
}
_FRACTIONS = {"FLOAT", "DOUBLE"}


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression."""

    sql: str
    """With each column that it needs as one quoted name, even if that was written `buyer.id`."""
    needs: tuple[str, ...]
    plain: bool
    """Whether it is a column and nothing else: its kind is then what the source says."""
    kind: Kind


def check(duck: Duck, name: str, text: str) -> Expression:
    """The expression that makes the column `name`. Raises NoVerdict, saying what is wrong with it."""
    tree = json.loads(duck.run("SELECT json_serialize_sql(?::VARCHAR)", [f"SELECT {text}"])[0][0])
    if tree["error"]:
        raise NoVerdict(f"{name}={text}: {tree['error_message']}")
    _one_scalar(name, text, tree)
    node = tree["statements"][0]["node"]["select_list"][0]
    needs = tuple(dict.fromkeys(_references(node)))
    sql = duck.run("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)])[0][0].removeprefix("SELECT ")
    plain = node["class"] == "COLUMN_REF"
    return Expression(sql, needs, plain, Kind.TEXT if plain else _kind(duck, name, text, sql, needs))


def _one_scalar(name: str, text: str, tree: dict[str, Any]) -> None:
    statements = tree["statements"]
    node = statements[0]["node"] if len(statements) == 1 else {}
    alone = (
        node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not (node["where_clause"] or node["group_expressions"] or node["having"] or node["modifiers"])
    )
    if not alone:
        raise NoVerdict(f"{name}={text}: this is more than one expression")
    for part in _walk(node["select_list"][0]):
        if part.get("class") in _FORBIDDEN:
            raise NoVerdict(f"{name}={text}: {_FORBIDDEN[part['class']]} has no place in it")


def _references(tree: Any) -> Iterator[str]:
    """The columns that it names, each written back as one name: `buyer.id` is a path in a document, or a column."""
    for part in _walk(tree):
        if part.get("class") == "COLUMN_REF":
            part["column_names"] = [".".join(part["column_names"])]
            yield part["column_names"][0]


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _walk(part)


def _kind(duck: Duck, name: str, text: str, sql: str, needs: Iterable[str]) -> Kind:
    """Ask DuckDB what it is; a WHERE refuses what is not computed from one row alone."""
    columns = ", ".join(f"NULL::VARCHAR AS {quoted(need)}" for need in needs) or "NULL AS nothing"
    try:
        found = duck.run(f"DESCRIBE SELECT {sql} AS x FROM (SELECT {columns}) WHERE ({sql}) IS NOT NULL")
    except NoVerdict as wrong:
        raise NoVerdict(f"{name}={text}: {first_line(wrong)}") from None
    declared = str(found[0][1])
    if declared in _FRACTIONS:
        raise NoVerdict(
            f"{name}={text}: this is a binary fraction ({declared}), which is not exact: multiply instead of dividing "
            f"(cents::bigint * 0.01), or say to how many places: cast(... as decimal(18, 2))"
        )
    if declared in INTEGERS or declared.startswith("DECIMAL"):
        return Kind.NUMBER
    if declared.startswith(("TIMESTAMP", "DATE")):
        return Kind.TIME
    return Kind.BOOL if declared == "BOOLEAN" else Kind.TEXT
