"""Which line of code stands for a thread."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import FrameType

from lastcall.runtime.worker.where import LINE_MAX, NO_FRAME, OURS, line

HERE = __file__


def frame_in(file: str, name: str = "code") -> FrameType:
    """A frame of a function in this file, called from a test's."""
    space: dict[str, object] = {"sys": sys}
    exec(compile(f"def {name}(): return sys._getframe()", file, "exec"), space)  # noqa: S102 - what is in question is a file's name
    function = space[name]
    assert callable(function)
    frame = function()
    assert isinstance(frame, FrameType)
    return frame


def test_the_applications_line() -> None:
    """File, line, function, with its class."""
    frame = sys._getframe()
    assert line(frame) == f"{HERE}:{frame.f_lineno} in test_the_applications_line"


def test_the_standard_library_is_not_the_application() -> None:
    """The line that has called it says more; a package that is installed below Python's is the application's business."""
    python = str(Path(contextlib.__file__).parent)
    called = frame_in(f"{python}/socket.py")
    assert line(called).startswith(f"{HERE}:")
    assert line(frame_in("<frozen importlib._bootstrap>")).startswith(f"{HERE}:")
    assert line(frame_in(f"{python}/site-packages/pymongo/network.py")) == (
        f"{python}/site-packages/pymongo/network.py:1 in code"
    )


def test_lastcalls_own_code_is_not_the_application() -> None:
    """An application that reads its input is where it reads it."""
    assert line(frame_in(f"{OURS}/runtime/worker/body.py")).startswith(f"{HERE}:")


def test_where_there_is_no_other_line_any_is_better_than_none() -> None:
    """Between two lines of an application written in C."""
    outermost = sys._getframe()
    while outermost.f_back is not None:
        outermost = outermost.f_back
    assert line(outermost).startswith(outermost.f_code.co_filename)


def test_a_long_line_keeps_its_end_and_nothing_steers_a_terminal() -> None:
    """Bounded; what cannot be printed is not."""
    text = line(frame_in("/srv/" + "deep/" * 80 + "app\x1b.py", "send"))
    assert len(text) == LINE_MAX
    assert text.startswith("...")
    assert text.endswith("/app?.py:1 in send")


def test_a_thread_without_python_code() -> None:
    """It ended a moment ago, or has only C code on its stack."""
    assert line(None) == NO_FRAME
