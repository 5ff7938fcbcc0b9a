"""The stores that the behaviour suite runs on: each a world of workers that share one journal."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.durable.journal import Journal, Terms
from lastcall.durable.memory import Memory
from lastcall.durable.mongodb import Mongodb
from lastcall.durable.postgresql import Postgresql
from lastcall.durable.sqlite import Sqlite
from support.durable import World
from support.mongod import Mongod
from support.postgresql import Postgres


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, for all tests of a process."""
    server = Postgres()
    yield server
    server.stop()


def of_postgresql(request: pytest.FixtureRequest) -> World:
    url = request.getfixturevalue("postgres").fresh()
    return World(lambda: Postgresql(url), lambda journal: journal.close())


def of_mongodb(request: pytest.FixtureRequest) -> World:
    mongod: Mongod = request.getfixturevalue("mongod")
    url = mongod.uri.replace("/?", f"/test_durable_{secrets.token_hex(4)}?")
    return World(lambda: Mongodb(url), lambda journal: journal.close())


STORES = [
    pytest.param("memory"),
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.xdist_group("mongod")),
    pytest.param("mongodb", marks=pytest.mark.xdist_group("mongod")),
]
"""One process has both servers."""


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest, folder: Path) -> Iterator[World]:
    """A journal without any request, in each store."""
    match request.param:
        case "memory":
            made = memory(folder)
        case "sqlite":
            made = sqlite(folder)
        case "postgresql":
            made = of_postgresql(request)
        case _:
            made = of_mongodb(request)
    yield made
    made.close()


@pytest.fixture
def ram(folder: Path) -> Iterator[Path]:
    """A folder in memory, where there is such a thing: nobody pulls a plug here, and hundreds of fsyncs take a minute."""
    where = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=where if where.is_dir() else folder, prefix="lc-") as name:
        yield Path(name)
