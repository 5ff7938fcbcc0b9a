"""logrotate's stanzas, and the scripts in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt, lines, words

SCRIPTS = ("postrotate", "prerotate", "firstaction", "lastaction", "preremove")


@dataclass(frozen=True, slots=True)
class Script:
    """A script of a stanza: which, the line of its first line, its text."""

    name: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Stanza:
    """What is rotated, how, and what is run."""

    line: int
    patterns: tuple[str, ...]
    directives: dict[str, tuple[str, int]]
    """Each directive's argument, and its line; the last one counts."""
    scripts: tuple[Script, ...]


@dataclass(frozen=True, slots=True)
class Logrotate:
    """A file. What stands outside of stanzas holds for all of them."""

    stanzas: tuple[Stanza, ...]
    defaults: dict[str, tuple[str, int]]
    doubts: tuple[Doubt, ...]


def parse(text: str) -> Logrotate:
    """Any text."""
    stanzas, doubts = list[Stanza](), list[Doubt]()
    defaults, directives = dict[str, tuple[str, int]](), dict[str, tuple[str, int]]()
    scripts, patterns, begun, inside = list[Script](), list[str](), 0, False
    numbered = iter(lines(text))
    for number, line in numbered:
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if not inside and (bare[0] in "/\"'*{~" or bare.endswith("{")):
            begun = begun or number
            patterns += words(bare.replace("{", " "))
            if "{" in bare:
                inside, directives, scripts = True, {}, []
            continue
        if inside and bare.startswith("}"):
            stanzas.append(Stanza(begun, tuple(patterns), directives, tuple(scripts)))
            inside, patterns, begun = False, [], 0
            continue
        key, _, argument = bare.replace("=", " ", 1).partition(" ")
        if key in SCRIPTS:
            scripts.append(_script(key, number, numbered, doubts))
        else:
            (directives if inside else defaults)[key] = (argument.strip(), number)
    if inside or patterns:
        doubts.append(Doubt(begun, "the stanza does not end"))
    return Logrotate(tuple(stanzas), defaults, tuple(doubts))


def _script(name: str, line: int, numbered: Iterator[tuple[int, str]], doubts: list[Doubt]) -> Script:
    body = list[str]()
    for _, text in numbered:
        if text.strip() == "endscript":
            return Script(name, line + 1, "\n".join(body))
        body.append(text)
    doubts.append(Doubt(line, f"{name} does not end with endscript"))
    return Script(name, line + 1, "\n".join(body))
