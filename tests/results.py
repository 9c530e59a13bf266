"""Reads a table of results with polars, pandas and DuckDB; prints as JSON what each of them finds."""

import json
import sys
from pathlib import Path

import duckdb
import pandas
import polars

folder = Path(sys.argv[1])
runs, pairs, versions = (folder / f"{name}.jsonl" for name in ("runs", "pairs", "versions"))

# The mean test accuracy of Δ_0 on M_1, untouched.
table = polars.read_ndjson(runs, infer_schema_length=None)
chosen = (polars.col("start") == "delta") & (polars.col("lesson") == "nothing") & (polars.col("version") == "M1")
by_polars = table.filter(chosen)["accuracy"].mean()

frame = pandas.read_json(runs, lines=True, dtype={"answers": str})
by_pandas = frame.query("start == 'delta' and lesson == 'nothing' and version == 'M1'")["accuracy"].mean()

rows = f"read_json_auto('{runs}', sample_size=-1)"
query = f"select avg(accuracy) from {rows} where start = 'delta' and lesson = 'nothing' and version = 'M1'"
by_duckdb = duckdb.sql(query).fetchall()[0][0]

# Nested columns: a run's dev curve, a pair's path.
longest = table.select(polars.col("curve").list.len().max()).item()
first = polars.read_ndjson(pairs, infer_schema_length=None).select(
    polars.col("path").list.first().struct.field("mu").max()
)
print(
    json.dumps(
        {
            "runs": [table.height, len(frame), duckdb.sql(f"select count(*) from {rows}").fetchall()[0][0]],
            "accuracy": [by_polars, by_pandas, by_duckdb],
            "answers": [len(table["answers"][0]), len(frame["answers"][0])],
            "curve": longest,
            "first mu": first.item(),
            "versions": polars.read_ndjson(versions)["version"].n_unique(),
        }
    )
)
