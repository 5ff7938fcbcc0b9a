"""The machine loses its power: with `durability = "power"` nothing is lost that somebody has relied on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from durable import power
from lastcall.durable.journal import JournalError, Terms
from lastcall.durable.record import Record, State, StepState, full_key
from lastcall.durable.sqlite import Sqlite
from support.processes import ROOT

HERE = Path(__file__).parent


@pytest.fixture
def recorder(folder: Path) -> Path:
    """The library that records, compiled."""
    library = folder / "power.so"
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "power.c", "-ldl"], check=True)
    return library


def losses(folder: Path, ram: Path, recorder: Path, durability: str, enough: int) -> tuple[int, list[str]]:
    """Run requests, cut the power after every system call; how many disks were looked at, and what was missing on them.
    `enough`: losses after which nobody need look further.
    """
    journal, log, scratch = folder / "journal", folder / "log", ram / "cut"
    scratch.mkdir()
    env = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}:{ROOT}",
        "LD_PRELOAD": str(recorder),
        "POWER_FOLDER": str(journal),
        "POWER_LOG": str(log),
    }
    subprocess.run([sys.executable, "-m", "durable.power", str(journal), durability], env=env, check=True)
    assert log.stat().st_size > 100_000
    found: list[str] = []
    number = 0
    for where, marks in power.states(journal, log, scratch, seed=1):
        number += 1
        found += [f"{where.name} after {marks[-1:]}: {loss}" for loss in missing(where, marks)]
        shutil.rmtree(where)
        if len(found) >= enough:
            break
    return number, found


def missing(where: Path, marks: list[str]) -> list[str]:
    """What had been done, or said, before the power was cut, and the journal does not know."""
    if not marks:
        return []
    try:
        journal = Sqlite(where, Terms(durability="process"))
    except JournalError as error:
        return [str(error)]
    try:
        return [mark for mark in marks if not known(journal.find(full_key("/send", mark.split()[1])), mark)]
    except JournalError as error:
        return [str(error)]
    finally:
        journal.close()


def known(record: Record | None, mark: str) -> bool:
    if record is None:
        return False
    states = [step.state for step in record.steps]
    what, _, number = mark.partition(" ")
    match what:
        case "present":  # it may have happened: at least that has to be known
            return len(states) >= 1
        case "order":  # the present before it is certain
            return len(states) >= 2 and states[0] is StepState.DONE
        case _:
            answer = record.response
            return record.state is State.DONE and answer is not None and answer.body == f"done {number}".encode()


def test_nothing_is_lost_that_was_acknowledged(folder: Path, ram: Path, recorder: Path) -> None:
    """After every write and truncation: whatever part of the unsynced writes is on the disk, and in whatever order."""
    looked_at, found = losses(folder, ram, recorder, "power", 10)
    assert found == []
    assert looked_at > 300


def test_the_recorder_sees_what_is_not_synced(folder: Path, ram: Path, recorder: Path) -> None:
    """With `process` a power cut loses something, or this test would show nothing."""
    _, found = losses(folder, ram, recorder, "process", 1)
    assert found != []
