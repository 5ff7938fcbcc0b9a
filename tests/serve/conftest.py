"""Applications for the tests of the master: one that serves, in a folder of the test's own, so that it can be broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.lastcall import Server, Servers


@pytest.fixture
def code(folder: Path) -> Path:
    """The folder of an application module `shop`, as an operator deploys it: edit shop.py and reload."""
    where = folder / "code"
    where.mkdir()
    (where / "shop.py").write_text((Path(__file__).parent / "apps.py").read_text())
    return where


@pytest.fixture
def shop(serve: Servers, code: Path) -> Callable[..., Server]:
    """Start `lastcall serve shop:app` with more arguments."""

    def start(*arguments: str, http: str | bool = True, wait: bool = True, env: dict[str, str] | None = None) -> Server:
        return serve("shop:app", "--app-dir", str(code), *arguments, http=http, wait=wait, env=env)

    return start
