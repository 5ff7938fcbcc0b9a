"""Wait statuses in words."""

from __future__ import annotations

import signal

import pytest

from lastcall.core import exits


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (0, "with code 0", 0),
        (3 << 8, "with code 3", 3),
        (255 << 8, "with code 255", 255),
        (9, "on signal 9 (SIGKILL)", None),
        (11 | 0x80, "on signal 11 (SIGSEGV - core dumped)", None),
        (34, "on signal 34 (SIG34)", None),
        (exits.UNKNOWN, "with a status that is not known", None),
    ],
)
def test_a_status_is_told_as_php_fpm_tells_it(status: int, words: str, code: int | None) -> None:
    """`with code N`, or `on signal N (NAME)`."""
    assert (exits.words(status), exits.code(status)) == (words, code)


def test_the_table_of_signals_is_that_of_the_system() -> None:
    """It is written out because the core may not ask; here is who compares."""
    system = {int(each): each.name for each in signal.Signals if each < signal.SIGRTMIN}
    assert {number: exits.SIGNALS[number] for number in system} == system


def test_what_is_not_known_is_not_taken_for_sigkill() -> None:
    """A worker that another master has started: nobody can say how it ended."""
    assert exits.killed(9)
    assert not exits.killed(exits.UNKNOWN)
