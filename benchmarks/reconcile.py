"""What a comparison of two ledgers takes: a million rows a side in several forms, and ten million.

A ledger has a key, an amount, a user and a time; of a million orders one is missing on the right, and one differs.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import duckdb

from benchmarks.effort import Effort
from benchmarks.report import Table, Target

MILLION: Final = 1_000_000
LEFT: Final = """
    SELECT 'o-' || lpad((i * 7919 % {rows})::VARCHAR, 9, '0') AS order_id, (i % 10000) * 0.01 AS amount,
        'user-' || (i % 50000) AS buyer,
        strftime(TIMESTAMP '2017-06-25' + to_milliseconds(i), '%Y-%m-%dT%H:%M:%S.%gZ') AS made
    FROM range({rows}) numbers(i)
"""
RIGHT: Final = """
    SELECT order_id, CASE WHEN order_id LIKE '%424242' THEN amount + 1 ELSE amount END AS amount, buyer, made
    FROM ({left}) WHERE order_id NOT LIKE '%171717'
"""
ARGUMENTS: Final = ("--key", "order_id", "--compare", "amount:number,buyer", "--time", "made", "--keep", "0")
GIGABYTE: Final = 1000.0
"""In MB: what ten million rows a side may take."""

Make = Callable[[str, Path], str]
"""Writes a query's rows down as a ledger; the address that it then has."""


def csv(query: str, path: Path) -> str:
    """A CSV file."""
    duckdb.execute(f"COPY ({query}) TO '{path}.csv' (FORMAT csv, HEADER true)")
    return f"{path}.csv"


def json_lines(query: str, path: Path) -> str:
    """A file of JSON lines."""
    duckdb.execute(f"COPY ({query}) TO '{path}.jsonl' (FORMAT json)")
    return f"{path}.jsonl"


def parquet(query: str, path: Path) -> str:
    """A Parquet file."""
    duckdb.execute(f"COPY ({query}) TO '{path}.parquet' (FORMAT parquet)")
    return f"{path}.parquet"


def sqlite(query: str, path: Path) -> str:
    """A table of SQLite."""
    with closing(sqlite3.connect(f"{path}.db")) as orders, orders:
        orders.execute("CREATE TABLE orders (order_id TEXT, amount TEXT, buyer TEXT, made TEXT)")
        found = duckdb.execute(f"SELECT order_id, amount::VARCHAR, buyer, made FROM ({query})")  # noqa: S608 (ours)
        while rows := found.fetchmany(10_000):
            orders.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
    return f"sqlite:{path}.db#orders"


CASES: Final[dict[str, tuple[int, Make, Make]]] = {
    "1M CSV": (MILLION, csv, csv),
    "1M Parquet": (MILLION, parquet, parquet),
    "1M JSON": (MILLION, json_lines, json_lines),
    "1M CSV, SQLite": (MILLION, csv, sqlite),
    "10M CSV": (10 * MILLION, csv, csv),
}


def measure(effort: Effort, folder: Path) -> list[Table]:
    """Each case in turn, in a process of its own; ten million rows in every third turn."""
    clock, cpu = Table("Two ledgers compared, by the clock", "s"), Table("CPU", "s")
    memory = Table("Peak memory", "MB", targets=(Target("lastcall reconcile", GIGABYTE, columns=("10M CSV",)),))
    sides = {name: _ledgers(rows, makers, folder / str(at)) for at, (name, (rows, *makers)) in enumerate(CASES.items())}
    for turn in range(effort.rounds):
        for name, (left, right) in sides.items():
            if CASES[name][0] > MILLION and turn % 3:
                continue
            seconds, effort_s, megabytes = _run(left, right, folder / "spool")
            clock.add("lastcall reconcile", name, seconds)
            cpu.add("lastcall reconcile", name, effort_s)
            memory.add("lastcall reconcile", name, megabytes)
    return [clock, cpu, memory]


def _ledgers(rows: int, makers: list[Make], folder: Path) -> tuple[str, str]:
    folder.mkdir()
    left = LEFT.format(rows=rows)
    return makers[0](left, folder / "left"), makers[1](RIGHT.format(left=left), folder / "right")


def _run(left: str, right: str, spool: Path) -> tuple[float, float, float]:
    """Seconds by the clock, of CPU, and the megabytes of the largest moment."""
    command = [sys.executable, "-m", "lastcall", "reconcile", left, right, *ARGUMENTS, "--spool", str(spool)]
    began = time.monotonic()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1, "the ledgers differ, and that is what it has to find"
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
