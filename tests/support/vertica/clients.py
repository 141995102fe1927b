"""Checks the stand-in with vertica-python and vertica-nodejs, as they are published.

    clients.py --postgres DSN [--rows N] [--node DIRECTORY] [case…]

It fills a database with values of every type (cases.py), reads them through the stand-in in both formats and by both
protocols, and compares bytes and values with what PostgreSQL says (expected.py). Then it checks behaviour
(behaviour.py). DIRECTORY has node_modules with vertica-nodejs; without it that client is left out. It ends with 1
if anything differs.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
import warnings

import psycopg
import vertica_python
from psycopg import sql

import behaviour
import expected
import kinds
from cases import CASES
from standin import Certificate, StandIn

HERE = os.path.dirname(os.path.abspath(__file__))
SCHEMA = "kinds"


class Judge:
    def __init__(self):
        self.failures, self.compared = [], 0

    def same(self, what, found, wanted):
        self.compared += 1
        # NaN is not equal to itself, and neither is a list with it.
        if found != wanted and repr(found) != repr(wanted):
            self.failures.append(f"{what}: read {found!r:.200}, wanted {wanted!r:.200}")

    def holds(self, what, true):
        self.same(what, bool(true), True)


def fill(admin, case, rows):
    table = sql.Identifier(SCHEMA, case.name)
    column = sql.SQL(case.postgres)
    admin.execute(sql.SQL("CREATE TABLE {} (id int8 PRIMARY KEY, v {})").format(table, column))
    for n, edge in enumerate([None, *case.edges]):
        admin.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s::text::{})").format(table, column), [-n, edge])
    if case.random and rows:
        admin.execute("SELECT setseed(0.25)")
        admin.execute(sql.SQL("INSERT INTO {} SELECT g, {} FROM generate_series(1, {}) AS g").format(
            table, sql.SQL(case.random), sql.Literal(rows)))
    admin.execute("INSERT INTO vertica.columns VALUES (%s, %s, 'v', %s)", [SCHEMA, case.name, case.vertica])


def truth(admin, case, kind):
    """PostgreSQL's word about each value: text, or Python's value of an array."""
    said = "v::text"
    if case.postgres == "interval":
        said = "(extract(epoch FROM v) * 1000000)::int8::text"
        if kind.oid == kinds.INTERVAL_YM:
            said = "(extract(year FROM v) * 12 + extract(month FROM v))::int8::text"
    elif case.postgres == "bool":
        said = "left(v::text, 1)"
    elif case.postgres.endswith("[]"):
        said = "v"
    return admin.execute(f'SELECT id, {said} FROM {SCHEMA}."{case.name}" ORDER BY id').fetchall()


def wanted(case, kind, said, binary):
    """vertica-python's value."""
    if said is not None and case.postgres.endswith("[]"):
        return set(said) if kind.shape == "set" else said
    if case.postgres == "interval":
        return expected.python(kind, "int8", said, binary)
    return expected.python(kind, case.postgres.split("(")[0], said, binary)


def check_python(judge, case, kind, rows, connect):
    for binary in (False, True):
        for prepared in (False, True):
            what = f"{case.name} {'binary' if binary else 'text'}{' prepared' if prepared else ''}"
            with connect(binary_transfer=binary, use_prepared_statements=prepared) as connection:
                cursor = connection.cursor()
                epoch = cursor.execute("SELECT current_epoch, ahm_epoch FROM v_monitor.system").fetchone()[0] - 1
                select = f'AT EPOCH {epoch} SELECT "id", "v" FROM "{SCHEMA}"."{case.name}" ORDER BY "id"'
                cursor.disable_sqldata_converter = True
                raw = cursor.execute(select).fetchall()
                judge.same(f"{what}: rows", len(raw), len(rows))
                description(judge, what, cursor.description[1], case, kind, binary)
                for (number, said), (_, data) in zip(rows, raw, strict=True):
                    bytes_of(judge, f"{what} row {number}", case, kind, said, data, binary)
                cursor.disable_sqldata_converter = False
                for number, said in rows:
                    if wanted(case, kind, said, binary) is NotImplemented:
                        unsupported(judge, f"{what} row {number}", cursor, select, number)
                values_of(judge, what, case, kind, cursor, rows, select, binary)


def values_of(judge, what, case, kind, cursor, rows, select, binary):
    skipped = [n for n, said in rows if wanted(case, kind, said, binary) is NotImplemented]
    if skipped:
        select = select.replace(' ORDER BY "id"', f' WHERE "id" NOT IN ({", ".join(map(str, skipped))}) ORDER BY "id"')
    found = dict(cursor.execute(select).fetchall())
    for number, said in rows:
        if number not in skipped:
            judge.same(f"{what} value {number}", found.get(number, "no row"), wanted(case, kind, said, binary))


def unsupported(judge, what, cursor, select, number):
    try:
        cursor.execute(select.replace(' ORDER BY "id"', f' WHERE "id" = {number}')).fetchall()
        judge.same(what, "a value", "NotSupportedError")
    except (vertica_python.errors.NotSupportedError, vertica_python.errors.DataError, OverflowError):
        judge.compared += 1


def description(judge, what, column, case, kind, binary):
    oid = kind.oid
    judge.same(f"{what}: type", column.type_code, oid)
    judge.same(f"{what}: format", column.format_code, int(binary))
    judge.same(f"{what}: names", (column.schema_name, column.table_name, column.name), (SCHEMA, case.name, "v"))
    if kind.user:
        judge.same(f"{what}: user type", column.type_name, kind.user)
    if oid == kinds.NUMERIC:
        judge.same(f"{what}: digits", (column.precision, column.scale), (kind.precision, kind.scale))
    if kind.range:
        judge.same(f"{what}: range", column.type_name.lower(), f"interval {kind.range}")
    if oid in (kinds.CHAR, kinds.VARCHAR, kinds.LONG_VARCHAR, kinds.BINARY, kinds.VARBINARY) and not kind.user:
        judge.same(f"{what}: octets", column.display_size, kind.octets)


def bytes_of(judge, what, case, kind, said, data, binary):
    if said is None or data is None:
        judge.same(what, data, said)
        return
    if case.postgres.endswith("[]"):
        return
    source = "int8" if case.postgres == "interval" else case.postgres.split("(")[0]
    if binary:
        judge.same(f"{what} bytes", bytes(data), expected.binary(kind, source, said))
        return
    text = bytes(data).decode()
    if kind.oid in (kinds.DATE, kinds.TIMESTAMP, kinds.TIMESTAMPTZ):
        read = expected.days(text) + expected.EPOCH_DAY if kind.oid == kinds.DATE else expected.micros(text)
        judge.same(f"{what} number of the text", read, expected.number(kind.oid, source, expected.pg(said, source)))
    if source not in ("int8", "bytea", "float8") or kind.oid == kinds.INT:
        judge.same(f"{what} text", text, said.ljust(len(said) + kind.octets - len(said.encode())) if kind.oid == kinds.CHAR else said)


def check_node(judge, cases, admin, stand_in, directory):
    """vertica-nodejs reads the same rows as text, by simple and prepared statements, and logs in."""
    readable = [(case, kind) for case, kind in cases if not kind.user]
    selects = [[case.name, f'SELECT "id", "v" FROM "{SCHEMA}"."{case.name}" ORDER BY "id"'] for case, _ in readable]
    logins = {}
    for method in ("password", "md5", "sha512", "hash", "oauth"):
        logins[method] = f"node_{method}"
        admin.execute("INSERT INTO vertica.users VALUES (%s, 'sesame', %s) ON CONFLICT DO NOTHING", [logins[method], method])
    with Certificate() as own, StandIn(stand_in.postgres, "--tls", own.certificate, own.key) as secure:
        asked = {"port": stand_in.port, "cases": selects, "logins": logins, "secret": "sesame",
                 "tls": {"port": secure.port, "ca": own.certificate}}
        run = subprocess.run(["node", os.path.join(HERE, "clients.mjs"), directory], input=json.dumps(asked), text=True,
                             capture_output=True, timeout=300)
    if run.returncode:
        judge.failures.append(f"vertica-nodejs: {run.stderr[-2000:]}")
        return
    said = json.loads(run.stdout)
    for problem in said["problems"]:
        judge.failures.append(f"vertica-nodejs: {problem}")
    judge.compared += said["checks"]
    for case, kind in readable:
        rows = truth(admin, case, kind)
        for way in ("simple", "prepared"):
            found = said["rows"][way][case.name]
            judge.same(f"node {case.name} {way} rows", len(found), len(rows))
            for (number, true), (name, value) in zip(rows, found, strict=True):
                judge.same(f"node {case.name} {way}", name, str(number))
                if true is None or value is None:
                    judge.same(f"node {case.name} {way} row {number}", value, true)
                elif not case.postgres.endswith("[]"):
                    node_value(judge, f"node {case.name} {way} row {number}", case, kind, true, value)


def node_value(judge, what, case, kind, true, value):
    source = case.postgres.split("(")[0]
    if source == "float8":
        judge.same(what, float(value), float(f"{float(true):.15g}"))
    elif source in ("interval", "bytea") or source == "int8" and kind.oid != kinds.INT:
        judge.compared += 1
    elif kind.oid == kinds.CHAR:
        judge.same(what, value.encode(), true.encode().ljust(kind.octets, b" "))
    else:
        judge.same(what, value, true)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--node")
    parser.add_argument("--values-only", action="store_true")
    parser.add_argument("cases", nargs="*")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    judge = Judge()
    chosen = [(case, kinds.parse(case.vertica)) for case in CASES if not given.cases or case.name in given.cases]
    with StandIn(given.postgres) as stand_in, psycopg.connect(given.postgres, autocommit=True) as admin:
        admin.execute("SET timezone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = 'hex'")
        admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
        admin.execute("DELETE FROM vertica.columns WHERE schema = %s", [SCHEMA])
        for case, kind in chosen:
            fill(admin, case, given.rows)
        for case, kind in chosen:
            try:
                check_python(judge, case, kind, truth(admin, case, kind), stand_in.connect)
            except Exception as error:
                judge.failures.append(f"{case.name}: {traceback.format_exc()[-900:]} {error!r}")
        print(f"vertica-python: {judge.compared} comparisons, {len(judge.failures)} failures", flush=True)
        if given.node:
            check_node(judge, chosen, admin, stand_in, given.node)
            print(f"with vertica-nodejs: {judge.compared} comparisons, {len(judge.failures)} failures", flush=True)
    if not given.cases and not given.values_only:
        behaviour.check(judge, given.postgres)
    print(f"in all: {judge.compared} comparisons, {len(judge.failures)} failures")
    print("\n".join(judge.failures[:50]))
    sys.exit(1 if judge.failures else 0)


if __name__ == "__main__":
    main()
