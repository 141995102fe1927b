#!/usr/bin/env python3
"""Runs two daemons with small and large jobs for a while, and checks the figures that must not grow.

    target/venv/bin/python3 scripts/soak.py [MINUTES]     (`make soak MINUTES=20` does the rest)

PostgreSQL and RabbitMQ are private, below target/soak. Small jobs come all the time, large jobs run beside them one
after the other, and every tenth small job is cancelled. Memory, file descriptors, threads, backends, workspaces and
queues are sampled every five seconds. The exit code is 1 if a job has the wrong end, if something is left behind, or
if memory, descriptors or threads of the last third exceed those of the first third by more than a quarter.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid

import pika

MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
ADU = TARGET / "release/adu-export"
PLACE = TARGET / "soak"
ROOT = PLACE / "exports"
SMALL = 40
SAMPLE = 5.0


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"soak: {' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


class Daemon:
    """One daemon process, and the kernel's figures about it."""

    def __init__(self, number, dsn, amqp):
        self.number, self.port = number, run("scripts/services.sh", "port")
        self.config = PLACE / f"daemon-{number}.toml"
        self.config.write_text(
            f'[broker]\nurl = "{amqp}"\n[export]\nroot = "{ROOT}"\nworkers = 2\nmin_free_bytes = 1048576\n'
            f'[http]\nlisten = "127.0.0.1:{self.port}"\n[sources.warehouse]\nkind = "postgres"\ndsn = "{dsn}"\n'
        )
        self.process = None

    def start(self):
        log = open(PLACE / f"daemon-{self.number}.log", "w")
        command = ["setpriv", "--pdeathsig", "KILL", ADU, "daemon", "--config", self.config]
        self.process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log)
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5)
                return
            except OSError:
                time.sleep(0.1)
        sys.exit(f"soak: daemon {self.number} is not ready; see {log.name}")

    def figures(self):
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        resident = int(status["VmRSS"].split()[0]) / 1024
        return resident, len(list((proc / "fd").iterdir())), int(status["Threads"])

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=60)


def main():
    shutil.rmtree(PLACE / "exports", ignore_errors=True)
    ROOT.mkdir(parents=True)
    services = PLACE / "services"
    run("scripts/services.sh", "start", services, os.getpid())
    env = dict(line.split("=", 1) for line in (services / "env").read_text().split())
    server = f"postgres://postgres@127.0.0.1:{env['PG_PORT']}"
    dsn, amqp = f"{server}/soak", f"amqp://guest:guest@127.0.0.1:{env['AMQP_PORT']}/%2f"
    sql = lambda text, to=dsn: run("psql", "-XAtq", "-d", to, "-c", text)
    sql("CREATE DATABASE soak", f"{server}/postgres")
    run(TARGET / "release/examples/load_tpch", dsn, "0.2")
    for n in range(SMALL):
        sql(f"CREATE TABLE small_{n} AS SELECT i AS id, md5(i::text) AS text FROM generate_series(1, 500) i")
    sql("ANALYZE")
    daemons = [Daemon(n, dsn, amqp) for n in (1, 2)]
    run(ADU, "check", "--init", "--config", daemons[0].config)
    for daemon in daemons:
        daemon.start()

    connection = pika.BlockingConnection(pika.URLParameters(amqp))
    channel = connection.channel()
    events = channel.queue_declare("", exclusive=True).method.queue
    for what in ("completed", "partial", "failed", "cancelled", "rejected"):
        channel.queue_bind(events, "adu.export.events", f"job.{what}.#")
    channel.confirm_delivery()

    def publish(body):
        properties = pika.BasicProperties(message_id=str(uuid.uuid4()), delivery_mode=2)
        channel.basic_publish("", "adu.export.requests", json.dumps(body), properties, mandatory=True)

    def queued(name):
        return channel.queue_declare(f"adu.export.{name}", passive=True).method.message_count

    ends, running, cancelled, samples = {}, set(), set(), []
    serial, large, began = 0, None, time.monotonic()
    next_small = next_sample = began
    over = began + MINUTES * 60
    print(f"{'minute':>7} {'jobs':>6} {'MiB':>14} {'descriptors':>12} {'threads':>10} {'backends':>9} "
          f"{'workspaces':>11} {'requests/work/inbox':>20}", flush=True)
    while time.monotonic() < over or running:
        now = time.monotonic()
        if now > over + 120:
            sys.exit(f"soak: jobs that never ended: {sorted(running)}")
        if now < over and now >= next_small:
            serial, next_small = serial + 1, now + 0.5
            job = f"small-{serial}"
            tables = [f"public.small_{(serial * 3 + k) % SMALL}" for k in range(3)]
            publish({"job_id": job, "tables": tables, "output": {"directory": "small"}})
            running.add(job)
            if serial % 10 == 0:
                publish({"cancel": job})
                cancelled.add(job)
        if now < over and large not in running:
            serial += 1
            large = f"large-{serial}"
            publish({"job_id": large, "tables": [{"table": "public.lineitem", "chunk_rows": 50000},
                                                 {"table": "public.orders", "chunk_rows": 20000}]})
            running.add(large)
        connection.process_data_events(0.05)
        while True:
            method, _, body = channel.basic_get(events, auto_ack=True)
            if method is None:
                break
            event = json.loads(body)
            job = event["data"].get("job_id")
            ends.setdefault(job, set()).add(event["id"])
            if job in running:
                running.discard(job)
                allowed = {"completed", "cancelled"} if job in cancelled else {"completed"}
                kind = event["type"].rsplit(".", 1)[1]
                if kind not in allowed:
                    sys.exit(f"soak: {job} ended {kind}: {body.decode()[:2000]}")
                archive = json.loads((ROOT / f".archive/by-id/{job}.json").read_text())
                for table in archive["tables"]:
                    if table.get("directory"):
                        shutil.rmtree(ROOT / table["directory"])
        if now >= next_sample:
            next_sample = now + SAMPLE
            figures = [d.figures() for d in daemons]
            backends = int(sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'soak'")) - 1
            workspaces = sum(1 for n in os.listdir(ROOT / ".temp") if n.startswith("job_"))
            queues = [queued(q) for q in ("requests", "work", "coordinator")]
            samples.append((now - began, figures))
            if len(samples) % 12 == 1:
                show = lambda i, form: "/".join(format(f[i], form) for f in figures)
                print(f"{(now - began) / 60:7.1f} {len(ends):6} {show(0, '.0f'):>14} {show(1, ''):>12} "
                      f"{show(2, ''):>10} {backends:9} {workspaces:11} {'/'.join(map(str, queues)):>20}", flush=True)

    time.sleep(15)
    left = [n for n in os.listdir(ROOT / ".temp") if n != "trash"] + os.listdir(ROOT / ".temp/trash")
    queues = {q: queued(q) for q in ("requests", "work")}
    repeated = [job for job, ids in ends.items() if len(ids) > 1]
    bad = []
    third = len(samples) // 3
    for i, what in enumerate(("MiB resident", "descriptors", "threads")):
        for d in range(len(daemons)):
            first = statistics.median(s[1][d][i] for s in samples[:third])
            last = statistics.median(s[1][d][i] for s in samples[-third:])
            print(f"daemon {d + 1}: {what}, median of the first third {first:.0f}, of the last {last:.0f}")
            if last > first * 1.25 + 5:
                bad.append(f"{what} of daemon {d + 1} grew")
    codes = [d.stop() for d in daemons]
    connections = int(sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'soak'")) - 1
    print(f"{len(ends)} jobs ended; left in .temp: {left}; queues: {queues}; jobs with two ends: {repeated}; "
          f"exit codes: {codes}; connections left: {connections}")
    if left or any(queues.values()) or repeated or any(codes) or connections:
        bad.append("something is left behind")
    run("scripts/services.sh", "stop", services)
    sys.exit("; ".join(bad) if bad else 0)


if __name__ == "__main__":
    main()
