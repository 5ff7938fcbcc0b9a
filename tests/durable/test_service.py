"""Durable requests under lastcall: whatever dies, what has begun is completed, with its client or without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lastcall.durable.record import Record, State
from lastcall.durable.sqlite import Reader
from support import http
from support.lastcall import Server, Servers
from support.processes import ROOT, eventually, lines

HERE = Path(__file__).parent


class Shop:
    """A service with the durable application of `app.py`, its files, and its journal."""

    def __init__(self, serve: Servers, folder: Path, *arguments: str, fastcgi: bool = False) -> None:
        self.folder = folder / "steps"
        self.folder.mkdir()
        self.journal = folder / "journal"
        own = ("--app-dir", str(HERE), "--journal", str(self.journal), "--durability", "process", "--workers", "2")
        self.server: Server = serve(
            "app:app", *own, *arguments, env={"STEPS": str(self.folder)}, fastcgi="unix" if fastcgi else False
        )
        self.answers: list[http.Response | str] = []

    def gate(self, name: str) -> Callable[[], int]:
        """Close a gate; returns what waits until somebody stands before it, and says who."""
        os.mkfifo(self.folder / name)
        reached = self.folder / f"{name}.reached"

        def wait() -> int:
            eventually(lambda: reached.exists() and reached.read_text(), f"somebody is at {name}")
            return int(reached.read_text())

        return wait

    def open(self, name: str) -> None:
        """Nobody will wait there any more."""
        (self.folder / name).unlink()

    def post(self, order: str, **more: object) -> threading.Thread:
        """Send an order, on a thread."""

        def run() -> None:
            try:
                body = json.dumps({"order_id": order, **more}).encode()
                self.answers.append(http.post(self.server.http_address, "/send", body))
            except (http.Closed, OSError) as error:
                self.answers.append(repr(error))

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def done(self, step: str) -> list[str]:
        """What a step has been called for, and with which keys."""
        return lines(self.folder / step)

    def records(self, state: State | None = None) -> list[Record]:
        reader = Reader(self.journal)
        try:
            return list(reader.listing(state))
        finally:
            reader.close()

    def command(self, *arguments: str, there: bool = False) -> subprocess.CompletedProcess[str]:
        """`lastcall journal ...`, of the instance that runs, or of the directory itself."""
        where = ["--journal", str(self.journal)] if there else ["--run-dir", str(self.server.run_dir)]
        program = [sys.executable, "-m", "lastcall", "journal", *arguments, *where]
        env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(program, env=env, capture_output=True, text=True, check=False)

    def wait_state(self, state: State) -> Record:
        eventually(lambda: self.records(state), f"a request is {state.name}\n{self.server.everything()}")
        return self.records(state)[0]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_killed_worker_s_client_is_answered_on_its_connection(serve: Servers, folder: Path, threads: str) -> None:
    """A POST: run again on another worker, which does the rest; what was done is done once."""
    shop = Shop(serve, folder, "--threads", threads)
    reached = shop.gate("before-order")
    client = shop.post("1")
    worker = reached()
    shop.open("before-order")
    os.kill(worker, signal.SIGKILL)
    client.join()
    (answer,) = shop.answers
    assert isinstance(answer, http.Response), answer
    assert (answer.status, json.loads(answer.body)["attempt"]) == (201, 2), shop.server.everything()
    assert len(shop.done("present")) == len(shop.done("order")) == 1
    assert "run again" in shop.server.log()


def test_everything_is_killed_and_the_next_start_completes_it(serve: Servers, folder: Path) -> None:
    """Master and workers, at once; nobody asks again; then the client does, and hears what the answer was."""
    shop = Shop(serve, folder)
    reached = shop.gate("before-order")
    client = shop.post("1")
    reached()
    shop.server.kill()
    client.join()
    shop.open("before-order")
    shop.server.start_again()
    shop.server.wait_log("ready to handle connections", times=2)
    record = shop.wait_state(State.DONE)
    assert record.attempt == 2
    assert len(shop.done("present")) == len(shop.done("order")) == 1
    shop.post("1").join()
    answer = shop.answers[-1]
    assert isinstance(answer, http.Response)
    assert (answer.status, json.loads(answer.body)["attempt"]) == (201, 2)
    assert len(shop.server.log_lines("is completed without its client, attempt 2")) == 1
    assert shop.server.stop() == 0


def test_a_request_that_the_kernel_no_longer_has_is_completed_without_its_client(serve: Servers, folder: Path) -> None:
    """Its client hears that it will be: 503, `durable`."""
    shop = Shop(serve, folder)
    reached = shop.gate("before-order")
    client = shop.post("1", padding="x" * 100_000)
    worker = reached()
    shop.open("before-order")
    os.kill(worker, signal.SIGKILL)
    client.join()
    (answer,) = shop.answers
    assert isinstance(answer, http.Response)
    assert answer.status == 503
    document = json.loads(answer.body)
    assert (document["durable"], document["begun"]) == (True, True)
    shop.wait_state(State.DONE)
    assert len(shop.done("present")) == len(shop.done("order")) == 1
    shop.post("1", padding="x" * 100_000).join()
    again = shop.answers[-1]
    assert isinstance(again, http.Response)
    assert (again.status, json.loads(again.body)["length"] > 100_000) == (201, True)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_step_in_doubt_is_parked_and_an_operator_decides(serve: Servers, folder: Path, moment: str) -> None:
    """hold: the client hears it, the log and `journal ls` have it, `journal retry` has the rest done."""
    shop = Shop(serve, folder)
    reached = shop.gate(f"{moment}-present")
    client = shop.post("1", in_doubt="hold")
    worker = reached()
    shop.open(f"{moment}-present")
    os.kill(worker, signal.SIGKILL)
    client.join()
    (answer,) = shop.answers
    assert isinstance(answer, http.Response)
    assert (answer.status, json.loads(answer.body)["durable"]) == (500, True)
    (record,) = shop.records(State.PARKED)
    assert f"{record.id} " in shop.server.log_lines("is parked: step present was begun")[0]
    assert len(shop.done("present")) == (moment == "after")
    assert shop.done("order") == []
    assert "1 request is PARKED" in shop.server.command("status").stdout
    listed = shop.command("ls")
    assert (listed.returncode, record.id in listed.stdout, "present was begun" in listed.stdout) == (0, True, True)
    shown = json.loads(shop.command("show", record.id[:6], "--json").stdout)
    assert [(step["name"], step["state"]) for step in shown["steps"]] == [("present", "started")]
    ordered = shop.command("retry", record.id[:6], *(["--result", "17"] if moment == "after" else []))
    assert (ordered.returncode, ordered.stderr) == (0, ""), ordered
    shop.wait_state(State.DONE)
    assert len(shop.done("present")) == len(shop.done("order")) == 1
    assert json.loads(shop.command("stats", "--json").stdout)["done"] == 1


def test_an_operator_decides_while_nothing_runs(serve: Servers, folder: Path) -> None:
    """Abandoned: the next start leaves it alone."""
    shop = Shop(serve, folder)
    reached = shop.gate("before-present")
    client = shop.post("1", in_doubt="hold")
    worker = reached()
    shop.open("before-present")
    os.kill(worker, signal.SIGKILL)
    client.join()
    (record,) = shop.records(State.PARKED)
    assert shop.server.stop() == 0
    assert shop.command("abandon", record.id).returncode == 69  # no instance is running: which journal?
    done = shop.command("abandon", record.id, there=True)
    assert (done.returncode, done.stdout) == (0, f"{record.id} is abandoned\n")
    again = shop.command("abandon", record.id, there=True)
    assert (again.returncode, again.stderr) == (1, f"lastcall: {record.id} is not parked, but abandoned\n")


def test_code_that_does_not_run_it_any_more_parks_it(serve: Servers, folder: Path) -> None:
    """The route is gone: what is answered instead is no completion."""
    shop = Shop(serve, folder)
    reached = shop.gate("before-order")
    client = shop.post("1")
    reached()
    shop.server.kill()
    client.join()
    shop.open("before-order")
    (folder / "other").mkdir()
    (folder / "other" / "app.py").write_text("def app(e, s):\n    s('404 Not Found', [])\n    return [b'nothing']\n")
    serve("app:app", "--app-dir", str(folder / "other"), "--journal", str(shop.journal))
    record = shop.wait_state(State.PARKED)
    assert "the application has answered 404, and not run it" in record.why


def test_a_request_that_ends_its_workers_is_parked_after_the_second(serve: Servers, folder: Path) -> None:
    """Two workers, no third."""
    shop = Shop(serve, folder)
    reached = shop.gate("before-order")
    client = shop.post("1")
    for _ in range(2):
        worker = reached()
        (shop.folder / "before-order.reached").unlink()
        os.kill(worker, signal.SIGSEGV)
    client.join()
    (answer,) = shop.answers
    assert isinstance(answer, http.Response), shop.server.everything()
    assert answer.status == 500
    record = shop.wait_state(State.PARKED)
    assert (record.attempt, record.why) == (2, "requests like it have ended the workers that ran them")
    assert shop.done("order") == []


def test_without_room_nothing_durable_begins(serve: Servers, folder: Path) -> None:
    """The journal's directory cannot be made: 503, nothing is done, and everything else is served."""
    (folder / "journal").write_text("a file")
    shop = Shop(serve, folder)
    shop.post("1").join()
    (answer,) = shop.answers
    assert isinstance(answer, http.Response)
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert json.loads(answer.body)["begun"] is False
    assert shop.done("present") == []
    assert http.get(shop.server.http_address).status == 200
    assert "the journal" in shop.server.log()
