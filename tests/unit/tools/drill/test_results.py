"""A drill's result as JSON: what was written is what is read, and what is none is said to be none."""

from __future__ import annotations

import msgspec
import pytest

from lastcall.tools.drill import results
from lastcall.tools.drill.outcomes import Amiss
from lastcall.tools.drill.results import (
    Drill,
    Latency,
    Ledgers,
    Line,
    NotAResult,
    Path,
    Reason,
    Records,
    Restart,
    Run,
    Settings,
    Skipped,
    Strength,
    Verdict,
)

VERDICT = Verdict(1, 2, 1.0, Strength.PROVED, "1 of 2 lost: below 100 % at 95 %")
RECORDS = Records(
    began=[0.1, 0.2], took=[0.04, 0.01], outcome=[0, 1], amiss=[0, 1], client=[0, 0], id=["r.0-1", "r.0-2"],
    near=[-1, 0], outcomes=["200", "502"], ledger=[str(one) for one in Amiss], clients=["HTTP 0"], step={1: "sent"},
)  # fmt: skip
RUN = Run(
    target="php-fpm", title="php-fpm 8.2", protocol="FastCGI", strategy="term", strategy_title="TERM, start",
    path=Path.NGINX_NEW, settings={"process_control_timeout": "0"}, clock=1.5e9, took=3.0,
    restarts=[Restart(0.2, 0.3, "kill -TERM 7, start")], records=RECORDS, requests=2, outcomes={"200": 1, "502": 1},
    left=0, latency=Latency(0.04, 0.04, 0.04, 0.04), gap=0.1, gap_began=0.1, verdict=VERDICT,
    ledgers=Ledgers(half_done=1, first=2, second=1), logged=[Line(0.2, "104: reset", "r.0-2", 1)], logged_count=1,
    reasons=[Reason(1, "half done", "SIGTERM kills the worker.")], recommendation="Set process_control_timeout.",
)  # fmt: skip
DRILL = Drill(
    format=results.FORMAT, lastcall="0.1.0", command=["lastcall", "drill"], machine={"kernel": "6.1"}, clock=1.5e9,
    took=4.0, settings=Settings(24, 0, 0.05, True, 0, 0, 0.04, 5, 1, 30), runs=[RUN], verdict=VERDICT,
    skipped=[Skipped("puma", "not installed")],
)  # fmt: skip


def test_what_was_written_is_what_is_read() -> None:
    """Whole, with the keys of a table that JSON only knows as texts."""
    assert results.decode(results.encode(DRILL)) == DRILL


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", results.encode(DRILL)[:-1]])
def test_what_is_no_result_is_said_to_be_none(data: bytes) -> None:
    """Never a traceback of the decoder's."""
    with pytest.raises(NotAResult, match="no result of a drill"):
        results.decode(data)


def test_another_format_is_named() -> None:
    """A newer lastcall may have written it."""
    with pytest.raises(NotAResult, match="format 99"):
        results.decode(results.encode(msgspec.structs.replace(DRILL, format=99)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"took": [1.0]}, "differ in length"),
        ({"outcome": [0, 2]}, "points at what is not there"),
        ({"amiss": [0, 99]}, "points at what is not there"),
        ({"client": [-1, 0]}, "points at what is not there"),
        ({"near": [-2, 0]}, "points at what is not there"),
        ({"near": [1, 0]}, "points at what is not there"),
        ({"step": {7: "sent"}}, "points at what is not there"),
    ],
)
def test_records_that_do_not_hang_together_are_refused(change: dict[str, object], why: str) -> None:
    """Whoever draws them need not look again."""
    records = msgspec.structs.replace(RECORDS, **change)
    drill = msgspec.structs.replace(DRILL, runs=[msgspec.structs.replace(RUN, records=records)])
    with pytest.raises(NotAResult, match=why):
        results.decode(results.encode(drill))


def test_the_books_are_wrong_where_something_was_done_that_nobody_knows_of() -> None:
    """A client that saw an error, and knows it, is no harm to the books."""
    assert Ledgers(half_done=1, unasked=2, twice=4, told_not_done=8, untold=16, never_begun=32).harm == 15
