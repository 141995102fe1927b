#!/usr/bin/env python3
"""Every table of schema public as a Parquet file by DuckDB's postgres extension: `duckdb-tables.py DSN OUT`."""

import os
import sys

import duckdb
import duckdb_extensions

dsn, out = sys.argv[1:]
os.makedirs(out)
duckdb_extensions.import_extension("postgres")
db = duckdb.connect()
db.execute("LOAD postgres")
db.execute(f"ATTACH '{dsn}' AS pg (TYPE postgres, READ_ONLY)")
tables = db.execute("SELECT table_name FROM information_schema.tables WHERE table_catalog = 'pg' AND table_schema = 'public'")
for (table,) in tables.fetchall():
    db.execute(f"COPY pg.public.\"{table}\" TO '{out}/{table}.parquet' (FORMAT parquet, COMPRESSION snappy)")
