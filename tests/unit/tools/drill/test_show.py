"""What a drill ends in: plots where somebody looks, a page where one was asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from click.testing import CliRunner, Result

from lastcall.cli import main
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
    assert lines[-2] == "5 more runs are not drawn here; --report FILE draws all"


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


def lastcall(*arguments: str) -> Result:
    """Run `lastcall drill` with this command line."""
    return CliRunner().invoke(main, ["drill", *arguments])


@pytest.mark.parametrize(("losses", "code"), [(Losses(), 0), (Losses(reset=1), 1)])
def test_a_page_of_a_result_that_was_kept(folder: Path, losses: Losses, code: int) -> None:
    """Nothing is restarted; the exit code is the one that the drill had."""
    found = drill(run("x", "HUP", losses))
    (folder / "drill.json").write_bytes(results.encode(found))
    done = lastcall("--from-result", str(folder / "drill.json"), "--report", str(folder / "drill.html"))
    assert done.exit_code == code
    assert found.verdict.sentence in done.stdout
    assert f"report: {folder / 'drill.html'}" in done.stderr
    assert found.verdict.sentence in (folder / "drill.html").read_text()


def test_a_page_that_cannot_be_written_takes_nothing_from_the_result(folder: Path) -> None:
    """It is shown all the same, and the exit code tells. Where there is no folder, that is said before anything is done."""
    (folder / "drill.json").write_bytes(results.encode(drill(run("x", "HUP", Losses()))))
    done = lastcall("--from-result", str(folder / "drill.json"), "--report", "/proc/drill.html")
    assert (done.exit_code, "0 of 1,200 lost" in done.stdout) == (2, True)
    assert "/proc/drill.html: " in done.stderr
    early = lastcall("--report", str(folder / "none" / "drill.html"))
    assert early.exit_code == 2
    assert "there is no directory" in early.output


def test_what_is_no_result_is_a_usage_error(folder: Path) -> None:
    """In a line."""
    (folder / "x.json").write_text("{}")
    done = lastcall("--from-result", str(folder / "x.json"))
    assert done.exit_code == 2
    assert "this is no result of a drill" in " ".join(done.output.split())
