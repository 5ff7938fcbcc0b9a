"""What is told while a drill runs: on a terminal one line that changes, in a file a line for each run."""

from __future__ import annotations

import shutil
import threading
import time
from types import TracebackType
from typing import Final, Self, TextIO

from lastcall.tools.drill.judge import thousands
from lastcall.tools.drill.load import Load
from lastcall.tools.drill.results import Run

LOOK_S: Final = 0.25
WIPE: Final = "\r\x1b[K"


class Progress:
    """A context manager, and who looks on (`conduct.Watch`)."""

    def __init__(self, out: TextIO, runs: int, *, quiet: bool = False) -> None:
        self._out = out
        self._runs = runs
        self._quiet = quiet
        self._live = not quiet and out.isatty()
        self._began = time.monotonic()
        self._number = self._struck = self._times = 0
        self._name = ""
        self._load: Load | None = None
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        if self._live:
            self._thread.join()
            self._write(WIPE)

    def begin(self, name: str, times: int) -> None:
        """A run begins, in which the operator strikes so often."""
        self._number += 1
        self._struck, self._times, self._load, self._name = 0, times, None, name

    def load(self, load: Load) -> None:
        """Its load flows."""
        self._load = load

    def struck(self, restarts: int) -> None:
        """So many operations of it are over."""
        self._struck = restarts

    def end(self, run: Run) -> None:
        """It is over, and this is what it has found."""
        self._load = None
        said = run.failed.splitlines()[0] if run.failed else run.verdict.sentence
        where = f"[{self._number}/{self._runs}]"
        self.say(f"{where} {run.target}, {run.strategy_title}, {run.path}: {said}")

    def say(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._write(f"{WIPE if self._live else ''}{text}\n")

    def _show(self) -> None:
        while not self._end.wait(LOOK_S):
            load = self._load
            counts = "starting"
            if load is not None:
                counts = f"{thousands(load.answered())} requests, {thousands(load.lost())} lost"
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            struck = f"{self._struck}/{self._times} restarts, " if self._times else ""
            line = f"[{self._number}/{self._runs}] {self._name}: {struck}{counts}  ({minutes}:{seconds:02})"
            width = shutil.get_terminal_size().columns - 1  # a line that is wrapped cannot be wiped
            self._write(WIPE + line[:width])

    def _write(self, text: str) -> None:
        with self._lock:
            self._out.write(text)
            self._out.flush()
