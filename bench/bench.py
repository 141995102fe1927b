#!/usr/bin/env python3
"""Compares exports with their floor and with other programs: `bench.py [--runs N] [--scale S] [--only CASE…] [--write]`.

Every round runs every program once, so that all of them see the same machine. Figures are medians of the rounds. The
floor is the server's own work: two psql processes that each COPY half of the table to /dev/null. The output is tables
in Markdown and `bench/results/<date>.json`, which keeps other cases of the same day. `--write` puts the tables into
README.md and docs/.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from bench_site import ADU, ODBC2PARQUET, ODBC_DRIVER, ROOT, TARGET, Site

SHAPES = {
    "columns_500": "500 columns",
    "text_10kb": "text of 10 KB",
    "nulls_80": "80 % NULLs",
    "strings_few": "few distinct strings",
    "int_arrays": "arrays of ten int",
    "narrow_50": "50 narrow int columns",
}
NAMES = {
    "floor": "floor: two `psql`, COPY to /dev/null",
    "one-shot": "**adu-export**, one-shot, 2 workers",
    "zstd:3": "**adu-export**, one-shot, zstd:3",
    "rabbitmq": "**adu-export** through RabbitMQ, one daemon",
    "raw": "two `psql`, `get_raw_page` to /dev/null",
    "copy": "**adu-export**, `read = \"copy\"`, 2 workers",
    "superuser": "**adu-export**, `read = \"pages\"`, as a superuser",
    "function": "**adu-export**, `read = \"pages\"`, by the role's function",
    "duckdb": "DuckDB, postgres extension",
    "connectorx": "Polars over ConnectorX",
    "adbc": "ADBC and pyarrow (one connection)",
    "odbc2parquet": "odbc2parquet (one connection)",
}


def rounds(runs, programs):
    """The costs of each program; the runs of the programs alternate."""
    costs = {name: [] for name in programs}
    for _ in range(runs):
        for name, program in programs.items():
            costs[name].append(program())
    return costs


def median(costs, field):
    return statistics.median(getattr(cost, field) for cost in costs)


def recorded(costs):
    """The runs, in the form of the results file."""
    return {name: [dataclasses.asdict(cost) for cost in runs] for name, runs in costs.items()}


def table(costs, rows, floor="floor"):
    """The medians as a Markdown table."""
    base = median(costs[floor], "wall")
    lines = ["| | wall | ÷ floor | rows/s | CPU-s per M rows | peak memory | size |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, runs in costs.items():
        wall, size = median(runs, "wall"), median(runs, "bytes")
        size = f"{size / 1e6:.0f} MB" if size else "–"
        lines.append(
            f"| {NAMES.get(name, name)} | {wall:.2f} s | {wall / base:.2f} | {rows / wall / 1e6:.2f} M "
            f"| {median(runs, 'cpu') / rows * 1e6:.3f} | {median(runs, 'memory') / 1e6:.0f} MB | {size} |"
        )
    return "\n".join(lines)


def lineitem(site, args):
    """Exports TPC-H lineitem with every program."""
    dsn = site.lineitem(args.scale)
    rows = int(site.psql(dsn, "SELECT count(*) FROM lineitem"))
    site.start_daemons(dsn, 1, 2)
    request = {"tables": ["public.lineitem"]}
    programs = {
        "floor": lambda: site.floor(dsn, "lineitem"),
        "one-shot": lambda: site.one_shot(dsn, "lineitem"),
        "zstd:3": lambda: site.one_shot(dsn, "lineitem", "zstd:3"),
        "rabbitmq": lambda: site.submitted(request),
        "duckdb": lambda: site.duckdb(dsn, "lineitem"),
    }
    if not args.no_slow:
        programs["connectorx"] = lambda: site.connectorx(dsn, "lineitem")
        programs["adbc"] = lambda: site.adbc(dsn, "lineitem")
        if ODBC2PARQUET.exists() and ODBC_DRIVER.exists():
            programs["odbc2parquet"] = lambda: site.odbc2parquet(dsn, "lineitem")
    costs = rounds(args.runs, programs)
    site.stop_daemons()
    text = table(costs, rows)
    print(f"\nTPC-H lineitem at scale {args.scale}, {rows / 1e6:.1f} M rows:\n\n{text}", flush=True)
    return {"rows": rows, "runs": recorded(costs), "markdown": text}


def shapes(site, args):
    """Exports tables of odd shapes, compared with DuckDB."""
    dsn = site.database("shapes", (ROOT / "bench/shapes.sql").read_text())
    result, lines = {}, ["| | wall ÷ DuckDB | CPU ÷ DuckDB | wall ÷ floor | CPU-s per GB of COPY | size ÷ DuckDB |", "| --- | --- | --- | --- | --- | --- |"]
    for name, title in SHAPES.items():
        programs = {
            "floor": lambda: site.floor(dsn, name),
            "one-shot": lambda: site.one_shot(dsn, name),
            "duckdb": lambda: site.duckdb(dsn, name),
        }
        costs = rounds(args.runs, programs)
        size = copied_bytes(dsn, name)
        ours, peer = costs["one-shot"], costs["duckdb"]
        lines.append(
            f"| {title} | {median(ours, 'wall') / median(peer, 'wall'):.2f} | {median(ours, 'cpu') / median(peer, 'cpu'):.2f} "
            f"| {median(ours, 'wall') / median(costs['floor'], 'wall'):.2f} | {median(ours, 'cpu') / size * 1e9:.2f} "
            f"| {median(ours, 'bytes') / median(peer, 'bytes'):.2f} |"
        )
        print(lines[-1], flush=True)
        result[name] = {"copy_bytes": size, "runs": recorded(costs)}
    text = "\n".join(lines)
    print(f"\nOdd shapes:\n\n{text}", flush=True)
    return {"tables": result, "markdown": text}


def pages(site, args):
    """Exports TPC-H lineitem and tables of odd shapes by pages, as a superuser and by the function of a role."""
    dsn = site.lineitem(args.scale)
    rows = int(site.psql(dsn, "SELECT count(*) FROM lineitem"))
    reader = site.page_reader(dsn)
    programs = {
        "floor": lambda: site.floor(dsn, "lineitem"),
        "raw": lambda: site.raw_pages(dsn, "lineitem"),
        "copy": lambda: site.one_shot(dsn, "lineitem", read="copy"),
        "superuser": lambda: site.one_shot(dsn, "lineitem", read="pages"),
        "function": lambda: site.one_shot(reader, "lineitem", read="pages"),
        "duckdb": lambda: site.duckdb(dsn, "lineitem"),
    }
    costs = rounds(args.runs, {name: site.with_server(program) for name, program in programs.items()})
    base = median(costs["floor"], "wall")
    lines = ["| | wall | ÷ floor | CPU-s per M rows | server's CPU-s per M rows | peak memory |", "| --- | --- | --- | --- | --- | --- |"]
    for name, runs in costs.items():
        wall = median(runs, "wall")
        lines.append(
            f"| {NAMES[name]} | {wall:.2f} s | {wall / base:.2f} | {median(runs, 'cpu') / rows * 1e6:.3f} "
            f"| {median(runs, 'server') / rows * 1e6:.2f} | {median(runs, 'memory') / 1e6:.0f} MB |"
        )
    text = "\n".join(lines)
    print(f"\nTPC-H lineitem at scale {args.scale} by pages, {rows / 1e6:.1f} M rows:\n\n{text}", flush=True)

    dsn = site.database("shapes", (ROOT / "bench/shapes.sql").read_text())
    site.page_reader(dsn)
    result, lines = {}, ["| | wall by COPY ÷ floor | wall by pages ÷ floor | CPU by pages ÷ by COPY | server's CPU by pages ÷ by COPY |", "| --- | --- | --- | --- | --- |"]
    for name, title in SHAPES.items():
        programs = {
            "floor": lambda: site.floor(dsn, name),
            "copy": lambda: site.one_shot(dsn, name, read="copy"),
            "superuser": lambda: site.one_shot(dsn, name, read="pages"),
        }
        runs = rounds(args.runs, {name: site.with_server(program) for name, program in programs.items()})
        floor, copy, ours = (runs[name] for name in programs)
        result[name] = {"runs": recorded(runs)}
        lines.append(
            f"| {title} | {median(copy, 'wall') / median(floor, 'wall'):.2f} | {median(ours, 'wall') / median(floor, 'wall'):.2f} "
            f"| {median(ours, 'cpu') / median(copy, 'cpu'):.2f} | {median(ours, 'server') / max(median(copy, 'server'), 0.01):.2f} |"
        )
        print(lines[-1], flush=True)
    text += "\n\n" + "\n".join(lines)
    return {"rows": rows, "runs": recorded(costs), "shapes": result, "markdown": text}


def copied_bytes(dsn, name):
    """The size of a binary COPY of the table, in bytes."""
    copy = subprocess.Popen(["psql", "-Xqd", dsn, "-c", f"COPY {name} TO STDOUT (FORMAT binary)"], stdout=subprocess.PIPE)
    return sum(iter(lambda: len(copy.stdout.read(1 << 20)), 0))


def small_tables(dsn_of, count, stored=""):
    """A database of `count` tables of 1,000 rows. `stored` says how, at the end of CREATE TABLE."""
    return dsn_of(
        f"small_{count}",
        f"""SET synchronous_commit = off;
        SELECT format('CREATE TABLE t%s AS SELECT i AS id, md5(i::text) AS name, i * 1.5::float8 AS amount, now() AS at
                         FROM generate_series(1, 1000) i {stored}', g) FROM generate_series(1, {count}) g \\gexec
        SELECT format('ALTER TABLE t%s ADD PRIMARY KEY (id)', g) FROM generate_series(1, {count}) g \\gexec
        ANALYZE;""",
    )


def small(site, args):
    """Exports 1,000 tables of 1,000 rows. DuckDB takes them one after the other, without fsync."""
    count = 1000
    dsn = small_tables(site.database, count)
    site.start_daemons(dsn, 2, 2)
    programs = {
        "duckdb": lambda: site.duckdb(dsn, "--all"),
        "one-shot": lambda: site.one_shot(dsn, "*", workers=None),
        "rabbitmq": lambda: site.submitted({"tables": ["public.*"]}),
    }
    costs = rounds(args.runs, programs)
    site.stop_daemons()
    base = median(costs["duckdb"], "wall")
    lines = ["| | wall per table | ÷ DuckDB |", "| --- | --- | --- |"]
    for name, runs in costs.items():
        wall = median(runs, "wall")
        title = NAMES[name].replace("one daemon", "two daemons").replace(", 2 workers", "")
        lines.append(f"| {title} | {wall / count * 1000:.2f} ms | {wall / base:.2f} |")
    text = "\n".join(lines)
    print(f"\n{count} tables of 1,000 rows:\n\n{text}", flush=True)
    return {"tables": count, "runs": recorded(costs), "markdown": text}


def growth(site, args):
    """Measures how the cost of our own exports grows."""
    runs = min(args.runs, 3)
    result = {}

    def curve(name, points, programs):
        costs = rounds(runs, programs)
        result[name] = {"points": points, "runs": recorded(costs)}
        for label, point in zip(costs, points):
            print(f"{name} {point}: {median(costs[label], 'wall'):.2f} s, {median(costs[label], 'cpu'):.2f} CPU-s, "
                  f"{median(costs[label], 'memory') / 1e6:.0f} MB", flush=True)

    scales = [0.1, 0.3, 1, 3]
    sources = {scale: site.lineitem(scale) for scale in scales}
    rows = [int(site.psql(sources[scale], "SELECT count(*) FROM lineitem")) for scale in scales]
    curve("rows", rows, {s: lambda s=s: site.one_shot(sources[s], "lineitem") for s in scales})

    widths = [5, 20, 80, 320]
    wide = site.database("widths", "\n".join(
        f"""SELECT 'CREATE TABLE w{width} AS SELECT ' || string_agg(format('(random() * 1e6)::int AS c%s', i), ', ')
            || ' FROM generate_series(1, {6_400_000 // width})' FROM generate_series(1, {width}) i \\gexec""" for width in widths) + "\nVACUUM ANALYZE;")
    curve("columns (6.4 M values)", widths, {w: lambda w=w: site.one_shot(wide, f"w{w}") for w in widths})

    counts = [100, 300, 1000, 3000]
    many = {count: small_tables(lambda n, s: site.database(f"growth_{n}", s), count) for count in counts}
    curve("tables of 1,000 rows", counts, {c: lambda c=c: site.one_shot(many[c], "*") for c in counts})

    chunk_rows = [4_000_000, 400_000, 40_000, 8_000]
    site.start_daemons(sources[1], 1, 2)
    request = lambda size: {"tables": [{"table": "public.lineitem", "chunk_rows": size}]}
    curve("chunks", [-(-rows[2] // size) for size in chunk_rows], {s: lambda s=s: site.submitted(request(s)) for s in chunk_rows})

    daemons = [1, 2, 4]
    result["daemons"] = {"points": daemons, "runs": {}}
    for count in daemons:
        site.start_daemons(sources[1], count, 2)
        costs = rounds(runs, {count: lambda: site.submitted({"tables": ["public.lineitem"]})})
        result["daemons"]["runs"].update(recorded(costs))
        print(f"daemons {count}: {median(costs[count], 'wall'):.2f} s, {median(costs[count], 'cpu'):.2f} CPU-s", flush=True)
    site.stop_daemons()
    return result


def core(site, args):
    """Measures the steps of an export one by one: decoding and encoding, chunks, decisions."""
    result = {}
    for example in ("decode_speed", "chunk_speed", "decide_speed"):
        program = TARGET / "release/examples" / example
        said = subprocess.run([program], check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
        print(f"\n{example}:\n{said}", flush=True)
        result[example] = said.splitlines()
    said = "\n".join(line for lines in result.values() for line in lines)
    return {**result, "markdown": f"```text\n{said}\n```"}


# The cases with many small files come first and last: ext4 without a journal creates files slowly where many
# were removed in the last five minutes.
CASES = {"small": small, "lineitem": lineitem, "pages": pages, "shapes": shapes, "core": core, "growth": growth}


def machine(site):
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        model = next(line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name"))
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "postgresql": site.psql(f"{site.server}/postgres", "SHOW server_version"),
        "version": subprocess.run([ADU, "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip(),
        "commit": subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], text=True, stdout=subprocess.PIPE).stdout.strip(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="rounds (5)")
    parser.add_argument("--scale", type=float, default=1, help="scale of TPC-H (1: 6 M rows)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases (all)")
    parser.add_argument("--no-slow", action="store_true", help="run only DuckDB of the other programs")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md and docs/PERFORMANCE.md")
    args = parser.parse_args()
    args.scale = int(args.scale) if args.scale == int(args.scale) else args.scale

    results = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "cases": {}}
    with Site() as site:
        results["machine"] = machine(site)
        for name in args.only:
            results["cases"][name] = {"commit": results["machine"]["commit"], **CASES[name](site, args)}
    directory = ROOT / "bench/results"
    directory.mkdir(exist_ok=True)
    path = directory / f"{results['date']}.json"
    if path.exists():
        earlier = json.loads(path.read_text())["cases"]
        results["cases"] = {**earlier, **results["cases"]}
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{path}")
    if args.write:
        put_into(ROOT / "README.md", results["cases"], ["lineitem"])
        put_into(ROOT / "docs/PERFORMANCE.md", results["cases"], ["lineitem", "pages", "shapes", "small", "core"])


def put_into(path: Path, cases, names):
    """Replaces the text between the marks of each case."""
    text = path.read_text()
    for name in names:
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"bench: {path} has no marks {begin.strip()} and {end.strip()}")
        text = f"{before}{begin}\n{cases[name]['markdown']}\n\n{end}{after}"
    path.write_text(text)


if __name__ == "__main__":
    main()
