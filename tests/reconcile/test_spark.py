"""The same comparison on Spark: one SQL text, translated, and the same answer to the last value."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lastcall.tools.reconcile import spark
from support.processes import ROOT, Process

LEFT = """\
id,shop,amount,user,at,paid
o-1,1,10.10,ann,2017-06-25T05:28:01Z,true
o-2,1,5,bob,2017-06-25T05:28:01Z,true
o-3,1,7,cid,2017-06-25T05:28:01Z,true
o-4,1,8,dan,2017-06-25T05:28:01Z,true
o-4,1,8,dan,2017-06-25T05:28:01Z,true
o-5,1,9,,2099-06-25T05:28:01.123456Z,
o-7,1,9,,2016-06-25T05:28:01.123456Z,
o-8,1,12345678901234567890.05,,2017-06-25T05:28:01.123456Z,
o-9,1,,,2017-06-25T05:28:01.123456Z,
"""
RIGHT = (
    LEFT.replace("o-1,1,10.10", "o-1,1,10.1").replace("o-2,1,5,", "o-2,1,6,").replace("o-3,1", "o-3,2")
    .replace("890.05,", "890.06,").replace("o-9,1,,", "o-9,1,0,").replace("o-5,1,9,,2099-06-25T05:28:01.123456Z,\n", "")
)  # fmt: skip
ARGUMENTS = (
    *("--key", "id,shop", "--compare", "amount:number,user,at:time,paid:bool", "--time", "at"),
    *("--since", "2017-01-01", "--until", "2100-01-01", "--ignore-younger", "5m", "--format", "json"),
)
SPARK = (
    "--conf spark.sql.shuffle.partitions=1 --conf spark.ui.enabled=false --conf spark.driver.bindAddress=127.0.0.1 "
    "--conf spark.driver.memory=512m --conf spark.sql.codegen.wholeStage=false "
    "--driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' pyspark-shell"
)
"""Small, for nine rows: a Java that does not compile what runs once, and no thread more than it needs."""


def answer(folder: Path, *engine: str) -> dict[str, Any]:
    """What a run of its own says, without what is different each time."""
    log = folder / "-".join(("log", *engine)).replace("/", "")
    sides = [str(folder / "left.csv"), str(folder / "right.csv")]
    output = folder / "answer.json"
    command = [sys.executable, "-m", "lastcall", "reconcile", *sides, *ARGUMENTS, *engine]
    command += ["--spool", str(folder / "spool"), "--output", str(output)]
    run = Process(command, log, env={"PYSPARK_SUBMIT_ARGS": SPARK, "SPARK_LOCAL_IP": "127.0.0.1"}, cwd=ROOT)
    try:
        assert run.wait(within=240) == 1, run.text()[-4000:]
    finally:
        run.kill()
    found: dict[str, Any] = json.loads(output.read_text())
    return {name: value for name, value in found.items() if name not in ("at", "seconds", "spool")}


@pytest.mark.xdist_group("spark")
def test_spark_gives_the_same_answer(folder: Path) -> None:
    """Every verdict occurs, with every kind of value, null among them."""
    pytest.importorskip("pyspark")
    (folder / "left.csv").write_text(LEFT)
    (folder / "right.csv").write_text(RIGHT)
    ours = answer(folder)
    assert ours["counts"] == {
        "matched": 1, "only_left": 1, "only_right": 1, "different": 3, "duplicated": 1, "pending": 1, "outside": 1,
    }  # fmt: skip
    assert answer(folder, "--engine", "spark", "--spark-master", "local[1]") == ours


def test_the_text_is_translated() -> None:
    """Quotes are what the two dialects do not share."""
    text = spark.translated('SELECT l."at" IS DISTINCT FROM r."at" FROM l')
    assert text == "SELECT l.`at` IS DISTINCT FROM r.`at` FROM l"
