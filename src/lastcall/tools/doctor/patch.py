"""Findings -> one patch for patch(1), as a unified diff. Pure: applies nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from lastcall.tools.doctor.facts import Facts
from lastcall.tools.doctor.verdicts import Edit, Told


def patch(facts: Facts, told: Iterable[Told]) -> tuple[str, tuple[str, ...]]:
    """The diff, with paths for `patch -p1 -d ROOT`, and a sentence for each finding that it leaves out."""
    replaced, behind = dict[tuple[str, int], tuple[str, ...]](), dict[tuple[str, int], list[str]]()
    files, left = dict[str, None](), list[str]()
    for one in told:
        where = f"{one.rule.id} at {one.finding.spot.file}:{one.finding.spot.line}"
        if not one.finding.edits:
            left.append(f"{where}: no line of a file would do; see `--explain {one.rule.id}`")
        elif any(edit.file in facts.files and not facts.files[edit.file].plain for edit in one.finding.edits):
            left.append(f"{where}: the file is not UTF-8")
        elif any(_clashes(edit, replaced) for edit in one.finding.edits):
            left.append(f"{where}: another finding changes the same line; run this again after the patch")
        else:
            for edit in one.finding.edits:
                files[edit.file] = None
                _take(facts, edit, replaced, behind)
    diffs = (_diff(facts, file, replaced, behind) for file in sorted(files))
    return "".join(diffs), tuple(left)


def _clashes(edit: Edit, replaced: dict[tuple[str, int], tuple[str, ...]]) -> bool:
    return not edit.behind and edit.line > 0 and replaced.get((edit.file, edit.line), edit.lines) != edit.lines


def _take(
    facts: Facts, edit: Edit, replaced: dict[tuple[str, int], tuple[str, ...]], behind: dict[tuple[str, int], list[str]]
) -> None:
    line = edit.line
    lines = list(edit.lines)
    if line == 0 and not edit.behind and edit.file in facts.files:
        # a new drop-in of ours is there already: what is missing goes behind its head
        head, *lines = lines
        found = [
            number for number, text in enumerate(facts.files[edit.file].text.split("\n"), 1) if text.strip() == head
        ]
        line = found[0] if found else 0
    if edit.behind or line == 0 or lines != list(edit.lines):
        kept = behind.setdefault((edit.file, line), [])
        kept += [text for text in lines if text not in kept]
    else:
        replaced[(edit.file, line)] = edit.lines


def _diff(
    facts: Facts, file: str, replaced: dict[tuple[str, int], tuple[str, ...]], behind: dict[tuple[str, int], list[str]]
) -> str:
    source = facts.files.get(file)
    old = source.text.split("\n") if source else []
    ends = bool(old) and old[-1] == ""
    old = old[:-1] if ends else old
    new = [*behind.get((file, 0), ())]
    for number, line in enumerate(old, 1):
        carriage = "\r" if line.endswith("\r") else ""
        changed = replaced.get((file, number))
        new += [line] if changed is None else [text.removesuffix("\r") + carriage for text in changed]
        new += [text + carriage for text in behind.get((file, number), ())]
    name = f"a/{file}" if source else "/dev/null"
    unfinished = bool(old) and not ends
    return "".join(_lines(difflib.unified_diff(_ended(old, unfinished), _ended(new, unfinished), name, f"b/{file}")))


_UNFINISHED = "\n\\ No newline at end of file\n"


def _ended(lines: list[str], unfinished: bool) -> list[str]:
    return [line + ("\n" if not unfinished or number < len(lines) else "") for number, line in enumerate(lines, 1)]


def _lines(diff: Iterable[str]) -> Iterable[str]:
    return (line if line.endswith("\n") else line + _UNFINISHED for line in diff)
