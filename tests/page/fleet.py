"""Daemons on private services, and the tables that they export."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

PG = f"postgres://postgres@127.0.0.1:{os.environ['PG_PORT']}"
AMQP = f"amqp://guest:guest@127.0.0.1:{os.environ['AMQP_PORT']}/%2f"
TABLES = """
CREATE TABLE orders AS SELECT g AS id, md5(g::text) AS note, now() AS at FROM generate_series(1, 400000) g;
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE TABLE customers AS SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 60000) g;
ALTER TABLE customers ADD PRIMARY KEY (id);
CREATE TABLE secrets (id int);
CREATE TABLE events AS SELECT g AS id, md5(g::text) AS what FROM generate_series(1, 100000) g;
ALTER TABLE events ADD PRIMARY KEY (id);
-- Rows that come slowly, so that somebody can watch.
CREATE FUNCTION slowly(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN $1; END $$;
CREATE VIEW slow AS SELECT g AS id, slowly(g) AS n FROM generate_series(1::bigint, 400) g;
CREATE VIEW slower AS SELECT g AS id, slowly(g) AS n FROM generate_series(1::bigint, 6000) g;
CREATE SCHEMA small;
DO $$ BEGIN FOR n IN 1..130 LOOP EXECUTE format('CREATE TABLE small.part_%s AS SELECT g FROM generate_series(1, 10) g', n); END LOOP; END $$;
CREATE ROLE exporter LOGIN PASSWORD 'secret';
GRANT USAGE ON SCHEMA small TO exporter;
GRANT SELECT ON ALL TABLES IN SCHEMA public, small TO exporter;
REVOKE SELECT ON secrets FROM exporter;
"""


def until(what, ask, seconds=60):
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds} s: {what}")
        time.sleep(0.2)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Fleet:
    def __init__(self, adu, here):
        self.adu, self.here, self.daemons = adu, here, []
        os.makedirs(f"{here}/exports")
        subprocess.run(["psql", "-q", f"{PG}/postgres", "-c", "CREATE DATABASE warehouse"], check=True)
        subprocess.run(["psql", "-q", "-v", "ON_ERROR_STOP=1", f"{PG}/warehouse"], input=TABLES, text=True, check=True)
        self.config = self.configured("client", free_port())
        self.run("check", "--init")

    def configured(self, name, port):
        path = f"{self.here}/{name}.toml"
        with open(path, "w") as f:
            f.write(f"""
[broker]
url = "{AMQP}"
[export]
root = "{os.path.realpath(self.here)}/exports"
workers = 3
min_free_bytes = 1048576
[http]
listen = "127.0.0.1:{port}"
[timing]
alive_interval = "2s"
alive_timeout = "6s"
progress_interval = "2s"
[sources.warehouse]
kind = "postgres"
dsn = "postgres://exporter:secret@127.0.0.1:{os.environ['PG_PORT']}/warehouse"
pool_size = 6
max_jobs = 2
max_snapshot_age = "6h"
""")
        return path

    def run(self, *args):
        done = subprocess.run([self.adu, *args, "--config", self.config], capture_output=True, text=True)
        assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"

    def daemon(self):
        port = free_port()
        name = f"daemon-{len(self.daemons) + 1}"
        config = self.configured(name, port)
        log = open(f"{self.here}/{name}.log", "w")
        command = ["setpriv", "--pdeathsig", "KILL", self.adu, "daemon", "--config", config]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        daemon = Daemon(process, port)
        self.daemons.append(daemon)
        until(f"{name} is ready", daemon.is_ready)
        return daemon

    def submit(self, request):
        path = f"{self.here}/request.json"
        with open(path, "w") as f:
            json.dump(request, f)
        self.run("submit", "--request", path)

    def stop(self):
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.process.wait(15)
            except subprocess.TimeoutExpired:
                daemon.process.kill()


class Daemon:
    def __init__(self, process, port):
        self.process, self.at = process, f"http://127.0.0.1:{port}"

    def get(self, path):
        with urllib.request.urlopen(self.at + path, timeout=10) as answer:
            return answer.read().decode()

    def json(self, path):
        return json.loads(self.get(path))

    def is_ready(self):
        try:
            return self.get("/readyz") == "ok\n"
        except OSError:
            return False

    def job(self, job):
        try:
            return self.json(f"/api/jobs/{job}")
        except urllib.error.HTTPError:
            return {"status": "unknown"}
