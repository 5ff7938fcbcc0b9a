"""Merges the sources of settings, and remembers where each value came from.

In order of precedence: the command line; the environment (`LASTCALL_<NAME>`); the TOML file; what hosting platforms
set (`PORT`, `WEB_CONCURRENCY`); the defaults. All sources are read and all their mistakes are told, also those that a
source of higher precedence hides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lastcall.config import checks, toml
from lastcall.config.origins import (
    COMMAND_LINE,
    DEFAULT,
    ENVIRONMENT,
    ConfigErrors,
    Entry,
    Loaded,
    Place,
    Problem,
    problem_at,
)
from lastcall.core import address, values
from lastcall.core.mistakes import Mistake
from lastcall.core.settings import DEFAULT_HTTP, ENV_PREFIX, SPECS, Kind, Spec, Value, build

CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"
"""Names the TOML file where the command line does not."""


@dataclass(frozen=True, slots=True)
class Sources:
    """All that settings are read from. Reading again, for a reload, sees the file as it is then."""

    cli: Mapping[str, object]
    """Options as written, by setting: text, a sequence of texts, a flag; None is `not given`."""
    environ: Mapping[str, str]
    file: Path | None = None
    directory: Path = field(default_factory=Path.cwd)
    """What relative paths of command line and environment are relative to."""

    def read(self) -> Loaded:
        """Settings that can be started with: sound, and the system has what they name. Raises ConfigErrors."""
        loaded, problems = self._merged()
        return _accepted(loaded, [*problems, *checks.system(loaded)])

    def load(self) -> Loaded:
        """Settings that are sound in themselves, whatever the system is like. Raises ConfigErrors."""
        return _accepted(*self._merged())

    def _merged(self) -> tuple[Loaded, list[Problem]]:
        """What could be read, with defaults for what could not, and every problem."""
        found: dict[str, Entry] = {}
        problems: list[Problem] = []
        file = None if self.file is None else self.directory / self.file
        from_file = toml.load(file) if file is not None else ({}, [])
        anchor = self.directory if file is None else file.parent
        for base, (entries, mistakes) in (
            (anchor, from_file),
            (self.directory, _from_environment(self.environ)),
            (self.directory, _from_command_line(self.cli)),
        ):
            problems += mistakes
            found |= _anchored(entries, base, problems)
        problems += _fill_from_platform(found, self.environ)
        settings = build({name: entry.value for name, entry in found.items()})
        places = {name: found[name].place if name in found else Place(DEFAULT, 0, name) for name in SPECS}
        problems += checks.relations(settings, places)
        return Loaded(settings, places, file), problems


def _accepted(loaded: Loaded, problems: list[Problem]) -> Loaded:
    if any(problem.fatal for problem in problems):
        raise ConfigErrors(problems)
    return replace(loaded, warnings=tuple(problems))


def load(cli: Mapping[str, object], environ: Mapping[str, str], file: Path | None) -> Loaded:
    """The settings of these sources, paths relative to the working directory. Raises ConfigErrors."""
    return Sources(cli, environ, file).load()


# --- The sources -------------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> tuple[dict[str, Entry], list[Problem]]:
    """An empty variable is as good as none: `LASTCALL_X=${X:-}` is how compose files pass what may be missing."""
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for spec in SPECS.values():
        text = environ.get(spec.variable, "")
        if text:
            _read(spec, text, Place(ENVIRONMENT, 0, spec.variable), entries, problems)
    known = {spec.variable for spec in SPECS.values()} | {CONFIG_VARIABLE}
    for variable in environ:
        if variable.startswith(ENV_PREFIX) and variable not in known:
            # Only a likely slip is worth a line: Kubernetes sets LASTCALL_SERVICE_HOST and the like by itself.
            near = toml.nearest(variable.removeprefix(ENV_PREFIX))
            if near is not None:
                place = Place(ENVIRONMENT, 0, variable)
                remedy = f"did you mean {SPECS[near].variable}?"
                problems.append(problem_at(place, "there is no such setting", remedy, fatal=False))
    return entries, problems


def _from_command_line(cli: Mapping[str, object]) -> tuple[dict[str, Entry], list[Problem]]:
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    for name, given in cli.items():
        spec = SPECS[name]
        place = Place(COMMAND_LINE, 0, spec.option)
        match given:
            case None | ():
                continue
            case bool():
                entries[name] = Entry(given, place)
            case tuple() | list():
                _read(spec, ",".join(map(str, given)), place, entries, problems)
            case _:
                _read(spec, str(given), place, entries, problems)
    return entries, problems


def _fill_from_platform(found: dict[str, Entry], environ: Mapping[str, str]) -> list[Problem]:
    """PORT and WEB_CONCURRENCY, where nothing else has said it; then the default listener."""
    problems: list[Problem] = []
    if not any(found[name].value for name in ("http", "fastcgi") if name in found):
        port = environ.get("PORT", "")
        if port:
            # 0.0.0.0: the platform's router is another machine, that is what PORT is for
            _read(SPECS["http"], f"0.0.0.0:{port}", Place(ENVIRONMENT, 0, "PORT"), found, problems)
        else:
            found["http"] = Entry((DEFAULT_HTTP,), Place(DEFAULT, 0, "http"))
    concurrency = environ.get("WEB_CONCURRENCY", "")
    if concurrency and "workers" not in found:
        _read(SPECS["workers"], concurrency, Place(ENVIRONMENT, 0, "WEB_CONCURRENCY"), found, problems)
    return problems


def _read(spec: Spec, text: str, place: Place, entries: dict[str, Entry], problems: list[Problem]) -> None:
    try:
        entries[spec.name] = Entry(values.read(spec, text), place)
    except Mistake as mistake:
        problems.append(problem_at(place, mistake.text, mistake.remedy))


# --- Paths -------------------------------------------------------------------


def _anchored(entries: dict[str, Entry], base: Path, problems: list[Problem]) -> dict[str, Entry]:
    """The same with absolute paths, so that a later chdir changes the meaning of none."""
    anchored: dict[str, Entry] = {}
    for name, entry in entries.items():
        try:
            anchored[name] = Entry(_absolute(SPECS[name].kind, entry.value, base), entry.place)
        except Mistake as mistake:
            problems.append(problem_at(entry.place, mistake.text, mistake.remedy))
    return anchored


def _absolute(kind: Kind, value: Value, base: Path) -> Value:
    match kind, value:
        case (Kind.PATH, str()) if value:
            return os.path.normpath(base / value)
        case (Kind.LOG, str()) if value not in ("", "-"):
            return os.path.normpath(base / value)
        case (Kind.ADDRESSES, tuple()):
            return tuple(_absolute_address(text, base) for text in value)
        case _:
            return value


def _absolute_address(text: str, base: Path) -> str:
    place = address.parse(text)
    if place.family != "unix" or place.abstract:
        return text
    # parsed again: the absolute path may be too long for the kernel where the relative one was not
    return str(address.parse(f"unix:{os.path.normpath(base / place.path)}"))
