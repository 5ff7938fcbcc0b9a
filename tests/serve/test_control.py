"""The control commands against a real master."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

from serve.test_signals import in_flight
from support import http
from support.lastcall import Server
from support.processes import eventually

Shop = Callable[..., Server]


def test_status_shows_a_request_in_flight(shop: Shop, folder: Path) -> None:
    """Which request, for whom, for how long."""
    server = shop()
    thread, _, end = in_flight(server, folder)
    status = server.status()
    (request,) = [request for worker in status.workers for request in worker.in_flight]
    assert request.method == "GET"
    assert request.uri.startswith("/wait/")
    assert request.client == "127.0.0.1"
    assert request.elapsed >= 0
    assert request.uri in server.command("status").stdout
    end.touch()
    thread.join()
    eventually(lambda: server.status().requests == 1, "the request counts as finished")


def test_stop_waits_until_the_master_is_gone(shop: Shop) -> None:
    """`stop --wait` returns when it is over."""
    server = shop()
    done = server.command("stop", "--wait")
    assert done.returncode == 0
    assert server.wait() == 0


def test_restart_waits_for_the_new_generation(shop: Shop) -> None:
    """`restart --wait`."""
    server = shop()
    done = server.command("restart", "--wait")
    assert done.returncode == 0
    assert server.status().generation == 2


def test_scale_changes_the_number_of_workers(shop: Shop) -> None:
    """`scale +2`, `scale -1`."""
    server = shop("--workers", "1")
    assert server.command("scale", "+2").returncode == 0
    eventually(lambda: len(server.status().workers) == 3, "three workers")
    assert server.command("scale", "-1").returncode == 0
    eventually(lambda: len(server.status().workers) == 2, "two workers")


def test_reopen(shop: Shop) -> None:
    """`reopen` is SIGUSR1."""
    server = shop()
    server.error_log.unlink()
    assert server.command("reopen").returncode == 0
    server.wait_log("error log file re-opened")


def test_garbage_on_the_control_socket_harms_nobody(shop: Shop) -> None:
    """An error in words, a close; the master goes on."""
    server = shop()
    for garbage in (b"\n", b"{}\n", b'{"do":"dance"}\n', b"\xff\xfe\n", b"x" * 10_000):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(server.run_dir / "control.sock"))
            client.sendall(garbage)
            answer = json.loads(client.makefile().readline())
            assert answer["ok"] is False
    silent = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for client in silent:
            client.connect(str(server.run_dir / "control.sock"))
        assert http.get(server.http_address).status == 200
    finally:
        for client in silent:
            client.close()
    assert server.status().phase == "running"


def test_two_instances_do_not_get_in_each_others_way(shop: Shop, code: Path) -> None:
    """Each has its run directory; a second one in the same directory is refused in words."""
    one, two = shop(), shop()
    assert one.status().pid != two.status().pid
    third = one.command("serve", "shop:app", "--app-dir", str(code), "--http", "127.0.0.1:0")
    assert third.returncode == 78
    assert str(one.run_dir) in third.stderr
    assert one.status().phase == "running"
