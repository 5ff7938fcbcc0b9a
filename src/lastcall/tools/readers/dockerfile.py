"""Dockerfiles: instructions with their lines, stages, exec and shell forms."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt, lines, words

_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)\s+(.*)$", re.DOTALL)
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`NAME arguments`, with continuation lines joined."""

    name: str
    """In capitals."""
    text: str
    line: int

    def exec_form(self) -> tuple[str, ...] | None:
        """The words of `["a", "b"]`; None where it is a shell's line, which runs under `/bin/sh -c`."""
        if not self.text.startswith("["):
            return None
        try:
            found = json.loads(self.text)
        except (ValueError, RecursionError):
            return None
        return tuple(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else None

    def command(self) -> tuple[str, ...]:
        """The words of either form."""
        form = self.exec_form()
        return form if form is not None else words(self.text)


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next; the last one is the image."""

    base: str
    name: str
    line: int
    instructions: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction | None:
        """The instruction that counts: the last of its name."""
        return next((found for found in reversed(self.instructions) if found.name == name), None)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A file: its stages in order."""

    stages: tuple[Stage, ...]
    arguments: dict[str, str]
    doubts: tuple[Doubt, ...]

    def final(self) -> Stage | None:
        """The image that is built, with what its stages within this file have given it."""
        if not self.stages:
            return None
        stage = self.stages[-1]
        seen = {stage.name}
        while below := next((s for s in self.stages if s.name and s.name == stage.base and s.name not in seen), None):
            seen.add(below.name)
            stage = Stage(below.base, stage.name, stage.line, (*below.instructions, *stage.instructions))
        return stage


def parse(text: str) -> Dockerfile:
    """Any text."""
    stages, doubts, arguments = list[Stage](), list[Doubt](), dict[str, str]()
    for line, logical in _logical(text):
        found = _INSTRUCTION.match(logical)
        if found is None:
            doubts.append(Doubt(line, "no instruction"))
            continue
        name, rest = found[1].upper(), found[2].strip()
        if name == "FROM":
            parts = [word for word in rest.split() if not word.startswith("--")]
            named = parts[2] if len(parts) > 2 and parts[1].lower() == "as" else ""
            stages.append(Stage(parts[0] if parts else "", named, line, ()))
        elif not stages:
            if name == "ARG" and "=" in rest:
                key, _, value = rest.partition("=")
                arguments[key.strip()] = value.strip()
        else:
            last = stages[-1]
            kept = (*last.instructions, Instruction(name, rest, line))
            stages[-1] = Stage(last.base, last.name, last.line, kept)
    return Dockerfile(tuple(stages), arguments, tuple(doubts))


def _logical(text: str) -> list[tuple[int, str]]:
    found, parts, begun, until = list[tuple[int, str]](), list[str](), 0, ""
    for number, line in lines(text):
        bare = line.strip()
        if until:
            until = "" if bare == until else until
            continue
        if bare.startswith("#") or (not bare and not parts):
            continue
        begun = begun or number
        parts.append(bare.removesuffix("\\").strip())
        mark = _HEREDOC.search(bare)
        if bare.endswith("\\"):
            continue
        until = mark[2] if mark else ""
        found.append((begun, " ".join(parts)))
        parts, begun = [], 0
    if parts:
        found.append((begun, " ".join(parts)))
    return found
