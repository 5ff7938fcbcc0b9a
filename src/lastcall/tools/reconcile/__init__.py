"""`lastcall reconcile`: whether two ledgers tell the same story, and where they do not.

Both sides are read into a spool of Parquet files (`reading`, `stores`, `spool`), compared there by one SQL text
(`compare`, on DuckDB or Spark), and told (`result`, `report`, `page`). A side that could not be read whole gives no verdict.
"""
