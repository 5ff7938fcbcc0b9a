"""HAProxy's configuration: sections and their lines."""

from __future__ import annotations

from dataclasses import dataclass

from lastcall.tools.readers.text import lines, words

SECTIONS = frozenset({
    "global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers", "cache", "program",
    "mailers", "http-errors", "ring", "log-forward", "fcgi-app", "crt-store", "traces",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statement:
    """A line of a section, in words."""

    words: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """`backend name` and what stands under it."""

    kind: str
    name: str
    line: int
    statements: tuple[Statement, ...]

    def find(self, *first: str) -> Statement | None:
        """The last statement that begins with these words."""
        return next((s for s in reversed(self.statements) if s.words[: len(first)] == first), None)


def parse(text: str) -> tuple[Section, ...]:
    """Any text; what stands before the first section is left out."""
    found = list[Section]()
    for number, line in lines(text):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        parts = words(bare.split(" #")[0])
        if parts and parts[0] in SECTIONS and not line[:1].isspace():
            found.append(Section(parts[0], parts[1] if len(parts) > 1 else "", number, ()))
        elif parts and found:
            last = found[-1]
            kept = (*last.statements, Statement(parts, number))
            found[-1] = Section(last.kind, last.name, last.line, kept)
    return tuple(found)
