"""Configuration that is Python (gunicorn.conf.py): what its names are set to, where that is a constant. Nothing is run."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt

UNKNOWN = "?"
"""The value of a name that is computed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a name is set to, as text; UNKNOWN where only running it would tell."""

    value: str
    line: int


def parse(text: str) -> tuple[dict[str, Setting], tuple[Doubt, ...]]:
    """The names at the top of a file; the last assignment counts, one that stands under a condition is UNKNOWN."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        return {}, (Doubt(max(error.lineno or 1, 1), "no Python"),)
    except (ValueError, RecursionError, MemoryError):
        return {}, (Doubt(1, "no Python"),)
    found = dict[str, Setting]()
    for node in tree.body:
        _taken(node, found, sure=True)
    return found, ()


def _taken(node: ast.stmt, found: dict[str, Setting], *, sure: bool) -> None:
    match node:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            found[name] = Setting(_constant(value, found) if sure else UNKNOWN, node.lineno)
        case ast.If(body=body, orelse=orelse):
            for inner in (*body, *orelse):
                _taken(inner, found, sure=False)
        case ast.Try(body=body):
            for inner in body:
                _taken(inner, found, sure=False)
        case _:
            pass


def _constant(node: ast.expr, found: dict[str, Setting]) -> str:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return str(value)
        case ast.Name(id=name) if name in found:
            return found[name].value
        case ast.BinOp(left=ast.Constant(value=int() as left), op=ast.Mult(), right=ast.Constant(value=int() as right)):
            return str(left * right) if abs(left) < 1 << 32 and abs(right) < 1 << 32 else UNKNOWN
        case _:
            return UNKNOWN
