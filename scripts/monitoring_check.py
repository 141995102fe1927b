"""The second part of `monitoring-check.sh`: daemons, Prometheus, jobs, queries, alerts.

Intervals of the example configuration and `for` of the rules are shortened in a copy. Expressions, thresholds
and everything else are unchanged (promtool has tested the rules with their real times).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
PLACE = TARGET / "monitoring"
SERVICES = PLACE / "services"
ADU = TARGET / "release/adu-export"
RULES = PROJECT / "monitoring/prometheus/adu-export.rules.yml"
DASHBOARD = PROJECT / "monitoring/grafana/dashboards/adu-export.json"
# The schema of classic dashboards of Grafana 12.1 and newer. Older versions can read it too.
SCHEMA_VERSION = 42
SELECTOR = re.compile(r"\b(?:adu_export_\w+|rabbitmq_\w+|process_\w+|up)\b(?:\{[^}]*\})?")


def fail(why):
    sys.exit(f"monitoring-check: {why}")


def say(what):
    print(f"==> {what}", flush=True)


def run(*command, code=0):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != code:
        fail(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout.strip()


def eventually(what, condition, seconds=60):
    over = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > over:
            fail(f"after {seconds} s still not: {what}")
        time.sleep(0.3)
    return value


def replaced(text, *pairs):
    for old, new in pairs:
        if old not in text:
            fail(f"the example configuration has no `{old}`")
        text = text.replace(old, new)
    return text


class Program:
    """A process that we start, with its log. We end it by its pid; if we die, the kernel ends it."""

    everyone = []

    def __init__(self, name, *command):
        self.name, self.command, self.process = name, [str(c) for c in command], None
        Program.everyone.append(self)

    def start(self):
        with open(PLACE / f"{self.name}.log", "a") as log:
            command = ["setpriv", "--pdeathsig", "KILL", *self.command]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def await_answer(self, url):
        def answers():
            if self.process.poll() is not None:
                fail(f"{self.name} ended, see {PLACE / self.name}.log")
            try:
                return urllib.request.urlopen(url, timeout=5)
            except OSError:
                return None

        eventually(f"{self.name} answers on {url}", answers)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()


class Daemon(Program):
    """A daemon with its own port."""

    def __init__(self, number, dsn, amqp, min_free):
        self.listen = f"127.0.0.1:{run('scripts/services.sh', 'port')}"
        self.config = PLACE / f"daemon-{number}.toml"
        self.config.write_text(
            f'[broker]\nurl = "{amqp}"\n[export]\nroot = "{PLACE}/exports"\nworkers = 2\nmin_free_bytes = {min_free}\n'
            f'[http]\nlisten = "{self.listen}"\n[timing]\nstalled_after = "3s"\n'
            f'[sources.warehouse]\nkind = "postgres"\ndsn = "{dsn}"\n'
        )
        super().__init__(f"daemon-{number}", ADU, "daemon", "--config", self.config)

    def start(self):
        super().start()
        self.await_answer(f"http://{self.listen}/readyz")


class Prometheus(Program):
    """Debian's Prometheus with the example configuration, changed to our ports."""

    def __init__(self, daemons, metrics_port):
        self.url = f"http://127.0.0.1:{run('scripts/services.sh', 'port')}"
        rules = PLACE / "adu-export.rules.yml"
        rules.write_text(re.sub(r"(?m)^(\s+for: ).*", r"\g<1>2s", RULES.read_text()))
        config = PLACE / "prometheus.yml"
        targets = [("export-1.example:9950", daemons[0].listen), ("export-2.example:9950", daemons[1].listen)]
        config.write_text(
            replaced(
                (PROJECT / "monitoring/prometheus/prometheus.yml").read_text(),
                ("interval: 15s", "interval: 1s"),
                ("/usr/share/adu-export/prometheus/adu-export.rules.yml", str(rules)),
                ("mq.example:15692", f"127.0.0.1:{metrics_port}"),
                *targets,
            )
        )
        run("promtool", "check", "config", config)
        options = [f"--storage.tsdb.path={PLACE}/prometheus", f"--web.listen-address={self.url[7:]}", "--log.level=warn"]
        super().__init__("prometheus", "prometheus", f"--config.file={config}", *options)

    def start(self):
        super().start()
        self.await_answer(f"{self.url}/-/ready")

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        try:
            return json.load(urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30))["data"]
        except urllib.error.HTTPError as error:
            fail(f"{path} {parameters}: {error.read().decode()[:500]}")

    def query(self, expression):
        return self.get("query", query=expression)["result"]

    def firing(self):
        return {a["labels"]["alertname"] for a in self.get("alerts")["alerts"] if a["state"] == "firing"}

    def await_alert(self, *names):
        eventually(f"{', '.join(names)} fires", lambda: self.firing().issuperset(names), 120)
        say(f"fires: {', '.join(names)}")

    def await_quiet(self, *names):
        eventually(f"{', '.join(names)} is quiet again", lambda: not self.firing().intersection(names), 180)


def panels_of(dashboard):
    """Checks what Grafana demands of a classic dashboard, and returns the panels that draw."""
    for field in ("uid", "title", "schemaVersion", "panels", "templating", "time", "refresh", "tags"):
        if not dashboard.get(field):
            fail(f"the dashboard has no {field}")
    if dashboard["schemaVersion"] != SCHEMA_VERSION or dashboard.get("id") is not None:
        fail(f"the dashboard wants schemaVersion {SCHEMA_VERSION} and no id")
    panels, ids, cells = [], set(), set()
    for panel in dashboard["panels"]:
        name = panel.get("title") or fail(f"a panel has no title: {panel}")
        place = panel["gridPos"]
        area = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        if panel["id"] in ids or cells & area or place["x"] + place["w"] > 24:
            fail(f"panel {name}: its id or place is taken")
        ids.add(panel["id"])
        cells |= area
        if panel["type"] == "row":
            continue
        references = [target["refId"] for target in panel["targets"]]
        whole = panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["options"]
        if not whole or len(set(references)) != len(references) or not references:
            fail(f"panel {name} is not whole")
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            if source != {"type": "prometheus", "uid": "${datasource}"}:
                fail(f"panel {name} has a data source of its own")
        panels.append(panel)
    return panels


def variables_of(dashboard, prometheus):
    """The values of the variables, in Grafana's form. Variables that query Prometheus get all values that it knows."""
    values = {"__rate_interval": "30s", "__range": "5m"}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            question = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            selector = put_in(question[1], values)
            found = prometheus.get(f"label/{question[2]}/values", **{"match[]": selector})
            if not found:
                fail(f"variable {variable['name']} has no values")
            values[variable["name"]] = "(" + "|".join(map(re.escape, found)).replace("\\", "\\\\") + ")"
        elif variable["type"] == "textbox":
            values[variable["name"]] = variable["query"]
    return values


def put_in(expression, values):
    return re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m[1]) or fail(f"no variable {m[0]}"), expression)


def check_dashboard(prometheus):
    dashboard = json.loads(DASHBOARD.read_text())
    panels = panels_of(dashboard)
    values = variables_of(dashboard, prometheus)
    queries = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    for title, expression in queries:
        if not prometheus.query(put_in(expression, values)):
            fail(f"panel {title}: no series for {put_in(expression, values)}")
    say(f"{len(panels)} panels: each of {len(queries)} queries returns series")


def check_rules(prometheus):
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    selectors = 0
    for rule in rules:
        if rule["health"] != "ok":
            fail(f"rule {rule['name']}: {rule.get('lastError')}")
        for selector in set(SELECTOR.findall(rule["query"])):
            if not prometheus.get("series", **{"match[]": selector}):
                fail(f"rule {rule['name']}: no series {selector}")
            selectors += 1
    if len(rules) != RULES.read_text().count("- alert:"):
        fail(f"Prometheus knows {len(rules)} rules only")
    say(f"{len(rules)} rules evaluated without error: each of {selectors} selectors has series")


def check(env):
    server = f"postgres://postgres@127.0.0.1:{env['PG_PORT']}"
    dsn, amqp = f"{server}/monitored", f"amqp://guest:guest@127.0.0.1:{env['AMQP_PORT']}/%2f"
    sql = lambda text, to=dsn: run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", to, "-c", text)
    control = lambda *words: run("scripts/services.sh", "ctl", SERVICES, *words)
    # Adds the queue of dead requests.
    control("import_definitions", PROJECT / "config/rabbitmq/definitions.json")
    sql("CREATE DATABASE monitored", f"{server}/postgres")
    run(TARGET / "release/examples/load_tpch", dsn, "0.2")
    sql("CREATE VIEW broken AS SELECT 1 / (i - 500) AS quotient FROM generate_series(1, 1000) i")

    (PLACE / "exports").mkdir()
    # The free space is less than twice the required one: enough to work, and nearly full.
    daemons = [Daemon(n, dsn, amqp, int(shutil.disk_usage(PLACE).free * 0.7)) for n in (1, 2)]
    run(ADU, "check", "--init", "--config", daemons[0].config)
    for daemon in daemons:
        daemon.start()
    prometheus = Prometheus(daemons, env["METRICS_PORT"])
    prometheus.start()
    eventually("all four targets are up", lambda: len(prometheus.query("up == 1")) == 4)
    submit = lambda *tables, wait=("--wait",), code=0: run(
        ADU, "submit", "--config", daemons[0].config, *(w for t in tables for w in ("--table", t)), *wait, code=code)

    say("jobs: one of all tables, one with a table that fails, one that fails")
    submit("public.*")
    submit("public.region", "public.broken", code=3)
    submit("public.broken", code=1)
    for daemon in daemons:
        text = urllib.request.urlopen(f"http://{daemon.listen}/metrics").read()
        lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        if lint.returncode or lint.stdout or lint.stderr:
            fail(f"promtool check metrics: {lint.stdout.decode()}{lint.stderr.decode()}")
    say("promtool check metrics: nothing to say")
    eventually("the failed job is scraped",
               lambda: prometheus.query('sum(adu_export_jobs_ended_total{status="failed"}) == 1'))
    eventually("two scrapes after the jobs", lambda: prometheus.query("sum(rate(adu_export_rows_total[30s])) > 0"))
    check_dashboard(prometheus)
    check_rules(prometheus)

    prometheus.await_alert("AduExportChunksFailing", "AduExportDiskNearlyFull")

    say("a table is locked: its job stalls; a daemon that holds a chunk of it is killed")
    lock = "BEGIN; LOCK TABLE lineitem IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)"
    locker = Program("locker", "psql", "-Xq", "-d", f"{dsn}?application_name=locker", "-c", lock)
    request = PLACE / "request.json"
    request.write_text(json.dumps({"job_id": "locked", "tables": [{"table": "public.lineitem", "chunk_rows": 100000}]}))
    # The job is planned and running before the table is locked. It has many chunks, and each opens the table
    # again.
    run(ADU, "submit", "--config", daemons[0].config, "--request", request)
    eventually("both daemons export", lambda: all(b'\nadu_export_chunks_in_flight 0\n' not in urllib.request.urlopen(
        f"http://{d.listen}/metrics").read() for d in daemons), 30)
    locker.start()
    prometheus.await_alert("AduExportJobStalled")
    in_flight = f'adu_export_chunks_in_flight{{instance="{daemons[1].listen}"}} > 0'
    eventually("the second daemon has a chunk", lambda: prometheus.query(in_flight))
    daemons[1].kill()
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locker'")
    daemons[1].start()
    prometheus.await_alert("AduExportRedeliveries")
    prometheus.await_quiet("AduExportJobStalled")

    say("the broker has a memory alarm")
    control("set_vm_memory_high_watermark", "absolute", "1MB")
    prometheus.await_alert("AduExportBrokerBlocked")
    control("set_vm_memory_high_watermark", "absolute", "1GB")
    prometheus.await_quiet("AduExportBrokerBlocked")

    say("the broker stops")
    run("scripts/services.sh", "halt", SERVICES, "rabbitmq", "TERM")
    prometheus.await_alert("AduExportBrokerDisconnected", "AduExportNoCoordinator", "AduExportDaemonNotReady")
    run("scripts/services.sh", "resume", SERVICES, "rabbitmq")
    prometheus.await_quiet("AduExportBrokerDisconnected", "AduExportNoCoordinator", "AduExportDaemonNotReady")
    say("the broker is back, and one daemon coordinates")
    coordinators = prometheus.query("sum(adu_export_coordinator_active)")[0]["value"][1]
    if coordinators != "1":
        fail(f"{coordinators} coordinators")

    say("both daemons stop")
    for daemon in daemons:
        daemon.stop()
    prometheus.await_alert("AduExportNoCoordinator", "AduExportDaemonDown")


try:
    check(dict(line.split("=", 1) for line in (SERVICES / "env").read_text().split()))
finally:
    for program in reversed(Program.everyone):
        program.stop()
