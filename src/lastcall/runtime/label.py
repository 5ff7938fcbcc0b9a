"""A connection's label: a small number on the connection itself, for all who have it, be they dead or alive.

It is even while somebody has the connection, and odd while it is on its way through an inbox. Whoever puts it in makes it
odd, whoever takes it out makes it even, and each time it is another number: so it can be told whether somebody has taken
a connection that a dead worker was about to give away.

The kernel keeps it with the open file, which all descriptors of a connection share: as the number of the signal that
announces input (F_SETSIG, fcntl(2)). It is sent to whoever has asked for it with O_ASYNC, which nobody has.
"""

from __future__ import annotations

import fcntl
from typing import Final

MODULUS: Final = 64
"""Of the numbers: a valid signal has one up to 64."""


def read(fd: int) -> int:
    """The label. Raises OSError."""
    return fcntl.fcntl(fd, fcntl.F_GETSIG)


def put(fd: int) -> int:
    """Before a connection goes into an inbox: another odd number, which is returned. Raises OSError."""
    return _write(fd, (read(fd) + 1 | 1) % MODULUS)


def taken(fd: int, expected: int) -> bool:
    """After it has come out: make it even; False where another copy of it has come out before. Raises OSError."""
    if read(fd) != expected:
        return False
    _write(fd, (expected + 1) % MODULUS)
    return True


def is_on_its_way(number: int) -> bool:
    return number % 2 == 1


def _write(fd: int, number: int) -> int:
    fcntl.fcntl(fd, fcntl.F_SETSIG, number)
    return number
