#!/usr/bin/env python3
"""Exports every relation of a database in one job and lets the server compare each.

    fidelity.py DSN PROGRAM DIR [READ]

READ is the way in which tables are read. For `pages`, PROGRAM must have failpoints, so that tables of few pages are
read by pages too. Left out are relations without columns, relations that the server itself cannot read, and views
that give other rows at each read; the last two kinds are named. Ends with 1 unless all others are exact.
"""

import json
import os
import subprocess
import sys

ORACLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/oracle/cast_back.py")
RELATIONS = """
SELECT json_build_array(n.nspname, c.relname, format('%I.%I', n.nspname, c.relname))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
ORDER BY 1::text;
"""


def psql(dsn, sql, stop=True):
    command = ["psql", "-X", "-q", "-A", "-t", "-d", dsn, "-f", "-"]
    if stop:
        command[1:1] = ["-v", "ON_ERROR_STOP=1"]
    return subprocess.run(command, input=sql, capture_output=True, text=True, check=stop)


def unsteady(dsn, relation, reads):
    """Why a relation cannot be compared: the server cannot read it, or reads other rows at another time."""
    rows = f"SELECT ROW(q.*)::text FROM {relation} q"
    again = f"SELECT count(*) FROM ({rows} EXCEPT ALL {rows}) d;\n"
    done = psql(dsn, again * reads, stop=False)
    if done.returncode != 0 or done.stderr:
        return "the server cannot read it: " + done.stderr.strip().splitlines()[0].split("ERROR: ")[-1]
    return "it gives other rows at each read" if set(done.stdout.split()) != {"0"} else None


def as_archived(name):
    """The name of a schema or table as archives write it."""
    odd = not name or any(c.isspace() or c in '."*?' for c in name)
    return '"' + name.replace('"', '""') + '"' if odd else name


def main():
    dsn, program, directory, read = (*sys.argv[1:], "auto")[:4]
    environment = dict(os.environ)
    if read == "pages":
        psql(dsn, "CREATE EXTENSION IF NOT EXISTS pageinspect SCHEMA public;")
        # Some indexes and tables of the suite cannot be analyzed.
        psql(dsn, "VACUUM;", stop=False)
        psql(dsn, "VACUUM ANALYZE;", stop=False)
        environment["FAILPOINTS"] = "mid:count:pages=return(error)"
    relations = [json.loads(line) for line in psql(dsn, RELATIONS).stdout.splitlines()]
    why = {sql: reason for _, _, sql in relations if (reason := unsteady(dsn, sql, reads=1))}
    good = [relation for relation in relations if relation[2] not in why]
    quoted = [".".join('"' + name.replace('"', '""') + '"' for name in r[:2]) for r in good]
    request = os.path.join(directory, "request.json")
    with open(request, "w", encoding="utf-8") as file:
        json.dump({"job_id": "fidelity", "tables": [{"table": name, "read": read} for name in quoted]}, file)
    out = os.path.join(directory, "exports")
    command = [program, "export", "--quiet", "--dsn", dsn, "--request", request, "--out", out, "--workers", "2"]
    log = os.path.join(directory, "export.log")
    with open(log, "w", encoding="utf-8") as said:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=said, env=environment, check=False)
    with open(os.path.join(out, ".archive/by-id/fidelity.json"), encoding="utf-8") as file:
        archive = json.load(file)
    tables = {t["table_name"]: t for t in archive["tables"]}
    if read == "pages":
        by_pages = [t["pages"] for t in tables.values() if t.get("pages")]
        print(f"{len(by_pages)} tables by pages: {sum(p['read'] for p in by_pages)} pages taken apart, "
              f"{sum(p['recopied'] for p in by_pages)} read by COPY")
        if not any(p["read"] for p in by_pages):
            sys.exit("no page was taken apart")
    pairs, wrong = [], {}
    for schema, name, sql in good:
        table = tables.get(as_archived(schema) + "." + as_archived(name))
        if table and table.get("directory"):
            pairs.append({"relation": sql, "files": os.path.join(out, table["directory"])})
        else:
            wrong[sql] = "not exported: " + json.dumps(table and table.get("error"))
    order = json.dumps({"dsn": dsn, "pairs": pairs})
    compared = subprocess.run([sys.executable, ORACLE], input=order, stdout=subprocess.PIPE, text=True, check=True)
    for line in compared.stdout.splitlines():
        comparison = json.loads(line)
        relation = comparison["relation"]
        if comparison["differences"]:
            # A sample of nearly all pages mostly contains all of them, so only many reads show a difference.
            if reason := unsteady(dsn, relation, reads=200):
                why[relation] = reason
            else:
                wrong[relation] = "; ".join(comparison["differences"])
    good = [relation for relation in good if relation[2] not in why]
    exact = sum(1 for pair in pairs if pair["relation"] not in wrong and pair["relation"] not in why)
    for sql, reason in why.items():
        print(f"left out: {sql}: {reason}")
    for sql, reason in wrong.items():
        print(f"DIFFERS: {sql}: {reason}")
    print(f"{len(relations)} relations with columns, {len(good)} to be compared, {exact} exported and exact")
    sys.exit(0 if exact == len(good) else 1)


main()
