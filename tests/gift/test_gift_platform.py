"""The gift platform: what it promises to whoever calls `sendPresent`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from examples.gift.platform import Fate, Ledger, Manners, Present, Receipt, asked_for, duration

from support import http
from support.gift import Platforms

ROSE = Present("a-1", "rose", "ann", key="a-1")


def test_a_key_is_sent_for_once() -> None:
    """Asked again with the same key, the platform answers with the first receipt, and sends nothing."""
    ledger = Ledger()
    assert ledger.send(ROSE, now=1.0) == Receipt(1, again=False)
    assert ledger.send(ROSE, now=2.0) == Receipt(1, again=True)
    assert ledger.order_ids() == ["a-1"]
    ledger.close()


def test_a_platform_that_ignores_keys_sends_twice() -> None:
    """Many real ones do: then whoever asks twice has paid twice."""
    ledger = Ledger(idempotent=False)
    ledger.send(ROSE, now=1.0)
    ledger.send(ROSE, now=2.0)
    assert ledger.order_ids() == ["a-1", "a-1"]
    ledger.close()


def test_what_was_sent_for_an_order_can_be_asked(platforms: Platforms) -> None:
    """Which is what a repair needs."""
    platform = platforms.here(Manners())
    assert platform.ledger.find("a 1") is None
    platform.ledger.send(Present("a 1", "rose", "ann"), now=1.0)
    address = platform.url.removeprefix("http://")
    answer = http.get(address, "/present/a%201")
    assert (answer.status, json.loads(answer.body)) == (200, {"receipt": 1, "present": "rose", "user": "ann"})
    assert http.get(address, "/present/b").status == 404


@pytest.mark.parametrize("tampering", ["UPDATE presents SET user = 'bob'", "DELETE FROM presents"])
def test_the_ledger_only_grows(tmp_path: Path, tampering: str) -> None:
    """No present can be changed or unsent, not even past the program."""
    path = str(tmp_path / "presents.db")
    ledger = Ledger(path)
    ledger.send(ROSE, now=1.0)
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(tampering)
    db.close()
    assert ledger.order_ids() == ["a-1"]
    ledger.close()


def test_the_same_seed_makes_the_same_day() -> None:
    """Latencies and failures are drawn from the seed alone."""
    manners = Manners(latency=0.04, jitter=0.01, fail_rate=0.3, seed=7)
    first, second = Fate(manners), Fate(manners)
    day = [first.draw() for _ in range(200)]
    assert day == [second.draw() for _ in range(200)]
    assert all(0.03 <= takes <= 0.05 for takes, _ in day)
    assert 30 < sum(fails for _, fails in day) < 90


@pytest.mark.parametrize(("text", "seconds"), [("40ms", 0.04), ("1.5s", 1.5), ("2", 2.0), ("0", 0.0)])
def test_durations_are_written_with_a_unit_or_in_seconds(text: str, seconds: float) -> None:
    """`40ms`, `1.5s`, `2`."""
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "-1s", "nan", "2h", "inf"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    """So argparse can say which option is wrong."""
    with pytest.raises(ValueError, match=r".*"):
        duration(text)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"rose", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"order_id": "a", "present": "rose"}', "user is missing"),
        (b'{"order_id": 1, "present": "rose", "user": "ann"}', "order_id is missing, or not a text"),
    ],
)
def test_a_bad_body_is_refused_in_words(body: bytes, why: str) -> None:
    """Whoever calls is told what was wrong with it."""
    with pytest.raises(ValueError, match=why):
        asked_for(body)


def test_presents_are_sent_over_http_and_listed_in_the_ledger(platforms: Platforms) -> None:
    """Two calls and a look at the ledger, over one kept connection."""
    platform = platforms.here(Manners())
    with http.Connection(platform.url.removeprefix("http://")) as connection:
        answers = [
            connection.request("POST", "/sendPresent", json.dumps(fields).encode())
            for fields in (
                {"order_id": "a-1", "present": "rose", "user": "ann"},
                {"order_id": "a-2", "present": "ring", "user": "bob", "key": "a-2"},
                {"order_id": "a-3"},
            )
        ]
        ledger = connection.request("GET", "/ledger")
        nothing = connection.request("GET", "/")
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert json.loads(answers[1].body) == {"receipt": 2, "again": False}
    assert json.loads(ledger.body) == {"order_ids": ["a-1", "a-2"]}
    assert nothing.status == 404


def test_a_refused_call_has_sent_nothing(platforms: Platforms) -> None:
    """503 says so, and the ledger agrees."""
    platform = platforms.here(Manners(fail_rate=1.0))
    body = json.dumps({"order_id": "a-1", "present": "rose", "user": "ann"}).encode()
    assert http.post(platform.url.removeprefix("http://"), "/sendPresent", body).status == 503
    assert platform.ledger.order_ids() == []
