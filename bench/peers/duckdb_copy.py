#!/usr/bin/env python3
"""Exports tables of schema public to Parquet files by DuckDB's postgres extension: `duckdb_copy.py DSN OUT TABLE… | --all`.

DuckDB uses one connection per thread, two here, and does not fsync.
"""

import os
import sys

import duckdb
import duckdb_extensions

dsn, out, *tables = sys.argv[1:]
os.makedirs(out)
duckdb_extensions.import_extension("postgres")
db = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
db.execute("LOAD postgres")
db.execute(f"ATTACH '{dsn}' AS pg (TYPE postgres, READ_ONLY)")
if tables == ["--all"]:
    every = "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'pg' AND table_schema = 'public'"
    tables = [table for (table,) in db.execute(every).fetchall()]
for table in tables:
    db.execute(f"COPY pg.public.\"{table}\" TO '{out}/{table}.parquet' (FORMAT parquet, COMPRESSION snappy)")
