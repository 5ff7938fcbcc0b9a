"""The front of all benchmarks: `benchmarks/run --help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import custody, durable, explain, fastcgi_hello, http_hello, memory, reconcile, startup
from benchmarks.effort import Effort
from benchmarks.report import Table, Verdict

BENCHMARKS: Final[dict[str, Callable[[Effort, Path], list[Table]]]] = {
    "http_hello": http_hello.measure,
    "fastcgi_hello": fastcgi_hello.measure,
    "custody": custody.measure,
    "durable": durable.measure,
    "memory": memory.measure,
    "startup": startup.measure,
    "reconcile": reconcile.measure,
    "explain": explain.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Measure, print; 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="What lastcall costs, beside what others cost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=7, help="turns in which everybody is measured once [7]")
    parser.add_argument("--seconds", type=float, default=1.0, help="of load in each turn [1]")
    parser.add_argument("--starts", type=int, default=20, help="starts that are timed [20]")
    parser.add_argument("--json", action="store_true", help="every sample, as JSON")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    effort = Effort(options.rounds, options.seconds, options.starts)
    tables: list[Table] = []
    for name in options.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="lastcall-bench-") as folder:
            found = BENCHMARKS[name](effort, Path(folder))
        if not options.json:
            print("\n\n".join(table.text() for table in found), end="\n\n", flush=True)
        tables += found
    if options.json:
        print(json.dumps([table.document() for table in tables], indent=1))
    verdicts = {table.verdict(target) for table in tables for target in table.targets}
    return 1 if Verdict.MISSED in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
