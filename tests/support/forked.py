"""A piece of work in a process of its own, which may be killed in the middle of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TypeVar, cast

Said = TypeVar("Said")


def in_child(work: Callable[[], Said], what: str) -> Said | None:
    """What it returns, which JSON must be able to carry; None where it was killed.

    Fails, naming `what` was done, when it ends in any other way. The caller must have no threads.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(work()).encode())
            os._exit(0)
        finally:
            os._exit(70)
    os.close(writer)
    with open(reader, "rb") as file:  # noqa: PTH123 - a descriptor
        said = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return None
    assert status == 0, f"{what}: it exited {status}"
    return cast("Said", json.loads(said))
