"""What is written down about a listener that outlives its process: its papers.

They travel beside the descriptor, to a holder and through an exec; systemd keeps them as the descriptor's name.
"""

from __future__ import annotations

import re

import msgspec

INBOX_OUT = "lastcall.inbox.out"
INBOX_IN = "lastcall.inbox.in"
"""FDNAMEs of the inbox's two ends in systemd's store."""
_NAME = re.compile(r"lastcall\.(http|fastcgi)\.([0-9]{1,5})")


class Papers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a listener is. What was not said when it was handed on is empty."""

    protocol: str = ""
    """`http` or `fastcgi`."""
    address: str = ""
    """As it was configured, with port 0 where the kernel has chosen."""
    number: int | None = None
    """What connections on their way through the inbox know it by."""
    file: tuple[int, int] | None = None
    """Device and inode of a UNIX socket's path when it was bound."""
    lent: bool = False
    """A service manager has opened it, and goes on listening when we have ended: it is not ours to close."""
    activated: bool = False
    """It was lent with a word what it is for: it needs no address in the configuration."""


def stored_name(papers: Papers) -> str:
    """FDNAME for systemd's store of descriptors: no colon, at most 255 characters."""
    return f"lastcall.{papers.protocol}.{papers.number}"


def from_name(name: str) -> Papers:
    """The papers of a descriptor that systemd hands us by this name: stored by us, or called `http` or `fastcgi`."""
    stored = _NAME.fullmatch(name)
    if stored is not None:
        return Papers(stored[1], number=int(stored[2]))
    return Papers(name if name in ("http", "fastcgi") else "")
