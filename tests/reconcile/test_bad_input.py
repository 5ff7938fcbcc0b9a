"""Bad input: a row that cannot be used is shown with its line; a side that cannot be read whole gives no verdict."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from lastcall.tools.reconcile.duck import Duck
from reconcile.conftest import Ask

GOOD = "id,amount\na,1\nb,2\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("id,amount\na,1\nb\nb,2\n", [(3, "b", "Expected Number of Columns: 2 Found: 1")]),
        ("id,amount\na,1\nb,2\nb,2,3\n", [(4, "b,2,3", "Expected Number of Columns: 2 Found: 3")]),
        ("id,amount\na,1\nb,two\nb,2\n", [(3, "b, two", "amount is no number: 'two'")]),
        ("id,amount\na,1\nb,1_0\nb,2\n", [(3, "b, 1_0", "amount is no number: '1_0'")]),
        ('id,amount\na,1\nb,""\nb,2\n', [(3, "b, ", "amount is no number: ''")]),
        ("id,amount\na,1\n,3\nb,2\n", [(3, ", 3", "no id")]),
        (
            'id,amount\n"a",1\nx\nb,2\n"c\nc",zwei\n',
            [(3, "x", "Expected Number of Columns: 2 Found: 1"), (5, "c\nc, zwei", "amount is no number: 'zwei'")],
        ),
    ],
)
def test_broken_rows_are_kept_aside_with_their_lines(ask: Ask, text: str, rows: list[tuple[int, str, str]]) -> None:
    """They are counted, shown, and spoil the agreement of all others."""
    done = ask(text, GOOD, "--compare", "amount:number")
    assert (done.code, done.counts) == (1, {"matched": 2}), done.err
    side = done.summary["left"]
    assert side["broken"] == len(rows)
    assert [(row["line"], row["text"], row["why"]) for row in side["broken_rows"]] == rows
    assert (Path(done.summary["spool"]) / "left.broken.jsonl").exists()


def test_broken_rows_in_the_report_for_people(ask: Ask) -> None:
    """With the line, and the sentence says how many."""
    done = ask("id,x\na,1\nb\n", "id,x\na,1\n", form="text")
    assert "left          left.csv: 1 row, 1 cannot be used" in done.out
    assert "  line 3: Expected Number of Columns: 2 Found: 1: b" in done.out
    assert done.out.endswith("THE LEDGERS DO NOT AGREE: 1 row that cannot be used.\n")


def test_too_many_broken_rows_are_no_ledger(ask: Ask) -> None:
    """It is another file, or another delimiter."""
    text = "id,amount\na,1\n" + "x,y\n" * 20
    done = ask(text, GOOD, "--compare", "amount:number", "--max-broken", "10")
    assert done.code == 2
    assert (
        "more than 10 rows cannot be used, which is no ledger; the first is line 3: amount is no number: 'y'"
        in done.err
    )
    done = ask("id;amount\n", GOOD)
    assert "left.csv has no column id; it has id;amount" in done.err


def test_a_quote_that_is_never_closed_hides_rows(ask: Ask) -> None:
    """Who knows how many: there is no verdict on the rest."""
    done = ask('id,amount\na,1\nb,"2\nc,3\nd,4\n', GOOD)
    assert done.code == 2
    assert (
        "left.csv:3: a quote is opened here that is not closed in its place: 3 lines or more are inside it" in done.err
    )


# --- Sides that are not whole -------------------------------------------------


def test_an_empty_side_is_a_mistake_unless_it_may_be(ask: Ask) -> None:
    """A ledger without rows is most often an export that went wrong."""
    done = ask("id\n", "id\na\n")
    assert done.code == 2
    assert "left.csv has no rows; if that may be, say --allow-empty" in done.err
    assert ask("id\n", "id\na\n", "--allow-empty").counts == {"only_right": 1}
    assert ask("\n", "id\na\n").code == 2


def test_missing_columns_are_named_with_those_that_are_there(ask: Ask) -> None:
    """Whoever has mistyped one sees it."""
    done = ask("id,amount,user\na,1,x\n", GOOD, "--compare", "amout,usr")
    assert done.code == 2
    assert "left.csv has no column amout, usr; it has id, amount, user" in done.err
    done = ask("id,x,x\na,1,1\n", "id,x\na,1\n", "--compare", "x")
    assert "left.csv has more than one column x" in done.err


def test_a_command_that_fails_gives_no_verdict(ask: Ask) -> None:
    """Whatever it had printed before, and with what it said."""
    done = ask("cmd:printf 'id\\na\\n'; echo connection lost >&2; exit 3", "id\na\n", "--left-format", "csv")
    assert done.code == 2
    assert "ended with code 3, and so half of it may be missing: connection lost" in done.err
    done = ask("cmd:printf 'id\\na\\n'; kill -9 $$", "id\na\n", "--left-format", "csv")
    assert "ended with signal 9" in done.err
    assert ask("cmd:printf 'id\\na\\n'", "id\na\n", "--left-format", "csv").code == 0
    assert "say what the command prints" in ask("cmd:true", "id\na\n").err


def test_a_packed_file_that_ends_too_early(ask: Ask, folder: Path) -> None:
    """An upload that was cut is half a ledger."""
    packed = gzip.compress(b"id\n" + os.urandom(2000).hex().encode() + b"\na\n")
    (folder / "whole.csv.gz").write_bytes(packed)
    assert ask(folder / "whole.csv.gz", "id\na\n").counts == {"matched": 1, "only_left": 1}
    damaged = packed[:20] + b"\xff" * 40 + packed[60:]
    for torn in (packed[:-40], packed[:20], packed[:3], damaged, b"id\na\n"):
        (folder / "torn.csv.gz").write_bytes(torn)
        done = ask(folder / "torn.csv.gz", "id\na\n")
        assert done.code == 2
        assert "torn.csv.gz: cannot be unpacked to its end" in done.err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "cp1251"])
def test_encodings(ask: Ask, folder: Path, encoding: str) -> None:
    """UTF-8 and UTF-16 say what they are; others are named."""
    text = "id,user\na,é\n" if encoding != "cp1251" else "id,user\na,имя\n"
    (folder / "other.csv").write_bytes(text.encode(encoding))
    named = ["--left-encoding", encoding] if encoding in ("latin-1", "cp1251") else []
    done = ask(folder / "other.csv", text, "--compare", "user", *named)
    assert (done.code, done.err) == (0, "")


def test_another_encoding_than_it_is_said_to_be(ask: Ask, folder: Path) -> None:
    """A line that is not UTF-8 is broken; a file that is not what was said is no ledger."""
    (folder / "other.csv").write_bytes("id,user\na,x\nb,é\n".encode("latin-1"))
    done = ask(folder / "other.csv", "id,user\na,x\n", "--compare", "user")
    assert (done.code, done.counts) == (1, {"matched": 1})
    (row,) = done.summary["left"]["broken_rows"]
    assert (row["line"], row["why"][:12]) == (3, "not in UTF-8")
    (folder / "other.csv").write_bytes("id,user\na,x\nb,é\n".encode() + b"\xff")
    done = ask(folder / "other.csv", "id,user\na,x\n", "--left-encoding", "ascii")
    assert done.code == 2
    assert "not ascii from line 1 on" in done.err
    assert "'klingon' is no encoding" in ask("id\na\n", "id\na\n", "--left-encoding", "klingon").err


# --- Addresses and options ----------------------------------------------------


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ("nothing.csv", "nothing.csv: No such file or directory"),
        ("ledger", "its name does not say what it is; --left-format"),
        ("oracle://db/x.y", "oracle:// is none of"),
        ("postgresql://u:secret@db/", "postgresql://u:***@db/: name the database and the table"),
        ("mongodb://db/gift", "name the collection"),
        ("mongodb://db:port/gift.orders", "gift.orders: MongoDB says: "),
        ("mysql://u:secret@db:port/gift.orders", "mysql://u:***@db:port/gift.orders: Port could not be cast"),
        ("postgresql://db:port/gift.orders", "gift.orders: PostgreSQL says: "),
        ("sqlite:nothing.db#orders", "nothing.db: there is no such file"),
        ("env:NO_SUCH_LEDGER", "there is no environment variable NO_SUCH_LEDGER"),
    ],
)
def test_addresses_that_lead_nowhere(ask: Ask, left: str, says: str) -> None:
    """Told with what would, and without a password."""
    done = ask(left, "id\na\n")
    assert done.code == 2
    assert says in done.err
    assert "secret" not in done.err + done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "1d"], "--since needs to know which column says when an order was made"),
        (["--time", "id", "--since", "yesterday"], "--since: 'yesterday' is no time"),
        (["--compare", "id"], "id: a column is a key or compared, once"),
        (["--compare", "x:money"], "a column is text, number, time, bool, and not 'money'"),
        (["--compare", "total price"], "is no name for a column here"),
        (["--left-query", "SELECT 1"], "a query and a WHERE are for databases"),
        (["--left-delimiter", "::"], "a delimiter is one character"),
        (["--alarm-when", "change"], "needs to know what was before: --state FILE"),
        (["--ignore-younger", "soon"], "is not a duration"),
        (["--webhook", "ftp://x"], "a webhook is an address"),
        (["--engine", "abacus"], "'abacus' is not one of"),
        (["--memory", "lots"], "lots"),
    ],
)
def test_mistakes_of_usage_are_no_verdict(ask: Ask, arguments: list[str], says: str) -> None:
    """Exit code 2, which no cron job takes for 0 or 1."""
    done = ask("id\na\n", "id\na\n", *arguments)
    assert done.code == 2
    assert says in done.err


@pytest.mark.parametrize(
    ("package", "left", "more"),
    [
        ("duckdb", "left.csv", []),
        ("psycopg", "postgresql://db/gift.orders", []),
        ("pymysql", "mysql://db/gift.orders", []),
        ("pymongo", "mongodb://db/gift.orders", []),
        ("sqlglot", "id\na\n", ["--engine", "spark"]),
    ],
)
def test_a_package_that_is_not_installed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, package: str, left: str, more: list[str]
) -> None:
    """It is asked for with the command that installs it, and only by whom it concerns."""
    monkeypatch.setitem(sys.modules, package, None)
    for loaded in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    done = ask(left, "id\na\n", *more)
    assert done.code == 2
    assert "pip install 'lastcall[reconcile]'" in done.err or "pip install sqlglot pyspark" in done.err
    assert package.removesuffix("s") in done.err


def test_nothing_heavy_is_imported_for_the_help() -> None:
    """Neither DuckDB nor a driver: `lastcall reconcile --help` is as quick as the others."""
    heavy = "{'duckdb', 'psycopg', 'pymysql', 'pymongo', 'sqlglot', 'pyspark'} & sys.modules.keys()"
    code = f"import sys, lastcall.tools.reconcile.command; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("a bug"), "a mistake in lastcall: ZeroDivisionError('a bug')"),
    ],
)
def test_what_is_no_verdict_does_not_look_like_one(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, failure: BaseException, says: str
) -> None:
    """Ctrl-C, or a bug of ours: Python would end with 1."""

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    done = ask("id\na\n", "id\na\n")
    assert done.code == 2
    assert f"no verdict: {says}" in done.err


def test_ctrl_c_in_the_middle_of_a_query(folder: Path) -> None:
    """It ends, however long it would have taken."""

    def tell(_: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with closing(Duck(folder, "512MiB", tell)) as duck, pytest.raises(KeyboardInterrupt):
        duck.run("SELECT count(*) FROM range(1_000_000_000_000) numbers(n) WHERE hash(n) = 1", what="counting")


def test_a_disk_that_is_full(ask: Ask, folder: Path) -> None:
    """Or a limit on files: what did not fit into the spool is no ledger."""
    (folder / "left.jsonl").write_text("".join(f'{{"id": "{n}"}}\n' for n in range(10_000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        done = ask(folder / "left.jsonl", "id\na\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 2
    assert "no verdict: File too large" in done.err


def test_a_spool_that_cannot_be_written(ask: Ask, folder: Path) -> None:
    """Another place is asked for."""
    (folder / "file").write_text("")
    done = ask("id\na\n", "id\na\n", "--spool", str(folder / "file"))
    assert done.code == 2
    assert "--spool DIR" in done.err
