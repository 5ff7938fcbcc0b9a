"""systemd's units: sections, drop-ins, and what counts in the end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt, Spot, joined, words

_PREFIXES = "-@:+!|"
"""What may stand before an Exec command (systemd.service(5), COMMAND LINES)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`Key=value` in a section, where it stands."""

    section: str
    key: str
    value: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: its name, its own file, and all entries, those of drop-ins behind its own."""

    name: str
    file: str
    entries: tuple[Entry, ...]
    doubts: tuple[tuple[str, Doubt], ...]
    files: tuple[str, ...] = ()

    def get(self, section: str, key: str) -> Entry | None:
        """The entry that counts; None where there is none, or where an empty one has taken it back."""
        last = next((e for e in reversed(self.entries) if (e.section, e.key) == (section, key)), None)
        return last if last is not None and last.value else None

    def all(self, section: str, key: str) -> tuple[Entry, ...]:
        """The entries of a list that count, in order."""
        found = list[Entry]()
        for entry in self.entries:
            if (entry.section, entry.key) == (section, key):
                found = [*found, entry] if entry.value else []
        return tuple(found)

    def head(self, section: str) -> int:
        """The line of the section's first entry in the unit's own file; 0 where there is none."""
        return next((e.spot.line for e in self.entries if e.section == section and e.spot.file == self.file), 0)


def parse(name: str, files: Iterable[tuple[str, str]]) -> Unit:
    """A unit from its own file and, behind it, its drop-ins in the order in which they count."""
    entries, doubts, read = list[Entry](), list[tuple[str, Doubt]](), list[str]()
    for file, text in files:
        read.append(file)
        section = ""
        for line, logical in joined(text, comments="#;"):
            if head := re.fullmatch(r"\[([^\]]+)\]", logical):
                section = head[1]
                continue
            key, equals, value = logical.partition("=")
            if not equals:
                doubts.append((file, Doubt(line, "neither a section nor Key=value")))
            else:
                entries.append(Entry(section, key.strip(), value.strip(), Spot(file, line)))
    return Unit(name, read[0] if read else name, tuple(entries), tuple(doubts), tuple(read))


def command(value: str) -> tuple[str, ...]:
    """An Exec line's words, without the prefixes of its program; `$$` is a dollar, `%%` a percent sign."""
    found = list(words(value))
    if found:
        found[0] = found[0].lstrip(_PREFIXES)
    return tuple(word.replace("$$", "$").replace("%%", "%") for word in found if word)


def environment(unit: Unit) -> dict[str, str]:
    """What `Environment=` sets."""
    pairs = (word.partition("=") for entry in unit.all("Service", "Environment") for word in words(entry.value))
    return {name: value for name, equals, value in pairs if equals}
