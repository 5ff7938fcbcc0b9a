"""What the master's loop knows, written down for its next image, or for the next master (`protocol/handover.py`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lastcall.core import lifecycle as lc
from lastcall.protocol import handover
from lastcall.protocol.control import LastReload, LastTakeover
from lastcall.runtime.upgrade import plain

if TYPE_CHECKING:
    from lastcall.runtime.surroundings import Link, Resources

NAME: Final = "testament"
"""The file in the run directory."""


class Testament:
    """The file, replaced as a whole. It need not outlive the machine: what it speaks of does not either."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._fresh = directory / f".{NAME}"

    def write(self, document: bytes) -> None:
        """Raises OSError; the one before is there then."""
        fd = os.open(self._fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while document:
                document = document[os.write(fd, document) :]
        finally:
            os.close(fd)
        self._fresh.replace(self._path)


@dataclass(slots=True)
class Tally:
    """What is counted, and goes on being counted by whoever is master next."""

    started: float
    """Unix time."""
    born: float
    """The same, on the monotonic clock."""
    requests: int = 0
    """Finished by workers that are gone."""
    cut: int = 0
    deaths: int = 0
    last_reload: LastReload | None = None
    last_takeover: LastTakeover | None = None


def tally(there: handover.Reign) -> Tally:
    """As it was written down."""
    return Tally(
        there.started, there.born, there.requests, there.cut, there.deaths, there.last_reload, there.last_takeover
    )  # fmt: skip


def reign(
    state: lc.Master, links: Mapping[int, Link], generations: list[handover.Release], tally: Tally
) -> handover.Reign:
    """All that the loop knows.

    A worker without a link has been buried a moment ago, and the machine has not heard of it: there is nothing to be left.
    """
    return handover.Reign(
        current=state.current.generation,
        fallback=None if state.fallback is None else state.fallback.generation,
        overtaken=[release.generation for release in state.overtaken],
        releases=generations,
        workers=[worker(each, links[each.serial]) for each in state.workers if each.pid and each.serial in links],
        serial=state.serial,
        generation=state.generation,
        first=state.first,
        failures=list(state.failures),
        forks_failed=state.forks_failed,
        spawn_after=state.spawn_after,
        calm_since=state.calm_since,
        why=state.why,
        waiting=list(state.waiting),
        untried=state.untried,
        announced=state.announced,
        started=tally.started,
        born=tally.born,
        requests=tally.requests,
        cut=tally.cut,
        deaths=tally.deaths,
        last_reload=tally.last_reload,
        last_takeover=tally.last_takeover,
    )


def releases(state: lc.Master, held: Mapping[int, Resources], newest: Resources) -> list[handover.Release]:
    """Every generation that something is held of: what it was given, and how many workers it should have by now."""
    named = {release.generation: release for release in (state.current, *state.overtaken)}
    if state.fallback is not None:
        named[state.fallback.generation] = state.fallback
    return [
        handover.Release(
            generation, plain(resources.settings),
            named[generation].policy.workers if generation in named else resources.settings.workers,
            [listener.number for listener in resources.listeners],
        )
        for generation, resources in ((n, held.get(n, newest)) for n in state.generations)
    ]  # fmt: skip


def worker(there: lc.Worker, link: Link) -> handover.Worker:
    """A worker, with those of its outputs that have not ended."""
    assert there.pid is not None
    outputs = [
        handover.Output(reader.fileno(), reader.stream, reader.rest) for reader in link.output if not reader.closed
    ]
    return handover.Worker(
        there.serial, there.slot, there.generation, there.stage.name.lower(), there.pid, link.sock.fileno(),
        there.born, there.since, there.deadline, there.ready_at, there.spent, there.overdue,
        link.serving, link.reported, link.max_age, outputs, link.ward.sock.fileno() if link.ward else -1,
        link.ward.keeper if link.ward else 0, there.limit, link.pidfd,
    )  # fmt: skip
