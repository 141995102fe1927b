#!/usr/bin/env python3
"""Measures exports from a Greenplum cluster on this machine: `greenplum.py [--runs N] [--scale S]`.

ADU_TEST_GREENPLUM_DSN is the DSN of a superuser. As in `bench.py`, every round runs every program once, and figures are
medians of the rounds. Each figure is a ratio to something of the same rounds: to `psql` with as many connections, or to an
export of the same rows from a private PostgreSQL. The results are added to `bench/results/<date>.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import measure
from bench import machine, median, recorded, rounds, small_tables
from bench_site import ADU, ROOT, SPACE, Site

SMALL_TABLES = 1000
STORED = {
    "heap": "",
    "columns": "WITH (appendonly = true, orientation = column, compresstype = zstd, compresslevel = 1)",
}


class Cluster:
    """Databases of the cluster, which are dropped at the end, and the CPU time of its servers."""

    def __init__(self, site, dsn):
        self.site = site
        self.server, _, self.database = dsn.rpartition("/")
        self.names = []
        directories = site.psql(dsn, "SELECT datadir FROM gp_segment_configuration WHERE role = 'p' ORDER BY content")
        self.coordinator, *self.segments = map(postmaster, directories.splitlines())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in self.names:
            self.site.psql(f"{self.server}/{self.database}", f'DROP DATABASE "{name}"')

    def create(self, name, script=None):
        """Creates a database, filled by an SQL script, and returns its DSN."""
        name = f"bench_{os.getpid()}_{name}"
        self.site.psql(f"{self.server}/{self.database}", f'CREATE DATABASE "{name}"')
        self.names.append(name)
        dsn = f"{self.server}/{name}"
        self.site.psql(dsn, f"CREATE EXTENSION gp_parallel_retrieve_cursor; {script or ''}")
        return dsn

    def stay_on(self, cores):
        """Keeps the servers, and the sessions that they start from now on, on these cores."""
        for postmaster in (self.coordinator, *self.segments):
            os.sched_setaffinity(postmaster, cores)

    def cpu_seconds(self):
        """CPU seconds of the coordinator, and of the whole cluster; those of processes that have ended too."""
        coordinator, total = 0, 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # It has ended.
            servers = {int(name), int(fields[1])}
            used = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
            coordinator += used if self.coordinator in servers else 0
            total += used if servers & {self.coordinator, *self.segments} else 0
        return coordinator, total


def postmaster(directory):
    """The process id of the server of a data directory."""
    with open(f"{directory}/postmaster.pid", encoding="utf-8") as file:
        return int(file.readline())


def export(site, dsn, request, workers=1):
    """The cost of a one-shot export."""
    out = site.out()
    path = SPACE / "request.json"
    path.write_text(json.dumps(request))
    command = [ADU, "export", "--quiet", "--dsn", dsn, "--request", path, "--out", out, "--workers", workers]
    return site.wrote(out, *command)


def lineitem(site, cluster, args):
    """Exports lineitem by COPY, compared with psql, and by retrieve cursors, with the coordinator's CPU time."""
    postgres = site.lineitem(args.scale)
    rows = int(site.psql(postgres, "SELECT count(*) FROM lineitem"))
    dsn = cluster.create("lineitem")
    columns = site.psql(postgres, """
        SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = 'lineitem'::regclass AND attnum > 0 AND NOT attisdropped""")
    for name, stored in STORED.items():
        site.psql(dsn, f"CREATE TABLE {name} ({columns}) {stored} DISTRIBUTED BY (l_orderkey)")
        copy = ["psql", "-Xqd", postgres, "-c", "COPY lineitem TO STDOUT (FORMAT binary)"]
        with subprocess.Popen(copy, stdout=subprocess.PIPE) as sender:
            into = ["psql", "-Xqd", dsn, "-c", f"COPY {name} FROM STDIN (FORMAT binary)"]
            subprocess.run(into, check=True, stdin=sender.stdout)
    site.psql(dsn, "CREATE TABLE few AS SELECT generate_series(1, 1000) AS id DISTRIBUTED BY (id)")
    site.psql(dsn, "VACUUM ANALYZE")

    servers = {}

    def counted(name, program):
        """The cost of a program. Notes the CPU seconds of coordinator and cluster."""
        before = cluster.cpu_seconds()
        cost = program()
        time.sleep(0.5)  # until sessions that were just ended are gone
        servers.setdefault(name, []).append([b - a for a, b in zip(before, cluster.cpu_seconds())])
        return cost

    def by(way, name):
        table = {"table": f"public.{name}", "read": way, "strategy": {"retrieve": "segment"}.get(way, "auto")}
        return export(site, dsn, {"tables": [table]})

    def to_null(name):
        return measure.run(["psql", "-Xqd", dsn, "-c", f"COPY {name} TO STDOUT (FORMAT binary)"])

    runs = {}
    for name in STORED:
        runs[f"psql {name}"] = lambda name=name: to_null(name)
        runs[f"copy {name}"] = lambda name=name: by("copy", name)
        runs[f"retrieve {name}"] = lambda name=name: by("retrieve", name)
    runs["retrieve few"] = lambda: by("retrieve", "few")
    runs["postgres"] = lambda: export(site, postgres, {"tables": ["public.lineitem"]})
    costs = rounds(args.runs, {name: lambda name=name, run=run: counted(name, run) for name, run in runs.items()})
    apart = costs_apart(cluster, args, {name: run for name, run in runs.items() if name.startswith(("psql", "copy"))})

    lines = [
        "| | wall | wall ÷ `psql` | with a core of its own | all CPU ÷ that with `psql` | exporter's CPU ÷ that with PostgreSQL"
        " | coordinator's CPU-s per M rows |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in STORED:
        floor = costs[f"psql {name}"]
        for way in ("copy", "retrieve"):
            ours = costs[f"{way} {name}"]
            wall, cpu = ratios(ours, floor, "wall"), ratios(ours, costs["postgres"], "cpu")
            busy = [
                (a.cpu + of_a) / (b.cpu + of_b)
                for a, b, (_, of_a), (_, of_b) in zip(ours, floor, servers[f"{way} {name}"], servers[f"psql {name}"])
            ]
            coordinator = [used / rows * 1e6 for used, _ in servers[f"{way} {name}"]]
            alone = spread(ratios(apart[f"{way} {name}"], apart[f"psql {name}"], "wall")) if way == "copy" else "–"
            figures = " | ".join([spread(wall), alone, *map(spread, (busy, cpu, coordinator))])
            lines.append(f"| `{way}`, {name} | {median(ours, 'wall'):.2f} s | {figures} |")
    fixed = spread([used for used, _ in servers["retrieve few"]])
    lines += ["", f"`retrieve` of 1,000 rows: {fixed} CPU-s of the coordinator, which every job costs."]
    text = "\n".join(lines)
    print(f"\n{rows / 1e6:.1f} M rows of lineitem, one connection:\n\n{text}", flush=True)
    return {
        "rows": rows,
        "runs": recorded(costs),
        "runs_apart": recorded(apart),
        "cpu_of_coordinator_and_cluster": servers,
        "markdown": text,
    }


def costs_apart(cluster, args, runs):
    """The costs while the cluster has one core, and the program that reads from it all others, as on hosts of their own."""
    every = os.sched_getaffinity(0)
    servers = {min(every)}
    try:
        cluster.stay_on(servers)
        os.sched_setaffinity(0, every - servers)
        return rounds(args.runs, runs)
    finally:
        os.sched_setaffinity(0, every)
        cluster.stay_on(every)


def small(site, cluster, args):
    """Exports 1,000 tables of 1,000 rows, and the same tables of PostgreSQL."""
    postgres = small_tables(site.database, SMALL_TABLES)
    dsn = small_tables(cluster.create, SMALL_TABLES, "DISTRIBUTED BY (id)")
    request = {"tables": ["public.*"]}
    programs = {
        "postgres": lambda: export(site, postgres, request, workers=2),
        "greenplum": lambda: export(site, dsn, request, workers=2),
    }
    costs = rounds(args.runs, programs)
    ours = median(costs["greenplum"], "wall") / SMALL_TABLES * 1000
    text = f"{ours:.2f} ms per table, {spread(ratios(costs['greenplum'], costs['postgres'], 'wall'))} × PostgreSQL's time"
    print(f"\n{SMALL_TABLES} tables of 1,000 rows: {text}", flush=True)
    return {"tables": SMALL_TABLES, "runs": recorded(costs), "markdown": text}


def ratios(ours, others, field):
    """The ratio in each round."""
    return [getattr(a, field) / getattr(b, field) for a, b in zip(ours, others)]


def spread(figures):
    """Median, lowest and highest."""
    return f"{statistics.median(figures):.3f} ({min(figures):.3f} to {max(figures):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="rounds (5)")
    parser.add_argument("--scale", type=float, default=0.5, help="scale of TPC-H (0.5: 3 M rows)")
    parser.add_argument("--only", nargs="+", choices=["lineitem", "small"], default=["lineitem", "small"], help="cases (all)")
    args = parser.parse_args()
    dsn = os.environ.get("ADU_TEST_GREENPLUM_DSN") or sys.exit("set ADU_TEST_GREENPLUM_DSN to the DSN of a superuser")
    cases = {"lineitem": lineitem, "small": small}
    with Site() as site, Cluster(site, dsn) as cluster:
        about = machine(site)
        about["greenplum"] = site.psql(dsn, "SELECT version()")
        found = {name: {"commit": about["commit"], **cases[name](site, cluster, args)} for name in args.only}
    path = ROOT / "bench/results" / f"{time.strftime('%Y-%m-%d', time.gmtime())}.json"
    results = json.loads(path.read_text()) if path.exists() else {"machine": about, "cases": {}}
    results["cases"].setdefault("greenplum", {"machine": about}).update(found)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
