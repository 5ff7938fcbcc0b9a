"""The gift service's own behaviour, called as any WSGI server would call it, with a real platform behind it."""

from __future__ import annotations

import io
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from examples.gift import app as gift
from examples.gift.orders import open_orders
from examples.gift.platform import Manners, Platform

from support.gift import Platforms

Answer = tuple[str, object]
SEND = "/3/xx/vgift/send"
ROSE = {"order": "a-1", "present": "rose", "user": "ann"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store for the app, which keeps one open for its whole process: a new one for each test."""
    where = f"sqlite:{tmp_path}/orders.db"
    orders = open_orders(where)
    monkeypatch.setattr(gift, "_opened", orders)
    kept = threading.local()
    monkeypatch.setattr(gift, "_mine", kept)
    yield where
    if hasattr(kept, "platform"):
        kept.platform.close()
    orders.close()


@pytest.fixture
def behave(platforms: Platforms, store: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Manners], Platform]:
    """Puts a platform of such manners behind the app."""

    def start(manners: Manners) -> Platform:
        platform = platforms.here(manners)
        monkeypatch.setenv("GIFT_PLATFORM", platform.url)
        return platform

    return start


def call(method: str, path: str, body: bytes | None = None, content_type: str = "application/json") -> Answer:
    """Status and decoded answer; `wsgiref.validate` looks on."""
    environ: dict[str, object] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"SCRIPT_NAME": "", "CONTENT_TYPE": content_type}
    if body is not None:
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    checked: WSGIApplication = validator(gift.app)

    def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    chunks = checked(environ, start_response)
    text = b"".join(chunks)
    chunks.close()  # type: ignore[attr-defined]
    return statuses[0], json.loads(text)


def test_an_order_in_json_is_sent_then_written(behave: Callable[[Manners], Platform]) -> None:
    """A yes means that both ledgers have it."""
    platform = behave(Manners())
    assert call("POST", SEND, json.dumps(ROSE).encode()) == ("200 OK", {"order": "a-1", "receipt": 1})
    assert platform.ledger.order_ids() == ["a-1"]
    assert call("GET", "/3/xx/vgift/order/a-1") == ("200 OK", {**ROSE, "receipt": 1})


def test_an_order_may_come_as_a_form(behave: Callable[[Manners], Platform]) -> None:
    """As the app of 2017 sent it."""
    behave(Manners())
    form = urllib.parse.urlencode({**ROSE, "user": "Änne"}).encode()
    assert call("POST", SEND, form, "application/x-www-form-urlencoded; charset=utf-8")[0] == "200 OK"
    assert call("GET", "/3/xx/vgift/order/a-1") == ("200 OK", {**ROSE, "user": "Änne", "receipt": 1})


def test_the_same_order_twice_is_one_order(behave: Callable[[Manners], Platform]) -> None:
    """The order is the key: the platform sends once, and the order stands once."""
    platform = behave(Manners())
    answers = [call("POST", SEND, json.dumps(ROSE).encode()) for _ in range(2)]
    assert answers == [("200 OK", {"order": "a-1", "receipt": 1})] * 2
    assert platform.ledger.order_ids() == ["a-1"]


def test_nothing_is_written_when_the_platform_refuses(behave: Callable[[Manners], Platform]) -> None:
    """502, and no order."""
    behave(Manners(fail_rate=1.0))
    assert call("POST", SEND, json.dumps(ROSE).encode())[0] == "502 Bad Gateway"
    assert call("GET", "/3/xx/vgift/order/a-1")[0] == "404 Not Found"


def test_a_platform_that_is_gone_is_said_to_be(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """502 and not a traceback; the app does not pretend to know whether the present went out."""
    monkeypatch.setenv("GIFT_PLATFORM", "http://127.0.0.1:1")
    status, answer = call("POST", SEND, json.dumps(ROSE).encode())
    assert status == "502 Bad Gateway"
    assert "the present may have been sent" in str(answer)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", SEND, b"", "400 Bad Request"),
        ("POST", SEND, b"\xff\xfe", "400 Bad Request"),
        ("POST", SEND, b"[1]", "422 Unprocessable Entity"),
        ("POST", SEND, b'{"order": "a-1", "present": "rose"}', "422 Unprocessable Entity"),
        ("POST", SEND, b'{"order": "", "present": "rose", "user": "ann"}', "422 Unprocessable Entity"),
        ("POST", SEND, b" " * 70_000, "413 Request Entity Too Large"),
        ("POST", SEND, None, "411 Length Required"),
        ("GET", SEND, None, "405 Method Not Allowed"),
        ("PUT", "/ready", b"", "405 Method Not Allowed"),
        ("GET", "/", None, "404 Not Found"),
        ("GET", "/3/xx/vgift/order/nobody", None, "404 Not Found"),
    ],
)
def test_what_is_not_an_order_is_refused(store: str, method: str, path: str, body: bytes | None, status: str) -> None:
    """With the status that says why, before anything is sent."""
    assert call(method, path, body)[0] == status


def test_ready_means_that_the_store_answers(store: str) -> None:
    """For load balancers."""
    assert call("GET", "/ready")[0] == "200 OK"
