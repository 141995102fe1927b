#!/usr/bin/env python3
"""Checks that pyarrow, DuckDB and Polars open the same files without a warning and find their logical types.

Standard input is JSON: {"pairs": [{"files": "DIR", "types": {"column": "type name of PostgreSQL"}}, …]}.
Standard output lists the problems, one per line; the exit code is then 1.
KNOWN_DUCKDB and KNOWN_POLARS list what a reader cannot do. This must still be true.
"""

import json
import pathlib
import re
import sys
import warnings

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq

warnings.simplefilter("error")

# `VersionParser.FORMAT` of parquet-java. If it does not match, parquet-java treats the bounds as wrong
# (PARQUET-251).
CREATED_BY = re.compile(r"(.*?)\s+version\s*(?:([^(]*?)\s*(?:\(\s*build\s*([^)]*?)\s*\))?)?")

# The logical type that the footer must have, and the type that DuckDB must find.
LOGICAL = {
    "uuid": ("UUID", "UUID"),
    "json": ("JSON", "JSON"),
    "jsonb": ("JSON", "JSON"),
    "numeric(12,2)": ("Decimal(precision=12, scale=2)", "DECIMAL(12,2)"),
    "numeric(38,10)": ("Decimal(precision=38, scale=10)", "DECIMAL(38,10)"),
    "date": ("Date", "DATE"),
    "text": ("String", "VARCHAR"),
    "timestamp without time zone": ("Timestamp(isAdjustedToUTC=false, timeUnit=microseconds", "TIMESTAMP"),
    "timestamp with time zone": ("Timestamp(isAdjustedToUTC=true, timeUnit=microseconds", "TIMESTAMP WITH TIME ZONE"),
    "time without time zone": ("Time(isAdjustedToUTC=false, timeUnit=microseconds)", "TIME"),
}
# Decimals of more than 38 digits: DuckDB reads doubles, and Polars refuses the column.
KNOWN_DUCKDB = {"numeric(76,30)": "DOUBLE"}
KNOWN_POLARS = {"numeric(76,30)"}
# Types whose values Polars returns like pyarrow.
FLAT = (pa.types.is_integer, pa.types.is_string, pa.types.is_binary, pa.types.is_decimal, pa.types.is_date32)


def check(files, types):
    parts = sorted(str(p) for p in pathlib.Path(files).glob("*.parquet"))
    rows = 0
    for part in parts:
        file = pq.ParquetFile(part)
        rows += file.read().num_rows
        writer = CREATED_BY.fullmatch(file.metadata.created_by)
        if not writer or writer[1] != "adu-export" or not all(writer.groups()):
            yield f"{part}: parquet-java does not read {file.metadata.created_by} as application, version and build"
        footer = {file.schema.column(i).path: str(file.schema.column(i).logical_type) for i in range(len(file.schema))}
        for column, pg in types.items():
            expected = LOGICAL.get(pg, (None,))[0]
            if expected and not footer[column].startswith(expected):
                yield f"{part}: {column} ({pg}) is {footer[column]} in the footer, not {expected}"
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'")
    seen = {name: ty for name, ty, *_ in duck.execute("DESCRIBE FROM read_parquet(?)", [parts]).fetchall()}
    for column, pg in types.items():
        expected = KNOWN_DUCKDB.get(pg) or LOGICAL.get(pg, (None, None))[1]
        if expected and seen[column] != expected:
            yield f"DuckDB sees {column} ({pg}) as {seen[column]}, not {expected}"
    count = sum(len(duck.execute("FROM read_parquet(?)", [[part]]).to_arrow_table()) for part in parts)
    if count != rows:
        yield f"DuckDB reads {count} rows, pyarrow {rows}"
    taken = [c for c, pg in types.items() if pg not in KNOWN_POLARS]
    for part in parts:
        ours, theirs = pq.read_table(part), polars.read_parquet(part, columns=taken)
        if len(theirs) != len(ours):
            yield f"{part}: Polars reads {len(theirs)} rows, pyarrow {len(ours)}"
        for column in theirs.columns:
            ty = ours.schema.field(column).type
            if any(is_flat(ty) for is_flat in FLAT):
                if not theirs[column].to_arrow().cast(ty).equals(ours[column].combine_chunks()):
                    yield f"{part}: Polars reads other values of {column} than pyarrow"
    for column in set(types) - set(taken):
        try:
            polars.read_parquet(parts[0], columns=[column])
        except Exception:
            continue
        yield f"Polars reads {column} ({types[column]}) now: take it out of KNOWN_POLARS"


wrong = [line for pair in json.load(sys.stdin)["pairs"] for line in check(pair["files"], pair["types"])]
print("\n".join(wrong), end="")
sys.exit(1 if wrong else 0)
