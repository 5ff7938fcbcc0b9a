"""What is said at a worker's door, when its master has died: one packet each way, then it is the worker's link.

    Claim    -> by the next master, with the custodian's new link, if the worker has one
    Standing <- by the worker, or by the custodian of one that has died, with everything that it has open and a master needs:
                the listeners, the two ends of the inbox, the reading ends of what it prints

Whoever cannot read a claim, or is not wanted, ends in order. A claimant that dies leaves the worker where it was.
"""

from __future__ import annotations

import enum

import msgspec

from lastcall.protocol.papers import Papers

FORMAT = 1
"""Raised when a reader of the old format would misunderstand the new one."""
PACKET_MAX = 65536
RIGHTS_MAX = 253
"""Descriptors in one packet (SCM_MAX_FD)."""


def door(serial: int) -> str:
    """The name of a worker's door in the run directory."""
    return f"worker-{serial}.sock"


DOORS = "worker-*.sock"


class Stage(enum.Enum):
    """What the worker does: by the last word of its master, who may not have lived to say what it had decided."""

    SERVING = "serving"
    RESTING = "resting"
    DRAINING = "draining"
    DEAD = "dead"
    """It is its custodian that speaks."""


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody is master now."""

    format: int
    pid: int
    wanted: bool = True
    """False: end in order, as when no master comes."""


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who answers, and what comes with it, in this order."""

    format: int
    serial: int
    pid: int
    """The worker's."""
    stage: Stage
    spent: str = ""
    """Why it is due for recycling."""
    custody: bool = False
    """It has a custodian, whose link it has replaced."""
    listeners: list[Papers] = []
    """A descriptor each, then the inbox's two."""
    outputs: list[str] = []
    """The streams (`stdout`, `stderr`), a descriptor each."""
    rests: list[bytes] = []
    """Of each, the unfinished line that was read from it."""
