"""Repairs: first what would be done; then each once, whatever is cut; and never where the ledgers are in doubt."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from lastcall.cli import main
from lastcall.durable.record import full_key
from lastcall.tools.reconcile.repair import Mender, journal_key, open_journal
from lastcall.tools.reconcile.result import Finding
from reconcile.conftest import Answer, Ask

LEFT = "id,amount,user\na,1.10,ann\nb,2.00,bob\nc,3,cid\n"
RIGHT = "id,amount,user\nc,3,cid\n"
OPTIONS = ("--compare", "amount:number,user")

MENDS = """
import os, signal
from pathlib import Path
from lastcall import durable

HERE = Path(__file__).parent
fails = dies = ""
asked = []

def append(line):
    if dies == "before":
        raise KeyboardInterrupt
    with (HERE / "right.csv").open("a") as ledger:
        ledger.write(line + "\\n")
    with (HERE / "keys").open("a") as keys:
        keys.write(durable.key() + "\\n")
    if dies == "after":
        raise KeyboardInterrupt

def write(order):
    asked.append(order)
    print("noise")
    if fails == "at once":
        raise ValueError("no such customer")
    if fails == "not ours":
        return None
    key = order.key["id"]
    durable.step("write", append, f"{key},{order.left['amount']},{order.left['user']}")
    if fails == "later":
        raise ValueError("the mail was not sent")
    return f"written for {order.left['user']}"
"""


@pytest.fixture
def mends(folder: Path, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """A module that can write an order into the right ledger."""
    name = f"mends_{abs(hash(request.node.name))}"
    (folder / f"{name}.py").write_text(MENDS)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield importlib.import_module(name)
    sys.path.remove(str(folder))
    sys.modules.pop(name)


@pytest.fixture
def mend(ask: Ask, folder: Path, mends: ModuleType) -> Ask:
    """`ask`, with that module's repair, on ledgers that stay as the last one has left them."""
    (folder / "left.csv").write_text(LEFT)
    (folder / "right.csv").write_text(RIGHT)

    def run(*arguments: str, form: str = "json") -> Answer:
        sides = (folder / "left.csv", folder / "right.csv")
        where = ("--app-dir", str(folder), "--repair", f"{mends.__name__}:write", "--journal", str(folder / "journal"))
        return ask(*sides, *OPTIONS, *where, *arguments, form=form)

    return run


def outcomes(answer: Answer) -> dict[str, str]:
    """What has become of each order."""
    return {"".join(one["key"].values()): one["outcome"] for one in answer.summary["repairs"]["each"]}


def journal(folder: Path, *arguments: str) -> str:
    """`lastcall journal`, on the journal of the repairs."""
    done = CliRunner().invoke(main, ["journal", *arguments, "--journal", str(folder / "journal")])
    assert done.exit_code == 0, done.output
    return done.stdout


# --- One after the other ------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """The function is not even called, and there is no journal yet."""
    done = mend()
    assert (done.code, outcomes(done)) == (1, {"a": "would be repaired", "b": "would be repaired"})
    assert done.summary["repairs"]["applied"] is False
    assert (mends.asked, (folder / "journal").exists(), (folder / "right.csv").read_text()) == ([], False, RIGHT)
    text = mend(form="text").out
    assert f"repairs, by {mends.__name__}:write:\n  a  only left,  would be repaired\n" in text
    assert "  2 would be repaired. Nothing was changed (--apply).\n" in text


def test_what_is_repaired_is_compared_again(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """The verdict is how the ledgers are now; the function has got the row, what is wrong, and a key for its step."""
    done = mend("--apply")
    assert (done.code, done.summary["verdict"], done.counts) == (0, "agree", {"matched": 3})
    assert outcomes(done) == {"a": "repaired", "b": "repaired"}
    first = mends.asked[0]
    assert (first.key, first.wrong, first.right) == ({"id": "a"}, "only_left", None)
    assert first.left == {"amount": "1.1", "user": "ann"}
    assert len(set((folder / "keys").read_text().split())) == 2
    assert "noise" in done.err
    again = mend("--apply")
    assert (again.code, outcomes(again)) == (0, {})
    text = mend("--apply", form="text").out
    assert text.endswith("The ledgers agree.\n")
    assert "  nothing to repair.\n" in text


def test_nothing_is_repaired_twice(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """An order that is off again, though it was repaired, is told and left for people; zeros of a number mean nothing."""
    mend("--apply")
    (folder / "right.csv").write_text(RIGHT)
    done = mend("--apply")
    assert (done.code, outcomes(done)) == (1, {"a": "repaired before", "b": "repaired before"})
    assert len(mends.asked) == 2
    assert outcomes(mend()) == {"a": "repaired before", "b": "repaired before"}
    text = mend("--apply", form="text").out
    assert " UTC): written for ann\n      lastcall journal show " in text
    assert journal_key({"n": "10.10"}, {"n"}) == journal_key({"n": "10.1"}, {"n"}) == full_key("", "10.1")
    assert journal_key({"n": "10.10"}, ()) != journal_key({"n": "10.1"}, ())
    assert journal_key({"a": "x y", "b": "z"}, ()) != journal_key({"a": "x", "b": "y z"}, ())


def test_what_the_function_leaves_alone_is_asked_again(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """And so is what fails before its first step: nothing was done."""
    mends.__dict__["fails"] = "not ours"
    done = mend("--apply")
    assert (done.code, outcomes(done)) == (1, {"a": "left alone", "b": "left alone"})
    mends.__dict__["fails"] = "at once"
    done = mend("--apply")
    assert (done.code, outcomes(done)) == (1, {"a": "failed", "b": "failed"})
    assert done.summary["repairs"]["each"][0]["text"] == "ValueError: no such customer"
    mends.__dict__["fails"] = ""
    assert mend("--apply").code == 0


def test_one_that_fails_in_the_middle_is_parked(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """Somebody has to decide; until then it is shown, the ledgers agreeing or not."""
    mends.__dict__["fails"] = "later"
    done = mend("--apply")
    assert (done.code, outcomes(done)) == (1, {"a": "parked", "b": "parked"})
    assert "after 1 of its steps: ValueError: the mail was not sent" in done.summary["repairs"]["each"][0]["text"]
    settled = mend(form="text")
    assert (settled.code, settled.out.splitlines()[-1]) == (1, "The ledgers agree. Of the repairs 2 parked.")
    parked = [json.loads(line)["id"] for line in journal(folder, "ls", "--json").splitlines()]
    assert len(parked) == 2
    assert "REPAIR a" in journal(folder, "ls")
    mends.__dict__["fails"] = ""
    journal(folder, "retry", parked[0])
    journal(folder, "abandon", parked[1])
    done = mend("--apply")
    assert done.code == 0
    assert [(one["outcome"], one.get("resumed")) for one in done.summary["repairs"]["each"]] == [("repaired", True)]
    assert (folder / "right.csv").read_text() == f"{RIGHT}a,1.1,ann\nb,2.0,bob\n"


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_step_in_doubt_is_parked(mend: Ask, folder: Path, mends: ModuleType, dies: str) -> None:
    """A run that was interrupted inside a step leaves it to people, for nobody has said what doubt means."""
    mends.__dict__["dies"] = dies
    assert mend("--apply").code == 2
    mends.__dict__["dies"] = ""
    assert outcomes(mend())["a"] == "unfinished"
    done = mend("--apply")
    assert (outcomes(done), len(done.summary["repairs"]["each"])) == ({"a": "parked", "b": "repaired"}, 2)
    assert (
        "step write was begun, and nobody knows whether it has happened" in done.summary["repairs"]["each"][0]["text"]
    )


def test_what_was_finished_is_told_though_there_is_no_verdict(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """A repair that was cut is finished before the ledgers are read, and one of them may not be there to be read."""
    mends.__dict__["fails"] = "later"
    mend("--apply")
    for line in journal(folder, "ls", "--json").splitlines():
        journal(folder, "retry", json.loads(line)["id"])
    mends.__dict__["fails"] = ""
    (folder / "left.csv").unlink()
    done = mend("--apply")
    assert done.code == 2
    assert "lastcall: a: repaired, after an earlier run was cut: written for ann\n" in done.err


# --- None at all ----------------------------------------------------------------


def test_ledgers_in_doubt_are_not_repaired(mend: Ask, folder: Path, mends: ModuleType) -> None:
    """A row that is broken may be the missing one; a hundred orders that are off are no accident; neither is one twice."""
    (folder / "right.csv").write_text(RIGHT + "b\n")
    assert "a row that cannot be used may be the one" in mend("--apply").summary["repairs"]["refused"]
    (folder / "right.csv").write_text(RIGHT)
    done = mend("--apply", "--max-repairs", "1")
    assert done.summary["repairs"]["refused"] == "2 orders are off, and more than 1 are no accident (--max-repairs)"
    assert (mends.asked, done.code) == ([], 1)
    (folder / "left.csv").write_text(LEFT + "b,2.00,bob\n")
    assert outcomes(mend("--apply")) == {"a": "repaired", "b": "not repairable"}


def test_what_is_on_its_way_is_not_repaired(mend: Ask, mends: ModuleType, folder: Path) -> None:
    """A pending order is not off."""
    (folder / "left.csv").write_text("id,amount,user,at\na,1,ann,2099-01-01T00:00:00Z\nc,3,cid,2017-06-25T05:28:00Z\n")
    (folder / "right.csv").write_text("id,amount,user,at\nc,3,cid,2017-06-25T05:28:00Z\n")
    done = mend("--apply", "--time", "at", "--ignore-younger", "5m")
    assert (done.code, outcomes(done), mends.asked) == (0, {}, [])


def test_a_journal_is_of_repairs_only(mend: Ask, folder: Path) -> None:
    """A service's journal would have its workers run our requests, and us theirs."""
    (folder / "journal").mkdir()
    (folder / "journal" / "0.db").touch()
    done = mend("--apply")
    assert done.code == 2
    assert "they need a folder of their own" in done.err


def test_mistakes_are_told_before_anything_is_read(ask: Ask, folder: Path) -> None:
    """No function of that name, no name at all, and nothing to apply."""
    for arguments, said in (
        (("--repair", "no_such_module:write"), "there is no module 'no_such_module'"),
        (("--repair", "json:write"), "json has no attribute 'write'"),
        (("--repair", "json"), "name the function, module:function"),
        (("--apply",), "--apply needs to know what is to be applied"),
    ):
        done = ask("cmd:false", "cmd:false", *arguments, "--left-format", "csv", "--right-format", "csv")
        assert (done.code, said in done.err) == (2, True), done.err


# --- Who hears of it ---------------------------------------------------------------


def test_a_repair_is_news(mend: Ask, folder: Path) -> None:
    """Though the ledgers agree now; the next run is silent. The journal lies beside the state, if nobody says where."""
    heard = folder / "heard"
    alarm = ("--alarm", f"cat >> {heard}; echo >> {heard}")
    mend("--apply", *alarm)
    mend("--apply", *alarm)
    (one,) = map(json.loads, heard.read_text().splitlines())
    assert (one["verdict"], one["repairs"]["outcomes"]) == ("agree", {"repaired": 2})


def test_the_journal_lies_beside_the_state(ask: Ask, folder: Path, mends: ModuleType) -> None:
    """If nobody says where."""
    where = ("--app-dir", str(folder), "--repair", f"{mends.__name__}:write", "--state", str(folder / "state"))
    done = ask(LEFT, RIGHT, *OPTIONS, *where, "--apply")
    assert (done.code, done.summary["repairs"]["journal"]) == (0, str(folder / "state.repairs"))
    assert (folder / "state.repairs").stat().st_mode & 0o777 == 0o700


def test_the_page_shows_the_repairs(mend: Ask) -> None:
    """What became of each."""
    text = mend("--apply", form="html").out
    assert '<h2>Repairs <span class="n">2</span></h2>' in text
    assert "<div>repaired: written for ann</div>" in text


def test_what_somebody_else_runs_is_not_touched(folder: Path) -> None:
    """Two runs without a common lock: whoever has an order finishes it."""
    calls: list[str] = []
    finding = Finding("only_left", {"id": "a"}, left={}, left_times=1)
    key = journal_key(finding.key, ())
    other = open_journal(folder / "journal")
    assert other.claim(key, 0.0)
    mender = Mender(folder / "journal", lambda order: calls.append(order.key["id"]))
    done = mender.mend(finding, key)
    assert (done.outcome, done.text) == ("unfinished", "A request with this idempotency key is running.")
    mender.close()
    other.close()
    assert calls == []
