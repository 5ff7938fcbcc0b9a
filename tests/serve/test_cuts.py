"""The cut list, from outside: what is cut, and by whom, is there afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serve.test_signals import in_flight_unanswered
from support import http
from support.lastcall import READY, Server
from support.processes import eventually

Shop = Callable[..., Server]
Record = dict[str, object]


def listed(server: Server, *arguments: str) -> list[Record]:
    """`lastcall cuts --json`."""
    done = server.command("cuts", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(record: Record, folder: Path, *, where: bool) -> None:
    """What every record says of the request."""
    assert record["method"] == "GET"
    assert record["uri"] == f"/wait{folder / 'never.flag'}"
    assert record["client"] == "127.0.0.1"
    assert record["generation"] == 1
    assert isinstance(record["elapsed"], float)
    assert isinstance(record["time"], float)
    assert abs(record["time"] - time.time()) < 60
    assert ("shop.py:" in str(record.get("where"))) is where


def test_a_second_stop(shop: Shop, folder: Path) -> None:
    """With the line of code; the list is there when the instance is gone, and people can read it."""
    server = shop()
    thread, _, _ = in_flight_unanswered(server, folder)
    server.signal(signal.SIGTERM)
    server.wait_log("Terminating ...")
    server.signal(signal.SIGTERM)
    server.wait()
    thread.join()
    (record,) = listed(server)
    check(record, folder, where=True)
    assert record["kind"] == "stop"
    text = server.command("cuts").stdout
    assert str(record["uri"]) in text
    assert str(record["where"]) in text
    assert "by order of lastcall: asked to stop again" in text
    assert f"SIGTERM from pid {os.getpid()} " in str(record["asked_by"])
    assert str(record["asked_by"]) in text
    assert "answered 503" in text


def test_the_deadline_of_a_drain(shop: Shop, folder: Path) -> None:
    """Named with the setting that it was."""
    server = shop("--drain-timeout", "300ms")
    thread, _, _ = in_flight_unanswered(server, folder)
    server.signal(signal.SIGTERM)
    server.wait()
    thread.join()
    (record,) = listed(server)
    check(record, folder, where=True)
    assert record["kind"] == "drain_timeout"
    assert str(record["cause"]).endswith(
        "it was to finish for a stop, and had not finished within drain_timeout (300ms)"
    )
    assert f"SIGTERM from pid {os.getpid()} uid {os.getuid()} (" in str(record["asked_by"])


def test_a_reload_that_does_not_wait(shop: Shop, folder: Path) -> None:
    """The cut names the reload, and who has asked for it."""
    server = shop("--drain-timeout", "300ms", "--workers", "1", "--replay", "none")
    thread, _, _ = in_flight_unanswered(server, folder)
    assert server.command("reload", "--wait").returncode == 0
    thread.join()
    (record,) = eventually(lambda: listed(server), "the request is listed")
    check(record, folder, where=True)
    assert "it was to finish for a reload, and had not" in str(record["cause"])
    assert re.match(r"lastcall reload from pid \d+ uid \d+ \(.*reload --run-dir.* < pid ", str(record["asked_by"]))


def test_recycling_that_does_not_wait(shop: Shop, folder: Path) -> None:
    """Nobody has asked for it; the limit is named."""
    server = shop("--drain-timeout", "300ms", "--workers", "1", "--max-age", "500ms", "--replay", "none")
    thread, _, _ = in_flight_unanswered(server, folder)
    thread.join()
    (record,) = eventually(lambda: listed(server), "the request is listed")
    assert "it was to finish for recycling (" in str(record["cause"])
    assert "asked_by" not in record


def test_scaling_down_that_does_not_wait(shop: Shop, folder: Path) -> None:
    """The youngest of those that are busy has to go."""
    server = shop("--drain-timeout", "300ms", "--workers", "2", "--replay", "none")
    threads: list[threading.Thread] = []
    for number in range(2):
        (folder / str(number)).mkdir()
        threads.append(in_flight_unanswered(server, folder / str(number))[0])
    server.signal(signal.SIGTTOU)
    (record,) = eventually(lambda: listed(server), "the request is listed")
    assert "it was to finish for scaling down, and had not" in str(record["cause"])
    assert str(record["asked_by"]).startswith(f"SIGTTOU from pid {os.getpid()} ")
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    server.stop()
    for thread in threads:
        thread.join()


def test_the_request_timeout(shop: Shop, folder: Path) -> None:
    """While the instance serves on."""
    server = shop("--request-timeout", "200ms")
    thread, _, _ = in_flight_unanswered(server, folder)
    thread.join()
    (record,) = eventually(lambda: listed(server), "the request is listed")
    check(record, folder, where=True)
    assert record["kind"] == "request_timeout"
    assert str(record["cause"]).endswith("it had run for longer than request_timeout (200ms)")


def test_workers_that_die_and_a_list_that_goes_on(code: Path, folder: Path) -> None:
    """Kill -9: nobody has seen the line. A second instance in the same directory adds to the list."""
    for number in (1, 2):
        server = Server(folder / "one", "shop:app", "--app-dir", str(code), "--workers", "1", "--replay", "none")
        try:
            server.wait_log(READY, times=number)
            thread, _, _ = in_flight_unanswered(server, folder)
            os.kill(server.workers()[0], signal.SIGKILL)
            thread.join()
            server.wait_log("was cut after", times=number)
            server.stop()
        finally:
            server.kill()
        (folder / "never.begun").unlink()
        records = listed(server)
        assert len(records) == number
        check(records[-1], folder, where=False)
        assert records[-1]["kind"] == "died"
        assert str(records[-1]["cause"]).endswith("(SIGKILL), sent from outside; the kernel tells nobody by whom")
        assert "asked_by" not in records[-1]
    assert listed(server, "--since", "1h") == records
    assert listed(server, "--since", "2999-01-01") == []


def test_a_list_that_cannot_be_written_harms_nothing_else(shop: Shop, folder: Path) -> None:
    """The log says so, and names the request as ever."""
    server = shop("--workers", "1", "--replay", "none")
    (server.run_dir / "cuts.jsonl").mkdir()
    thread, _, _ = in_flight_unanswered(server, folder)
    os.kill(server.workers()[0], signal.SIGKILL)
    thread.join()
    server.wait_log("the cut list could not be written: ")
    assert "was cut after" in server.log()
    assert http.get(server.http_address).status == 200


def test_every_request_of_a_worker_with_threads_is_listed(shop: Shop, folder: Path) -> None:
    """A record each, written at once."""
    server = shop("--workers", "1", "--threads", "4", "--replay", "none")
    threads: list[threading.Thread] = []
    for number in range(3):
        (folder / str(number)).mkdir()
        threads.append(in_flight_unanswered(server, folder / str(number))[0])
    os.kill(server.workers()[0], signal.SIGKILL)
    for thread in threads:
        thread.join()
    records = eventually(lambda: listed(server), "the requests are listed")
    assert len({record["request_id"] for record in records}) == 3
    assert len({record["serial"] for record in records}) == 1
