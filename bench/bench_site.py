"""A private PostgreSQL and RabbitMQ, daemons, and the programs to compare."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
SPACE = TARGET / "bench"
ADU = TARGET / "release/adu-export"
PEERS = ROOT / "bench/peers"
ODBC2PARQUET = TARGET / "bench-tools/bin/odbc2parquet"
# Larger output is removed at once, smaller output at the end: some file systems are slow where files were
# just removed.
KEPT_BYTES = 100_000_000
ODBC_DRIVER = Path("/usr/lib/x86_64-linux-gnu/odbc/psqlodbcw.so")


class Site:
    """Private services below `target/bench`. They are stopped at the end."""

    def __enter__(self):
        shutil.rmtree(SPACE / "out", ignore_errors=True)
        (SPACE / "out").mkdir(parents=True)
        self.daemons = []
        self.databases = set()
        self.runs = 0
        self.services = SPACE / "services"
        subprocess.run([ROOT / "scripts/services.sh", "start", self.services, str(os.getpid())], check=True)
        self.ports = dict(line.split("=", 1) for line in (self.services / "env").read_text().split())
        self.server = f"postgres://postgres@127.0.0.1:{self.ports['PG_PORT']}"
        return self

    def __exit__(self, *_):
        self.stop_daemons()
        subprocess.run([ROOT / "scripts/services.sh", "stop", self.services], check=True)
        shutil.rmtree(SPACE / "out", ignore_errors=True)

    # Databases.

    def database(self, name, script=None):
        """Creates a database, filled by an SQL script, unless it exists. Returns its DSN."""
        if name not in self.databases:
            self.databases.add(name)
            self.psql(f"{self.server}/postgres", f'CREATE DATABASE "{name}"')
            if script:
                self.psql(f"{self.server}/{name}", script)
        return f"{self.server}/{name}"

    def lineitem(self, scale):
        """Creates a database with TPC-H lineitem, unless it exists. Returns its DSN."""
        name = f"scale_{scale}"
        is_new = name not in self.databases
        dsn = self.database(name)
        if is_new:
            subprocess.run([TARGET / "release/examples/load_tpch", dsn, str(scale), "lineitem"], check=True)
        return dsn

    def page_reader(self, dsn):
        """Lets superusers and the ordinary role `reader` read pages of a database. Returns the DSN of the latter."""
        self.psql(dsn, "CREATE EXTENSION IF NOT EXISTS pageinspect")
        if "reader" not in self.psql(dsn, "SELECT rolname FROM pg_roles").split():
            self.psql(dsn, "CREATE ROLE reader LOGIN PASSWORD 'reader'")
        script = ["psql", "-Xqd", dsn, "-v", "role=reader", "-f", ROOT / "sql/page-reader.sql"]
        subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
        # VACUUM marks pages; statistics tell how many.
        self.psql(dsn, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; VACUUM ANALYZE")
        return dsn.replace("//postgres@", "//reader:reader@")

    def with_server(self, program):
        """The program, with the CPU time of the server's sessions in its cost."""

        def run():
            before = self.server_seconds()
            cost = program()
            cost.server = self.server_seconds() - before
            return cost

        return run

    def server_seconds(self):
        """CPU seconds of all sessions that have ended. It waits until nobody else is connected."""
        others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        for _ in range(300):
            if self.psql(f"{self.server}/postgres", others) == "0":
                break
            time.sleep(0.1)
        time.sleep(0.1)
        return measure.children_seconds(int((self.services / "postgres.pid").read_text().split()[0]))

    def psql(self, dsn, script):
        """Runs SQL and returns its output."""
        command = ["psql", "-XAtqv", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-"]
        return subprocess.run(command, input=script, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    # The programs to compare. Each takes a database and a table, and returns its cost.

    def out(self):
        """A directory that does not exist yet."""
        self.runs += 1
        return SPACE / f"out/{self.runs}"

    def wrote(self, out, *command):
        """The cost of a command that writes Parquet files to `out`. Large output is removed again at once."""
        cost = measure.run(command)
        cost.bytes = measure.parquet_bytes(out)
        if cost.bytes > KEPT_BYTES:
            shutil.rmtree(out)
        return cost

    def floor(self, dsn, table):
        """Two psql processes that each COPY half of the pages to /dev/null, in binary."""
        half = int(self.psql(dsn, f"SELECT pg_relation_size('{table}') / 8192 / 2"))
        copies = (f"COPY (SELECT * FROM {table} WHERE ctid {side} '({half},0)') TO STDOUT (FORMAT binary)" for side in ("<", ">="))
        return measure.run(*(["psql", "-Xqd", dsn, "-c", copy] for copy in copies))

    def raw_pages(self, dsn, table):
        """Two psql processes that each ask for half of the pages, as they are, to /dev/null."""
        pages = int(self.psql(dsn, f"SELECT pg_relation_size('{table}') / 8192"))
        halves = ((0, pages // 2 - 1), (pages // 2, pages - 1))
        copies = (
            f"COPY (SELECT get_raw_page('{table}', 'main', b) FROM generate_series({first}, {last}) b) TO STDOUT (FORMAT binary)"
            for first, last in halves
        )
        return measure.run(*(["psql", "-Xqd", dsn, "-c", copy] for copy in copies))

    def one_shot(self, dsn, table, compression="snappy", workers=2, read=None):
        """A one-shot export. Without a number of workers it uses its default."""
        out = self.out()
        options = ["--compression", compression, *(["--workers", workers] if workers else [])]
        options += ["--read", read] if read else []
        return self.wrote(out, ADU, "export", "--quiet", "--dsn", dsn, "--table", f"public.{table}", "--out", out, *options)

    def duckdb(self, dsn, table):
        """DuckDB's postgres extension, two threads."""
        out = self.out()
        return self.wrote(out, sys.executable, PEERS / "duckdb_copy.py", dsn, out, table)

    def connectorx(self, dsn, table):
        """ConnectorX and Polars, two connections."""
        out = self.out()
        return self.wrote(out, sys.executable, PEERS / "connectorx_polars.py", dsn, out, table, "l_orderkey")

    def adbc(self, dsn, table):
        """ADBC and pyarrow, one connection."""
        out = self.out()
        return self.wrote(out, sys.executable, PEERS / "adbc_arrow.py", dsn, out, table)

    def odbc2parquet(self, dsn, table):
        """odbc2parquet with psqlodbc, one connection. It uses a cursor, else the driver keeps all rows in memory."""
        out = self.out()
        out.mkdir()
        connection = (
            f"Driver={ODBC_DRIVER};Server=127.0.0.1;Port={self.ports['PG_PORT']};Database={dsn.rpartition('/')[2]};"
            "UID=postgres;UseDeclareFetch=1;Fetch=10000;"
        )
        options = ["--column-compression-default", "snappy"]
        query = ["--connection-string", connection, out / f"{table}.parquet", f"SELECT * FROM {table}"]
        return self.wrote(out, ODBC2PARQUET, "--quiet", "query", *options, *query)

    # Daemons.

    def start_daemons(self, dsn, count, workers):
        """Starts daemons that share a new folder, and waits until they consume."""
        self.stop_daemons()
        root = self.out()
        root.mkdir()
        self.configs = []
        for number in range(count):
            free = subprocess.run([ROOT / "scripts/services.sh", "port"], check=True, text=True, stdout=subprocess.PIPE)
            listen = f"127.0.0.1:{free.stdout.strip()}"
            config = SPACE / f"daemon-{number}.toml"
            config.write_text(
                f"""[broker]
url = "amqp://guest:guest@127.0.0.1:{self.ports['AMQP_PORT']}/%2f"
[export]
root = "{root}"
workers = {workers}
min_free_bytes = 1048576
[http]
listen = "{listen}"
[sources.warehouse]
kind = "postgres"
dsn = "{dsn}"
"""
            )
            self.configs.append(config)
            if number == 0:
                subprocess.run([ADU, "check", "--init", "--config", config], check=True, stdout=subprocess.DEVNULL)
            with open(SPACE / f"daemon-{number}.log", "w", encoding="utf-8") as log:
                self.daemons.append(subprocess.Popen([ADU, "daemon", "--config", config], stderr=log, stdout=log))
            self.wait_ready(self.daemons[-1], listen)
        self.root = root

    def wait_ready(self, daemon, listen):
        for _ in range(300):
            if daemon.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"http://{listen}/readyz", timeout=5)
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"bench: a daemon is not ready, see {SPACE}/daemon-*.log")

    def stop_daemons(self):
        for daemon in self.daemons:
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            daemon.wait()
        self.daemons = []

    def submitted(self, request):
        """The cost of a request through RabbitMQ: that of all daemons, without the program that waits."""
        before = measure.parquet_bytes(self.root)
        path = SPACE / "request.json"
        path.write_text(json.dumps(request))
        pids = [daemon.pid for daemon in self.daemons]
        for pid in pids:
            measure.reset_peak(pid)
        used = sum(map(measure.cpu_seconds, pids))
        cost = measure.run([ADU, "submit", "--config", self.configs[0], "--request", path, "--wait"])
        cost.cpu = sum(map(measure.cpu_seconds, pids)) - used
        cost.memory = max(map(measure.peak_memory, pids))
        cost.bytes = measure.parquet_bytes(self.root) - before
        return cost
