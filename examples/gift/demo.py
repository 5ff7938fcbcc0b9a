"""The demonstration: orders flow while lastcall is reloaded, scaled and stopped; then the two ledgers are compared.

    scripts/demo [--orders 600] [--connections 8] [--mongodb URI] [--no-nginx] [--keep]

It starts what it needs on free ports, in a folder of its own, and ends it again. Exit code 1: the ledgers disagree, a
client saw an error, or something did not start.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .load import Load, write_down
from .orders import MongoOrders, open_orders
from .reconcile import ledger, reconcile, table, verdict

EXAMPLES = Path(__file__).resolve().parent.parent
LATENCY = "40ms"
START_S = 20.0
"""Seconds within which everything must have started."""
END_S = 60.0
"""Seconds within which a process must have ended; then it is killed."""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
{user}
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream gift_http {{ server {http}; keepalive 16; }}
    upstream gift_fastcgi {{ server {fastcgi}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{ports[0]};
        location / {{
            proxy_pass http://gift_http;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
    server {{
        listen 127.0.0.1:{ports[1]};
        location / {{
            fastcgi_pass gift_fastcgi;
            fastcgi_keep_conn on;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param SCRIPT_NAME "";
            fastcgi_param PATH_INFO $uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param SERVER_NAME $server_name;
            fastcgi_param SERVER_PORT $server_port;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
    }}
}}
"""


class Failed(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    orders: int
    connections: int
    workers: int
    mongodb: str | None
    nginx: bool


class Story:
    """What is told on the terminal while it happens: when, and what."""

    def __init__(self, orders: int) -> None:
        self._orders = orders
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()

    def tell(self, what: str) -> None:
        """One line, with the time since the start."""
        print(f"{self._wipe()}{time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def progress(self, answered: int) -> None:
        """A bar on a terminal, nothing in a file."""
        if self._live:
            bar = "#" * (30 * answered // self._orders)
            print(f"{self._wipe()}          [{bar:<30}] {answered}/{self._orders} orders", end="", flush=True)

    def _wipe(self) -> str:
        return "\r\x1b[K" if self._live else ""


# --- Processes ---------------------------------------------------------------


@contextlib.contextmanager
def running(arguments: Sequence[str], log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts: SIGTERM at its end, SIGKILL when that is not enough.

    In a process group of its own, so that Ctrl-C reaches the demonstration alone, which ends the others in order.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=EXAMPLES,
            env=os.environ | env,
            process_group=0,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, wait until it has, and return its exit code. Ctrl-C while it waits ends it at once."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)  # with its workers: it leads the group that it was started in
        return process.wait()


def python(*arguments: str) -> list[str]:
    """A command line for a module, with the Python that we run on."""
    return [sys.executable, "-m", *arguments]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `url` is answered with 200, or say why that will not happen."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=START_S):  # noqa: S310 (our own URL)
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace") if log.exists() else ""
                raise Failed(f"{url} gave no answer: {error}\n{said[-3000:]}") from error
        time.sleep(0.02)


# --- The parts ---------------------------------------------------------------


@contextlib.contextmanager
def platform(folder: Path) -> Iterator[str]:
    """The gift platform; yields its URL."""
    log = folder / "platform.log"
    (port,) = free_ports(1)
    arguments = python("gift.platform", "--port", str(port), "--ledger", str(folder / "presents.db"))
    with running([*arguments, "--latency", LATENCY, "--jitter", "20ms"], log) as process:
        wait_for_answer(f"http://127.0.0.1:{port}/ledger", process, log)
        yield f"http://127.0.0.1:{port}"


class Lastcall:
    """A running `lastcall serve`, and what an operator does to it."""

    def __init__(self, process: subprocess.Popen[bytes], run_dir: Path) -> None:
        self.process = process
        self._run_dir = run_dir

    def command(self, *arguments: str) -> str:
        """`lastcall ...`, for this instance."""
        done = subprocess.run(
            [*python("lastcall", arguments[0], "--run-dir", str(self._run_dir)), *arguments[1:]],
            capture_output=True,
            text=True,
            timeout=END_S,
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"lastcall {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def reload_by_signal(self) -> None:
        """`kill -HUP`, and wait until the new generation is in service."""
        before = self._reloaded()
        os.kill(self.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + END_S
        while self._reloaded() == before:
            if time.monotonic() > deadline:
                raise Failed("the reload has not ended")
            time.sleep(0.05)

    def _reloaded(self) -> int:
        """The generation that the last reload brought into service; 0 before the first."""
        last = json.loads(self.command("status", "--json")).get("last_reload")
        if last is not None and not last["ok"]:
            raise Failed(f"the reload failed: {last['text']}")
        return last["generation"] if last else 0


@contextlib.contextmanager
def lastcall(folder: Path, options: Options, env: Mapping[str, str]) -> Iterator[tuple[Lastcall, str, str]]:
    """The service; yields it with its HTTP and its FastCGI address."""
    run_dir, log, fastcgi = folder / "run", folder / "lastcall.log", folder / "fastcgi.sock"
    run_dir.mkdir()
    (port,) = free_ports(1)
    arguments = python("lastcall", "serve", "gift.app:app", "--app-dir", str(EXAMPLES))
    arguments += ["--http", f"127.0.0.1:{port}", "--fastcgi", f"unix:{fastcgi}", "--workers", str(options.workers)]
    arguments += ["--run-dir", str(run_dir), "--error-log", str(log)]
    output = folder / "lastcall.out"
    with running(arguments, output, **env) as process:
        wait_for_answer(f"http://127.0.0.1:{port}/ready", process, log if log.exists() else output)
        yield Lastcall(process, run_dir), f"127.0.0.1:{port}", f"unix:{fastcgi}"


@contextlib.contextmanager
def nginx(binary: str, folder: Path, http: str, fastcgi: str) -> Iterator[list[str]]:
    """A real nginx; yields two URLs: by HTTP and by FastCGI, both over kept connections."""
    ports = free_ports(2)
    # As root, nginx's workers would be www-data, who may not enter our folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    config, log = folder / "nginx.conf", folder / "nginx.log"
    config.write_text(NGINX.format(folder=folder, user=user, http=http, fastcgi=fastcgi, ports=ports))
    with running([binary, "-p", str(folder), "-e", str(log), "-c", str(config)], folder / "nginx.out") as process:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for url in urls:
            wait_for_answer(f"{url}/ready", process, log)
        yield urls


# --- The story ---------------------------------------------------------------


def demonstrate(options: Options, folder: Path, story: Story) -> int:
    """Start everything, let the orders flow, operate, stop, compare."""
    store = options.mongodb or f"sqlite:{folder}/orders.db"
    database = f"gift_demo_{os.getpid()}"
    with ExitStack() as stack:
        orders = stack.enter_context(contextlib.closing(open_orders(store, database)))
        if isinstance(orders, MongoOrders):
            stack.callback(orders.drop)
        gifts = stack.enter_context(platform(folder))
        story.tell(f"the gift platform is ready: a present takes {LATENCY}")
        env = {"GIFT_PLATFORM": gifts, "GIFT_STORE": store, "GIFT_DATABASE": database}
        server, http, fastcgi = stack.enter_context(lastcall(folder, options, env))
        story.tell(f"lastcall is ready: pid {server.process.pid}, {options.workers} workers")
        binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        urls = [f"http://{http}"]
        if options.nginx and binary:
            urls = stack.enter_context(nginx(binary, folder, http, fastcgi))
        way = "nginx, by HTTP and by FastCGI," if len(urls) > 1 else "lastcall alone, by HTTP,"
        story.tell(f"orders go through {way} into {'MongoDB' if options.mongodb else 'SQLite'}")
        load = Load(urls, options.orders, options.connections, progress=story.progress)
        load.start()
        code = operate(load, server, options, story)
        return report(load, ledger(gifts), list(orders.ids()), code, folder)


def operate(load: Load, server: Lastcall, options: Options, story: Story) -> int:
    """What operators do on a busy day, at fixed places in the stream of orders; returns lastcall's exit code."""

    def after(share: float) -> None:
        if not load.answered(int(options.orders * share), within=5 * END_S):
            raise Failed("the orders have stopped flowing")

    after(0.15)
    story.tell("kill -HUP: a reload by signal")
    server.reload_by_signal()
    after(0.4)
    story.tell("lastcall reload --wait")
    server.command("reload", "--wait")
    after(0.6)
    story.tell("lastcall scale +1")
    server.command("scale", "+1")
    after(0.8)
    story.tell("lastcall scale -1")
    server.command("scale", "--", "-1")
    # So few that each of them is inside a worker: what waits in front of a service that stops is another subject.
    last = max(1, options.workers // 2)
    if not load.last_ones(last, within=5 * END_S):
        raise Failed("the orders have stopped flowing")
    story.tell("kill -TERM, with the last orders under way")
    code = end(server.process)
    after(1.0)
    story.tell(f"lastcall has ended with exit code {code}")
    return code


def report(load: Load, presents: list[str], written: list[str], code: int, folder: Path) -> int:
    """The table and the verdict; returns the exit code of the demonstration."""
    write_down(load.seen, folder / "seen.jsonl")
    findings = reconcile(presents, written, load.seen)
    log = folder / "nginx.log"
    errors = [line for line in log.read_text().splitlines() if "[error]" in line] if log.exists() else []
    counts = {
        "orders placed": load.orders,
        "presents sent (the platform's ledger)": len(presents),
        "orders written (our ledger)": len(written),
        "clients told yes": sum(one.yes for one in load.seen),
        "lines in nginx's error log": len(errors),
    }
    print("\n" + table(findings, counts) + "\n")
    for one in [one for one in load.seen if not one.yes][:5]:
        print(f"  {one.order}: {one.status or 'no answer'} {one.error}")
    for line in errors[:5]:
        print(f"  nginx: {line}")
    print(verdict(findings))
    complete = len(load.seen) == load.orders
    return 0 if findings.flawless and complete and not errors and code == 0 else 1


def parse(arguments: Sequence[str] | None) -> tuple[Options, bool]:
    """The options, and whether the folder is to be kept."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Reload and stop under load; compare ledgers.")
    parser.add_argument("--orders", type=int, default=600)
    parser.add_argument("--connections", type=int, default=8, help="kept ones, as of so many clients")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--mongodb", metavar="URI", help="write orders to this MongoDB instead of SQLite")
    parser.add_argument("--no-nginx", action="store_true", help="go to lastcall directly, even if nginx is here")
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
        code = demonstrate(options, folder, Story(options.orders))
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
