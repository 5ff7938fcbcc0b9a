"""Why an order is missing, by the cut list; and how sure that is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lastcall.core import cuts
from lastcall.core.cuts import Cut, Kind
from lastcall.tools.explain import HitRequest
from lastcall.tools.reconcile.explain import Suspects, explain, of_cut, of_hit
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
    explain([finding], Suspects(map(of_cut, cuts)))
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
    assert explain(two, Suspects([of_cut(CUT)])) == 2
    assert {one.explained.confidence for one in two if one.explained} == {"possible"}


def test_a_request_that_names_its_order_explains_no_other() -> None:
    """It can have lost only one."""
    both = [missing("o-1234"), missing("o-5678")]
    assert explain(both, Suspects(map(of_cut, [cut(request_id="o-1234"), cut(request_id="r-2")]))) == 2
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


FPM = """[25-Jun-2017 05:27:00] NOTICE: fpm is running, pid 4711
[25-Jun-2017 05:27:00] NOTICE: ready to handle connections
[25-Jun-2017 05:28:01] NOTICE: Terminating ...
[25-Jun-2017 05:28:01] NOTICE: exiting, bye-bye!
[25-Jun-2017 05:28:02] NOTICE: fpm is running, pid 4720
[25-Jun-2017 05:28:02] NOTICE: ready to handle connections
"""
RESET = (
    "2017/06/25 05:28:01 [error] 31#31: *7 recv() failed (104: Connection reset by peer) while reading response header from "
    'upstream, client: 10.0.0.9, server: gift, request: "POST {uri} HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", '
    'host: "gift"\n'
)
ACCESS = '10.0.0.9 - - [25/Jun/2017:05:28:01 +0000] "POST {uri} HTTP/1.1" 502 157 "-" "app"\n'
CRON = "28 5 * * * root killproc -TERM php-fpm\n"


def host(folder: Path, uri: str) -> Path:
    """A copy of a host's files, with the incident of 2017 in its logs."""
    root = folder / "host"
    for name, text in {
        "etc/cron.d/restart": CRON,
        "etc/timezone": "UTC\n",
        "var/log/php7.0-fpm.log": FPM,
        "var/log/nginx/error.log": RESET.format(uri=uri),
        "var/log/nginx/access.log": ACCESS.format(uri=uri),
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


LEFT = "id,at\no-1234,2017-06-25T05:28:00Z\nb,2017-06-25T05:00:00Z\n"
RIGHT = "id,at\nb,2017-06-25T05:00:00Z\n"


def test_the_logs_of_others_explain_as_well(ask: Ask, folder: Path) -> None:
    """php-fpm's and nginx's: which signal, and by whose order; by the time, or by the key in the address."""
    root = host(folder, "/3/xx/vgift/send")
    (one,) = ask(LEFT, RIGHT, "--time", "at", "--root", str(root)).summary["findings"]
    assert one["explained"]["confidence"] == "likely"
    assert one["explained"]["text"].startswith("cut at 2017-06-25 05:28:01")
    assert "by SIGTERM to php-fpm" in one["explained"]["text"]
    assert "ordered by cron" in one["explained"]["text"]
    assert "killproc -TERM php-fpm" in one["explained"]["text"]
    (one,) = ask(LEFT, RIGHT, "--logs", str(host(folder, "/send?order=o-1234") / "var/log")).summary["findings"]
    assert one["explained"]["confidence"] == "certain"
    assert ask(LEFT, RIGHT, "--logs", str(folder / "none")).code == 2


def test_a_request_that_had_not_begun_explains_nothing(folder: Path) -> None:
    """By its time alone. If it names the order it is said that the ledgers know better."""
    hit = HitRequest(
        NOW,
        NOW - 1,
        "never-begun",
        0.9,
        "POST",
        "/send",
        "",
        502,
        "o-1234",
        (),
        "/send o-1234",
        "refused at 05:28:01",
        (),
    )
    suspects = Suspects([of_hit(hit)])
    other, named = missing("o-5678"), missing("o-1234")
    assert explain([other, named], suspects) == 1
    assert named.explained is not None
    assert named.explained.text == "by the logs refused at 05:28:01, but the ledgers say otherwise"


def test_what_a_log_says_of_several_is_said_once() -> None:
    """Sixteen requests of a second look the same in a log."""
    found = missing("o-1234")
    hit = HitRequest(NOW, None, "half-done", 0.7, "POST", "/send", "", 502, "", (), "/send", "cut at 05:28:01", ())
    assert explain([found], Suspects([of_hit(hit) for _ in range(16)])) == 1
    assert found.explained is not None
    assert (found.explained.confidence, found.explained.text) == ("possible", "one of 16 requests: cut at 05:28:01")
