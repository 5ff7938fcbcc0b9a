"""Durations, sizes, counts and permission bits: from what people write to numbers, and back.

For each quantity `parse_x(format_x(value)) == value` holds, and whatever is not one raises Mistake.
"""

from __future__ import annotations

import re

from lastcall.core.mistakes import Mistake

DURATION_MAX = 20 * 86400.0
"""Seconds. epoll_wait(2) counts milliseconds in an int, which ends at 24.8 days."""

SIZE_MAX = 1 << 62
"""Bytes. Leaves room to add within a signed 64-bit number, which is what files and sockets count in."""

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = ("", "KiB", "MiB", "GiB", "TiB")
_BYTES = {"": 1, "b": 1} | {
    suffix: 1024**power for power, unit in enumerate("kmgt", 1) for suffix in (unit, f"{unit}b", f"{unit}ib")
}
_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})\s*([A-Za-z]*)")
_COUNT = re.compile(r"[0-9]{1,18}")
_MODE = re.compile(r"(?:0o)?[0-7]{1,5}")


def parse_duration(text: str) -> float:
    """Seconds, to the microsecond, of `30`, `1.5`, `500ms`, `2m`, `1h`, `1d`."""
    remedy = "write seconds, or a number with ms, s, m, h or d: 30, 500ms, 2m"
    match = _NUMBER_AND_UNIT.fullmatch(text.strip(" \t"))
    if match is None or match[2] not in _SECONDS:
        raise Mistake(f"{text!r} is not a duration", remedy)
    return checked_duration(float(match[1]) * _SECONDS[match[2]])


def checked_duration(seconds: float) -> float:
    """The same, to the microsecond, where it is one that can be waited for."""
    if not 0 <= seconds <= DURATION_MAX:  # false for nan, too
        raise Mistake(f"{seconds:g} seconds cannot be waited for", f"write 0 to {DURATION_MAX / 86400:g}d")
    return round(float(seconds), 6)


def format_duration(seconds: float) -> str:
    """The shortest text in one unit: `75s`, `1.5s`, `250ms`, `2h`, and `0`."""
    if not seconds:
        return "0"
    if 0 < seconds < 1 and (seconds * 1000).is_integer():
        return f"{seconds * 1000:.0f}ms"
    for unit in ("d", "h", "m"):
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def parse_size(text: str) -> int:
    """Bytes of `8190`, `64KiB`, `64k`, `1M`, `1.5GiB`. All units are powers of 1024, as nginx and PHP have them."""
    remedy = "write bytes, or a number with KiB, MiB, GiB or TiB: 8190, 64KiB, 1GiB"
    match = _NUMBER_AND_UNIT.fullmatch(text.strip(" \t"))
    if match is None or match[2].lower() not in _BYTES:
        raise Mistake(f"{text!r} is not a size", remedy)
    factor = _BYTES[match[2].lower()]
    size = int(match[1]) * factor if match[1].isdigit() else float(match[1]) * factor
    if size != int(size):
        raise Mistake(f"{text!r} is not a whole number of bytes", remedy)
    return checked_size(int(size))


def checked_size(size: int) -> int:
    """The same, where it is one that can be counted to."""
    if not 0 <= size <= SIZE_MAX:
        raise Mistake(f"{size} bytes cannot be counted", "write 0 or more, and less than 4 million TiB")
    return size


def format_size(size: int) -> str:
    """The shortest exact text: `8190`, `64KiB`, `1GiB`."""
    power = 0
    while size and size % 1024 == 0 and power < len(_SIZE_UNITS) - 1:
        size //= 1024
        power += 1
    return f"{size}{_SIZE_UNITS[power]}"


def parse_count(text: str) -> int:
    """A whole number, not negative."""
    if not _COUNT.fullmatch(text.strip(" \t")):
        raise Mistake(f"{text!r} is not a whole number", "write digits only: 4")
    return int(text)


def parse_mode(text: str) -> int:
    """Permission bits, always octal: `660`, `0660` and `0o660` are the same."""
    if not _MODE.fullmatch(text.strip(" \t")):
        raise Mistake(f"{text!r} is not a file mode", "write octal digits, as chmod takes them: 0660")
    return checked_mode(int(text.strip(" \t").removeprefix("0o"), 8))


def checked_mode(mode: int) -> int:
    """The same, where it is permission bits."""
    if not 0 <= mode <= 0o7777:
        raise Mistake(f"{mode:o} is not a file mode", "write at most four octal digits: 0660")
    return mode


def format_mode(mode: int) -> str:
    """Four octal digits: `0660`."""
    return f"{mode:04o}"
