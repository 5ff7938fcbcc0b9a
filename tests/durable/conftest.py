"""The stores that the behaviour suite runs on: each a world of workers that share one journal."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.durable.journal import Journal, Terms
from lastcall.durable.memory import Memory
from lastcall.durable.sqlite import Sqlite
from support.durable import World


class Immortal(Memory):
    """A journal in memory that outlives the deaths of its workers, as their claims do not."""

    def close(self) -> None:
        self._claimed.clear()


def memory(_folder: Path) -> World:
    shared = Immortal()
    return World(lambda: shared, lambda _: shared.close())


def sqlite(folder: Path) -> World:
    said: list[str] = []

    def opened() -> Journal:
        return Sqlite(folder / "journal", Terms(durability="process"), tell=said.append)

    return World(opened, lambda journal: journal.close(), said)


WORLDS = {"memory": memory, "sqlite": sqlite}


@pytest.fixture(params=[pytest.param(name, id=name) for name in WORLDS])
def world(request: pytest.FixtureRequest, folder: Path) -> Iterator[World]:
    """A journal without any request, in each store."""
    made = WORLDS[request.param](folder)
    yield made
    made.close()


@pytest.fixture
def ram(folder: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a thing: nobody pulls a plug here, and hundreds of fsyncs take a minute."""
    where = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=where if where.is_dir() else folder, prefix="lc-") as name:
        yield Path(name)
