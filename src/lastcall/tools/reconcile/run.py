"""One run from beginning to end: read, settle, compare, look back, explain. The order of things; no decisions of its own."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import msgspec

from lastcall.runtime import locks
from lastcall.tools.reconcile import compare, explain, result, spark, spool, state
from lastcall.tools.reconcile.compare import Verdict
from lastcall.tools.reconcile.duck import Duck, Tell
from lastcall.tools.reconcile.question import NoVerdict, Question, file, literal
from lastcall.tools.reconcile.reading import read
from lastcall.tools.reconcile.result import Finding, Summary

EXPLAINED = 10_000
"""Missing orders that are looked up in the cut list."""
LISTED = (*compare.OFF, Verdict.PENDING)


@dataclass(frozen=True, slots=True)
class Means:
    """How a question is answered, which changes nothing about the answer."""

    spool: Path
    keep: float
    """Seconds for which the folder of a run stays."""
    memory: str = "512MiB"
    engine: str = "duckdb"
    spark_master: str | None = None
    listed: int = 1000
    repaired: int = 0
    """So many orders that are off are kept for a repair."""
    state: Path | None = None
    suspects: Callable[[], Iterable[explain.Suspect]] | None = None
    """Requests that were cut; asked for when something is missing."""
    tell: Tell = field(default=lambda _: None)


class Run:
    """A run, and the folder in which its evidence is. Close it after use."""

    def __init__(self, question: Question, means: Means) -> None:
        self._question, self._means = question, means
        self._began = time.monotonic()
        self.off: list[Finding] = []
        """What is off, listed or not, as far as `Means.repaired` goes."""
        with ExitStack() as stack:
            self.folder = _folder(means, stack)
            self._duck = Duck(self.folder, means.memory, means.tell)
            stack.callback(self._duck.close)
            self._open = stack.pop_all()

    def close(self) -> None:
        """Let go of the memory; what was only needed on the way is deleted, the evidence is kept as long as was asked."""
        self._open.close()
        for path in self.folder.iterdir():
            if path.suffix in (".out", ".err", ".utf8", ".part") or path.name.endswith((".raw.parquet", ".part.csv")):
                path.unlink()
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        if self._means.keep <= 0:
            shutil.rmtree(self.folder)

    def answer(self) -> Summary:
        """Compare. Raises NoVerdict."""
        question, duck, means = self._question, self._duck, self._means
        if means.state is not None:
            state.load(duck, question, means.state)
        readings = self._ledgers()
        self._compare()
        counts, differing = result.count(duck, question)
        left, right = (result.side(reading) for reading in readings)
        summary = Summary("", _at(question), left, right, counts=counts, differing=differing)
        known = None
        if means.state is not None:
            change = state.change(duck, question)
            known = state.known(duck)
            summary.new, summary.resolved, summary.gone = change.new, change.resolved, change.gone
            summary.resolved_keys = change.resolved_keys
        self._find(summary, known, readings)
        summary.key = tuple(column.name for column in question.keys)
        summary.compared = tuple(column.name for column in question.compared)
        summary.verdict = result.DISAGREE if summary.off or summary.broken else result.AGREE
        summary.seconds = round(time.monotonic() - self._began, 3)
        summary.spool = str(self.folder) if means.keep > 0 else ""
        _private(self.folder / "summary.json", msgspec.json.encode(summary))
        return summary

    def remember(self, where: Path) -> None:
        """Write the state of this run down for the next. Raises NoVerdict."""
        state.save(self._duck, self._question, where, _at(self._question))

    def exact_keys(self) -> set[str]:
        """Columns of the key that are numbers: their last zeros depend on what else is in the ledgers."""
        types = {name: str(declared) for name, declared, *_ in self._duck.run("DESCRIBE judged")}
        return {column.name for column in self._question.keys if types[column.name].startswith("DECIMAL")}

    def copy_all(self, target: Path) -> None:
        """Everything that is off, with all of its rows, as CSV."""
        off = ", ".join(f"'{one.value}'" for one in LISTED)
        select = f"SELECT * FROM judged WHERE {compare.VERDICT} IN ({off}) ORDER BY ALL"
        self._duck.run(f"COPY ({select}) TO {literal(str(target))} (FORMAT csv, HEADER true)")

    def _ledgers(self) -> tuple[spool.Reading, spool.Reading]:
        question, duck, tell = self._question, self._duck, self._means.tell
        left, right = (read(duck, question, side, self.folder, tell) for side in question.sides)
        types = spool.settle(duck, question, left, right)
        for reading in (left, right):
            path = self.folder / f"{reading.side.name}.parquet"
            spool.write(duck, question, reading, types, path)
            _broken(self.folder / f"{reading.side.name}.broken.jsonl", reading)
            for part in reading.parts:
                part.unlink()
        return left, right

    def _compare(self) -> None:
        duck, folder, sql = self._duck, self.folder, compare.text(self._question)
        left, right, judged = (folder / f"{name}.parquet" for name in ("left", "right", "judged"))
        _private(folder / "comparison.sql", sql.encode())
        if self._means.engine == "spark":
            self._means.tell("comparing, on Spark")
            spark.compare(sql, left, right, judged, self._means.spark_master)
        else:
            for name, path in (("left_ledger", left), ("right_ledger", right)):
                duck.run(f"CREATE VIEW {name} AS FROM read_parquet({file(path)})")
            duck.run("SET preserve_insertion_order = false")
            copy = f"COPY ({sql}) TO {literal(str(judged))} (FORMAT parquet, COMPRESSION zstd)"
            duck.run(copy, what="comparing")
        found = sorted(judged.glob("*.parquet")) if judged.is_dir() else [judged]
        duck.run(f"CREATE VIEW judged AS FROM read_parquet([{', '.join(map(file, found))}])")

    def _find(
        self, summary: Summary, known: dict[str, str] | None, readings: tuple[spool.Reading, spool.Reading]
    ) -> None:
        """List what is off, and explain what is missing."""
        means = self._means
        missing: list[Finding] = []
        for verdict in LISTED:
            count = summary.counts[verdict.value]
            lost = verdict in (Verdict.ONLY_LEFT, Verdict.ONLY_RIGHT) and means.suspects is not None
            limit = max(means.listed, means.repaired, EXPLAINED if lost else 0)
            found = result.findings(self._duck, self._question, verdict, limit, known) if count else []
            self.off += found if verdict in compare.OFF else []
            missing += found if lost else []
            summary.findings += found[: means.listed]
            if count > means.listed:
                summary.left_out[verdict.value] = count - means.listed
        result.locate(summary.findings, readings)
        if missing and means.suspects is not None:
            means.tell("looking for the requests that were cut")
            summary.explained = explain.explain(missing, explain.Suspects(means.suspects()))


def _at(question: Question) -> str:
    return question.now.astimezone(UTC).isoformat(timespec="seconds")


def _broken(path: Path, reading: spool.Reading) -> None:
    if reading.broken:
        lines = b"".join(
            msgspec.json.encode(result.BrokenRow(one.line, one.text, one.why)) + b"\n" for one in reading.broken
        )
        _private(path, lines)


def _private(path: Path, text: bytes) -> None:
    """A file of ours that nobody else may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as private:
        private.write(text)


# --- Folders ------------------------------------------------------------------

_LOCK = "lock"
"""Held as long as the run goes on; in it stands until when, in Unix time, its folder is kept."""


def _folder(means: Means, stack: ExitStack) -> Path:
    """A new folder for this run, locked until the stack ends; those that are old enough go. Raises NoVerdict."""
    try:
        spool.private(means.spool)
        _forget(means.spool)
        folder = Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()), dir=means.spool))
        # nobody clears away the spool of a run that goes on
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, fd)
        locks.take(fd)
        os.write(fd, f"{math.ceil(time.time() + means.keep)}\n".encode())
    except OSError as error:
        raise NoVerdict(f"{means.spool}: {error.strerror} (another place for the spool: --spool DIR)") from None
    return folder


def _forget(where: Path) -> None:
    """Clear away the runs whose time is over, each by what was said when it was made."""
    for folder in where.glob("[0-9]*T[0-9]*Z-*"):
        try:
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # another run has just done it
        try:
            if not locks.is_held(fd) and 0 < locks.read_pid(fd) < time.time():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)


@contextmanager
def alone(path: Path | None) -> Iterator[None]:
    """Hold a lock, so that two runs of one timer never meet. Raises NoVerdict when somebody has it."""
    if path is None:
        yield
        return
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NoVerdict(f"{path}: {error.strerror}") from None
    try:
        if not locks.take(fd):
            raise NoVerdict(f"another run is at it: pid {locks.read_pid(fd)} holds {path}")
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
