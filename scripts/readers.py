#!/usr/bin/env python3
"""Exports the tables of tests/oracle/readers.sql with exact and with portable types, and asks every engine to read them.

    readers.py DSN PROGRAM DIR README

The server compares pyarrow's values with its own (cast_back.py), and the other engines are compared with pyarrow
(engines.py). Writes the table between the markers of the README, and all results to DIR/results.json. Ends with 1 if
the server finds a difference, or if an engine does something else than `LIMITS` says.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ORACLE = HERE.parent / "tests/oracle"
MODES = ["exact", "portable"]
# Python environments, and their engines.
ENGINES = {
    "venv": ["pyarrow", "DuckDB", "Polars", "DataFusion", "Spark"],
    "venv-older-arrow": ["ClickHouse", "daft"],
    "venv ": ["fastparquet", "hyparquet"],
}
# Engines that read partitions.
PARTITIONED = ["DuckDB", "Polars", "pyarrow", "Spark"]
SECONDS = 1800
SAME, OTHER, REFUSED = "✓", "≈", "–"
# Tables of which an engine does not read all values as the server has them, even from portable files. README
# says why.
LIMITS = {
    "ClickHouse": {"a14", "a22"},
    "fastparquet": {"a02", "a03", "a04", "a13", "a14", "a16", "a17", "a18", "a19", "a20", "a22", "a24"},
    "hyparquet": {"a02", "a04", "a12", "a13", "a14", "a17"},
}


def psql(dsn, sql):
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", sql]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def export(dsn, program, out, types):
    shutil.rmtree(out, ignore_errors=True)
    command = [program, "export", "--quiet", "--dsn", dsn, "--table", "readers.*", "--out", str(out), "--types", types]
    subprocess.run(command, check=True)


def compared(python, dsn, pairs):
    """The server's comparison with the values that pyarrow reads, for each relation."""
    order = json.dumps({"dsn": dsn, "pairs": pairs})
    done = subprocess.run([python, ORACLE / "cast_back.py"], input=order, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line)["differences"] for line in done.stdout.splitlines()]


def partitions(dsn, program, directory):
    """What engines read differently from directories that are named after values, column by column."""
    types = {"text": "text", "flag": "boolean", "small": "smallint", "whole": "integer", "big": "bigint", "day": "date", "id": "uuid"}
    pairs = []
    for column, ty in types.items():
        out = directory / f"partitions-{column}"
        shutil.rmtree(out, ignore_errors=True)
        command = [program, "export", "--quiet", "--dsn", dsn, "--table", "hive.parts", "--out", str(out)]
        subprocess.run([*command, "--columns", f"n,{column}", "--partition-by", column], check=True)
        query = f"SELECT n, {column} FROM hive.parts"
        pairs.append({"query": query, "files": str(out / "hive_parts"), "by": {column: ty}})
    command = [directory / "venv/bin/python3", ORACLE / "partitions.py", *PARTITIONED]
    order = json.dumps({"dsn": dsn, "pairs": pairs})
    done = subprocess.run(command, input=order, stdout=subprocess.PIPE, text=True)
    differences = done.stdout.splitlines()
    if done.returncode and not differences:
        sys.exit(f"partitions.py ended with {done.returncode}, see above")
    return differences


def ask(directory, environment, engine, directories):
    """An engine's version and its results by directory. If it crashes, another process reads the rest."""
    python = directory / environment.strip() / "bin/python3"
    env = os.environ | {"ADU_NODE_MODULES": str(directory / "node_modules"), "RUST_BACKTRACE": "0"}
    version, results, left = "?", {}, [str(d) for d in directories]
    while left:
        order = json.dumps({"directories": left})
        done = subprocess.run(
            [python, ORACLE / "engines.py", engine], input=order, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=env, timeout=SECONDS,
        )
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                version = row.get("version", version)
                if "directory" in row:
                    results[row["directory"]] = row["columns"]
        rest = [d for d in left if d not in results]
        if rest:
            results[rest[0]] = {"*": "refused: the process crashed"}
            rest = rest[1:]
        left = rest
    if version == "?":
        raise RuntimeError(f"{engine} does not start")
    return version, results


def symbol(columns):
    kinds = {result.split(":")[0] for result in columns.values()}
    return REFUSED if "refused" in kinds else OTHER if "other" in kinds else SAME


def cell(exact, portable):
    return exact if exact == portable else f"{exact} → {portable}"


def main():
    dsn, program, directory, readme = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
    rows = psql(dsn, "SELECT relname || E'\\t' || obj_description(oid, 'pg_class') FROM pg_class "
                     "WHERE relnamespace = 'readers'::regnamespace AND relkind = 'r' ORDER BY relname")
    titles = dict(row.split("\t") for row in rows)
    views = set(psql(dsn, "SELECT relname FROM pg_class WHERE relnamespace = 'portable'::regnamespace AND relkind = 'v'"))
    wrong, directories = [], {}
    for mode in MODES:
        out = directory / f"exports-{mode}"
        export(dsn, program, out, mode)
        directories |= {(mode, table): out / f"readers_{table}" for table in titles}
        schema = lambda table: "portable" if mode == "portable" and table in views else "readers"
        pairs = [{"relation": f"{schema(t)}.{t}", "files": str(directories[mode, t])} for t in titles]
        for table, differences in zip(titles, compared(directory / "venv/bin/python3", dsn, pairs), strict=True):
            wrong += [f"{mode} {table}: the server: {difference}" for difference in differences]
    wrong += partitions(dsn, program, directory)
    print(f"partitions: {', '.join(PARTITIONED)}", flush=True)
    versions, found = {}, {}
    for environment, engines in ENGINES.items():
        for engine in engines:
            versions[engine], results = ask(directory, environment, engine, directories.values())
            for (mode, table), path in directories.items():
                found[engine, mode, table] = results[str(path)]
            print(f"{engine} {versions[engine]}", flush=True)
    results = [{"engine": e, "mode": m, "table": t, "title": titles[t], "columns": c} for (e, m, t), c in found.items()]
    (directory / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    for (engine, mode, table), columns in found.items():
        if mode == "portable" and symbol(columns) != SAME and table not in LIMITS.get(engine, {}):
            wrong += [f"{engine} {table} ({titles[table]}) {c}: {v}" for c, v in columns.items() if v != "same"]
    write_table(readme, titles, versions, found)
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


def write_table(readme, titles, versions, found):
    lines = ["| | " + " | ".join(f"{e} {v}" for e, v in versions.items()) + " |", "| --- |" + " --- |" * len(versions)]
    for table, title in titles.items():
        cells = [cell(*(symbol(found[engine, mode, table]) for mode in MODES)) for engine in versions]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    text = readme.read_text(encoding="utf-8")
    begin, end = "<!-- readers -->\n", "<!-- /readers -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    readme.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
