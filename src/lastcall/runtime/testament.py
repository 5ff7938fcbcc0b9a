"""What the master's loop knows, written down for its next image (`protocol/handover.py`), and how to go on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lastcall.core import lifecycle as lc
from lastcall.protocol import handover
from lastcall.runtime.surroundings import Link, Resources
from lastcall.runtime.upgrade import plain


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


def worker(there: lc.Worker, link: Link, heard: Iterable[int]) -> handover.Worker:
    """A worker; `heard` are the descriptors of the outputs that have not ended."""
    assert there.pid is not None
    outputs = [
        handover.Output(reader.fileno(), reader.stream, reader.rest)
        for reader in link.output
        if reader.fileno() in heard
    ]
    return handover.Worker(
        there.serial, there.slot, there.generation, there.stage.name.lower(), there.pid, link.sock.fileno(),
        there.born, there.since, there.deadline, there.ready_at, there.spent, there.overdue,
        link.serving, link.reported, link.max_age, outputs, link.ward.sock.fileno() if link.ward else -1,
        link.ward.keeper if link.ward else 0, there.limit,
    )  # fmt: skip
