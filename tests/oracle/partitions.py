#!/usr/bin/env python3
"""Reads partitioned directories with several engines, and compares the rows with the server's.

    partitions.py [ENGINE…]        DuckDB, Polars, pyarrow (the default), Spark

Standard input is JSON:
    {"dsn": "postgres://…", "pairs": [{"query": "SELECT …", "files": "DIR", "by": {"column": "type", …}}, …]}
`by` has the columns that the directories are named after, with their types on the server. Each engine is told these
types, and must return the columns with them. Differences go to standard output, and the exit code is then 1.
"""

import datetime
import json
import os
import subprocess
import sys
import uuid
from collections import Counter

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

# DuckDB, Polars, Arrow, Spark. Only DuckDB has a type for UUIDs in names.
TYPES = {
    "text": ("VARCHAR", pl.String, pa.string(), "string"),
    "boolean": ("BOOLEAN", pl.Boolean, pa.bool_(), "boolean"),
    "smallint": ("SMALLINT", pl.Int16, pa.int16(), "smallint"),
    "integer": ("INTEGER", pl.Int32, pa.int32(), "int"),
    "bigint": ("BIGINT", pl.Int64, pa.int64(), "bigint"),
    "date": ("DATE", pl.Date, pa.date32(), "date"),
    "uuid": ("UUID", pl.String, pa.string(), "string"),
}


def server(dsn, query):
    sql = f"SET DateStyle = 'ISO'; SELECT row_to_json(q) FROM ({query}) AS q"
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", sql]
    env = os.environ | {"PGCLIENTENCODING": "UTF8"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def by_duckdb(files, by):
    types = ", ".join(f"'{name}': {TYPES[ty][0]}" for name, ty in by.items())
    relation = duckdb.sql(
        f"SELECT * FROM read_parquet('{files}/**/*.parquet', hive_partitioning = true, hive_types = {{{types}}})"
    )
    found = {name: str(ty) for name, ty in zip(relation.columns, relation.types)}
    return relation.columns, relation.fetchall(), {n: (found[n], TYPES[t][0]) for n, t in by.items()}


def by_polars(files, by):
    schema = {name: TYPES[ty][1] for name, ty in by.items()}
    frame = pl.scan_parquet(files, hive_partitioning=True, hive_schema=schema).collect()
    return frame.columns, frame.rows(), {n: (frame.schema[n], ty) for n, ty in schema.items()}


def by_pyarrow(files, by):
    schema = pa.schema([(name, TYPES[ty][2]) for name, ty in by.items()])
    table = ds.dataset(files, partitioning=ds.partitioning(schema, flavor="hive")).to_table()
    rows = [tuple(row.values()) for row in table.to_pylist()]
    return table.column_names, rows, {f.name: (table.schema.field(f.name).type, f.type) for f in schema}


def by_spark(files, by):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    # Spark guesses types of names: 007 is a number then. It takes the types that it is told.
    inner = spark.read.option("recursiveFileLookup", True).parquet(files).schema
    told = [f"`{field.name}` {field.dataType.simpleString()}" for field in inner]
    told += [f"`{name}` {TYPES[ty][3]}" for name, ty in by.items()]
    frame = spark.read.schema(", ".join(told)).parquet(files)
    rows = [tuple(row) for row in frame.collect()]
    found = dict(frame.dtypes)
    return frame.columns, rows, {n: (found[n], TYPES[t][3]) for n, t in by.items()}


ENGINES = {"DuckDB": by_duckdb, "Polars": by_polars, "pyarrow": by_pyarrow, "Spark": by_spark}


def plain(value):
    if isinstance(value, (datetime.date, uuid.UUID)):
        return str(value)
    return value


def main():
    order = json.load(sys.stdin)
    differ = False
    for pair in order["pairs"]:
        expected = Counter(json.dumps(row, sort_keys=True) for row in server(order["dsn"], pair["query"]))
        for read in map(ENGINES.get, sys.argv[1:] or ["DuckDB", "Polars", "pyarrow"]):
            columns, rows, types = read(pair["files"], pair["by"])
            wrong = [f"{name} is {found} instead of {want}" for name, (found, want) in types.items() if found != want]
            got = Counter(
                json.dumps({n: plain(v) for n, v in zip(columns, row)}, sort_keys=True) for row in rows
            )
            for side, missing in (("on the server", expected - got), ("in the files", got - expected)):
                if missing:
                    wrong.append(f"{missing.total()} rows only {side}, e.g. {list(missing)[:3]}")
            for line in wrong:
                differ = True
                print(f"{read.__name__} {pair['files']}: {line}")
    sys.exit(1 if differ else 0)


main()
