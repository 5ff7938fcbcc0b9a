"""A real browser, Debian's Chromium without a window, for the pages that we make."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

Scheme = Literal["light", "dark"]

DESKTOP = 1280
TELEPHONE = 390


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, as long as the block lasts."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    # its sandbox refuses to be root's
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page that has been loaded, and what it did on its way."""

    page: Page
    said: list[str] = field(default_factory=list)
    """On the console, and errors that nobody caught."""
    asked: list[str] = field(default_factory=list)
    """Addresses that it wanted from anywhere."""


@contextmanager
def opened(
    browser: Browser, file: Path, width: int = DESKTOP, scheme: Scheme = "light", *, script: bool = True
) -> Iterator[Opened]:
    """The file in a window of this width."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=script,
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    found = Opened(context.new_page())

    def console(message: ConsoleMessage) -> None:
        found.said.append(f"{message.type}: {message.text}")

    def request(request: Request) -> None:
        if not request.url.startswith("data:"):
            found.asked.append(request.url)

    found.page.on("console", console)
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("request", request)
    found.page.goto(file.as_uri(), wait_until="load")
    try:
        yield found
    finally:
        context.close()
