"""How a file should read: the edits that rules propose, kept as small as the file allows."""

from __future__ import annotations

import re

from lastcall.tools.doctor.facts import Facts
from lastcall.tools.doctor.verdicts import Edit
from lastcall.tools.readers.text import Spot, seconds

VENDOR = ("usr/lib/systemd/system/", "lib/systemd/system/")
"""Where a distribution keeps its units; what is changed there is lost with the next update."""


def valued(facts: Facts, spot: Spot, key: str, value: str) -> tuple[Edit, ...]:
    """The line at `spot` with another value for `key`, all else as it is; nothing where the key is not on it."""
    line = facts.line(spot)
    found = re.match(
        rf"(?P<head>\s*[\"']?{re.escape(key)}[\"']?\s*[=:\s]\s*)(?P<old>\"[^\"]*\"|'[^']*'|[^\s;#,]+)", line
    )
    if found is None:
        return ()
    quote = found["old"][0] if found["old"][0] in "\"'" and len(found["old"]) > 1 else ""
    new = f"{found['head']}{quote}{value}{quote}{line[found.end() :]}"
    return (Edit(spot.file, spot.line, (new,)),)


def worded(facts: Facts, spot: Spot, old: str, new: str) -> tuple[Edit, ...]:
    """The line at `spot` with one word in another's place; nothing where it is not there exactly once."""
    line = facts.line(spot)
    if not old or line.count(old) != 1:
        return ()
    return (Edit(spot.file, spot.line, (line.replace(old, new),)),)


def added(facts: Facts, behind: Spot, line: str) -> tuple[Edit, ...]:
    """A line more, behind this one."""
    return (Edit(behind.file, behind.line, (line,), behind=True),) if facts.line(behind) or behind.line else ()


def ini_set(facts: Facts, file: str, head: int, key: str, value: str) -> tuple[Edit, ...]:
    """`key = value` in an INI file: in place of the line that has it commented out, else behind the section's head."""
    source = facts.files[file]
    for number, line in enumerate(source.text.split("\n"), 1):
        if re.match(rf"\s*[;#]\s*{re.escape(key)}\s*=", line):
            return (Edit(file, number, (f"{key} = {value}",)),)
    return (Edit(file, head, (f"{key} = {value}",), behind=True),) if head else ()


def unit_set(facts: Facts, unit: str, key: str, value: str) -> tuple[Edit, ...]:
    """`key=value` for a unit: where it stands already, behind [Service], or as a drop-in of a distribution's unit."""
    found = facts.units[unit]
    entry = found.get("Service", key)
    if entry is not None and not any(place in entry.spot.file for place in VENDOR):
        return (Edit(entry.spot.file, entry.spot.line, (f"{key}={value}",)),)
    vendor = next((place for place in VENDOR if place in found.file), None)
    if vendor is not None:
        above = found.file.partition(vendor)[0]
        return (Edit(f"{above}etc/systemd/system/{found.name}.d/lastcall.conf", 0, ("[Service]", f"{key}={value}")),)
    for number, line in enumerate(facts.files[found.file].text.split("\n"), 1):
        if line.strip() == "[Service]":
            return (Edit(found.file, number, (f"{key}={value}",), behind=True),)
    return ()


def unit_stop(facts: Facts, unit: str, spot: Spot, new: str, timeout: int) -> tuple[Edit, ...]:
    """Another ExecStop line for a unit, and at least this many seconds for it; a drop-in of a distribution's unit."""
    found = facts.units[unit]
    limit = found.get("Service", "TimeoutStopSec")
    have = None if limit is None else seconds(limit.value)
    more = (f"TimeoutStopSec={timeout}",) if have is not None and have < timeout else ()
    vendor = next((place for place in VENDOR if place in spot.file), None)
    if vendor is not None:
        above = spot.file.partition(vendor)[0]
        drop = f"{above}etc/systemd/system/{found.name}.d/lastcall.conf"
        return (Edit(drop, 0, ("[Service]", "ExecStop=", new, *more)),)
    own = (Edit(spot.file, spot.line, (new,)),)
    return (*own, *(unit_set(facts, unit, "TimeoutStopSec", str(timeout)) if more else ()))


def indented(facts: Facts, like: Spot, text: str) -> str:
    """A text with the indentation of that line."""
    line = facts.line(like)
    return line[: len(line) - len(line.lstrip())] + text
