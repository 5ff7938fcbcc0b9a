"""DuckDB, with a bound on its memory, a folder for what does not fit, and somebody told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastcall.tools.reconcile.question import NoVerdict, literal

if TYPE_CHECKING:
    import duckdb

Tell = Callable[[str], None]
"""Hears what is being done; called a few times a second."""

_LOOK_S = 0.25


def missing(name: str, package: str) -> NoVerdict:
    """What is said when a driver is not installed."""
    return NoVerdict(f"{name} needs a package that is not installed: pip install 'lastcall[reconcile]' (or {package})")


class Duck:
    """A connection of its own, in memory; close it after use."""

    def __init__(self, folder: Path, memory: str, tell: Tell) -> None:
        try:
            import duckdb  # noqa: PLC0415 (heavy, and an extra)
        except ImportError:
            raise missing("lastcall reconcile", "pip install duckdb") from None
        self._error = duckdb.Error
        self._tell = tell
        self.connection: duckdb.DuckDBPyConnection = duckdb.connect()
        for name, value in {
            "temp_directory": str(folder / "tmp"),
            "memory_limit": memory,
            "TimeZone": "UTC",
            "autoinstall_known_extensions": "false",
        }.items():
            self.run(f"SET {name} = {literal(value)}")

    def close(self) -> None:
        """Let go of its memory and its files."""
        self.connection.close()

    def run(self, sql: str, values: Sequence[object] = (), what: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of a statement. Raises NoVerdict with what DuckDB says."""
        if what is None:
            return self._execute(sql, values)
        # in a thread of its own: while DuckDB works, nobody else in this one would hear Ctrl-C
        with ThreadPoolExecutor(1) as pool:
            rows = pool.submit(self._execute, sql, values)
            try:
                while True:
                    try:
                        return rows.result(_LOOK_S)
                    except TimeoutError:
                        self._tell(self._progress(what))
            except KeyboardInterrupt:
                self.connection.interrupt()
                raise

    def _execute(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            cursor = self.connection.execute(sql, values) if values else self.connection.execute(sql)
            return cursor.fetchall()
        except self._error as error:
            raise NoVerdict(first_line(error)) from error

    def _progress(self, what: str) -> str:
        share = self.connection.query_progress()
        return f"{what} {share:.0f} %" if share > 0 else what


def first_line(error: Exception) -> str:
    """What an error says, without the excerpt that points at it."""
    return str(error).split("\n\n", 1)[0].strip()
