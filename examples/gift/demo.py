"""The demonstration, in two acts: the same orders and the same restarts, as in 2017 and under lastcall.

    scripts/demo [--orders 600] [--connections 8] [--workers 4] [--mongodb URI] [--no-nginx] [--keep]

Act one restarts php-fpm by SIGTERM while orders flow: `lastcall reconcile` finds the presents without an order, and repairs
them. Act two does the same to lastcall, and more: nothing is to be found. Everything that it needs is started on free ports,
in a folder of its own, and ended again. Exit code 0: all was as told here; 1: something was not, or did not start.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .load import Load, write_down
from .orders import MongoOrders, Orders, open_orders
from .reconcile import Findings, ledger, reconcile, table, verdict
from .servers import Cutting, Lastcall, PhpFpm, Server, newest_fpm
from .stage import END_S, EXAMPLES, LATENCY, Failed, Story, nginx, nginx_errors, platform, program, python

RESTARTS = (0.12, 0.3, 0.48, 0.66)
"""After which shares of the orders the cron line comes, in both acts."""
REST_S = 0.1
"""For which a client waits who has seen an error."""
LOGS = ("fpm.log", "nginx.log", "access.log")
"""By which the missing orders are explained, where php-fpm and nginx have served."""
LINE = 100
"""Characters of a command line that is shown."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    orders: int
    connections: int
    workers: int
    mongodb: str | None
    nginx: bool


@dataclass
class Act:
    """What came of one act."""

    findings: Findings
    presents: int
    written: int
    errors: int
    """Clients that were not told yes."""
    wrong: list[str] = field(default_factory=list)
    """What was not as it was told."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where an act is played."""

    folder: Path
    options: Options
    story: Story
    platform: str

    def load(self, urls: Sequence[str]) -> Load:
        """The same in both acts."""
        options = self.options

        def progress(answered: int) -> None:
            self.story.progress(answered, options.orders)

        return Load(urls, options.orders, options.connections, progress=progress, rest=REST_S)

    def after(self, load: Load, share: float) -> None:
        """Wait until so many orders have been answered. Raises Failed."""
        if not load.answered(int(self.options.orders * share), within=5 * END_S):
            raise Failed("the orders have stopped flowing")


@contextlib.contextmanager
def stage(name: str, folder: Path, options: Options, story: Story) -> Iterator[Stage]:
    """A folder, and a gift platform with an empty ledger."""
    folder = folder / name
    folder.mkdir()
    with platform(folder) as gifts:
        story.tell(f"the gift platform is ready: a present takes {LATENCY}")
        yield Stage(folder, options, story, gifts)


# --- Act one -----------------------------------------------------------------


def as_in_2017(at: Stage) -> Act:
    """Restart by SIGTERM under load, as the cron line did; then have the damage found, explained and repaired."""
    store = f"file:{at.folder}/orders.jsonl"
    env = {"GIFT_PLATFORM": at.platform, "GIFT_STORE": store}
    binary = program("nginx") if at.options.nginx else None
    with ExitStack() as stack:
        server: PhpFpm | Cutting
        if binary and newest_fpm():
            server = PhpFpm(at.folder, at.options.workers, env)
            stack.callback(server.stop)
            name = server.start()
            urls = stack.enter_context(nginx(binary, at.folder, php=server.fastcgi))
        else:
            server = Cutting(at.folder, at.options.workers, env)
            stack.callback(server.stop)
            name, urls = server.start(), [f"http://{server.http}"]
        way = "come through nginx" if isinstance(server, PhpFpm) else "come by HTTP"
        at.story.tell(f"{name} is ready: pid {server.pid}, {at.options.workers} workers; orders {way}")
        load = at.load(urls)
        load.start()
        restart(at, load, server)
        at.after(load, 1.0)
    with contextlib.closing(open_orders(store)) as orders:
        act = take_stock(at, load, orders)
    return found_and_repaired(at, act, env)


def restart(at: Stage, load: Load, server: Server) -> None:
    """Again and again, at fixed places in the stream of orders."""
    for number, share in enumerate(RESTARTS, 1):
        at.after(load, share)
        pid = server.pid
        began = time.monotonic()
        server.stop()
        server.start()
        took = f"{time.monotonic() - began:.1f} s"
        at.story.tell(f"restart {number}: kill -TERM {pid}, and start again, pid {server.pid} ({took})")


def found_and_repaired(at: Stage, act: Act, env: Mapping[str, str]) -> Act:
    """The two ledgers lie there: compare them, and write what is missing."""
    sides = ["sqlite:presents.db#presents", "orders.jsonl"]
    lost = len(act.findings.half_done)
    if not lost:
        act.wrong.append("no request was cut between its two actions")
    logs = [name for name in LOGS if (at.folder / name).exists()]
    named = [part for name in logs for part in ("--logs", name)]
    code, summary = compare(at, sides, "id", "found", named)
    if (code, summary["counts"]["only_left"], summary["counts"]["only_right"]) != (1, lost, 0):
        act.wrong.append(f"reconcile has not found the {lost} missing orders")
    if logs and summary["explained"] != lost:
        act.wrong.append(f"reconcile has explained {summary['explained']} of {lost} missing orders by the logs")
    at.story.tell("the orders are written that are missing, each once, from the platform's ledger")
    repair = ["--repair", "gift.repair:write", "--apply", "--app-dir", str(EXAMPLES), "--journal", "repairs"]
    repair += ["--max-repairs", str(at.options.orders)]
    code, summary = compare(at, sides, "id", "repaired", repair, env)
    if code != 0 or summary["repairs"]["outcomes"] != {"repaired": lost}:
        act.wrong.append("the missing orders were not repaired")
    return act


# --- Act two -----------------------------------------------------------------


def under_lastcall(at: Stage) -> Act:
    """The same restarts, then whatever else operators do; and there is nothing to be found."""
    options, database = at.options, f"gift_demo_{os.getpid()}"
    store = options.mongodb or f"sqlite:{at.folder}/orders.db"
    with ExitStack() as stack:
        orders = stack.enter_context(contextlib.closing(open_orders(store, database)))
        if isinstance(orders, MongoOrders):
            stack.callback(orders.drop)
        env = {"GIFT_PLATFORM": at.platform, "GIFT_STORE": store, "GIFT_DATABASE": database}
        server = Lastcall(at.folder, options.workers, env)
        stack.callback(server.clear_away)
        server.start()
        binary = program("nginx") if options.nginx else None
        urls = [f"http://{server.http}"]
        if binary:
            urls = stack.enter_context(nginx(binary, at.folder, http=server.http, fastcgi=server.fastcgi))
        way = "come through nginx, by HTTP and by FastCGI" if binary else "come by HTTP"
        at.story.tell(f"lastcall is ready: pid {server.pid}, {options.workers} workers; orders {way}")
        load = at.load(urls)
        load.start()
        code = operate(at, load, server)
        act = take_stock(at, load, orders)
        if code != 0:
            act.wrong.append(f"lastcall has ended with exit code {code}")
        if not act.findings.flawless or nginx_errors(at.folder):
            act.wrong.append("there is something to be found under lastcall")
        right, key = "sqlite:orders.db#orders", "id"
        if options.mongodb:
            right, key = collection(options.mongodb, database), "_id"
        code, _ = compare(at, ["sqlite:presents.db#presents", right], key, "found")
        if code != 0:
            act.wrong.append("reconcile says that the ledgers do not agree")
        return act


def operate(at: Stage, load: Load, server: Lastcall) -> int:
    """What operators do on a busy day; returns lastcall's exit code. Raises Failed."""
    restart(at, load, server)
    for share, words, do in (
        (0.78, "kill -HUP: a reload by signal", server.reload_by_signal),
        (0.84, "lastcall reload --wait", lambda: server.command("reload", "--wait")),
        (0.9, "lastcall scale +1", lambda: server.command("scale", "+1")),
        (0.95, "lastcall scale -1", lambda: server.command("scale", "--", "-1")),
    ):
        at.after(load, share)
        at.story.tell(words)
        do()
    # So few that each of them is inside a worker: what waits in front of a service that stops is another subject.
    if not load.last_ones(max(1, at.options.workers // 2), within=5 * END_S):
        raise Failed("the orders have stopped flowing")
    at.story.tell("lastcall stop --final, with the last orders under way")
    code = server.finish()
    at.after(load, 1.0)
    at.story.tell(f"lastcall has ended with exit code {code}")
    return code


def collection(uri: str, database: str) -> str:
    """A MongoDB's address, as reconcile wants it: with the database and the collection."""
    parts = urllib.parse.urlsplit(uri)
    return parts._replace(path=f"/{database}.orders").geturl()


# --- What came of it ---------------------------------------------------------


def take_stock(at: Stage, load: Load, orders: Orders) -> Act:
    """Count, and compare the ledgers with what the clients were told."""
    write_down(load.seen, at.folder / "seen.jsonl")
    presents, written = ledger(at.platform), list(orders.ids())
    findings = reconcile(presents, written, load.seen)
    errors = nginx_errors(at.folder)
    counts = {
        "orders placed": load.orders,
        "presents sent (the platform's ledger)": len(presents),
        "orders written (our ledger)": len(written),
        "clients told yes": sum(one.yes for one in load.seen),
    } | ({} if errors is None else {"lines in nginx's error log": len(errors)})
    print("\n" + table(findings, counts) + "\n")
    at.story.show(verdict(findings))
    return Act(findings, len(presents), len(written), sum(not one.yes for one in load.seen))


def compare(
    at: Stage, sides: Sequence[str], key: str, name: str, more: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """`lastcall reconcile`, as one types it, and what it says; its exit code and its summary. Raises Failed."""
    report = at.folder / f"{name}.json"
    asked = [
        *sides, "--key", "order_id", "--right-column", f"order_id={key}", "--compare", "present,user,receipt:number",
        "--time", "made", "--left-column", "made=to_timestamp(sent::double)",
        "--right-column", "made=to_timestamp(written::double)", *more,
    ]  # fmt: skip
    at.story.show(typed(asked))
    quiet = ["--show", "6", "--keep", "0", "--spool", "spool", "--output", report.name]
    done = subprocess.run(
        python("lastcall", "reconcile", *asked, *quiet), cwd=at.folder, env=os.environ | (env or {}),
        capture_output=True, text=True, timeout=END_S, check=False,
    )  # fmt: skip
    if not report.exists():
        raise Failed(f"reconcile has given no verdict:\n{done.stdout}{done.stderr}")
    at.story.show(done.stdout)
    return done.returncode, json.loads(report.read_text())


def typed(arguments: Sequence[str]) -> str:
    """The command as one types it: no line parts an option from its value, and no password is in it."""
    line, lines = "$ lastcall reconcile", []
    for text in arguments:
        shown = "mongodb://..." if text.startswith("mongodb") else text.replace(str(EXAMPLES), "examples")
        if text.startswith("--") and len(line) > LINE - 40:
            lines.append(line)
            line = "     "
        line += f" {shlex.quote(shown)}"
    return " \\\n".join([*lines, line])


def sum_up(acts: Sequence[Act], story: Story) -> int:
    """Both acts beside each other; the exit code of the demonstration."""
    story.heading("What came of it")
    rows: dict[str, Callable[[Act], int]] = {
        "restarts by SIGTERM": lambda _: len(RESTARTS),
        "presents sent": lambda act: act.presents,
        "orders written": lambda act: act.written,
        "presents without an order": lambda act: len(act.findings.half_done),
        "clients that were not told yes": lambda act: act.errors,
    }
    names = ["as in 2017", "under lastcall"]
    print(f"  {'':<34}{names[0]:>16}{names[1]:>16}")
    for name, of in rows.items():
        print(f"  {name:<34}" + "".join(f"{of(act):>16}" for act in acts))
    print()
    wrong = [text for act in acts for text in act.wrong]
    for text in wrong:
        print(f"  NOT AS TOLD: {text}")
    if not wrong:
        print("  As in 2017 the ledgers differed, and reconcile has found it; under lastcall they agree.")
    return 1 if wrong else 0


def demonstrate(options: Options, folder: Path, story: Story) -> int:
    """Both acts."""
    acts = []
    for name, heading, play in (
        ("2017", "Act one: as in 2017, restarted by SIGTERM while orders flow", as_in_2017),
        ("lastcall", "Act two: the same orders and restarts, under lastcall", under_lastcall),
    ):
        story.heading(heading)
        with stage(name, folder, options, story) as at:
            acts.append(play(at))
    return sum_up(acts, story)


def parse(arguments: Sequence[str] | None) -> tuple[Options, bool]:
    """The options, and whether the folder is to be kept."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Restart a gift service while orders flow, as in 2017 and then under lastcall; compare its ledgers.",
        epilog="Act one uses php-fpm if it and nginx are installed, else a small manager that cuts in the same way. "
        "Exit code 0: as in 2017 the ledgers differ, and are repaired; under lastcall they agree, and no client sees an "
        "error.",
    )
    parser.add_argument("--orders", type=int, default=600, help="in each act (600)")
    parser.add_argument("--connections", type=int, default=8, help="kept ones, as of so many clients (8)")
    parser.add_argument("--workers", type=int, default=4, help="of each server (4)")
    parser.add_argument(
        "--mongodb", metavar="URI", help="under lastcall, write orders to this MongoDB instead of SQLite"
    )
    parser.add_argument("--no-nginx", action="store_true", help="go to the servers directly, even if nginx is here")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and ledgers")
    given = parser.parse_args(arguments)
    return Options(given.orders, given.connections, given.workers, given.mongodb, not given.no_nginx), given.keep


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; whatever happens, nothing that it started stays."""
    options, keep = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="gift-"))
    code = 1
    try:
        code = demonstrate(options, folder, Story())
    except Failed as failure:
        print(f"\nThe demonstration failed: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = 130
    finally:
        if keep or code == 1:
            print(f"logs and ledgers: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
