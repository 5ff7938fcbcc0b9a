"""Says words to workers: once, and again where the system had no room for a message.

A worker may have nothing to do until it is told, as at its start: then nothing else would make good for a word that is lost.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from lastcall.protocol.link import Word, pack
from lastcall.runtime import rights
from lastcall.runtime.surroundings import Link


@dataclass(frozen=True, slots=True)
class _Message:
    link: Link
    word: Word
    fds: tuple[int, ...]
    due: float = 0.0
    tries: int = rights.TRIES


class Telling:
    """`now` is the master's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._untold: list[_Message] = []

    def tell(self, link: Link, word: Word, fds: tuple[int, ...] = ()) -> None:
        """Say it. Behind what waits to be said: a worker hears words in their order."""
        message = _Message(link, word, fds)
        if any(each.link is link for each in self._untold):
            self._untold.append(message)
        else:
            self._try(message)

    def again(self, now: float) -> None:
        """Try again what is due."""
        waiting, self._untold = self._untold, []
        for message in waiting:
            if message.due > now or any(each.link is message.link for each in self._untold):
                self._untold.append(message)
            else:
                self._try(message)

    def forget(self, link: Link) -> None:
        """It is dead."""
        self._untold = [each for each in self._untold if each.link is not link]

    @property
    def busy(self) -> bool:
        """Something is still to be said."""
        return bool(self._untold)

    def next_due(self) -> float | None:
        return min((each.due for each in self._untold), default=None)

    def _try(self, message: _Message) -> None:
        try:
            rights.send(message.link.sock, pack(message.word), message.fds, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            # It is gone, and its exit is on its way; or it hears nothing any more, and its deadline is.
            if error.errno in rights.NO_ROOM and message.tries:
                self._untold.append(replace(message, due=self._now() + rights.AGAIN, tries=message.tries - 1))
