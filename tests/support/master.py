"""A master that only knows its control socket: what the control commands are tested against."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lastcall.protocol.control import Command, InFlight, LastReload, Reply, Status, WorkerStatus


@contextmanager
def fake_master(run_dir: Path, *answers: bytes, silent: bool = False) -> Iterator[list[Command]]:
    """Listen in the run directory, and give each client these bytes; yields the commands heard.

    `silent`: say nothing more and keep the connection open until the end.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    heard: list[Command] = []
    kept: list[socket.socket] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(run_dir, os.O_PATH)
    listener.bind(f"/proc/self/fd/{folder}/control.sock")
    os.close(folder)
    listener.listen()

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            with client.makefile("rb") as lines:
                line = lines.readline()
            if line == b"end\n":
                client.close()
                return
            heard.append(msgspec.json.decode(line, type=Command))
            for answer in answers:
                with contextlib.suppress(OSError):  # whoever has heard enough hangs up
                    client.sendall(answer)
            if silent:
                kept.append(client)
            else:
                client.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heard
    finally:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            folder = os.open(run_dir, os.O_PATH)
            last.connect(f"/proc/self/fd/{folder}/control.sock")
            os.close(folder)
            last.sendall(b"end\n")
            thread.join()
        listener.close()
        for client in kept:
            client.close()


def line(reply: Reply) -> bytes:
    """A reply as the socket carries it."""
    return msgspec.json.encode(reply) + b"\n"


STATUS = Status(
    version="0.1.0", pool="gift", pid=4711, phase="running", started=1.0, uptime=7384.0, generation=3,
    application="gift.app:app", listen=["http 127.0.0.1:8000", "fastcgi 127.0.0.1:9000"], run_dir="/run/lastcall/gift",
    workers_wanted=2, requests=1234, cut=1, restarts=2,
    workers=[
        WorkerStatus(
            serial=7, slot=0, pid=4720, generation=3, stage="ready", age=61.5, requests=600, connections=4,
            in_flight=[InFlight("r-1", "POST", "/3/xx/vgift/send", "10.0.0.9", 2.125, "sendPresent")],
        ),
        WorkerStatus(
            serial=8, slot=1, pid=None, generation=3, stage="spawning", age=0.01, requests=0, connections=0,
            in_flight=[],
        ),
    ],
    last_reload=LastReload(3, ok=False, text="Traceback\n  line\nImportError: no gift", at=1_500_000_000.0),
)  # fmt: skip
"""A status with a bit of everything."""
