"""The master in a faulty world: thousands of lives, the rules checked at every step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simulation.sim import World, simulate

SEEDS = int(os.environ.get("LASTCALL_SEEDS", "2000"))
BASE = int(os.environ.get("LASTCALL_SEED_BASE", "20170625"))
CHUNK = 100
KNOWN = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if not line.startswith("#")
]


def live(seed: int) -> World:
    try:
        return simulate(seed)
    except AssertionError as error:
        error.add_note(f"seed {seed}: python -m simulation.sim {seed}")
        raise


@pytest.mark.parametrize("seed", KNOWN)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    """Each seed that has found a bug is run for ever."""
    live(seed)


@pytest.mark.parametrize("first", range(BASE, BASE + SEEDS, CHUNK))
def test_the_master_keeps_its_rules_in_every_life(first: int) -> None:
    """Whatever goes wrong no rule is broken; and when nothing goes wrong any more the pool becomes whole."""
    for seed in range(first, min(first + CHUNK, BASE + SEEDS)):
        live(seed)


def test_the_same_seed_is_the_same_life() -> None:
    """No decision depends on anything but the events and the time."""
    for seed in range(BASE, BASE + 20):
        one, two = simulate(seed, tell=str), simulate(seed, tell=str)
        assert one.trace.hexdigest() == two.trace.hexdigest()
        assert one.master == two.master


def test_the_lives_are_eventful() -> None:
    """A simulation in which nothing happens finds nothing: reloads succeed, fail and are taken back."""
    lives = [simulate(seed) for seed in range(BASE, BASE + 100)]
    assert sum(life.finished > 1 for life in lives) > 20
    assert sum(bool(life.failed) for life in lives) > 10
    assert 3 < sum(life.exits == [70] for life in lives) < 30
    assert sum(life.recalled for life in lives) > 5
    assert sum(life.usurped for life in lives) > 30
    assert sum(life.steps for life in lives) > 3_000
