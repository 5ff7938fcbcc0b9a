"""Which keys were certainly never seen: a byte for each hash, in a file that all workers of a machine map.

Most keys are new, and to find that out every file of the journal would have to be asked, which costs more than all the rest
where there are many. A byte that is 0 says so for certain; a byte that is 1 says nothing. It is set before the request is
written down, and never taken back: the file is made anew, from what the journal has, by whoever opens it while nobody else
has it open, once a day, and whenever the machine has started since, for a map is not on the disk before its machine dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

NAME: Final = "seen"
PLACES: Final = 1 << 24
"""Bytes: with a million keys one in seventeen new ones is looked up in vain. Those that were never used take no room."""
_HEAD: Final = struct.Struct("<16s36sd")
"""Magic, boot id, when it was made."""
_MAGIC: Final = b"lastcall-seen-1\0"
_OFF_AT: Final = 128
"""A byte: not to be believed, whoever has it mapped."""
_FIRST: Final = 4096
MADE_ANEW: Final = 86400.0


def _boot() -> bytes:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36].ljust(36)
    except OSError:
        return b"".ljust(36)


class Seen:
    """Open as long as its process may write into the journal."""

    def __init__(self, folder: Path, keys: Callable[[], Iterable[int]], now: float) -> None:
        """`keys`: the numbers of all keys in the journal, or OSError where they cannot all be read. Raises OSError."""
        self._fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            alone = self._lock_alone()
            if os.fstat(self._fd).st_size != _FIRST + PLACES:
                os.ftruncate(self._fd, _FIRST + PLACES)
            self._memory = mmap.mmap(self._fd, _FIRST + PLACES)
            if alone and not self._is_fresh(now):
                self._make(keys, now)
            fcntl.flock(self._fd, fcntl.LOCK_SH)
            if not self._is_ours():  # whoever was making it has died in the middle, or could not
                self._memory[_OFF_AT] = 1
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Let go of the lock: the map has a descriptor of its own, which shares it."""
        self._memory.close()
        os.close(self._fd)

    def _lock_alone(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._fd, fcntl.LOCK_SH)  # waits for whoever makes it
            return False
        return True

    def _is_ours(self) -> bool:
        magic, boot, _ = _HEAD.unpack_from(self._memory)
        return bool(magic == _MAGIC and boot == _boot())

    def _is_fresh(self, now: float) -> bool:
        _, _, made = _HEAD.unpack_from(self._memory)
        return self._is_ours() and not self._memory[_OFF_AT] and 0 <= now - made < MADE_ANEW

    def _make(self, keys: Callable[[], Iterable[int]], now: float) -> None:
        """Nobody else has it mapped: they would hold the lock."""
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, _FIRST + PLACES)
        try:
            for number in keys():
                self.add(number)
        except OSError:
            return  # it has no head, and is not believed
        _HEAD.pack_into(self._memory, 0, _MAGIC, _boot(), now)

    def add(self, number: int) -> None:
        """A request with this key is about to be written down."""
        self._memory[_FIRST + number % PLACES] = 1

    def may_have(self, number: int) -> bool:
        """False: it was never seen."""
        memory = self._memory
        return memory[_FIRST + number % PLACES] == 1 or memory[_OFF_AT] == 1
