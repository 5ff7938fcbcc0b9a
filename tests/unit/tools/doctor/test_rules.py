"""Every rule: on files that have the fault, and on files that only look like it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lastcall.tools.doctor.facts import Facts, Source
from lastcall.tools.doctor.files import DISABLED, classified
from lastcall.tools.doctor.judge import judge
from lastcall.tools.doctor.patch import patch
from lastcall.tools.doctor.rules.catalogue import RULES
from support.mines import CASES, Case, Files


def facts_of(files: Files) -> Facts:
    """The facts of files that are in no folder."""
    kinds = {path: classified(path, text) for path, text in files.items() if not DISABLED.search(path)}
    return Facts({path: Source(path, kind, files[path]) for path, kind in kinds.items() if kind is not None})


def found(files: Files, rule: str) -> list[tuple[str, int]]:
    """Where a rule finds something."""
    return [(t.finding.spot.file, t.finding.spot.line) for t in judge(facts_of(files)).told if t.rule.id == rule]


def _name(case: Case) -> str:
    return f"{case.rule}-{CASES.index(case)}"


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_fault_is_told_where_it_is(case: Case) -> None:
    """Once, at its line."""
    assert found(case.bad, case.rule) == [case.at]


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_what_only_looks_like_it_is_not_told(case: Case) -> None:
    """Comments, files that are switched off, values that are long enough, other programs."""
    for good in case.good:
        assert found(good, case.rule) == []


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_a_patch_that_is_offered_removes_the_fault(case: Case, folder: Path) -> None:
    """patch(1) applies it to a copy, and the rule finds nothing there any more."""
    facts = facts_of(case.bad)
    told = [one for one in judge(facts).told if one.rule.id == case.rule]
    diff, left = patch(facts, told)
    if not diff:
        assert len(left) == len(told)
        return
    for path, text in case.bad.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    subprocess.run(["patch", "-p1", "-s", "-d", folder], input=diff, text=True, check=True)
    patched = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert found(patched, case.rule) == []
    assert set(case.bad) <= set(patched)


def test_every_rule_has_a_case() -> None:
    """And every case a rule."""
    assert {case.rule for case in CASES} == set(RULES)
    assert len(RULES) >= 40


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: str(rule.id))
def test_a_rule_says_everything(rule: object) -> None:
    """Title, why, when not, how to verify, the fix, the source; the title is no sentence with a full stop."""
    for name in ("title", "why", "unless", "verify", "fix", "source"):
        text = str(getattr(rule, name))
        assert text.strip() == text != ""
        assert "\n" not in text
    assert not str(getattr(rule, "title", "")).endswith(".")
