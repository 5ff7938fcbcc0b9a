"""The document that a master leaves to its next image."""

from __future__ import annotations

import msgspec
import pytest

from lastcall.protocol import handover
from lastcall.protocol.handover import Client, Estate, Handover, Listener, Output, Reign, Release, Unreadable, Worker
from lastcall.protocol.papers import Papers

LEFT = Handover(
    handover.FORMAT,
    "0.1.0",
    Estate(
        "/run/lastcall/gift", False, 5, "", -1, "lastcal1", [11, 12], 13, [Client(20, 3, b'{"do":')],
        [Listener(8, Papers("http", "127.0.0.1:8000", 0), "holder")], {"WATCHDOG_USEC": "1000000"},
    ),
    Reign(
        2, 1, [], [Release(1, {"http": ["127.0.0.1:8000"], "umask": None}, 4, [0])],
        [Worker(1, 0, 1, "ready", 4711, 17, 1.5, 2.0, outputs=[Output(18, "stdout", b"half a l\xff")])],
        1, 2, [], 0, 0.0, "", [], 1.5e9, 1.0, 10, 0, 0,
    ),
    [3],
)  # fmt: skip


def test_what_is_written_is_read() -> None:
    """Bytes, missing values and nested records included."""
    assert handover.decode(handover.encode(LEFT)) == LEFT


def test_what_a_newer_writer_adds_is_ignored() -> None:
    """A downgrade within the format is possible."""
    document = msgspec.json.decode(handover.encode(LEFT))
    document["reign"]["weather"] = "fine"
    document["reign"]["workers"][0]["mood"] = 1
    assert handover.decode(msgspec.json.encode(document)) == LEFT


def test_another_format_is_refused_by_name() -> None:
    """Even when nothing else of it can be read."""
    with pytest.raises(Unreadable, match=r"lastcall 9\.0 hands over in format 99, this one reads 1"):
        handover.decode(b'{"format": 99, "version": "9.0"}')


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "estate": 3}', b"\xff"])
def test_garbage_is_refused(garbage: bytes) -> None:
    """One error, whatever it is."""
    with pytest.raises(Unreadable):
        handover.decode(garbage)
