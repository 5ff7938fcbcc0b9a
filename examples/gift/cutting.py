"""A process manager that cuts, as php-fpm does: for machines that have none.

    GIFT_PLATFORM=http://127.0.0.1:8100 GIFT_STORE=file:orders.jsonl python -m gift.cutting --port 8000 --workers 4

A master and its workers, who accept from one listener. On SIGTERM the master sends it on, and a worker dies of it wherever
it is. That is all that php-fpm does either, as it comes: `process_control_timeout` is 0.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .app import app

BACKLOG = 128


class Quiet(WSGIRequestHandler):
    """Says nothing of the requests that it serves; of one that is cut nobody could."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """No access log."""


def work(listener: socket.socket, port: int) -> None:
    """Serve one request after the other, until a signal ends this process."""
    server = WSGIServer(("127.0.0.1", port), Quiet, bind_and_activate=False)
    server.server_close()  # the socket that it has made: ours is the master's
    server.socket, server.server_name, server.server_port = listener, "127.0.0.1", port
    server.setup_environ()
    server.set_app(app)
    server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="gift.cutting", description="Serve the gift app, and cut it on SIGTERM.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args(arguments)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=BACKLOG)
    workers = []
    for _ in range(options.workers):
        pid = os.fork()
        if pid == 0:
            work(listener, options.port)
        workers.append(pid)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    print("Terminating ...", flush=True)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        os.waitpid(pid, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
