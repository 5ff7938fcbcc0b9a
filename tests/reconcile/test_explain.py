"""Why an order is missing, by the cut list; and how sure that is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lastcall.core import cuts
from lastcall.core.cuts import Cut, Kind
from lastcall.tools.reconcile.explain import Cuts, explain
from lastcall.tools.reconcile.result import Finding
from reconcile.conftest import Ask

NOW = 1_498_368_481.0  # 2017-06-25 05:28:01 UTC
CUT = Cut(
    at="2017-06-25T05:28:01.000+00:00", time=NOW, request_id="r-1", method="POST", uri="/3/xx/vgift/send",
    client="10.0.0.9", elapsed=2.0, pid=4720, serial=7, generation=3, kind=Kind.DIED,
    cause="its worker exited on signal 15 (SIGTERM)", pool="gift", step="sendPresent",
)  # fmt: skip


def cut(**changes: object) -> Cut:
    """Another one."""
    return msgspec.structs.replace(CUT, **changes)


def missing(key: str, at: str = "2017-06-25 05:28:00") -> Finding:
    """An order that is only in one ledger."""
    return Finding("only_left", {"order_id": key}, at)


def sure(finding: Finding, *cuts: Cut) -> tuple[str, str]:
    """How sure its explanation is, and which request it names; two empty texts where there is none."""
    explain([finding], Cuts(cuts))
    found = finding.explained
    return (found.confidence, found.request_id) if found else ("", "")


def test_a_key_in_the_request_is_as_good_as_certain() -> None:
    """In its id, its address, or its step; as a whole word."""
    assert sure(missing("o-1234"), cut(request_id="o-1234")) == ("certain", "o-1234")
    assert sure(missing("o-1234"), cut(uri="/send?order=o%2D1234")) == ("certain", "r-1")
    assert sure(missing("o-1234"), cut(step="sendPresent:o-1234")) == ("certain", "r-1")
    assert sure(missing("o-1234", "2017-06-27 00:00:00"), cut(uri="/send/o-12345")) == ("", "")


def test_a_key_that_may_stand_there_by_accident() -> None:
    """A short one, or one whose time does not fit, is not certain."""
    assert sure(missing("3"), CUT) == ("likely", "r-1")
    assert sure(missing("3", "2017-06-27 00:00:00"), CUT) == ("possible", "r-1")
    assert sure(missing("o-1234", "2017-06-27 00:00:00"), cut(request_id="o-1234")) == ("likely", "o-1234")
    assert sure(missing("o-1234", ""), cut(request_id="o-1234")) == ("certain", "o-1234")


def test_a_time_that_fits_is_a_suspicion() -> None:
    """Likely where one request and one order fit each other alone, possible where more do."""
    assert sure(missing("a"), CUT) == ("likely", "r-1")
    assert sure(missing("a", "2017-06-25 05:27:57.5"), CUT) == ("likely", "r-1")  # begun 2 s before, and clocks differ
    assert sure(missing("a", "2017-06-25 05:27:50"), CUT) == ("", "")
    assert sure(missing("a", "2017-06-25 05:28:04"), CUT) == ("", "")
    assert sure(missing("a"), CUT, cut(request_id="r-2")) == ("possible", "r-1")
    two = [missing("a"), missing("b")]
    assert explain(two, Cuts([CUT])) == 2
    assert {one.explained.confidence for one in two if one.explained} == {"possible"}


def test_a_request_that_names_its_order_explains_no_other() -> None:
    """It can have lost only one."""
    both = [missing("o-1234"), missing("o-5678")]
    assert explain(both, Cuts([cut(request_id="o-1234"), cut(request_id="r-2")])) == 2
    assert [one.explained and (one.explained.confidence, one.explained.request_id) for one in both] == [
        ("certain", "o-1234"), ("likely", "r-2"),
    ]  # fmt: skip


def test_the_report_says_it_in_words(ask: Ask, folder: Path) -> None:
    """When, how far it had got, why, and which request; of a file, or of a run directory with a rotated one."""
    (folder / "cuts.jsonl").write_bytes(b"torn\n")
    (folder / "cuts.jsonl.1").write_bytes(cuts.encode(CUT))
    left, right = "id,at\na,2017-06-25T05:28:00Z\nb,2017-06-25T05:00:00Z\n", "id,at\nb,2017-06-25T05:00:00Z\n"
    done = ask(left, right, "--time", "at", "--cuts", str(folder), form="text")
    assert (
        "      likely: cut at 2017-06-25 05:28:01 UTC after 2.00 s at step sendPresent: its worker exited on signal 15 "
        "(SIGTERM) (POST /3/xx/vgift/send, request r-1)\n"
    ) in done.out
    assert f"{folder}/cuts.jsonl:1: no record of a cut" in done.err
    summary = ask(left, right, "--time", "at", "--cuts", str(folder / "cuts.jsonl")).summary
    assert (summary["explained"], summary["findings"][0]["explained"]["confidence"]) == (1, "likely")
    assert ask(left, right, "--cuts", str(folder / "none")).code == 2
