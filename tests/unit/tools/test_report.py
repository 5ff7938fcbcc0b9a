"""`lastcall status` for people."""

from __future__ import annotations

import time

import msgspec
import pytest

from lastcall.core.slot import Lane, Slot, Step
from lastcall.protocol.control import InFlight, LastTakeover, StepStatus
from lastcall.runtime.orphanage import Orphaned
from lastcall.tools import report
from support.master import STATUS


def test_the_report_says_how_the_instance_is() -> None:
    """One fact a line, then one worker a line with what it is doing."""
    when = time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(1_500_000_000))
    assert report.lines(STATUS) == [
        "pool         gift",
        "pid          4711, running for 2h03m",
        "version      0.1.0",
        "generation   3",
        "application  gift.app:app",
        "listen       http 127.0.0.1:8000, fastcgi 127.0.0.1:9000",
        "run dir      /run/lastcall/gift",
        "requests     1234 finished, 1 cut",
        "workers      2 of 2, 2 restarted unasked",
        f"last reload  {when}, generation 3 FAILED: ImportError: no gift",
        "",
        "SLOT  PID   GEN  STAGE     AGE    REQUESTS  CONNS  IN FLIGHT",
        "0     4720  3    ready     1m01s  600       4      POST /3/xx/vgift/send (r-1) for 2.12s, at sendPresent",
        "1     -     3    spawning  0.01s  0         0      -",
    ]


def test_the_report_says_where_a_request_is_and_what_else_is_waited_for() -> None:
    """The line of code, or that there is no answer; what would not fit is counted."""
    request = InFlight("r-1", "POST", "/send", "10.0.0.9", 2.125, "sendPresent", "/srv/gift/app.py:12 in send")
    worker = msgspec.structs.replace(STATUS.workers[0], in_flight=[request], waiting=["1 response not yet taken"])
    *_, row, more, last = report.lines(msgspec.structs.replace(STATUS, workers=[worker], left_out=7))
    assert row.endswith("  4      POST /send (r-1) for 2.12s, at sendPresent, /srv/gift/app.py:12 in send")
    steps = [StepStatus("checkStock", 0.1), StepStatus("sendPresent", 0.125, "order-17")]
    stepped = msgspec.structs.replace(worker, in_flight=[msgspec.structs.replace(request, steps=steps)])
    *_, said, _ = report.lines(msgspec.structs.replace(STATUS, workers=[stepped]))
    assert "for 2.12s, at sendPresent (order-17) for 2.00s, /srv" in said
    critical = msgspec.structs.replace(worker, in_flight=[msgspec.structs.replace(request, critical=0.5)])
    *_, said, _ = report.lines(msgspec.structs.replace(STATUS, workers=[critical]))
    assert ", past a point of no return for 0.50s, /srv" in said
    assert more == " " * row.index("POST") + "1 response not yet taken"
    assert last == "... and 7 younger requests in flight"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25s"), (12.7, "12s"), (200, "3m20s"), (18120, "5h02m"), (1_051_200, "12d4h"), (59.99, "59s")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    """Two units at the most."""
    assert report.age(seconds) == text


def test_a_client_cannot_steer_the_terminal() -> None:
    """What a request says is shown, never obeyed."""
    evil = InFlight("x", "GET", "/\x1b[2J\r\u202e", "", 1.0, "")
    shown = report.printable(evil.uri)
    assert shown == "/\\x1b[2J\\x0d\\x202e"


def test_a_takeover_is_told_as_long_as_the_master_lives() -> None:
    """What the last one has left, and how long there was none."""
    when = time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(1_500_000_000))
    taken = LastTakeover(4711, workers=3, dead=1, connections=12, cuts=2, seconds=0.352, at=1_500_000_000.0)
    told = report.lines(msgspec.structs.replace(STATUS, last_takeover=taken))
    assert (
        f"taken over   {when}, 3 workers of pid 4711, after 0.35s without a master; 1 had died: 12 connections rescued, 2 "
        "requests cut" in told
    )


def test_a_pool_without_a_master_is_told_by_the_board() -> None:
    """Who serves, for how long, what is running, and what to do."""
    lane = Lane(0, 100.0, 1, "r-1", "POST", "/send", "10.0.0.9", (Step("sendPresent", 101.0),))
    slot = Slot(4720, 3, 7, 4, 600, (lane,))
    assert report.orphaned(Orphaned(4711, ["http 127.0.0.1:8000"], [slot], 12.0, 288.0)) == [
        "no master: it was pid 4711, and has been gone for 12s",
        "1 workers serve http 127.0.0.1:8000 without it, for 4m48s more",
        "  pid 4720, generation 3: 600 requests, 4 connections",
        "    POST /send (r-1), at sendPresent",
        "the next `lastcall serve` with this run directory takes them over",
    ]
    ending = report.orphaned(Orphaned(4711, ["http 127.0.0.1:8000"], [slot], 301.0, 0.0))
    assert ending[1] == "1 workers finish what they have, and end"
