#!/usr/bin/env python3
"""Exports a table to a Parquet file by ADBC and pyarrow, with one connection: `adbc_arrow.py DSN OUT TABLE`."""

import os
import sys

import adbc_driver_postgresql.dbapi as adbc
import pyarrow.parquet as parquet

dsn, out, table = sys.argv[1:]
os.makedirs(out)
with adbc.connect(dsn) as connection, connection.cursor() as cursor:
    cursor.execute(f'SELECT * FROM "{table}"')
    reader = cursor.fetch_record_batch()
    with parquet.ParquetWriter(f"{out}/{table}.parquet", reader.schema, compression="snappy") as writer:
        for batch in reader:
            writer.write_batch(batch)
