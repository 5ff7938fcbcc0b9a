"""YAML with line numbers: compose files and Kubernetes' manifests. Needs PyYAML, which is an extra."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt

INSTALL = "YAML is not read: install PyYAML (pip install 'lastcall[doctor]')"
DEPTH_MAX = 60
NODES_MAX = 100_000
"""Nodes of a file, each alias counted anew: a bound on files that unfold."""


class Missing(Exception):
    """PyYAML is not installed."""


@dataclass(frozen=True, slots=True)
class Node:
    """A mapping, a list or a text, and its line."""

    line: int
    text: str | None = None
    items: tuple[Node, ...] = ()
    keys: tuple[tuple[str, int, Node], ...] = ()
    """A mapping's keys, each with its line and its value."""

    def get(self, *path: str) -> Node | None:
        """What stands under these keys."""
        node = self
        for key in path:
            found = next((value for name, _, value in reversed(node.keys) if name == key), None)
            if found is None:
                return None
            node = found
        return node

    def at(self, key: str) -> int:
        """The line of a key; the mapping's own where it is not there."""
        return next((line for name, line, _ in reversed(self.keys) if name == key), self.line)

    def value(self, *path: str) -> str:
        """The text there, or ""."""
        found = self.get(*path)
        return found.text or "" if found is not None else ""

    def each(self, *path: str) -> tuple[Node, ...]:
        """The items of the list there; () where there is none."""
        found = self.get(*path)
        return found.items if found is not None else ()

    def pairs(self, *path: str) -> tuple[tuple[str, int, Node], ...]:
        """The keys of the mapping there, each with its line and its value; () where there is none."""
        found = self.get(*path)
        return found.keys if found is not None else ()

    def command(self) -> tuple[str, ...] | None:
        """A list of words; None where it is something else."""
        return tuple(item.text or "" for item in self.items) if self.items else None


class _TooMuch(Exception):
    pass


def documents(text: str, only: re.Pattern[str] | None = None) -> tuple[tuple[Node, ...], tuple[Doubt, ...]]:
    """All documents of a file; one that is no YAML (a template, most often) is a doubt. Raises Missing.

    With `only`, documents in which nothing matches are passed over: others' custom resources are long.
    """
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError:
        raise Missing(INSTALL) from None
    found, doubts = list[Node](), list[Doubt]()
    for begun, part in _parts(text):
        if only is not None and only.search(part) is None:
            continue
        try:
            node = yaml.compose(part, Loader=yaml.SafeLoader)
            if node is not None:
                found.append(_taken(node, begun - 1, 0, [NODES_MAX], doubts))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = begun + (mark.line if mark is not None else 0)
            doubts.append(Doubt(line, f"no YAML{' (a template?)' if '{{' in part else ''}: {error.problem or ''}"))
        except (yaml.YAMLError, ValueError) as error:
            doubts.append(Doubt(begun, f"no YAML: {' '.join(str(error).split())[:100]}"))
        except (RecursionError, _TooMuch):
            doubts.append(Doubt(begun, "YAML that is nested too deep, or unfolds to too much"))
    return tuple(found), tuple(doubts)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Each document by itself, so that one that is none spoils no other; with the line it begins at."""
    begun, kept = 1, list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if line.rstrip() == "---" or line.startswith("--- "):
            if any(part.strip() for part in kept):
                yield begun, "\n".join(kept)
            begun, kept = number, [line]
        else:
            kept.append(line)
    if any(part.strip() for part in kept):
        yield begun, "\n".join(kept)


def _taken(node: object, offset: int, depth: int, left: list[int], doubts: list[Doubt]) -> Node:
    import yaml  # noqa: PLC0415 - as above

    left[0] -= 1
    if depth > DEPTH_MAX or left[0] < 0:
        raise _TooMuch
    assert isinstance(node, yaml.Node)
    line = node.start_mark.line + 1 + offset
    if isinstance(node, yaml.ScalarNode):
        # the text of `key: |` begins on the next line
        return Node(line + (node.style in ("|", ">")), text=str(node.value))
    if isinstance(node, yaml.SequenceNode):
        return Node(line, items=tuple(_taken(item, offset, depth + 1, left, doubts) for item in node.value))
    assert isinstance(node, yaml.MappingNode)
    if any(isinstance(key, yaml.MappingNode) for key, _ in node.value):
        # `{{ .Values.x }}` is YAML: a mapping whose key is a mapping. Nobody writes that and means it.
        doubts.append(Doubt(line, "a value of a template"))
        return Node(line, text="{{ }}")
    pairs, merged = list[tuple[str, int, Node]](), list[tuple[str, int, Node]]()
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        taken = _taken(value, offset, depth + 1, left, doubts)
        if name == "<<":
            merged += [pair for source in (taken, *taken.items) for pair in source.keys]
        else:
            pairs.append((name, key.start_mark.line + 1 + offset, taken))
    return Node(line, keys=(*merged, *pairs))
