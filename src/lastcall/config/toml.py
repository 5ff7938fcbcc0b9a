"""Reads the TOML file: flat keys named as the settings, each with its line, and every mistake with a remedy."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path

from lastcall.config.origins import Entry, Place, Problem, problem_at
from lastcall.core import values
from lastcall.core.mistakes import Mistake
from lastcall.core.settings import SPECS

FILE_MAX = 1 << 20
"""Bytes. All settings together, with their documentation, are 10 kB."""

_AT = re.compile(r"\s*\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")


def load(file: Path) -> tuple[dict[str, Entry], list[Problem]]:
    """The settings in a file, and all that is wrong with it."""
    text = read(file)
    return ({}, [text]) if isinstance(text, Problem) else parse(text, str(file))


def read(file: Path) -> str | Problem:
    """A file's text, or why there is none."""
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_MAX + 1)
    except OSError as error:
        remedy = "name a file that exists and that may be read"
        return Problem(str(file), 0, "", f"cannot be read: {error.strerror}", remedy)
    if len(data) > FILE_MAX:
        return Problem(str(file), 0, "", f"is larger than {FILE_MAX >> 20} MiB", "name a configuration file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Problem(str(file), line, "", "is not UTF-8", "save the file as UTF-8")


def parse(text: str, file: str) -> tuple[dict[str, Entry], list[Problem]]:
    """The same for a text; `file` is what its problems call it."""
    document = decode(text, file)
    if isinstance(document, Problem):
        return {}, [document]
    lines = key_lines(text)
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for key, value in document.items():
        place = Place(file, lines.get(key, 1), key)
        spec = SPECS.get(key)
        if spec is None:
            problems.append(_unknown(place, value))
            continue
        try:
            entries[key] = Entry(values.take(spec, value), place)
        except Mistake as mistake:
            problems.append(problem_at(place, mistake.text, mistake.remedy))
    return entries, problems


def decode(text: str, file: str) -> dict[str, object] | Problem:
    """The document that a text is, or where its syntax is broken."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_problem(str(error), text, file)


def nearest(name: str) -> str | None:
    """The setting that somebody who wrote `name` is likely to have meant."""
    known = name.lower().replace("-", "_")
    return next(iter(difflib.get_close_matches(known, SPECS, n=1, cutoff=0.7)), None)


def _unknown(place: Place, value: object) -> Problem:
    near = nearest(place.key)
    if near is not None:
        remedy = f"did you mean {near}?"
    elif isinstance(value, dict):
        return problem_at(place, "there are no tables", f"write the settings at the top, without [{place.key}]")
    else:
        remedy = "docs/CONFIGURATION.md and `lastcall serve --help` list the settings"
    return problem_at(place, "there is no such setting", remedy)


# --- Syntax errors -----------------------------------------------------------

_REMEDIES = {
    "Cannot overwrite a value": ("the key is given twice", "keep one of the lines"),
    "Invalid value": ("there is no value that can be read", 'write texts in quotes: key = "text"'),
    "Invalid statement": ("this is not `key = value`", 'write key = "text", key = 4, key = true, or # a comment'),
    "Illegal character": ("a text is not closed", "end it with the quote that it begins with, on the same line"),
    "Unescaped": ("a backslash stands alone in a text", r"write \\, or put the text in single quotes"),
}
"""tomllib's messages, by how they begin, in the words of somebody who edits the file."""


def _syntax_problem(message: str, text: str, file: str) -> Problem:
    at = _AT.search(message)
    what = _AT.sub("", message)
    if at is None or at["line"] is None:
        last = text.rstrip().count("\n") + 1
        return Problem(file, last, "", "the file ends where a value or a list should", "close the list or the text")
    line, column = int(at["line"]), int(at["column"])
    for beginning, (said, remedy) in _REMEDIES.items():
        if what.startswith(beginning):
            return Problem(file, line, "", said, remedy, column=column)
    said = what[:1].lower() + what[1:]
    return Problem(file, line, "", said, "see https://toml.io for the syntax", column=column)


# --- Lines -------------------------------------------------------------------

_TOKEN = re.compile(
    r'''
      (?P<long> """ (?: \\. | [^\\] )*? "{3,5} | \'\'\' .*? \'{3,5} )
    | (?P<key> " (?: \\. | [^"\\] )* " | ' [^']* ' | [A-Za-z0-9_-]+ )
    | (?P<comment> \# [^\n]* )
    | (?P<open> [\[{] )
    | (?P<close> [\]}] )
    | (?P<newline> \n )
    | (?P<other> . )
    ''',
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[str, int]:
    """The line on which each top-level key or table first stands. `text` is valid TOML: tomllib has said so."""
    lines: dict[str, int] = {}
    line, depth, fresh = 1, 0, True
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "key" if fresh:
                lines.setdefault(_unquoted(token[0]), line)
                fresh = False
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "newline" if depth == 0:
                fresh = True
        line += token[0].count("\n")
    return lines


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    value: object = tomllib.loads(f"key = {key}")["key"]
    return str(value)
