"""A run on a terminal: as wide as it, in what it can show, and every kind of loss is there."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import msgspec
import pytest

from lastcall.tools.drill.plot import HEIGHT, Look, look, plot
from lastcall.tools.drill.results import Records
from support.drill.sample import LEDGER, OUTCOMES, Losses, run, whole


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """One of 72 columns."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as stream, os.fdopen(master, "rb"):
        yield stream


def test_a_run_in_ascii() -> None:
    """Restarts are columns with numbers, losses letters, answered requests points and colons."""
    records = Records(
        began=[0.5, 1.0, 2.0, 2.0, 3.0], took=[0.05, 0.05, 0.01, 0.0002, 0.05], outcome=[0, 0, 5, 1, 0],
        amiss=[0, 0, 1, 0, 0], client=[0] * 5, id=list("abcde"),
        near=[-1, -1, 0, 0, -1], outcomes=OUTCOMES, ledger=LEDGER, clients=["HTTP 0"],
    )  # fmt: skip
    one = run("php-fpm 8.2", "TERM, start", Losses(), requests=480, restarts=1)
    one = msgspec.structs.replace(
        one, records=records, took=4.0, restarts=[msgspec.structs.replace(one.restarts[0], began=2.0, ended=2.5)],
    )  # fmt: skip
    assert plot(one, Look(49, unicode=False)) == [
        "TERM, start, php-fpm 8.2, nginx, new connections",
        "0 of 480 lost: below 0.62 % at 95 %",
        "                             1",
        " 100 ms +                    |",
        "        |     .    .         |         .",
        "        |                    |",
        "  10 ms +                    #",
        "        |                    |",
        "        |                    |",
        "        |                    |",
        "        |                    |",
        "   1 ms +                    |",
        "        |                    |",
        "        |                    v",
        " 0.1 ms +                    |",
        "        ++---------+---------+---------+---------",
        "         0 s       1 s       2 s       3 s",
        "         # 1 books wrong   v 1 refused",
        "         . 3 answered",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 57, 80, 160])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, *, unicode: bool) -> None:
    """Of no run; and in ASCII all is ASCII."""
    for one in whole().runs:
        lines = plot(one, Look(width, unicode))
        assert max(map(len, lines)) <= width
        assert len(lines) >= HEIGHT + 5
        assert unicode or all(map(str.isascii, lines))


def test_without_colour_nothing_is_lost() -> None:
    """Colours are sequences around the same signs."""
    one = whole().runs[0]
    coloured = "\n".join(plot(one, Look(100, colour=True)))
    assert "\x1b[1;31m◆\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == "\n".join(plot(one, Look(100)))


def test_a_title_cannot_steer_the_terminal() -> None:
    """A version is what a stranger's program says of itself."""
    one = msgspec.structs.replace(whole().runs[0], title="\x1b[2Jx")
    assert "\x1b" not in "\n".join(plot(one, Look()))


def test_a_run_without_requests() -> None:
    """An empty frame, and no more."""
    one = msgspec.structs.replace(run("x", "none", Losses(), requests=1, restarts=0), records=Records.none())
    assert len(plot(one, Look())) == HEIGHT + 5


def test_what_a_terminal_can_show(terminal: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its width, its encoding, its colours, and whether somebody wants none."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "72")
    assert look(terminal) == Look(72, unicode=True, colour=True)
    monkeypatch.setenv("COLUMNS", "20")
    assert look(terminal).width == 40
    monkeypatch.setenv("NO_COLOR", "1")
    assert not look(terminal).colour
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not look(terminal).colour


def test_what_is_no_terminal_gets_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a pipe: eighty columns, plain, in its own encoding."""
    monkeypatch.setenv("TERM", "xterm")
    with open(os.devnull, "w", encoding="latin-1") as stream:  # noqa: PTH123 (a device, not a path)
        assert look(stream) == Look(80, unicode=False, colour=False)
