"""A real drill, drawn: in a browser there are as many marks as there were requests, and on a terminal somebody sees it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from drilltool.conftest import WITHIN_S, environment
from lastcall.tools.drill import kinds, results
from lastcall.tools.drill.kinds import Kind
from support.browser import TELEPHONE, opened
from support.lastcall import PROGRAM

pytestmark = pytest.mark.xdist_group("browser")

DRILL = (*PROGRAM, "drill", "--against", "php-fpm", "--strategy", "usr2", "--restarts", "2", "--pause", "300ms")


def test_a_real_drill_on_a_page(browser: Browser, folder: Path) -> None:
    """Losses, restarts, nginx's lines: all that php-fpm gives, on a telephone, without a word on the console."""
    page = folder / "drill.html"
    done = subprocess.run(
        [*DRILL, "--json", "--quiet", "--report", str(page)], env=environment(), cwd=folder, capture_output=True,
        text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (run,) = results.decode(done.stdout.encode()).runs
    lost = [kind for kind in kinds.kinds(run.records) if kind is not Kind.ANSWERED]
    with opened(browser, page, TELEPHONE) as found:
        assert found.page.locator(".losses > use").count() == len(lost)
        assert found.page.locator(".losses > use.k-harm").count() == lost.count(Kind.HARM) > 0
        assert found.page.locator("g.restart > line").count() == 2
        found.page.locator("summary").first.click()
        assert found.page.locator(".log").count() == run.logged_count > 0
        assert "process_control_timeout" in found.page.locator(".advice").inner_text()
        assert found.page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE
        assert (found.said, found.asked) == ([], [page.as_uri()])


def test_a_real_drill_on_a_terminal(folder: Path) -> None:
    """The plot comes before the table; the verdict is the last line."""
    master, slave = pty.openpty()
    env = {**environment(), "COLUMNS": "90", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    env.pop("NO_COLOR", None)
    with subprocess.Popen([*DRILL, "--quiet"], env=env, cwd=folder, stdout=slave, stderr=subprocess.PIPE) as process:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 65536):
                shown += part
        except OSError:
            pass  # that is how a terminal ends whose last writer has gone
        os.close(master)
        assert process.wait(WITHIN_S) == 1
    lines = shown.decode().splitlines()
    assert lines[1].startswith("USR2 · php-fpm")
    assert "\x1b[1;31m◆\x1b[0m" in "".join(lines)
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines[1 : lines.index("", 1)]) <= 90
    assert " lost in 1 run" in lines[-1]
