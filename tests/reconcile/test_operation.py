"""As cron runs it: what is new and what was resolved, who is told, and one run at a time."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lastcall.runtime import locks
from reconcile.conftest import Ask

LEFT = (
    "id,at,x\na,2017-06-25T00:00:00Z,1\nb,2017-06-26T00:00:00Z,1\nc,2017-06-27T00:00:00Z,1\nd,2017-06-27T00:00:00Z,1\n"
)
WITHOUT_A_B = "id,at,x\nc,2017-06-27T00:00:00Z,2\nd,2017-06-27T00:00:00Z,1\n"
WITHOUT_A = "id,at,x\nb,2017-06-26T00:00:00Z,1\nc,2017-06-27T00:00:00Z,2\n"


# --- The state ----------------------------------------------------------------


def test_the_next_run_says_what_is_new_and_what_was_resolved(ask: Ask, folder: Path) -> None:
    """By the order and what is wrong with it; the first run knows nothing yet."""
    state = ("--state", str(folder / "state"), "--compare", "x")
    first = ask(LEFT, WITHOUT_A_B, *state).summary
    assert (first["new"], first["resolved"]) == (3, 0)
    assert (folder / "state").stat().st_mode & 0o777 == 0o600
    again = ask(LEFT, WITHOUT_A_B, *state).summary
    assert (again["new"], again["resolved"]) == (0, 0)
    done = ask(LEFT, WITHOUT_A, *state)
    assert (done.summary["new"], done.summary["resolved"], done.summary["resolved_keys"]) == (1, 1, ["b"])
    assert done.finding("d")["new"]
    assert done.finding("a")["since"] == first["at"]
    text = ask(LEFT, LEFT, *state, form="text").out
    assert "Since the last run: 0 new, 3 resolved." in text
    assert len((folder / "state").read_text().splitlines()) == 1


def test_what_nobody_looks_at_is_not_resolved(ask: Ask, folder: Path) -> None:
    """An order that has left the window is still open; one that has left both ledgers is told as gone."""
    state = ("--state", str(folder / "state"), "--compare", "x", "--time", "at")
    ask(LEFT, WITHOUT_A_B, *state)
    window = ask(LEFT, WITHOUT_A_B, *state, "--since", "2017-06-26T00:00Z").summary
    assert (window["new"], window["resolved"], window["gone"]) == (0, 0, 0)
    later = ask(LEFT, WITHOUT_A_B, *state).summary
    assert (later["new"], later["resolved"]) == (0, 0)
    gone = ask(LEFT.replace("a,2017-06-25T00:00:00Z,1\n", ""), WITHOUT_A_B, *state).summary
    assert (gone["new"], gone["resolved"], gone["gone"]) == (0, 0, 1)


def test_a_state_is_of_one_comparison(ask: Ask, folder: Path) -> None:
    """Another question, or another file, is no news of this one."""
    state = ("--state", str(folder / "state"))
    ask("id,x\na,1\n", "id,x\na,1\n", *state)
    done = ask("id,x\na,1\n", "id,x\na,1\n", *state, "--compare", "x")
    assert done.code == 2
    assert "is the state of another comparison" in done.err
    (folder / "state").write_text("hello\n")
    assert "is no state of lastcall reconcile" in ask("id\na\n", "id\na\n", *state).err


def test_no_verdict_changes_no_state(ask: Ask, folder: Path) -> None:
    """What was off is still off."""
    state = ("--state", str(folder / "state"))
    ask("id\na\n", "id\nb\n", *state)
    before = (folder / "state").read_bytes()
    assert ask("cmd:exit 1", "id\nb\n", *state, "--left-format", "csv").code == 2
    assert (folder / "state").read_bytes() == before


def test_what_is_pending_is_no_news(ask: Ask, folder: Path) -> None:
    """It is not off, and may never be."""
    options = ("--state", str(folder / "state"), "--time", "at", "--ignore-younger", "5m")
    done = ask("id,at\na,2099-01-01T00:00:00Z\nb,2017-06-25T00:00:00Z\n", "id,at\nb,2017-06-25T00:00:00Z\n", *options)
    assert (done.code, done.summary["new"], done.finding("a").get("new")) == (0, 0, None)


# --- The alarm ----------------------------------------------------------------


def test_a_command_gets_the_summary(ask: Ask, folder: Path) -> None:
    """When something is off, and when there is no verdict; not when all is well."""
    heard = folder / "heard"
    alarm = ("--alarm", f"cat >> {heard}; echo >> {heard}")
    ask("id\na\n", "id\na\n", *alarm)
    assert not heard.exists()
    ask("id\na\nb\n", "id\na\n", *alarm)
    ask("id\na\nb\n", "id\n", *alarm)
    one, other = map(json.loads, heard.read_text().splitlines())
    assert (one["verdict"], one["counts"]["only_left"], one["findings"][0]["key"]) == ("off", 1, {"id": "b"})
    assert (other["verdict"], other["error"][:21]) == ("none", "right.csv has no rows")


def test_an_alarm_is_short(ask: Ask, folder: Path) -> None:
    """A thousand missing orders are a number and some examples."""
    left = "id\n" + "".join(f"{n}\n" for n in range(1000))
    ask(left, "id\n1\n", "--alarm", f"cat > {folder}/heard")
    heard = json.loads((folder / "heard").read_text())
    assert (len(heard["findings"]), heard["left_out"]) == (20, {"only_left": 979})


def test_only_news_if_so_wished(ask: Ask, folder: Path) -> None:
    """With a state: what is new, or resolved, rings; what was known does not."""
    heard = folder / "heard"
    options = ("--alarm", f"echo >> {heard}", "--alarm-when", "change", "--state", str(folder / "state"))
    for left, rings in (("id\na\nb\n", 1), ("id\na\nb\n", 1), ("id\na\n", 2), ("id\na\n", 2)):
        ask(left if rings == 1 else "id\na\nb\n", "id\na\n" if rings == 1 else "id\na\nb\n", *options)
        assert len(heard.read_text()) == rings


def test_what_nobody_has_heard_of_is_new_again(ask: Ask, folder: Path) -> None:
    """The state waits for an alarm that fails."""
    state = ("--state", str(folder / "state"))
    done = ask("id\na\nb\n", "id\na\n", *state, "--alarm", "echo no mail today >&2; exit 75")
    assert (done.code, done.summary["new"]) == (1, 1)
    assert "the alarm ended with 75" in done.err
    assert "no mail today" in done.err
    assert ask("id\na\nb\n", "id\na\n", *state).summary["new"] == 1
    assert ask("id\na\nb\n", "id\na\n", *state).summary["new"] == 0


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web server that keeps what it is sent; its address, and what it has kept."""
    kept: list[dict[str, Any]] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if self.path == "/hook" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", kept
        server.shutdown()
        thread.join()


def test_a_webhook_gets_it_as_a_post(ask: Ask, hook: tuple[str, list[dict[str, Any]]], folder: Path) -> None:
    """A server that answers with an error has not heard it."""
    address, kept = hook
    assert ask("id\na\nb\n", "id\na\n", "--webhook", f"{address}/hook").err == ""
    assert kept[0]["counts"]["only_left"] == 1
    done = ask("id\na\nb\n", "id\na\n", "--webhook", f"{address}/other")
    assert (done.code, done.err) == (
        1,
        "lastcall: the webhook was not reached: HTTP Error 500: Internal Server Error\n",
    )


# --- One at a time ------------------------------------------------------------


def test_two_runs_never_meet(ask: Ask, folder: Path) -> None:
    """The second says who is at it, and gives no verdict."""
    fd = os.open(folder / "state.lock", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"4711\n")
    assert locks.take(fd)
    done = ask("id\na\n", "id\na\n", "--state", str(folder / "state"))
    os.close(fd)
    assert done.code == 2
    assert f"another run is at it: pid 4711 holds {folder}/state.lock" in done.err
    assert ask("id\na\n", "id\na\n", "--lock", str(folder / "state.lock")).code == 0
