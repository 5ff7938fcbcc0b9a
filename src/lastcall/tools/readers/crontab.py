"""Crontabs: cron(8)'s in both forms, and anacron's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lastcall.tools.readers.text import Doubt, lines

_FIELD = r"[0-9*/,\-?LW#A-Za-z~]+"
_SCHEDULE = re.compile(rf"\s*(?P<when>@[a-z]+|(?:{_FIELD}\s+){{4}}{_FIELD})\s+(?P<rest>\S.*)$")
_SETTING = re.compile(r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=(?P<value>.*)$")
_ANACRON = re.compile(r"\s*(?P<when>\d+|@[a-z]+)\s+(?P<delay>\d+)\s+(?P<name>\S+)\s+(?P<rest>\S.*)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that runs something: when, as whom, what."""

    line: int
    when: str
    """Five fields with one blank between them, or `@reboot` and its like; for anacron, `every N days`."""
    user: str
    """"" where the crontab is a user's own."""
    command: str
    given: str = ""
    """What the command reads: all that stands behind the first bare `%`."""


@dataclass(frozen=True, slots=True)
class Crontab:
    """A file: what it runs, its environment, and the lines that are none of both."""

    entries: tuple[Entry, ...]
    environment: dict[str, str]
    doubts: tuple[Doubt, ...]


def parse(text: str, *, system: bool) -> Crontab:
    """Any text; `system` crontabs (/etc/crontab, /etc/cron.d) name a user before the command."""
    entries, environment, doubts = list[Entry](), dict[str, str](), list[Doubt]()
    for number, line in lines(text):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if setting := _SETTING.match(line):
            environment[setting["name"]] = setting["value"].strip().strip("\"'")
        elif scheduled := _SCHEDULE.match(line):
            entry = _entry(number, scheduled["when"], scheduled["rest"], system=system)
            if entry is None:
                doubts.append(Doubt(number, "there is a user and no command"))
            else:
                entries.append(entry)
        else:
            doubts.append(Doubt(number, "no schedule of cron's"))
    return Crontab(tuple(entries), environment, tuple(doubts))


def parse_anacron(text: str) -> Crontab:
    """/etc/anacrontab: period, delay, name, command."""
    entries, environment, doubts = list[Entry](), dict[str, str](), list[Doubt]()
    for number, line in lines(text):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if setting := _SETTING.match(line):
            environment[setting["name"]] = setting["value"].strip().strip("\"'")
        elif entry := _ANACRON.match(line):
            when = entry["when"] if entry["when"].startswith("@") else f"every {entry['when']} days"
            entries.append(Entry(number, when, "root", entry["rest"].strip()))
        else:
            doubts.append(Doubt(number, "no entry of anacron's"))
    return Crontab(tuple(entries), environment, tuple(doubts))


def _entry(line: int, when: str, rest: str, *, system: bool) -> Entry | None:
    user = ""
    if system:
        user, _, rest = rest.partition(" ") if " " in rest else rest.partition("\t")
        user, rest = user.split("\t")[0], (rest if "\t" not in user else user.partition("\t")[2] + " " + rest).strip()
        if not rest:
            return None
    parts = re.split(r"(?<!\\)%", rest)
    command, given = parts[0].replace("\\%", "%").strip(), "\n".join(parts[1:]).replace("\\%", "%")
    return Entry(line, " ".join(when.split()), user, command, given)
