"""The same comparison on Spark, for ledgers that outgrow a machine: the SQL text is translated, not written twice.

Reads the two ledgers from the spool, which has to lie where Spark's workers find it, and writes the result beside them.
"""

from __future__ import annotations

from pathlib import Path

from lastcall.tools.reconcile.duck import missing
from lastcall.tools.reconcile.question import NoVerdict


def translated(sql: str) -> str:
    """DuckDB's text in Spark's dialect. Raises NoVerdict."""
    try:
        import sqlglot  # noqa: PLC0415 (an extra)
    except ImportError:
        raise missing("--engine spark", "pip install sqlglot pyspark") from None
    return sqlglot.transpile(sql, read="duckdb", write="spark")[0]


def compare(sql: str, left: Path, right: Path, judged: Path, master: str | None) -> None:
    """Run the text on a Spark session, the one that there is or a new one, and write `judged`. Raises NoVerdict."""
    text = translated(sql)
    try:
        from pyspark.errors import PySparkException  # noqa: PLC0415 (an extra, and heavy)
        from pyspark.sql import SparkSession  # noqa: PLC0415
    except ImportError:
        raise missing("--engine spark", "pip install sqlglot pyspark") from None
    builder = SparkSession.builder.appName("lastcall reconcile")
    if master is not None:
        builder = builder.master(master)
    try:
        session = builder.getOrCreate()
        session.conf.set("spark.sql.session.timeZone", "UTC")
        for name, path in (("left_ledger", left), ("right_ledger", right)):
            session.read.parquet(str(path)).createOrReplaceTempView(name)
        session.sql(text).write.mode("overwrite").parquet(str(judged))
    except PySparkException as error:
        raise NoVerdict(f"Spark says: {error}") from None
