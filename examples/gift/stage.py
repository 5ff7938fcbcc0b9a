"""What the demonstration is played with: processes that are ended again, a gift platform, nginx, and somebody who tells.

Everything runs on free ports, in one folder. What is started in a block is ended with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent
LATENCY = "40ms"
START_S = 20.0
"""Seconds within which everything must have started."""
END_S = 60.0
"""Seconds within which a process must have ended; then it is killed."""
SBIN = "/usr/sbin:/usr/local/sbin"
"""Where Debian keeps servers, and not everybody's PATH looks."""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
{user}
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    log_format gift '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                    '"$http_referer" "$http_user_agent" $request_time "$http_x_request_id"';
    access_log {folder}/access.log gift;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{sites}
}}
"""
HTTP = """
    upstream http_{port} {{ server {upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://http_{port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
"""
FASTCGI = """
    upstream fastcgi_{port} {{ server {upstream}; {keepalive} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            fastcgi_pass fastcgi_{port};
            fastcgi_keep_conn {keep};
            fastcgi_param SCRIPT_FILENAME "{script}";
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
"""


class Failed(Exception):
    """The demonstration cannot go on; the text says why."""


class Story:
    """What is told on the terminal while it happens: when, and what."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()

    def heading(self, text: str) -> None:
        """Another act."""
        print(f"{self._wipe()}\n{text}\n{'=' * len(text)}", flush=True)

    def tell(self, what: str) -> None:
        """One line, with the time since the start."""
        print(f"{self._wipe()}{time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def show(self, text: str) -> None:
        """What a program has said, indented."""
        print(self._wipe() + "".join(f"  {line}\n" if line else "\n" for line in text.splitlines()), flush=True)

    def progress(self, answered: int, orders: int) -> None:
        """A bar on a terminal, nothing in a file."""
        if self._live:
            bar = "#" * (30 * answered // orders)
            print(f"{self._wipe()}          [{bar:<30}] {answered}/{orders} orders", end="", flush=True)

    def _wipe(self) -> str:
        return "\r\x1b[K" if self._live else ""


# --- Processes ---------------------------------------------------------------


def begin(arguments: Sequence[str], log: Path, **env: str) -> subprocess.Popen[bytes]:
    """A process in a group of its own, so that Ctrl-C reaches the demonstration alone, which ends the others in order."""
    with log.open("ab") as output:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=EXAMPLES,
            env=os.environ | env,
            process_group=0,
        )


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, wait until it has, and return its exit code. Ctrl-C while it waits ends it at once."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)  # with its workers: it leads the group that it was started in
        return process.wait()


@contextlib.contextmanager
def running(arguments: Sequence[str], log: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts: SIGTERM at its end, SIGKILL when that is not enough."""
    process = begin(arguments, log, **env)
    try:
        yield process
    finally:
        end(process)


def python(*arguments: str) -> list[str]:
    """A command line for a module, with the Python that we run on."""
    return [sys.executable, "-m", *arguments]


def program(name: str) -> str | None:
    """Where a server is; None when it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


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


# --- The neighbours ----------------------------------------------------------


@contextlib.contextmanager
def platform(folder: Path) -> Iterator[str]:
    """The gift platform; yields its URL. Its ledger is `presents.db` in the folder."""
    log = folder / "platform.log"
    (port,) = free_ports(1)
    arguments = python("gift.platform", "--port", str(port), "--ledger", str(folder / "presents.db"))
    with running([*arguments, "--latency", LATENCY, "--jitter", "20ms"], log) as process:
        wait_for_answer(f"http://127.0.0.1:{port}/ledger", process, log)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def nginx(binary: str, folder: Path, **sites: str) -> Iterator[list[str]]:
    """A real nginx in front of `http=`, `fastcgi=` (over kept connections) or `php=`; yields the URL of each."""
    ports = free_ports(len(sites))
    # As root, nginx's workers would be www-data, who may not enter our folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    config, log = folder / "nginx.conf", folder / "nginx.log"
    parts = "".join(_site(kind, upstream, port) for (kind, upstream), port in zip(sites.items(), ports, strict=True))
    config.write_text(NGINX.format(folder=folder, user=user, sites=parts))
    with running([binary, "-p", str(folder), "-e", str(log), "-c", str(config)], folder / "nginx.out") as process:
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for url in urls:
            wait_for_answer(f"{url}/ready", process, log)
        yield urls


def _site(kind: str, upstream: str, port: int) -> str:
    match kind:
        case "http":
            return HTTP.format(upstream=upstream, port=port)
        case "php":  # a connection that is kept to php-fpm occupies one of its workers
            script = EXAMPLES / "gift" / "send.php"
            return FASTCGI.format(upstream=upstream, port=port, keepalive="", keep="off", script=script)
        case _:
            return FASTCGI.format(upstream=upstream, port=port, keepalive="keepalive 16;", keep="on", script="")


def nginx_errors(folder: Path) -> list[str] | None:
    """What it has complained of; None where there was no nginx."""
    log = folder / "nginx.log"
    return [line for line in log.read_text().splitlines() if "[error]" in line] if log.exists() else None
