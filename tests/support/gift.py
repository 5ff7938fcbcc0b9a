"""The gift platform for tests: in this process for small ones, as a process of its own for the whole service."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from examples.gift.platform import Ledger, Manners, Platform

from support.processes import ROOT, Process, free_port

EXAMPLES = ROOT / "examples"


class Platforms:
    """Starts gift platforms, and ends them with the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def here(self, manners: Manners) -> Platform:
        """A platform in threads of this process."""
        ledger = Ledger()
        self._stack.callback(ledger.close)
        platform = self._stack.enter_context(Platform(("127.0.0.1", 0), ledger, manners))
        thread = threading.Thread(target=platform.serve_forever, kwargs={"poll_interval": 0.01})
        self._stack.callback(thread.join)
        self._stack.callback(platform.shutdown)
        thread.start()
        return platform

    def process(self, *arguments: str) -> str:
        """`python -m gift.platform ARGUMENTS`; its URL."""
        port = free_port()
        command = [sys.executable, "-m", "gift.platform", "--port", str(port), *arguments]
        process = Process(command, self._folder / f"platform-{port}.log", cwd=EXAMPLES)
        self._stack.callback(process.kill)
        process.wait_accepting(f"127.0.0.1:{port}")
        return f"http://127.0.0.1:{port}"

    def close(self) -> None:
        """End them all."""
        self._stack.close()
