"""Ledgers in files and pipes: CSV in its dialects, JSON lines, Parquet, and a lot of rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import duckdb
import pytest

from reconcile.conftest import Ask


def lines(path: Path, *documents: object) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(one) + "\n" for one in documents))
    return path


def parquet(path: Path, query: str) -> Path:
    """A Parquet file of a query's rows."""
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def test_csv_in_its_dialects(ask: Ask, folder: Path) -> None:
    """Another delimiter, quotes, line ends inside values, CRLF, tabs by the name, packed."""
    (folder / "a.csv").write_bytes(b'id;x\r\na;"1;2"\r\nb;"say ""hi""\r\nthere"\r\n')
    (folder / "b.tsv.gz").write_bytes(gzip.compress(b'id\tx\na\t1;2\nb\t"say ""hi""\r\nthere"\n'))
    done = ask(folder / "a.csv", folder / "b.tsv.gz", "--compare", "x", "--left-delimiter", ";")
    assert (done.code, done.counts) == (0, {"matched": 2}), done.err


def test_a_name_that_looks_like_a_pattern(ask: Ask, folder: Path) -> None:
    """It is a name: `a[1].csv` is not `a1.csv`, in a folder of any name."""
    strange = folder / "b[2]*"
    strange.mkdir()
    (strange / "a[1].csv").write_text("id\na\n")
    (strange / "a1.csv").write_text("id\nb\n")
    parquet(strange / "c?.parquet", "SELECT 'a' AS id")
    (strange / "cc.parquet").write_bytes(b"")
    options = ("--spool", str(strange / "spool"), "--state", str(strange / "state[0]"))
    assert ask(strange / "a[1].csv", strange / "c?.parquet", *options).counts == {"matched": 1}
    assert ask(strange / "a[1].csv", strange / "c?.parquet", *options).summary["new"] == 0


def test_values_larger_than_pythons_reader_likes(ask: Ask, folder: Path) -> None:
    """A document in a column; the lines behind it are still counted right."""
    big = f'"{"x" * 500_000}\n"'
    done = ask(f"id,x\na,{big}\nb,1\n", f"id,x\na,{big}\nc,1\n", "--compare", "x", "--left-delimiter", ",")
    assert done.counts == {"matched": 1, "only_left": 1, "only_right": 1}
    assert done.finding("b")["left_lines"] == [4]


def test_a_tab_may_be_written_as_people_write_it(ask: Ask) -> None:
    """A real one is hard to type."""
    assert ask("id\tx\na\t1\n", "id,x\na,1\n", "--compare", "x", "--left-delimiter", "\\t").code == 0


def test_json_lines(ask: Ask, folder: Path) -> None:
    """Numbers are what is written, paths lead into objects, and a field that is not there is null."""
    left = folder / "a.jsonl"
    left.write_text(
        '{"id": 1, "total": {"amount": 0.1}, "paid": true, "note": null}\n'
        "\n"
        '{"id": 2, "total": {"amount": 12345678901234567890.05}, "paid": false}\n'
        '{"id": 3, "total": {"amount": 1e3}}\n'
    )
    right = "id,amount,paid,note\n1,0.10,t,\n2,12345678901234567890.05,f,\n3,1000,,\n"
    compared = ["--compare", "amount,paid,note", "--left-column", "amount=total.amount"]
    done = ask(left, right, *compared)
    assert (done.code, done.counts) == (0, {"matched": 3}), done.err
    done = ask(left, right.replace("567890.05", "567890.06"), *compared)
    assert done.finding("2")["columns"] == ["amount"]


def test_lines_that_are_no_json(ask: Ask, folder: Path) -> None:
    """Each with its number; an array instead of lines is told how to become lines."""
    (folder / "a.jsonl").write_bytes(b'{"id": "a"}\n{"id": "b"\n[1]\n{"id": "\xff"}\n{"id": "c"}\n')
    done = ask(folder / "a.jsonl", "id\na\nc\n")
    assert (done.code, done.counts) == (1, {"matched": 2})
    assert [row["line"] for row in done.summary["left"]["broken_rows"]] == [2, 3, 4]
    (folder / "a.jsonl").write_text('[{"id": "a"}]')
    assert "is a JSON array, and one object a line is wanted: jq -c '.[]'" in ask(folder / "a.jsonl", "id\na\n").err
    lines(folder / "a.jsonl", {"id": "a", "user": 1})
    assert "a.jsonl has no column usr; it has id, user" in ask(folder / "a.jsonl", "id\na\n", "--compare", "usr").err


def test_a_value_that_has_a_line_is_shown_with_it(ask: Ask, folder: Path) -> None:
    """Lines that are empty or broken count as lines."""
    (folder / "a.jsonl").write_text('\nnonsense\n{"id": "a", "x": "many"}\n{"id": "b", "x": 1}\n')
    done = ask(folder / "a.jsonl", "id,x\nb,1\n", "--compare", "x:number")
    assert [(row["line"], row["why"][:6]) for row in done.summary["left"]["broken_rows"]] == [
        (2, "JSON i"),
        (3, "x is n"),
    ]


def test_parquet(ask: Ask, folder: Path) -> None:
    """Its types are believed: decimals, instants, booleans; and a time without a zone needs one here, too."""
    query = (
        "SELECT 1 AS id, 19.990::DECIMAL(9, 3) AS amount, TIMESTAMPTZ '2017-06-25 05:28:01+03' AS at, true AS paid, "
        "0.1::DOUBLE AS x "
        "UNION ALL SELECT 2, NULL, NULL, NULL, NULL"
    )
    right = "id,amount,at,paid,x\n1,19.99,2017-06-25T02:28:01Z,yes,0.1\n2,,,,\n"
    done = ask(parquet(folder / "a.parquet", query), right, "--compare", "amount,at,paid,x")
    assert (done.code, done.counts) == (0, {"matched": 2}), done.err
    naive = parquet(folder / "b.parquet", "SELECT 1 AS id, TIMESTAMP '2017-06-25 05:28:01' AS at")
    assert "--left-zone" in ask(naive, "id,at\n1,2017-06-25T02:28:01Z\n", "--compare", "at").err
    assert ask(naive, "id,at\n1,2017-06-25T02:28:01Z\n", "--compare", "at", "--left-zone", "Europe/Moscow").code == 0
    (folder / "c.parquet").write_bytes((folder / "a.parquet").read_bytes()[:-50])
    assert ask(folder / "c.parquet", right).code == 2


def test_columns_of_different_kinds_are_not_guessed_at(ask: Ask, folder: Path) -> None:
    """A number here and an instant there: somebody has to say what is meant."""
    left = parquet(folder / "a.parquet", "SELECT 1 AS id, 5 AS x")
    right = parquet(folder / "b.parquet", "SELECT 1 AS id, TIMESTAMPTZ '2017-06-25 05:28:01Z' AS x")
    done = ask(left, right, "--compare", "x")
    assert done.code == 2
    assert "x is number and time: say what it should be, x:text for example" in done.err


def test_an_address_in_the_environment(ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a password is in it, and a command line is for everybody to see."""
    monkeypatch.setenv("LEDGER", str(lines(folder / "a.jsonl", {"id": "a"})))
    assert ask("env:LEDGER", "id\na\n").code == 0


def test_a_pipe_is_read_once(ask: Ask, folder: Path) -> None:
    """As a shell's <(...) gives it."""
    import os  # noqa: PLC0415
    import threading  # noqa: PLC0415

    os.mkfifo(folder / "pipe")
    writer = threading.Thread(target=(folder / "pipe").write_text, args=("id,x\na,1\n",))
    writer.start()
    done = ask(folder / "pipe", "id,x\na,1\n", "--compare", "x", "--left-format", "csv")
    writer.join(20)
    assert done.code == 0


def test_more_rows_than_a_part_has(ask: Ask, folder: Path) -> None:
    """A quarter of a million, of which every hundred thousandth is missing, and one is different."""
    count = 250_000
    with (folder / "a.jsonl").open("w") as file:
        file.writelines(f'{{"id": {n}, "x": {n % 7}.50}}\n' for n in range(count))
    with (folder / "b.csv").open("w") as file:
        file.write("id,x\n")
        file.writelines(f"{n},{n % 7 if n != 77 else 9}.5\n" for n in range(count) if n % 100_000 != 5)
    done = ask(folder / "a.jsonl", folder / "b.csv", "--compare", "x", "--progress")
    assert "\ra.jsonl: 200,000 rows" in done.err.replace("\x1b[K", "")
    assert done.counts == {"matched": count - 4, "only_left": 3, "different": 1}
    assert done.finding("100005")["left_lines"] == [100_006]
    assert done.finding("77")["right_lines"] == [78]
