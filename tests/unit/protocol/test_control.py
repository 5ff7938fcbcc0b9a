"""What is said on the control socket."""

from __future__ import annotations

import msgspec

from lastcall.core.slot import LANES, WORKERS_MAX
from lastcall.protocol.control import STATUS_MAX, InFlight, Status, WorkerStatus, bounded
from support.master import STATUS


def full(workers: int, lanes: int, elapsed: float | None = None) -> Status:
    """A pool in which every thread runs a request with a long URI."""
    listed = [
        WorkerStatus(
            serial=number, slot=number, pid=10_000 + number, generation=1, stage="ready", age=1.0, requests=1,
            connections=lanes,
            in_flight=[
                InFlight(f"r-{number}-{lane}", "GET", "/" + "x" * 299, "10.0.0.9", elapsed or number + lane / 100, "", "w")
                for lane in range(lanes)
            ],
        )
        for number in range(workers)
    ]  # fmt: skip
    return msgspec.structs.replace(STATUS, workers=listed)


def test_a_status_that_fits_is_left_as_it_is() -> None:
    """Nearly all of them."""
    assert bounded(STATUS) is STATUS


def test_a_status_has_a_bound_and_keeps_the_oldest_requests() -> None:
    """Every lane of the largest pool in use: what is left out is counted."""
    status = full(WORKERS_MAX, LANES)
    bound = bounded(status)
    assert len(msgspec.json.encode(bound)) <= STATUS_MAX
    kept = [request.elapsed for worker in bound.workers for request in worker.in_flight]
    assert len(kept) + bound.left_out == WORKERS_MAX * LANES
    assert len(kept) >= 100
    every = sorted((request.elapsed for worker in status.workers for request in worker.in_flight), reverse=True)
    assert sorted(kept, reverse=True) == every[: len(kept)]
    assert len(bound.workers) == WORKERS_MAX


def test_requests_of_one_age_are_bounded_as_well() -> None:
    """All or none of them."""
    bound = bounded(full(WORKERS_MAX, LANES, elapsed=1.0))
    assert len(msgspec.json.encode(bound)) <= STATUS_MAX
    assert bound.left_out == WORKERS_MAX * LANES
