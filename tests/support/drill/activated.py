"""Run a program under listeners that it inherits, as systemd does: they are its descriptors from 3 on.

python -m support.drill.activated 7,9 lastcall serve ...
"""

from __future__ import annotations

import os
import sys
from typing import Final

FIRST: Final = 3
"""SD_LISTEN_FDS_START."""


def main() -> None:
    """Put the descriptors where they belong, say so, and be the program."""
    given = [os.dup(int(number)) for number in sys.argv[1].split(",")]  # so that none is overwritten before its turn
    safe = [os.dup2(fd, 100 + number) for number, fd in enumerate(given)]
    for number, fd in enumerate(safe):
        os.dup2(fd, FIRST + number)
        os.set_inheritable(FIRST + number, True)
        os.close(fd)
    os.closerange(FIRST + len(safe), 256)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(safe))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 (the point)


if __name__ == "__main__":
    main()
