"""`lastcall cuts`: which list is meant, since when, and how it reads."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from lastcall.cli import main
from lastcall.core import cuts
from lastcall.core.cuts import Cut, Kind
from lastcall.core.mistakes import Mistake
from lastcall.runtime import rundir
from lastcall.tools.cuts import lines, since

NOW = 1_498_357_681.0
CUT = Cut(
    at="2017-06-25T02:28:01.000+00:00", time=NOW, request_id="r-1", method="POST", uri="/3/xx/vgift/send",
    client="10.0.0.9", elapsed=2.125, pid=4720, serial=7, generation=3, kind=Kind.DIED,
    cause="its worker exited on signal 9 (SIGKILL)", pool="gift", step="sendPresent", where="/srv/gift/app.py:12 in send",
)  # fmt: skip
LATER = msgspec.structs.replace(CUT, time=NOW + 60, request_id="r-2")


def lastcall(*arguments: str) -> Result:
    """Run it with this command line."""
    return CliRunner().invoke(main, ["cuts", *arguments], catch_exceptions=False)


@pytest.fixture
def run_dir(folder: Path) -> Path:
    """A run directory with two records, the later one first, and a torn line between them."""
    (folder / "cuts.jsonl").write_bytes(cuts.encode(LATER) + b'{"at":"20\n' + cuts.encode(CUT))
    return folder


def test_a_record_for_people() -> None:
    """What, how far, why; nothing of it can steer a terminal, and what was cut off is marked."""
    when = time.strftime("%d-%b-%Y %H:%M:%S", time.localtime(NOW))
    assert lines(CUT) == [
        f"{when}  POST /3/xx/vgift/send (r-1) from 10.0.0.9",
        "    cut after 2.12s, at step sendPresent, /srv/gift/app.py:12 in send",
        "    its worker exited on signal 9 (SIGKILL) (pid 4720, generation 3, pool gift)",
    ]
    stepped = msgspec.structs.replace(
        CUT, steps=(cuts.Step("checkStock", 0.0021), cuts.Step("sendPresent", 0.25, "order-17")), steps_before=3,
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    )  # fmt: skip
    assert lines(stepped)[0].endswith(" from 10.0.0.9, trace 4bf92f3577b34da6a3ce929d0e0e4736")
    assert lines(stepped)[2] == "    steps: 3 earlier, checkStock at 0.002s, sendPresent (order-17) at 0.250s"
    asked = msgspec.structs.replace(CUT, asked_by="SIGTERM from pid 9 uid 0 (killproc)", done="answered 503")
    assert lines(asked)[-2:] == ["    SIGTERM from pid 9 uid 0 (killproc)", "    answered 503"]
    evil = msgspec.structs.replace(CUT, uri="/\x1b[2J", shortened=("uri",), attempt=2, step="", where="", client="")
    assert lines(evil)[0] == f"{when}  POST /\\x1b[2J... (r-1) from unix"
    assert lines(evil)[1] == "    cut after 2.12s, attempt 2"


def test_the_newest_is_last_and_bad_lines_are_named(run_dir: Path) -> None:
    """On stderr, with file and number; the others are told all the same."""
    done = lastcall("--run-dir", str(run_dir), "--json")
    assert done.exit_code == 0
    assert [json.loads(line)["request_id"] for line in done.stdout.splitlines()] == ["r-1", "r-2"]
    assert f"{run_dir / 'cuts.jsonl'}:2: no record of a cut" in done.stderr
    assert done.stderr.endswith("lastcall: 1 line is no record, and may have been; 2 are\n")


def test_the_list_that_it_was_rotated_to_is_read_first(run_dir: Path) -> None:
    """Both files are one list."""
    (run_dir / "cuts.jsonl").write_bytes(cuts.encode(LATER))
    (run_dir / "cuts.jsonl.1").write_bytes(cuts.encode(CUT))
    text = lastcall("--file", str(run_dir / "cuts.jsonl")).stdout
    assert text.index("r-1") < text.index("r-2")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("10m", NOW - 600),
        ("2h", NOW - 7200),
        ("2017-06-25T02:28:01Z", NOW),
        ("2017-06-25T05:28:01+03:00", NOW),
        ("2017-06-25 02:27+00:00", NOW - 61),
    ],
)
def test_since_when(text: str, at: float) -> None:
    """How long ago, or a time."""
    assert since(text, NOW) == at


@pytest.mark.parametrize("text", ["", "yesterday", "10 years", "2017-13-01", "0001-01-01"])
def test_what_is_no_time(text: str) -> None:
    """Told with what to write instead, and 64."""
    with pytest.raises(Mistake):
        since(text, NOW)
    done = lastcall("--since", text)
    assert done.exit_code == 64
    assert "10m or 2h" in done.stderr


def test_only_what_was_cut_since(run_dir: Path) -> None:
    """Nothing is a sentence for people, and nothing for programs."""
    shown = lastcall("--run-dir", str(run_dir), "--since", "2017-06-25T02:28:30Z", "--json").stdout
    assert json.loads(shown)["request_id"] == "r-2"
    assert lastcall("--run-dir", str(run_dir), "--since", "1m").stdout == "no request was cut\n"
    assert lastcall("--run-dir", str(run_dir), "--since", "1m", "--json").stdout == ""


def test_where_there_is_no_list(folder: Path) -> None:
    """A directory without one is good news; one that is not there is a mistake."""
    assert lastcall("--run-dir", str(folder)).stdout == "no request was cut\n"
    assert lastcall("--run-dir", str(folder / "none")).exit_code == 69
    assert lastcall("--file", str(folder / "none")).exit_code == 1


def test_the_list_of_an_instance_that_is_gone_is_found(
    run_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing runs, the only list that was left behind is meant; several are listed."""
    base = folder / "base"
    (base / "gift").mkdir(parents=True)
    monkeypatch.setattr(rundir, "bases", lambda: [base])
    assert lastcall().exit_code == 69
    (base / "gift" / "cuts.jsonl").write_bytes(cuts.encode(CUT))
    assert "r-1" in lastcall().stdout
    (base / "shop").mkdir()
    (base / "shop" / "cuts.jsonl").write_bytes(cuts.encode(CUT))
    done = lastcall()
    assert done.exit_code == 64
    assert f"--file {base / 'shop' / 'cuts.jsonl'}" in done.stderr
