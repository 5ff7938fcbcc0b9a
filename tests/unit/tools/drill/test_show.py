"""What a drill ends in: plots where somebody looks, a page where one was asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from lastcall.core.mistakes import Mistake
from lastcall.tools.drill import results, show
from support.drill.sample import Losses, drill, run, whole


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """Somebody looks at it."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream, os.fdopen(master, "rb"):
        yield stream


def test_runs_are_drawn_on_a_terminal_only(terminal: TextIO) -> None:
    """What goes into a file or a pipe is for a program, or for somebody who did not ask for pictures."""
    found = drill(run("x", "HUP", Losses()))
    assert show.plots(found, io.StringIO()) == []
    assert "0 of 1,200 lost" in "\n".join(show.plots(found, terminal))


def test_of_many_runs_those_that_lost_are_drawn(terminal: TextIO) -> None:
    """In their order, and how many are left out is said."""
    found = whole()
    lines = show.plots(found, terminal)
    lost = [one.verdict.sentence for one in found.runs if one.verdict.lost]
    assert len(lost) == show.PLOTS_MAX
    assert [line for line in lines if " lost: " in line] == lost
    assert lines[-1] == "5 more runs are not drawn here; --report FILE draws all"


def test_a_result_that_was_kept_is_drawn_as_it_was(folder: Path) -> None:
    """The same page from the JSON."""
    found = drill(run("x", "HUP", Losses()))
    (folder / "drill.json").write_bytes(results.encode(found))
    show.write(found, folder / "now.html")
    show.write(show.read(folder / "drill.json"), folder / "later.html")
    assert (folder / "now.html").read_text() == (folder / "later.html").read_text()


def test_what_cannot_be_read_or_written_is_named(folder: Path) -> None:
    """In a line."""
    (folder / "x.json").write_text("{}")
    for wrong in (folder / "x.json", folder / "none.json"):
        with pytest.raises(Mistake, match=wrong.name):
            show.read(wrong)
    with pytest.raises(Mistake, match="directory"):
        show.write(drill(), folder)
