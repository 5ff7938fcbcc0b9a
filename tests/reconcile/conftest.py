"""Ledgers in files, and a way to have them compared."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from lastcall.cli import main

if TYPE_CHECKING:
    from support.mariadb import MariaDb
    from support.postgresql import Postgres


@dataclass(frozen=True)
class Answer:
    """What `lastcall reconcile --format json` has said."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """All of it."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def counts(self) -> dict[str, int]:
        """What became of how many orders, the zeros left out."""
        return {name: count for name, count in self.summary["counts"].items() if count}

    def keys(self, verdict: str) -> list[str]:
        """The orders of one kind."""
        return [" ".join(one["key"].values()) for one in self.summary["findings"] if one["verdict"] == verdict]

    def finding(self, key: str) -> dict[str, Any]:
        """What is said about one order."""
        (found,) = [one for one in self.summary["findings"] if " ".join(one["key"].values()) == key]
        return dict(found)


Ask = Callable[..., Answer]


@pytest.fixture
def ask(folder: Path) -> Ask:
    """Compare two sides; a text with line ends in it becomes a CSV file first."""

    def place(name: str, side: str | Path) -> str:
        if isinstance(side, str) and "\n" in side:
            (folder / f"{name}.csv").write_text(side)
            return str(folder / f"{name}.csv")
        return str(side)

    def run(left: str | Path, right: str | Path, *arguments: str, form: str = "json", key: str = "id") -> Answer:
        sides = [place("left", left), place("right", right)]
        rest = ["--key", key, "--spool", str(folder / "spool"), "--format", form, *arguments]
        done = CliRunner().invoke(main, ["reconcile", *sides, *rest], catch_exceptions=False)
        return Answer(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, one for each test process that asks for it."""
    from support.postgresql import Postgres  # noqa: PLC0415 (the drivers are slow to import)

    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A real MariaDB, likewise."""
    from support.mariadb import MariaDb  # noqa: PLC0415

    path = Path(tempfile.mkdtemp(prefix="lc-db-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, path)
        server = MariaDb(path)
        stack.callback(server.stop)
        yield server
