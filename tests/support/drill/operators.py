"""The operator: each operation is ordered as people order it, and returns when it is over."""

from __future__ import annotations

import signal
from collections.abc import Callable

from lastcall.tools.drill.load import Load
from support.lastcall import READY, TAKEN_OVER, Server
from support.processes import eventually

OVER_S = 60.0
"""Within which an operation ends, on a slow machine too."""

Operation = Callable[[Server, Load], None]
"""What the operator does to a service; the load tells the time where an operation is one that nobody orders."""


def settled(server: Server, workers: int) -> None:
    """Wait until the old ones have gone, so that the next operation meets a whole pool."""
    eventually(lambda: len(server.workers()) == workers, f"{workers} workers are left", OVER_S)


def _signalled(number: signal.Signals, said: str) -> Operation:
    def operation(server: Server, load: Load) -> None:
        before = server.log().count(said)
        server.signal(number)
        server.wait_log(said, before + 1, OVER_S)

    return operation


def _commanded(*arguments: str) -> Operation:
    def operation(server: Server, load: Load) -> None:
        done = server.command(*arguments, within=OVER_S)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{server.everything()}"

    return operation


TTIN, TTOU, USR2 = signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2

hangup = _signalled(signal.SIGHUP, "reload finished")
"""`kill -HUP`."""
upgrade = _signalled(signal.SIGUSR2, "reload finished")
"""`kill -USR2`."""
reload = _commanded("reload", "--wait")
restart = _commanded("restart", "--wait")


def scale(server: Server, load: Load) -> None:
    """`kill -TTIN`, and when the new worker has served, `kill -TTOU`."""
    workers = len(server.workers())
    server.signal(signal.SIGTTIN)
    settled(server, workers + 1)
    load.more(20)
    server.signal(signal.SIGTTOU)
    settled(server, workers)


def recycle(server: Server, load: Load) -> None:
    """Nobody orders it: `--max-requests` does. Waits until as many workers have been replaced as there are."""
    before = len(server.log_lines("exited with code 0"))
    workers = len(server.workers())
    eventually(
        lambda: len(server.log_lines("exited with code 0")) >= before + workers, "workers have been replaced", OVER_S
    )


def stop_and_start(server: Server, load: Load) -> None:
    """`kill -TERM`, and as soon as it has ended the same command line again, as an init script does it."""
    ready = server.log().count(READY)
    server.signal(signal.SIGTERM)
    assert server.wait(OVER_S) == 0, server.everything()
    server.start_again()
    server.wait_log(READY, ready + 1, OVER_S)


def succeed(server: Server, *, killed: bool = False) -> None:
    """Kill the master, unless it is `killed`, and start the next one, again and again until it has taken over, or serves."""
    before = server.log().count(TAKEN_OVER) + server.log().count(READY)
    if not killed:
        server.kill_master()
    server.start_again()

    def over() -> bool:
        if server.process.ended is not None:  # the address was not free yet
            server.start_again()
        return server.log().count(TAKEN_OVER) + server.log().count(READY) > before

    eventually(over, f"another master is there\n{server.everything()}", OVER_S)


def kill_the_master(server: Server, load: Load) -> None:
    """`kill -9`; requests go on without one; then the same command line again."""
    server.kill_master()
    load.more(20)
    succeed(server, killed=True)
