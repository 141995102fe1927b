#!/usr/bin/env python3
"""Exports a table to a Parquet file by ConnectorX and Polars, with two connections: `connectorx_polars.py DSN OUT TABLE KEY`."""

import os
import sys

import connectorx

dsn, out, table, key = sys.argv[1:]
os.makedirs(out)
frame = connectorx.read_sql(
    dsn, f'SELECT * FROM "{table}"', partition_on=key, partition_num=2, return_type="polars"
)
frame.write_parquet(f"{out}/{table}.parquet", compression="snappy")
