"""The cut list's records: what a line holds, and what is no record."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastcall.core import cuts, slot
from lastcall.core.cuts import BadLine, Cut, Kind

CUT = Cut(
    at="2017-06-25T02:28:01.000+00:00", time=1498357681.0, request_id="r-1", method="POST", uri="/3/xx/vgift/send",
    client="10.0.0.9", elapsed=2.125, pid=4720, serial=7, generation=3, kind=Kind.DRAIN_TIMEOUT,
    cause="its worker exited on signal 9 (SIGKILL)", pool="gift", step="sendPresent", where="/srv/gift/app.py:12 in send",
    shortened=("uri",),
)  # fmt: skip


def test_a_record_is_one_line_that_anything_can_read() -> None:
    """JSON, with the names that are documented."""
    line = cuts.encode(CUT)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    said = json.loads(line)
    assert said["kind"] == "drain_timeout"
    assert said["request_id"] == "r-1"
    assert said["shortened"] == ["uri"]


@given(st.text(max_size=300), st.text(max_size=72), st.text(max_size=200))
def test_whatever_a_client_sends_a_record_stays_one_line(uri: str, step: str, where: str) -> None:
    """And is read as it was written."""
    cut = msgspec.structs.replace(CUT, uri=uri, step=step, where=where)
    line = cuts.encode(cut)
    assert line.count(b"\n") == 1
    assert cuts.decode(line.split(b"\n")) == ([cut], [])


def test_lines_that_are_no_records_are_named_and_harm_no_other() -> None:
    """Torn ones, those of others, and empty ones, which are nothing."""
    good = cuts.encode(CUT).strip()
    found, bad = cuts.decode([good, b"", good[:-20], b'{"at": 3}', b"\xff\xfe", good])
    assert found == [CUT, CUT]
    assert [line.number for line in bad] == [3, 4, 5]
    assert bad[1] == BadLine(4, "Expected `str`, got `int` - at `$.at`")


def test_a_record_of_a_later_version_is_read() -> None:
    """Names that we do not know are left alone."""
    line = cuts.encode(CUT).strip()[:-1] + b',"signalled_by":"cron"}'
    assert cuts.decode([line]) == ([CUT], [])


@pytest.mark.parametrize(
    ("by_us", "overdue", "hurry", "kind"),
    [
        (False, False, False, Kind.DIED),
        (False, True, True, Kind.DIED),
        (True, True, True, Kind.REQUEST_TIMEOUT),
        (True, False, True, Kind.STOP),
        (True, False, False, Kind.DRAIN_TIMEOUT),
    ],
)
def test_why_a_request_counts_as_cut(by_us: bool, overdue: bool, hurry: bool, kind: Kind) -> None:
    """Only what we have killed ourselves has a reason of ours."""
    assert cuts.kind(by_us=by_us, overdue=overdue, hurry=hurry) is kind


@pytest.mark.parametrize(
    ("kind", "other", "words"),
    [
        (Kind.DIED, False, ", sent from outside; the kernel tells nobody by whom"),
        (Kind.STOP, False, ", by order of lastcall: asked to stop again"),
        (Kind.DRAIN_TIMEOUT, False, ", by order of lastcall: it had not finished within drain_timeout (1m)"),
        (Kind.REQUEST_TIMEOUT, False, ", by order of lastcall: it had run for longer than request_timeout (1m)"),
        (
            Kind.REQUEST_TIMEOUT,
            True,
            ", by order of lastcall: another request of it had run for longer than request_timeout (1m)",
        ),
    ],
)
def test_the_cause_in_words(kind: Kind, other: bool, words: str) -> None:
    """How the worker ended, and on whose account."""
    assert cuts.cause(kind, 9, 60.0, other=other) == f"its worker exited on signal 9 (SIGKILL){words}"


def test_the_cause_says_what_a_worker_was_to_finish_for() -> None:
    """And a crash is its own."""
    words = ", by order of lastcall: it was to finish for a reload, and had not finished within drain_timeout (1m)"
    assert cuts.cause(Kind.DRAIN_TIMEOUT, 9, 60.0, because="a reload").endswith(words)
    assert cuts.cause(Kind.DIED, 11, 60.0) == "its worker exited on signal 11 (SIGSEGV)"


def test_a_text_that_fills_its_place_in_the_slot_is_named() -> None:
    """It may have been longer; a UUID is not taken for cut."""
    uuid = "123e4567-e89b-12d3-a456-426614174000"
    steps = (slot.Step("y" * 71, 1.0),)
    lane = slot.Lane(0, 1.0, 1, uuid, "GET", "/" + "x" * 299, "10.0.0.9", steps)
    assert lane.shortened == ("uri",)
    full = (slot.Step("sendPresent", 1.0), slot.Step("y" * 72, 1.0, shortened=True))
    assert slot.Lane(0, 1.0, 1, uuid, "GET", "/", "10.0.0.9", full).shortened == ("steps",)


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-and more", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("Root=1-5759e988-bd862e3fe1be46a994272793", "Root=1-5759e988-bd862e3fe1be46a994272793"),
        ("", ""),
    ],
)
def test_the_id_of_a_trace(header: str, trace_id: str) -> None:
    """W3C's header has it in its middle; any other header is one."""
    assert cuts.trace_id(header) == trace_id
