"""What every test may ask for: a short folder, servers that are ended for it, and in CI no test that is skipped."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.lastcall import Servers
from support.nginx import Nginx
from support.processes import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from support.mongod import Mongod

sys.path.insert(0, str(ROOT))  # for `examples`, however pytest was called


def pytest_configure() -> None:
    """Take SIGINT as in the foreground: a shell's background job ignores it, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# --- In CI nothing is skipped ------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that cannot run in CI is a failure: something that it needs is missing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing may be: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that is skipped whole counts the same."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing may be: {report.longrepr}"
    return report


# --- Folders and neighbours --------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder whose name is short: a UNIX socket's path has 107 characters at most."""
    path = Path(tempfile.mkdtemp(prefix="lc-"))
    path.chmod(0o755)  # Apache's workers are someone else
    yield path
    shutil.rmtree(path)


@pytest.fixture
def serve(folder: Path) -> Iterator[Servers]:
    """Starts `lastcall serve ARGUMENTS`; at the end nobody of it is left."""
    servers = Servers(folder)
    yield servers
    servers.kill()


@pytest.fixture
def nginx(folder: Path) -> Iterator[Nginx]:
    """A real nginx, to be given sites and then started."""
    server = Nginx(folder)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mongod() -> Iterator[Mongod]:
    """A real mongod, one for each test process that asks for it."""
    from support.mongod import Mongod  # noqa: PLC0415 (pymongo is slow to import, and most tests need none)

    path = Path(tempfile.mkdtemp(prefix="lc-mongod-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, path)
        server = Mongod(path)
        stack.callback(server.stop)
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser, one for each test process that asks for it."""
    from support.browser import chromium  # noqa: PLC0415 (as above)

    with chromium() as found:
        yield found
