"""What becomes of an order: matched, missing, different, duplicated, pending, outside; and what is the same as what."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reconcile.conftest import Ask

LEFT = """\
id,amount,user
o-1,10.10,ann
o-2,5,bob
o-3,7,cid
o-4,8,dan
o-4,8,dan
o-5,9,
"""
RIGHT = """\
id,amount,user
o-1,10.1,ann
o-2,5.01,bobby
o-4,8,dan
o-5,9,
o-6,1,eve
"""


def test_ledgers_that_agree(ask: Ask) -> None:
    """The exit code is 0, and the order of the rows does not matter."""
    done = ask("id,user\na,x\nb,y\n", "user,id\ny,b\nx,a\n", "--compare", "user")
    assert (done.code, done.counts, done.summary["verdict"]) == (0, {"matched": 2}, "agree")


def test_each_kind_of_disagreement_is_named(ask: Ask) -> None:
    """One order for each kind, with the lines that it stands on."""
    done = ask(LEFT, RIGHT, "--compare", "amount:number,user")
    assert done.code == 1
    assert done.counts == {"matched": 2, "only_left": 1, "only_right": 1, "different": 1, "duplicated": 1}
    assert done.summary["differing"] == {"amount": 1, "user": 1}
    assert done.finding("o-3") == {
        "verdict": "only_left", "key": {"id": "o-3"}, "left": {"amount": "7.00", "user": "cid"},
        "left_times": 1, "left_lines": [4],
    }  # fmt: skip
    assert done.finding("o-2") == {
        "verdict": "different", "key": {"id": "o-2"}, "columns": ["amount", "user"],
        "left": {"amount": "5.00", "user": "bob"}, "right": {"amount": "5.01", "user": "bobby"},
        "left_times": 1, "right_times": 1, "left_lines": [3], "right_lines": [3],
    }  # fmt: skip
    assert done.finding("o-4")["left_times"] == 2
    assert done.finding("o-4")["left_lines"] == [5, 6]
    assert done.keys("only_right") == ["o-6"]


def test_what_is_missing_is_missing_however_often_it_is_there(ask: Ask) -> None:
    """A present that was sent twice, and never ordered, is first of all not ordered."""
    done = ask("id\na\na\nb\n", "id\nb\n")
    assert done.counts == {"matched": 1, "only_left": 1}
    assert done.finding("a")["left_times"] == 2


def test_a_key_of_several_columns(ask: Ask) -> None:
    """All of them together."""
    done = ask("shop,id\n1,a\n1,b\n", "shop,id\n1,a\n2,b\n", key="shop,id")
    assert (done.keys("only_left"), done.keys("only_right")) == (["1 b"], ["2 b"])


# --- What is the same ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "left", "right", "same"),
    [
        ("text", "10.1", "10.10", False),
        ("number", "10.1", "10.10", True),
        ("number", "+007", "7", True),
        ("number", "-0", "0.000", True),
        ("number", "0.1", "0.10000000000000000001", False),
        ("number", "12345678901234567890.12", "12345678901234567890.13", False),
        ("number", "9007199254740993", "9007199254740992", False),
        ("text", "Ann", "ann", False),
        ("text", "ann ", "ann", False),
        ("bool", "true", "1", True),
        ("bool", "t", "false", False),
        ("time", "2017-06-25T05:28:01Z", "2017-06-25 08:28:01+03:00", True),
        ("time", "2017-06-25T05:28:01Z", "2017-06-25 05:28:01.000001 UTC", False),
        ("time", "2017-06-25T05:28:01+0300", "2017-06-25 02:28:01 +00:00", True),
    ],
)
def test_what_is_the_same_as_what(ask: Ask, kind: str, left: str, right: str, same: bool) -> None:
    """Numbers by their exact value, times as instants, text letter by letter."""
    done = ask(f"id,x\na,{left}\n", f"id,x\na,{right}\n", "--compare", f"x:{kind}")
    assert (done.code, done.counts) == ((0, {"matched": 1}) if same else (1, {"different": 1})), done.err


def test_null_agrees_with_null_and_with_nothing_else(ask: Ask) -> None:
    """In a CSV file nothing at all is null, and a quoted nothing is an empty text."""
    same = ask("id,x\na,\n", "id,x\na,\n", "--compare", "x")
    assert same.code == 0
    other = ask('id,x\na,""\nb,\nc,0\n', "id,x\na,\nb,x\nc,\n", "--compare", "x")
    assert other.counts == {"different": 3}
    assert other.finding("a")["left"] == {"x": ""}
    assert other.finding("a")["right"] == {"x": None}


def test_another_word_for_null(ask: Ask) -> None:
    """What MySQL and many exports write."""
    done = ask("id,x\na,NULL\n", "id,x\na,\n", "--compare", "x", "--left-null", "NULL")
    assert done.code == 0


def test_numbers_with_too_many_digits_are_refused(ask: Ask) -> None:
    """Rounding them would be a verdict on other numbers."""
    done = ask(f"id,x\na,{'9' * 30}\n", f"id,x\na,0.{'1' * 20}\n", "--compare", "x:number")
    assert done.code == 2
    assert "30 digits before the point and others with 20 after it" in done.err


# --- Times --------------------------------------------------------------------

TIMES = "id,at\nold,2017-06-24T23:59:59Z\nedge,{edge}\nday,2017-06-25T10:00:00Z\n"


def test_a_time_without_a_zone_needs_one(ask: Ask) -> None:
    """A guess would be hours off and look right."""
    text = "id,at\na,2017-06-25 05:28:01\n"
    done = ask(text, text, "--time", "at")
    assert done.code == 2
    assert "at of left.csv names no time zone (2017-06-25 05:28:01): say which it is, --left-zone" in done.err
    done = ask(text, "id,at\na,2017-06-25T02:28:01Z\n", "--compare", "at:time", "--left-zone", "Europe/Moscow")
    assert (done.code, done.err) == (0, "")
    assert "no such time zone" in ask(text, text, "--time", "at", "--left-zone", "Mars/Base").err


def test_the_column_that_says_when_is_a_time(ask: Ask) -> None:
    """If it is compared as well, it is compared as what it is."""
    done = ask(
        "id,at\na,2017-06-25T05:28:01Z\n", "id,at\na,2017-06-25 08:28:01+03\n", "--time", "at", "--compare", "at"
    )
    assert done.code == 0


def test_an_order_is_outside_only_if_every_side_says_so(ask: Ask) -> None:
    """One that was written a second later on the other side of midnight is not missing."""
    left, right = TIMES.format(edge="2017-06-24T23:59:59Z"), TIMES.format(edge="2017-06-25T00:00:01Z")
    done = ask(left, right, "--time", "at", "--since", "2017-06-25T00:00Z")
    assert (done.code, done.counts) == (0, {"matched": 2, "outside": 1})
    done = ask(left, right, "--time", "at", "--until", "2017-06-25T00:00Z")
    assert (done.code, done.counts) == (0, {"matched": 2, "outside": 1})


def test_what_is_young_is_pending(ask: Ask) -> None:
    """It may be on its way to the other ledger; what is there twice is not."""
    young, old = "2099-01-01T00:00:00Z", "2017-06-25T00:00:00Z"
    left = f"id,at,x\na,{young},1\nb,{old},1\nc,{young},1\nd,{young},1\nd,{young},1\ne,{young},1\n"
    right = f"id,at,x\nc,{young},2\nd,{young},1\ne,{young},1\n"
    done = ask(left, right, "--time", "at", "--compare", "x", "--ignore-younger", "5m")
    assert done.counts == {"matched": 1, "only_left": 1, "duplicated": 1, "pending": 2}
    assert (done.keys("only_left"), done.keys("pending")) == (["b"], ["a", "c"])
    assert done.summary["grace"] == "5m"


def test_nothing_but_pending_orders_is_agreement(ask: Ask) -> None:
    """And the sentence says that it is not the last word."""
    done = ask(
        "id,at\na,2099-01-01T00:00:00Z\n",
        "id,at\n",
        "--time",
        "at",
        "--ignore-younger",
        "5m",
        "--allow-empty",
        form="text",
    )
    assert done.code == 0
    assert done.out.endswith("The ledgers agree. 1 orders are too young to tell.\n")


# --- Expressions --------------------------------------------------------------


def test_columns_are_mapped_and_computed(ask: Ask) -> None:
    """Each side calls things by its own names, and counts in its own units."""
    done = ask(
        "Order No,cents\nO-1,1999\n", "id,amount\no-1,19.99\n", "--compare", "amount",
        "--left-column", 'id=lower("Order No")', "--left-column", "amount=cents::bigint * 0.01",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("x::decimal(9,2) / 100", "a binary fraction (DOUBLE), which is not exact"),
        ("sum(x::int)", "aggregates"),
        ("row_number() OVER ()", "window"),
        ("(SELECT 1)", "a subquery has no place in it"),
        ("x, y", "more than one expression"),
        ("x FROM y", "more than one expression"),
        ("x; SELECT y", "more than one expression"),
        ("nothing(x)", "nothing does not exist"),
        ("lower(", "syntax error"),
        ("*", "* has no place in it"),
        ("lower(z)", "has no column z; it has id, x"),
    ],
)
def test_what_is_no_small_expression(ask: Ask, expression: str, says: str) -> None:
    """Said before anything is read, with what is wrong with it."""
    done = ask("id,x\na,1\n", "id,x\na,1\n", "--compare", "x", "--left-column", f"x={expression}")
    assert done.code == 2
    assert says in done.err


def test_a_column_that_nobody_asked_for(ask: Ask) -> None:
    """It is a slip of the pen, and is not ignored."""
    done = ask("id\na\n", "id\na\n", "--left-column", "amuont=1")
    assert done.code == 2
    assert "nobody has asked for amuont" in done.err
    assert "NAME=EXPRESSION" in ask("id\na\n", "id\na\n", "--left-column", "id").err


# --- Reports ------------------------------------------------------------------


def test_the_report_for_people(ask: Ask, folder: Path) -> None:
    """Counts, orders, a sentence; nothing in a ledger can steer the terminal."""
    done = ask("id,x\na,1\nb\x1b[2J,2\n", "id,x\na,2\n", "--compare", "x", form="text")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[:6] == [
        "left          left.csv: 2 rows",
        "right         right.csv: 1 row",
        "",
        "matched                  0  in both, and they agree",
        "only left                1  in left.csv, not in right.csv",
        "only right               0  in right.csv, not in left.csv",
    ]
    assert "  b\\x1b[2J  left.csv:3" in lines
    assert "  a  x 1 | 2, left.csv:2, right.csv:2" in lines
    assert lines[-1] == "THE LEDGERS DO NOT AGREE: 2 orders."


def test_reports_in_files(ask: Ask, folder: Path) -> None:
    """Each by its name, readable by nobody else; CSV has every order, however few are listed elsewhere."""
    left = "id\n" + "".join(f"o-{n:02}\n" for n in range(30))
    names = [folder / f"report.{suffix}" for suffix in ("csv", "json", "txt")]
    outputs = [argument for name in names for argument in ("--output", str(name))]
    done = ask(left, "id\no-00\n", *outputs, "--rows", "5", "--show", "3", form="csv")
    assert done.code == 1
    assert len(done.out.splitlines()) == len(names[0].read_text().splitlines()) == 30
    assert '"left_out":{"only_left":24}' in names[1].read_text().replace(" ", "").replace("\n", "")
    assert "  and 26 more" in names[2].read_text()
    assert {name.stat().st_mode & 0o777 for name in names} == {0o600}
    assert ask("id\na\n", "id\na\n", "--output", "report.doc").code == 2


# --- The spool ----------------------------------------------------------------


def test_the_evidence_is_kept_for_its_owner(ask: Ask, folder: Path) -> None:
    """What both sides said, the query, what became of every order; what was only needed on the way is gone."""
    done = ask("id\na\nb\n", "id\nb\n")
    (run,) = (folder / "spool").iterdir()
    assert str(run) == done.summary["spool"]
    assert {path.name for path in run.iterdir()} == {
        "left.parquet", "right.parquet", "judged.parquet", "comparison.sql", "summary.json", "lock",
    }  # fmt: skip
    assert run.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in run.iterdir()} == {0o600}


def test_evidence_goes_when_its_time_is_over(ask: Ask, folder: Path) -> None:
    """Its own time: a run that is to leave nothing takes nothing of the others with it."""
    kept = ask("id\na\n", "id\na\n").summary["spool"]
    old = Path(ask("id\na\n", "id\na\n", "--keep", "1h").summary["spool"])
    assert 3500 < int((old / "lock").read_text()) - time.time() < 3700
    (old / "lock").write_text(f"{int(time.time()) - 1}\n")
    ask("id\na\n", "id\na\n", "--keep", "0")
    assert [str(path) for path in (folder / "spool").iterdir()] == [kept]
