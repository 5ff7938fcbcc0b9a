"""INI files with line numbers: php.ini, php-fpm, supervisor, uWSGI, certbot, sysctl, .env."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt, lines

_ESCAPED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:[;#].*)?$')
_SECTION = re.compile(r"\s*\[(?P<name>[^\]]*)\]\s*(?:[;#].*)?$")


@dataclass(frozen=True, slots=True)
class Entry:
    """`key = value`, where it stands."""

    section: str
    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Ini:
    """A file: its entries in order, and where each section begins."""

    entries: tuple[Entry, ...]
    sections: tuple[tuple[str, int], ...]
    doubts: tuple[Doubt, ...]

    def get(self, section: str, key: str) -> Entry | None:
        """The entry that counts: the last one."""
        return next((e for e in reversed(self.entries) if e.section == section and e.key == key), None)

    def all(self, key: str) -> tuple[Entry, ...]:
        """Every entry with this key, in any section."""
        return tuple(entry for entry in self.entries if entry.key == key)

    def begin(self, section: str) -> int:
        """The line of the section's head; 0 where there is none."""
        return next((line for name, line in self.sections if name == section), 0)


def parse(text: str, *, comments: str = "#;", trailing: str = ";", folded: bool = False) -> Ini:
    """Any text. `trailing` begins a comment behind a value, after a blank. `folded`: indented lines go on with a value.

    Keys without a value (`master` in uWSGI's files) have "" as theirs only where an equals sign stands.
    """
    section, entries, sections, doubts = "", list[Entry](), list[tuple[str, int]](), list[Doubt]()
    for number, line in lines(text):
        bare = line.strip()
        if not bare or bare[0] in comments:
            continue
        if head := _SECTION.match(line):
            section = head["name"].strip()
            sections.append((section, number))
        elif folded and entries and line[:1].isspace():
            last = entries[-1]
            value = f"{last.value}\n{_without_comment(bare, trailing)}".strip()
            entries[-1] = Entry(last.section, last.key, value, last.line)
        elif (parts := bare.partition("="))[1] and parts[0] and bare[0] not in ":[":
            key = parts[0].removeprefix("export ").strip()
            entries.append(Entry(section, key, _value(parts[2].strip(), trailing), number))
        else:
            doubts.append(Doubt(number, "neither a section nor key = value"))
    return Ini(tuple(entries), tuple(sections), tuple(doubts))


def _value(value: str, trailing: str) -> str:
    if value[:1] in ("'", '"'):
        # PHP has \" for a quote within (php-fpm's access.format); a value may end in a backslash as well
        whole = _ESCAPED.match(value) if "\\" in value else None
        if whole is not None:
            return whole[1].replace('\\"', '"')
        closed = value.find(value[0], 1)
        if closed > 0:
            return value[1:closed]
    return _without_comment(value, trailing)


def _without_comment(value: str, trailing: str) -> str:
    for mark in trailing:
        found = re.search(rf"(?:^|\s){re.escape(mark)}", value)
        if found:
            value = value[: found.start()]
    return value.strip()
