"""Where a value came from, what is wrong with it, and the settings that came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lastcall.core import exits
from lastcall.core.settings import Settings, Value

COMMAND_LINE = "command line"
ENVIRONMENT = "environment"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: a source and the name that it has there."""

    file: str
    """A file's path, or COMMAND_LINE, ENVIRONMENT, DEFAULT."""
    line: int
    """0 where there are no lines."""
    key: str

    def __str__(self) -> str:
        """`/etc/lastcall.toml:12`, `command line (--workers)`, `environment (PORT)`, `default`."""
        if self.file == DEFAULT:
            return DEFAULT
        return f"{self.file}:{self.line}" if self.line else f"{self.file} ({self.key})"


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and its place."""

    value: Value
    place: Place


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    file: str
    line: int
    key: str
    text: str
    remedy: str
    column: int = 0
    fatal: bool = True
    """False: we can start, but somebody should know."""

    def __str__(self) -> str:
        """`/etc/lastcall.toml:12: workers: 'two' is not a whole number (write digits only: 4)`."""
        at = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        said = ": ".join(part for part in (at, self.key, f"{self.text} ({self.remedy})") if part)
        return said if self.fatal else f"warning: {said}"


def problem_at(place: Place, text: str, remedy: str, *, fatal: bool = True) -> Problem:
    """A problem with the value that stands there."""
    return Problem(place.file, place.line, place.key, text, remedy, fatal=fatal)


class ConfigErrors(Exception):
    """The configuration cannot be used. `problems` has every reason, never only the first, and the warnings too."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))

    @property
    def exit_code(self) -> int:
        """EX_USAGE where only options are wrong, else EX_CONFIG."""
        usage = all(problem.file == COMMAND_LINE for problem in self.problems if problem.fatal)
        return exits.USAGE if usage else exits.CONFIG


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that may be used, and where each came from."""

    settings: Settings
    places: Mapping[str, Place]
    """By the setting's name; every setting is in it."""
    file: Path | None = None
    """The configuration file that was read."""
    warnings: tuple[Problem, ...] = ()
    """What is no reason to refuse, but should be in the log."""

    @property
    def origins(self) -> dict[str, str]:
        """The places in words."""
        return {name: str(place) for name, place in self.places.items()}
