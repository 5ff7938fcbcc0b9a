"""What drills are given: a stage, and how often an operation is repeated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from support.drill import REQUESTS, RESTARTS, TABLE
from support.drill.fronts import ALL, Front
from support.drill.judge import Verdict
from support.drill.stage import Stage
from support.gift import Platforms
from support.lastcall import Servers
from support.nginx import Nginx


@pytest.fixture
def platforms(folder: Path) -> Iterator[Platforms]:
    """Gift platforms, which end with the test."""
    started = Platforms(folder)
    yield started
    started.close()


@pytest.fixture
def rehearsal() -> Rehearsal:
    """Short in CI; scripts/drill asks for the long one."""
    restarts = int(os.environ.get(RESTARTS, "0"))
    requests = int(os.environ.get(REQUESTS, "400"))
    return Rehearsal(restarts, requests, long=True) if restarts else Rehearsal(4, 80, long=False)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How much of a drill is done."""

    restarts: int
    """How often an operation is repeated in one cell."""
    between: int
    """Requests between two of them."""
    long: bool
    """Time is judged strictly: the machine is ours, and there are enough requests."""

    def assert_prompt(self, verdict: Verdict) -> None:
        """The longest time without a success is below twice the steady 99th percentile; in CI, where neighbours take
        the processor for as long as they like, below what a reload that stops the world would take.
        """
        row = verdict.whole()
        limit = 2 * row.steady if self.long else max(1000.0, 5 * row.steady)
        assert row.gap < limit, f"nobody was served for {row.gap:.0f} ms\n{verdict}"


class Stages(Protocol):
    """Makes a stage: see `Stage`."""

    def __call__(
        self, *arguments: str, fronts: tuple[Front, ...] = ALL, gift: bool = True, latency: str = "20ms",
        workers: int = 4, without: str = "", boot: str = "", app: str = "", program: Sequence[str] = (),
    ) -> Stage:  # fmt: skip
        """One stage for one test."""


@pytest.fixture
def stage(serve: Servers, nginx: Nginx, platforms: Platforms, folder: Path) -> Stages:
    """A service with everything that leads to it."""

    def build(
        *arguments: str, fronts: tuple[Front, ...] = ALL, gift: bool = True, latency: str = "20ms",
        workers: int = 4, without: str = "", boot: str = "", app: str = "", program: Sequence[str] = (),
    ) -> Stage:  # fmt: skip
        return Stage(
            serve, nginx, platforms, folder, *arguments,
            fronts=fronts, gift=gift, latency=latency, workers=workers, without=without, boot=boot, app=app, program=program,
        )  # fmt: skip

    return build


Judged = Callable[[Verdict], Verdict]


@pytest.fixture
def judged() -> Judged:
    """Keeps a verdict for the table of scripts/drill."""

    def keep(verdict: Verdict) -> Verdict:
        path = os.environ.get(TABLE)
        if path:
            with Path(path).open("ab") as table:
                table.writelines(msgspec.json.encode(row) + b"\n" for row in (*verdict.rows(), verdict.whole()))
        return verdict

    return keep
