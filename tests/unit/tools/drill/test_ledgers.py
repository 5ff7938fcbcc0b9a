"""The ledgers behind the gift app, and the steps at which they hold a request."""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastcall.tools.drill.gift import wsgi
from lastcall.tools.drill.judge import Books
from lastcall.tools.drill.ledgers import CALL_MAX, Hold, Ledgers
from lastcall.tools.drill.processes import children, owner
from lastcall.tools.drill.steps import CLIENTS, Step
from support.processes import WITHIN_S


@pytest.fixture
def ledgers() -> Iterator[Ledgers]:
    with Ledgers(latency=0.002) as running:
        yield running


def connection(ledgers: Ledgers) -> http.client.HTTPConnection:
    where = urllib.parse.urlsplit(ledgers.url)
    return http.client.HTTPConnection(where.hostname or "", where.port, timeout=WITHIN_S)


def call(to: http.client.HTTPConnection, path: str, order: str) -> int:
    to.request("POST", path, json.dumps({"order": order}))
    response = to.getresponse()
    response.read()
    return response.status


def test_both_actions_are_written_down_in_order(ledgers: Ledgers) -> None:
    """As often as they are asked for: that is how what was run twice is found."""
    kept = connection(ledgers)
    for order in ("one", "two", "two"):
        assert call(kept, "/sendPresent", order) == 200
        assert call(kept, "/order", order) == 200
    kept.close()
    assert ledgers.books() == Books(("one", "two", "two"), ("one", "two", "two"))


def test_the_gift_app_is_ready_and_does_both(ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The WSGI one: what the others do, too."""
    monkeypatch.setenv("DRILL_LEDGERS", ledgers.url)
    body = tmp_path / "body"
    body.write_text('{"order": "one"}')
    told: list[str] = []

    def start_response(status: str, _headers: object) -> None:
        told.append(status)

    for path in ("/send", "/ready"):
        with body.open("rb") as asked:
            environ = {"PATH_INFO": path, "CONTENT_LENGTH": str(body.stat().st_size), "wsgi.input": asked}
            told += [b"".join(wsgi.app(environ, start_response)).decode()]  # type: ignore[arg-type]
    wsgi._mine.ledgers.close()
    del wsgi._mine.ledgers
    assert told == ["200 OK", "sent\n", "200 OK", "ready\n"]
    assert ledgers.books() == Books(("one",), ("one",))


def at_step(ledgers: Ledgers, step: Step, path: str) -> tuple[Hold, http.client.HTTPConnection, threading.Thread]:
    """A call that is held there."""
    hold = ledgers.hold("one", step)
    caller = connection(ledgers)
    caller.connect()

    def asked() -> None:
        try:
            call(caller, path, "one")
        except (OSError, http.client.HTTPException):
            pass  # whoever has closed it knows

    thread = threading.Thread(target=asked)
    thread.start()
    assert hold.reached.wait(WITHIN_S)
    return hold, caller, thread


@pytest.mark.parametrize(
    ("step", "path", "first", "second"),
    [
        (Step.ASKED, "/sendPresent", 0, 0),
        (Step.SENT, "/sendPresent", 1, 0),
        (Step.WRITING, "/order", 0, 0),
        (Step.WRITTEN, "/order", 0, 1),
    ],
)
def test_a_request_is_held_at_a_step(ledgers: Ledgers, step: Step, path: str, first: int, second: int) -> None:
    """Until it is let go; others pass meanwhile."""
    hold, caller, thread = at_step(ledgers, step, path)
    books = ledgers.books()
    assert (books.first.count("one"), books.second.count("one")) == (first, second)
    other = connection(ledgers)
    assert call(other, path, "two") == 200
    other.close()
    hold.release()
    thread.join(WITHIN_S)
    caller.close()
    assert ("one" in ledgers.books().first) == (path == "/sendPresent")
    assert ("one" in ledgers.books().second) == (path == "/order")


def test_the_applications_steps_and_the_clients_are_all_there_are() -> None:
    """An enumeration leaves none out."""
    assert {Step.ASKED, Step.SENT, Step.WRITING, Step.WRITTEN, *CLIENTS} == set(Step)


@pytest.mark.parametrize(
    ("step", "path", "done"), [(Step.ASKED, "/sendPresent", True), (Step.WRITING, "/order", False)]
)
def test_a_caller_that_goes_away_has_asked_for_a_present_but_has_written_no_order(
    ledgers: Ledgers, step: Step, path: str, done: bool
) -> None:
    """The other company sends what it was asked for; a transaction whose writer is gone has not been."""
    hold, caller, thread = at_step(ledgers, step, path)
    assert caller.sock is not None
    caller.sock.shutdown(2)
    thread.join(WITHIN_S)
    caller.close()
    other = connection(ledgers)
    call(other, "/order", "a call that comes after the end of the one before")
    hold.release()
    call(other, "/sendPresent", "and one that is answered after it was let go")
    other.close()
    books = ledgers.books()
    assert ("one" in (*books.first, *books.second)) == done


def test_whose_connection_it_is_can_be_found(ledgers: Ledgers) -> None:
    """So that the worker that is inside a request can be killed, and no other."""
    hold, caller, thread = at_step(ledgers, Step.SENT, "/sendPresent")
    assert ledgers.caller() == hold.port
    assert owner(hold.port, [1, os.getpid()]) == os.getpid()
    assert owner(hold.port, children(os.getpid())) is None
    hold.release()
    thread.join(WITHIN_S)
    caller.close()
    assert ledgers.caller() == 0


def test_whoever_asks_for_something_else_is_sent_away(ledgers: Ledgers) -> None:
    """Nothing that comes on a socket of ours can grow without end."""
    for head in (
        b"GET /else HTTP/1.1\r\n\r\n",
        b"POST /order HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]",
        b"POST /order HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"x" * (CALL_MAX + 1),
    ):
        stranger = connection(ledgers)
        stranger.connect()
        assert stranger.sock is not None
        stranger.sock.sendall(head)
        try:
            assert stranger.sock.recv(1) == b""
        except ConnectionResetError:
            pass  # it had not read all of it
        stranger.close()
