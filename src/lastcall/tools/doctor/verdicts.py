"""The words of a judgement: a rule, what it has found and where, and how the file should read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from lastcall.tools.readers.text import Spot

if TYPE_CHECKING:
    from lastcall.tools.doctor.facts import Facts


class Severity(Enum):
    """How bad it is."""

    ERROR = "error"
    """Requests are cut, lost, or run twice, each time that it happens."""
    WARNING = "warning"
    """Requests are lost under conditions that will come; or nobody is served for a while."""
    NOTE = "note"
    """Somebody should know."""

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of a file. `line` is replaced by `lines`; or they are put behind it. Line 0 is a file that is new."""

    file: str
    line: int
    lines: tuple[str, ...]
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What led to a finding: where, and what it says there."""

    spot: Spot
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault: where, and one sentence that says what it is in this case."""

    spot: Spot
    text: str
    edits: tuple[Edit, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Unclear:
    """A place that a rule is about and that nobody can judge: a template, an unknown value."""

    spot: Spot
    why: str


Verdict = Finding | Unclear


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault that we look for."""

    id: str
    severity: Severity
    title: str
    why: str
    unless: str
    """When it does not apply, though it may look so."""
    verify: str
    """How anybody can see that it is true."""
    fix: str
    source: str
    """Where we have it from."""
    check: Callable[[Facts], Iterator[Verdict]]


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, and the rule that it is of."""

    rule: Rule
    finding: Finding
