"""A load that runs in a process of its own: begin it, wait for what it has seen, end it."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

import lastcall
from lastcall.tools.drill.engine import Plan
from lastcall.tools.drill.outcomes import Outcome, Seen
from lastcall.tools.drill.processes import Failed, Process

FLOWS_S: Final = 60.0
"""Within which requests that flow are answered, on a slow machine too."""
PACKAGE: Final = Path(lastcall.__file__).resolve().parents[1]
"""Where this lastcall is imported from, installed or not."""

_numbers = itertools.count()


class Load:
    """A context manager: the load begins with the block and ends with it, unless `stop` was called before."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        number = next(_numbers)
        self._path = folder / f"load-{number}.seen"
        self._path.touch()
        self._decoder = msgspec.json.Decoder(Seen)
        self._seen: list[Seen] = []
        self._answered = self._lost = self._read = 0
        self._lock = threading.Lock()  # whoever shows how far it is looks from a thread of its own
        config = folder / f"load-{number}.json"
        config.write_bytes(msgspec.json.encode(plan))
        # Until it has a handler, `stop` must not end it: it inherits the mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._process = Process(
                [sys.executable, "-m", "lastcall.tools.drill.engine", str(config), str(self._path)],
                folder / f"load-{number}.log",
                env={"PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def seen(self) -> list[Seen]:
        """What its clients have seen so far."""
        with self._lock, self._path.open("rb") as file:
            file.seek(self._read)
            arrived = file.read()
            whole = arrived[: arrived.rfind(b"\n") + 1]
            self._read += len(whole)
            new = [self._decoder.decode(line) for line in whole.splitlines()]
            self._seen += new
            self._answered += sum(one.outcome is not Outcome.LEFT for one in new)
            self._lost += sum(not one.yes for one in new if one.outcome is not Outcome.LEFT)
        return self._seen

    def answered(self) -> int:
        """How many requests have ended, well or badly."""
        self.seen()
        return self._answered

    def lost(self) -> int:
        """How many of them have not been answered as they should be."""
        self.seen()
        return self._lost

    def more(self, requests: int, within: float = FLOWS_S) -> None:
        """Wait until so many requests more have ended."""
        goal = self.answered() + requests
        self._wait_until(lambda: self.answered() >= goal, f"{requests} requests more have ended", within)

    def flow(self, seconds: float) -> None:
        """Let it flow for a while: where the time that passes is what is tested."""
        until = time.monotonic() + seconds
        self._wait_until(lambda: time.monotonic() >= until, "time passes", seconds + FLOWS_S)

    def _wait_until(self, look: Callable[[], bool], what: str, within: float) -> None:
        def look_on() -> bool:
            found = look()
            if not found and self._process.ended == 0:
                raise Failed("the load has come to the end of its bounds")
            return found

        self._process.wait_until(look_on, what, within)

    def stop(self, within: float = FLOWS_S) -> list[Seen]:
        """Begin nothing more, wait for what is under way; all that was seen. Raises Failed."""
        self._process.signal(signal.SIGTERM)
        return self.end(within)

    def end(self, within: float = FLOWS_S) -> list[Seen]:
        """Wait until it has ended by itself; all that was seen. Raises Failed."""
        code = self._process.wait(within)
        # Killed by our signal: it was not there yet to hear it, and had sent nothing.
        assert code in (0, -signal.SIGTERM), self._process.text()
        return self.seen()
