"""What master and worker say to each other, over the SEQPACKET pair that each worker has: one message a packet.

A packet is one letter and a text. The worker's serial is not in it: the socket is the worker's own.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

TEXT_MAX: Final = 32768
"""Bytes of a message's text; longer ones are cut in the middle. Far below what a socket buffer takes (212,992)."""


class Word(enum.Enum):
    """Master to worker."""

    SERVE = b"S"
    """The answer to READY: take requests from now on. Until then a worker has none, and may be killed. Ends a rest, too."""
    REST = b"P"
    """Take nothing new, finish what has begun, and stay: SERVE or DRAIN follows."""
    DRAIN = b"D"
    """Take nothing new, finish what has begun, exit."""
    TRACE = b"T"
    """Write down where each request is, then say TRACED."""
    WHERE = b"W"
    """Say where each request is, and what else a drain would wait for: WHERE is the answer. Nothing is written down."""
    LOGS = b"L"
    """New log files: their descriptors come with the packet (error log, then access log if there is one)."""


class Report(enum.Enum):
    """Worker to master."""

    READY = b"R"
    BOOT_FAILED = b"F"
    """The application cannot be loaded; the text says why. The worker exits."""
    SPENT = b"S"
    """Due for recycling; the text says why. It serves on until told to drain."""
    TRACED = b"T"
    WHERE = b"W"
    """The text is a Whereabouts, from `pack_where`."""


class Where(msgspec.Struct, frozen=True, array_like=True):
    """The line of code that a request is in."""

    lane: int
    request_id: str
    line: str
    """`/srv/gift/app.py:12 in send`: the innermost frame of the application."""


class Whereabouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker is busy with, as it sees it itself."""

    requests: tuple[Where, ...] = ()
    connections: int = 0
    """Those that run no request: the next three, and the idle ones."""
    arriving: int = 0
    """Requests that have not arrived as a whole."""
    queued: int = 0
    """Requests that have, and wait for a thread."""
    unsent: int = 0
    """Responses that their client has not taken yet."""


def pack_where(whereabouts: Whereabouts) -> bytes:
    """The packet of a WHERE report. Requests that do not fit are left out, the last first."""
    requests = whereabouts.requests
    while len(raw := msgspec.json.encode(whereabouts)) > TEXT_MAX:
        requests = requests[: len(requests) // 2]
        whereabouts = msgspec.structs.replace(whereabouts, requests=requests)
    letter: bytes = Report.WHERE.value
    return letter + raw


def read_where(text: str) -> Whereabouts:
    """Raises ValueError for a text that is no WHERE report's."""
    return msgspec.json.decode(text, type=Whereabouts)


def pack(message: Word | Report, text: str = "") -> bytes:
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) > TEXT_MAX:
        half = TEXT_MAX // 2 - 16
        raw = raw[:half] + b"\n  [...]\n" + raw[-half:]
    letter: bytes = message.value
    return letter + raw


def unpack_report(packet: bytes) -> tuple[Report, str]:
    """Raises ValueError for a letter that is no Report's."""
    return Report(packet[:1]), packet[1:].decode("utf-8", "replace")


def unpack_word(packet: bytes) -> Word:
    """Raises ValueError for a letter that is no Word's."""
    return Word(packet[:1])
