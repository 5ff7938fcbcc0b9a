"""php-fpm's configuration: the global section, the pools, and the includes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lastcall.tools.readers import ini
from lastcall.tools.readers.text import Doubt, Spot

DEPTH_MAX = 5
"""Nested includes that php-fpm follows (fpm_conf.c)."""

Load = Callable[[str], Iterable[tuple[str, str]]]
"""A pattern of `include` -> the files that match, and their texts."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a directive is set to, and where."""

    text: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool, or the global section: name, where it begins, directives. `php_admin_value[x]` is a key as it stands."""

    name: str
    spot: Spot
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class FpmConf:
    """One instance's configuration, its includes read."""

    file: str
    globals: Pool
    pools: tuple[Pool, ...]
    files: tuple[str, ...]
    doubts: tuple[tuple[str, Doubt], ...]


def parse(file: str, text: str, load: Load = lambda _pattern: ()) -> FpmConf:
    """A file and what it includes; the last value of a directive counts."""
    sections: dict[str, Pool] = {"global": Pool("global", Spot(file, 0), {})}
    files, doubts = list[str](), list[tuple[str, Doubt]]()
    _read(file, text, load, sections, files, doubts, "global", 0)
    head = sections.pop("global")
    return FpmConf(file, head, tuple(sections.values()), tuple(files), tuple(doubts))


def _read(
    file: str,
    text: str,
    load: Load,
    sections: dict[str, Pool],
    files: list[str],
    doubts: list[tuple[str, Doubt]],
    current: str,
    depth: int,
) -> None:
    files.append(file)
    read = ini.parse(text)
    doubts += [(file, doubt) for doubt in read.doubts]
    for name, line in read.sections:
        if name not in sections or (name == "global" and not sections[name].spot.line):
            sections[name] = Pool(name, Spot(file, line), sections[name].values if name in sections else {})
    for entry in read.entries:
        section = entry.section or current
        if entry.key == "include":
            for found, inner in load(entry.value):
                if found in files or depth >= DEPTH_MAX:
                    doubts.append((file, Doubt(entry.line, f"{found} is included again, or too deep")))
                else:
                    _read(found, inner, load, sections, files, doubts, section, depth + 1)
        else:
            pool = sections.setdefault(section, Pool(section, Spot(file, entry.line), {}))
            pool.values[entry.key] = Value(entry.value, Spot(file, entry.line))
