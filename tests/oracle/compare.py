#!/usr/bin/env python3
"""Compares Parquet directories with query results of PostgreSQL, as multisets of rows.

Standard input is JSON:
    {"dsn": "postgres://…", "pairs": [{"query": "SELECT …", "files": "DIR", "as_text": ["column", …]}, …]}
For every pair the server's answer comes as CSV and is read with the types that DuckDB
finds in the files. Both sides must have the same rows equally often. The type of a column
in the files must be the one expected for its PostgreSQL type, because a lossy type would
compare equal to itself; `as_text` lists the columns that may be text instead.
Differences go to standard output, and the exit code is then 1.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import duckdb

TYPES = {
    "boolean": "BOOLEAN",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "oid": "UINTEGER",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "date": "DATE",
    "uuid": "UUID",
    "bytea": "BLOB",
    "json": "JSON",
    "jsonb": "JSON",
}
PREFIXES = {
    "time without time zone": "TIME",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
}


def psql(dsn, sql, out=None):
    env = os.environ | {"PGTZ": "UTC", "PGDATESTYLE": "ISO", "PGCLIENTENCODING": "UTF8"}
    # Servers before 12 print floats exactly only with 3.
    env["PGOPTIONS"] = "-c extra_float_digits=3"
    command = ["psql", "-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-"]
    done = subprocess.run(command, input=sql, stdout=out or subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"psql: {done.stderr.strip()}\n{sql}")
    return done.stdout


def expected_type(pg):
    """The DuckDB type that a PostgreSQL type must have in the files."""
    if pg.endswith("[]"):
        return expected_type(pg[:-2]) + "[]"
    if pg in TYPES:
        return TYPES[pg]
    if match := re.fullmatch(r"numeric\((\d+),(\d+)\)", pg):
        if int(match[2]) <= int(match[1]) <= 38:
            return f"DECIMAL({match[1]},{match[2]})"
    for prefix, duck in PREFIXES.items():
        if re.sub(r"\(\d\)", "", pg) == prefix:
            return duck
    return "VARCHAR"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def from_text(column, ty):
    """SQL that converts the server's text of a value to its type in the files."""
    if ty.endswith("[]"):
        strings = f"from_json({column}, '[\"VARCHAR\"]')"
        element = from_text("x", ty[:-2])
        return f"list_transform({strings}, lambda x: {element})"
    if ty == "BLOB":
        return f"unhex({column}[3:])"
    return f"CAST({column} AS {ty})"


def compare(duck, dsn, pair, scratch):
    """The differences between the files and the server, as lines of text."""
    described = psql(dsn, f"{pair['query']} \\gdesc\n").splitlines()
    columns = [line.split("\x1f") for line in described]
    select = ", ".join(
        f"to_json({quoted(n)}::text[])" if ty.endswith("[]") and ty not in pair.get("as_text", []) else quoted(n)
        for n, ty in columns
    )
    files = os.path.join(pair["files"], "*.parquet")
    found = duck.execute("DESCRIBE SELECT * FROM read_parquet(?)", [files]).fetchall()
    found = [(row[0], row[1]) for row in found]
    if [n for n, _ in found] != [n for n, _ in columns]:
        return [f"columns {[n for n, _ in found]} instead of {[n for n, _ in columns]}"]
    wrong = []
    for (name, got), (_, pg) in zip(found, columns):
        want = "VARCHAR" if name in pair.get("as_text", []) else expected_type(pg)
        if got != want:
            wrong.append(f"column {name} ({pg}) is {got} instead of {want}")
    if wrong:
        return wrong

    csv = os.path.join(scratch, "rows.csv")
    with open(csv, "w", encoding="utf-8") as out:
        psql(dsn, f"COPY (SELECT {select} FROM ({pair['query']}) AS q) TO STDOUT (FORMAT csv)", out)
    # Our own names: names of the table may differ only by case, which DuckDB ignores.
    names = [f"c{i}" for i in range(len(found))]
    duck.execute(
        "CREATE OR REPLACE TEMP TABLE server AS SELECT "
        + ", ".join(f"{from_text(n, ty)} AS {n}" for n, (_, ty) in zip(names, found))
        + " FROM read_csv(?, header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
        "nullstr = '', allow_quoted_nulls = false, max_line_size = 100000000, columns = {"
        + ", ".join(f"'{n}': 'VARCHAR'" for n in names)
        + "})",
        [csv],
    )
    duck.execute(
        f"CREATE OR REPLACE TEMP TABLE files AS SELECT * FROM read_parquet(?) AS t({', '.join(names)})", [files]
    )
    wrong = []
    for side, other in (("server", "files"), ("files", "server")):
        missing = f"SELECT * FROM {side} EXCEPT ALL SELECT * FROM {other}"
        (rows,) = duck.execute(f"SELECT count(*) FROM ({missing})").fetchone()
        if rows:
            sample = duck.execute(f"{missing} LIMIT 3").fetchall()
            wrong.append(f"{rows} rows only in {side}, e.g. {sample}")
    return wrong


def main():
    order = json.load(sys.stdin)
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'; SET threads = 2")
    differ = False
    with tempfile.TemporaryDirectory() as scratch:
        for pair in order["pairs"]:
            for line in compare(duck, order["dsn"], pair, scratch):
                differ = True
                print(f"{pair['query']} ≠ {pair['files']}: {line}")
    sys.exit(1 if differ else 0)


main()
