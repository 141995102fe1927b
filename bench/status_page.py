"""How long the status page takes for a job of 20,000 tables and 100,000 chunks, while it runs and when it has ended.

A real daemon without a broker serves an export folder that is written here.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid

TABLES, CHUNKS, RUNS = 20_000, 5, 9
SMALL = 300_000
RECEIVED = "2026-12-01T00:00:00Z"
DAEMONS = [str(uuid.UUID(int=n)) for n in range(1, 5)]


def write(path, value):
    with open(path, "w") as f:
        json.dump(value, f)


def request(job):
    return {"v": 2, "job": job, "source": "warehouse", "request": {"tables": ["public.*"]}, "body_sha256": "0" * 64,
            "received_at": RECEIVED, "owner": {"kind": "daemons", "vhost": "/", "prefix": "adu.export"}}


def plan(job):
    tables = [{"number": n, "batch": n, "schema": "public", "name": f"table_{n}", "base": f"public_table_{n}", "directory": "",
               "full": True, "columns": [], "key": [], "strategy": {"kind": "ctid", "bounds": list(range(1, CHUNKS))},
               "reason": "by pages, because its numeric key is not stored in order", "estimated_rows": 5_000_000}
              for n in range(TABLES)]
    return {"v": 2, "job": job, "epoch": 1, "source": "warehouse", "planned_at": RECEIVED, "ready": str(uuid.uuid4()),
            "snapshot": {"lineage": str(uuid.uuid4()), "time": RECEIVED}, "session": [], "tables": tables,
            "writer": {"compression": "snappy", "row_group_bytes": 16777216}, "on_conflict": "version", "on_unfit": "text", "verify": "none"}


def record(table, chunk):
    second = (table * CHUNKS + chunk) // 16 % 3600
    part = {"path": f"part-{chunk:06}.parquet", "reference": f"1:{chunk}", "rows": 1_000_000, "bytes": 30_000_000, "sha256": "0" * 64,
            "row_groups": 2, "fsync_seconds": 0.01}
    return {"v": 2, "instance": DAEMONS[(table + chunk) % 4], "host": f"host-{(table + chunk) % 4}", "parts": [{"table": table, "parts": [part]}],
            "started_at": f"2026-12-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z", "seconds": 0.9, "attempts": 1}


def running(root):
    work = f"{root}/.temp/job_running"
    for name in ["plans", "ready", "parts", "records/e1", "tables"]:
        os.makedirs(f"{work}/{name}")
    write(f"{work}/request.json", request("running"))
    for table in range(TABLES):
        os.mkdir(f"{work}/records/e1/{table}")
        for chunk in range(CHUNKS if table < TABLES - 100 else 0):
            write(f"{work}/records/e1/{table}/{chunk:06}.json", record(table, chunk))
    write(f"{work}/plans/e1.json", plan("running"))


def ended(root):
    files = [{"file": f"part-{c:06}.parquet", "rows": 1_000_000, "bytes": 30_000_000, "sha256": "0" * 64} for c in range(CHUNKS)]
    tables = [{"table_name": f"public.table_{n}", "status": "completed", "rows": CHUNKS * 1_000_000, "chunks": CHUNKS, "export_time_seconds": 5.0,
               "throughput_rows_per_second": 1e6, "directory": f"public_table_{n}", "strategy": "ctid", "strategy_reason": "by pages",
               "base": f"public_table_{n}", "full": True, "epoch": 1, "files": files} for n in range(TABLES)]
    chunks = [[t, 1, c, (t + c) % 4, (t * CHUNKS + c) // 16 * 1000, 900] for t in range(TABLES) for c in range(CHUNKS)]
    archive = {"v": 2, "job_id": "ended", "status": "completed", "source": "warehouse", "received_at": RECEIVED, "committed_at": "2026-12-01T02:00:00Z",
               "snapshots": {}, "epochs": 1, "request": {"tables": ["public.*"]}, "body_sha256": "0" * 64, "tables": tables,
               "performance": {"total_duration_seconds": 7200.0, "tables_processed": TABLES, "total_rows_exported": TABLES * CHUNKS * 1_000_000,
                               "total_bytes": TABLES * CHUNKS * 30_000_000, "rows_per_second": 1.4e7,
                               "threading_config": {"table_threads": 12, "chunk_workers": 8, "total_parallel_operations": 96}},
               "timeline": {"daemons": [{"host": f"host-{n}", "instance": d} for n, d in enumerate(DAEMONS)], "chunks": chunks}}
    write(f"{root}/.archive/by-id/ended.json", archive)
    os.link(f"{root}/.archive/by-id/ended.json", f"{root}/.archive/jobs/job_ended_2026-12-01.json")
    print(f"archive: {os.path.getsize(f'{root}/.archive/by-id/ended.json') / 1e6:.0f} MB, of which the timeline is {len(json.dumps(chunks, separators=(',', ':'))) / 1e6:.1f} MB")


def main():
    adu = sys.argv[1]
    here = tempfile.mkdtemp(prefix="adu-status-")
    root = f"{here}/exports"
    for name in [".temp/trash", ".archive/by-id", ".archive/jobs", ".archive/names"]:
        os.makedirs(f"{root}/{name}")
    with open(f"{root}/.adu-root", "w") as f:
        f.write(f"{uuid.uuid4()}\n")
    running(root)
    ended(root)
    with socket.socket() as s, socket.socket() as closed:
        s.bind(("127.0.0.1", 0))
        closed.bind(("127.0.0.1", 0))
        port, nobody = s.getsockname()[1], closed.getsockname()[1]
    with open(f"{here}/daemon.toml", "w") as f:
        f.write(f'[broker]\nurl = "amqp://127.0.0.1:{nobody}/%2f"\n[export]\nroot = "{root}"\nworkers = 2\n[http]\nlisten = "127.0.0.1:{port}"\n'
                '[sources.warehouse]\nkind = "postgres"\ndsn = "postgres://exporter@127.0.0.1/warehouse"\n')
    daemon = subprocess.Popen([adu, "daemon", "--config", f"{here}/daemon.toml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        measure(port, daemon.pid)
    finally:
        daemon.terminate()
        daemon.wait(30)
        shutil.rmtree(here)


def resident(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


def measure(port, pid):
    def get(path):
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
                return time.perf_counter() - began, answer.status, len(answer.read())
        except urllib.error.HTTPError as error:
            return time.perf_counter() - began, error.code, 0

    def up():
        try:
            return get("/healthz")[1] > 0
        except OSError:
            return False

    while not up():
        time.sleep(0.1)
    before = resident(pid)
    began = time.perf_counter()
    while get("/jobs/running")[1] != 200 or json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/api/overview"))["archives_unread"]:
        time.sleep(0.2)
    print(f"the first look at {TABLES * CHUNKS:,} records and the archive: {time.perf_counter() - began:.1f} s; memory {before:.0f} → {resident(pid):.0f} MB")
    print(f"{'page':42} {'median':>9} {'slowest':>9} {'size':>9}")
    wrong = []
    for path in ["/", "/tables", "/tables?page=150", "/jobs/running", "/jobs/running?state=waiting", "/jobs/running/tables/19950",
                 "/jobs/ended", "/jobs/ended?page=120", "/jobs/ended/tables/77", "/api/overview", "/api/jobs", "/api/jobs/running/chunks", "/api/jobs/ended/tables"]:
        times = []
        for _ in range(RUNS):
            seconds, status, size = get(path)
            assert status == 200, f"{path}: {status}"
            times.append(seconds * 1e3)
        print(f"{path:42} {statistics.median(times):6.0f} ms {max(times):6.0f} ms {size / 1e3:6.0f} kB")
        if size > SMALL:
            wrong.append(path)
    assert not wrong, f"larger than {SMALL:,} bytes: {wrong}"


if __name__ == "__main__":
    main()
