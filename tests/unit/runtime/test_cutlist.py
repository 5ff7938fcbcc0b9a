"""The cut list's file: whole lines, whatever the disk does."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from lastcall.core import cuts
from lastcall.core.cuts import Kind
from lastcall.core.slot import Lane, Step
from lastcall.runtime import cutlist
from lastcall.runtime.cutlist import CutList, Death, records

DEATH = Death(
    pool="gift", pid=4720, serial=7, generation=3, status=9, kind=Kind.REQUEST_TIMEOUT, request_timeout=1.0,
    drain_timeout=60.0, clock=102.5, time=1498357681.25,
)  # fmt: skip
OLD = Lane(0, 100.0, 1, "r-1", "POST", "/send", "10.0.0.9", (Step("sendPresent", 100.5, "order-17"),), 3, trace="t-1")
YOUNG = Lane(1, 102.0, 2, "r-2", "GET", "/", "")
RECORDS = records(DEATH, [(OLD, "/srv/app.py:12 in send"), (YOUNG, "")])


def read(folder: Path) -> list[cuts.Cut]:
    """All records, and no bad line."""
    found: list[cuts.Cut] = []
    for path in cutlist.files(folder / cutlist.NAME):
        good, bad = cuts.decode(path.read_bytes().split(b"\n"))
        assert bad == []
        found += good
    return found


def test_a_death_makes_a_record_of_each_request() -> None:
    """The one that was overdue, and the one that had to go with it."""
    old, young = RECORDS
    assert (old.at, old.time, old.elapsed) == ("2017-06-25T02:28:01.250+00:00", 1498357681.25, 2.5)
    assert (old.step, old.where, old.attempt) == ("sendPresent", "/srv/app.py:12 in send", 1)
    assert (old.steps, old.steps_before) == ((cuts.Step("sendPresent", 0.5, "order-17"),), 3)
    assert (old.id, young.id) == ("15cdd13cc62-7-0", "15cdd13cc62-7-1")
    assert (old.trace_id, young.trace_id) == ("t-1", "")
    assert old.cause.endswith("it had run for longer than request_timeout (1s)")
    assert young.cause.endswith("another request of it had run for longer than request_timeout (1s)")
    assert (young.where, young.client, young.attempt) == ("", "", 2)


def test_what_is_durable_is_nobody_s_errand() -> None:
    """The journal completes it; `on_cut` is for the others."""
    death = replace(DEATH, on_cut="gift.repair:complete")
    durable, other = records(death, [(replace(OLD, durable=True), ""), (YOUNG, "")], "answered 503")
    assert (durable.on_cut, other.on_cut) == ("", "gift.repair:complete")


def test_records_are_appended_by_one_instance_after_the_other(folder: Path) -> None:
    """Nothing is truncated; only its owner may read it."""
    assert CutList(folder).add(RECORDS) == ""
    assert CutList(folder).add(RECORDS[:1]) == ""
    assert read(folder) == [*RECORDS, RECORDS[0]]
    assert (folder / cutlist.NAME).stat().st_mode & 0o777 == 0o600


def test_a_torn_line_costs_one_record(folder: Path) -> None:
    """The machine went down inside a write: the next record begins a line of its own."""
    CutList(folder).add(RECORDS[:1])
    path = folder / cutlist.NAME
    os.truncate(path, path.stat().st_size - 30)
    CutList(folder).add(RECORDS[1:])
    good, bad = cuts.decode(path.read_bytes().split(b"\n"))
    assert good == RECORDS[1:]
    assert [line.number for line in bad] == [1]


def test_a_full_disk_is_told_and_leaves_no_half_line(folder: Path) -> None:
    """A file-size limit stands for the disk: the second record fits in part, and is taken back."""
    size = len(cuts.encode(RECORDS[0]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        why = CutList(folder).add(RECORDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert why == f"{folder / cutlist.NAME}: no space for a whole record"
    assert read(folder) == RECORDS[:1]


def test_a_list_that_cannot_be_opened_is_told(folder: Path) -> None:
    """In words, and no exception."""
    (folder / cutlist.NAME).mkdir()
    assert CutList(folder).add(RECORDS) == f"{folder / cutlist.NAME}: Is a directory"


def test_the_file_has_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has grown too large becomes the old one, which is read, too."""
    monkeypatch.setattr(cutlist, "BYTES_MAX", 10)
    for record in RECORDS:
        assert CutList(folder).add([record]) == ""
    assert [path.name for path in cutlist.files(folder / cutlist.NAME)] == ["cuts.jsonl.1", "cuts.jsonl"]
    assert read(folder) == RECORDS


def for_on_cut(*numbers: int) -> list[cuts.Cut]:
    """Records that wait to be completed."""
    return [msgspec.structs.replace(RECORDS[0], id=f"id-{number}", on_cut="gift.repair:complete") for number in numbers]


def test_what_waits_to_be_completed(folder: Path) -> None:
    """All that was written for it, but for what is noted; a note that is torn is none."""
    mine = CutList(folder)
    mine.add([*RECORDS, *for_on_cut(1, 2, 3)])
    assert mine.complete("id-2", 1) == ""
    assert mine.complete("id-3", 4) == ""
    notes = folder / cutlist.COMPLETED
    os.truncate(notes, notes.stat().st_size - 5)
    assert [cut.id for cut in CutList(folder).uncompleted()] == ["id-1", "id-3"]
    assert mine.complete("id-3", 1) == ""
    assert [cut.id for cut in CutList(folder).uncompleted()] == ["id-1"]
    assert cutlist.completions(folder / cutlist.NAME)["id-2"].tries == 1


def test_a_note_that_cannot_be_written_is_said(folder: Path) -> None:
    """It has to be done again then."""
    (folder / cutlist.COMPLETED).mkdir()
    assert "Is a directory" in CutList(folder).complete("id-1", 1)


def test_records_that_wait_are_not_thrown_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list grows until they are completed, or is four times too large; notes on what is gone go with it."""
    monkeypatch.setattr(cutlist, "BYTES_MAX", 1000)
    monkeypatch.setattr(cutlist, "BYTES_MOST", 8000)
    mine = CutList(folder)
    mine._rotate_at = 1000
    number = 0
    while not (folder / cutlist.OLD).exists():
        mine.add(for_on_cut(number := number + 1))
    for _ in range(6):
        mine.add(for_on_cut(number := number + 1))
    assert [cut.id for cut in mine.uncompleted()] == [f"id-{n}" for n in range(1, number + 1)]
    first = [cut.id for cut in cuts.decode((folder / cutlist.OLD).read_bytes().split(b"\n"))[0]]
    for cut in first:
        mine.complete(cut, 1)
    while first[0] in cutlist.completions(folder / cutlist.NAME):
        mine.add(for_on_cut(number := number + 1))
    assert mine.uncompleted()[0].id == f"id-{len(first) + 1}"
    while mine.uncompleted()[0].id == f"id-{len(first) + 1}":
        mine.add(for_on_cut(number := number + 1))
    assert (folder / cutlist.OLD).stat().st_size > 8000


def test_what_is_there_is_not_listed_twice(tmp_path: Path) -> None:
    """A master that has died may have listed it; another attempt, or another worker's, is another record."""
    kept = CutList(tmp_path)
    assert kept.add(RECORDS[:1]) == ""
    assert kept.add(RECORDS, once=True) == ""
    assert read(tmp_path) == RECORDS
    again = [msgspec.structs.replace(RECORDS[0], attempt=2)]
    assert kept.add(again, once=True) == ""
    assert read(tmp_path) == [*RECORDS, *again]
