"""Checks the stand-in with vertica-python and vertica-nodejs, as they are published.

    clients.py --postgres DSN [--rows N] [--node DIRECTORY] [case…]

It fills a database with values of every type (cases.py), reads them through the stand-in in both formats and by both
protocols, and compares bytes and values with what PostgreSQL says (expected.py). Then it checks behaviour
(behaviour.py). DIRECTORY has node_modules with vertica-nodejs; without it that client is left out. It ends with 1
if anything differs.
"""

import argparse
import itertools
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


class Reading:
    """A case as vertica-python reads it in one format by one protocol."""

    def __init__(self, judge, case, kind, ways):
        self.judge, self.case, self.kind = judge, case, kind
        self.binary, self.prepared = ways
        self.what = f"{case.name} {'binary' if self.binary else 'text'}{' prepared' if self.prepared else ''}"
        self.source = "int8" if case.postgres == "interval" else case.postgres.split("(")[0]

    def wanted(self, said):
        """vertica-python's value."""
        if said is not None and self.case.postgres.endswith("[]"):
            return set(said) if self.kind.shape == "set" else said
        return expected.python(self.kind, self.source, said, self.binary)

    def check(self, connect, rows):
        with connect(binary_transfer=self.binary, use_prepared_statements=self.prepared) as connection:
            cursor = connection.cursor()
            epoch = cursor.execute("SELECT current_epoch, ahm_epoch FROM v_monitor.system").fetchone()[0] - 1
            self.select = f'AT EPOCH {epoch} {select(self.case)}'
            cursor.disable_sqldata_converter = True
            raw = cursor.execute(self.select).fetchall()
            self.judge.same(f"{self.what}: rows", len(raw), len(rows))
            self.description(cursor.description[1])
            for (number, said), (_, data) in zip(rows, raw, strict=True):
                self.bytes(number, said, data)
            cursor.disable_sqldata_converter = False
            self.values(cursor, rows)

    def values(self, cursor, rows):
        """The client's values. It has none for some of the server's."""
        skipped = [number for number, said in rows if self.wanted(said) is NotImplemented]
        for number in skipped:
            try:
                cursor.execute(self.only(f'"id" = {number}')).fetchall()
                self.judge.same(f"{self.what} row {number}", "a value", "NotSupportedError")
            except (vertica_python.errors.NotSupportedError, vertica_python.errors.DataError, OverflowError):
                self.judge.compared += 1
        few = self.only(f'"id" NOT IN ({", ".join(map(str, skipped))})') if skipped else self.select
        found = dict(cursor.execute(few).fetchall())
        for number, said in rows:
            if number not in skipped:
                self.judge.same(f"{self.what} value {number}", found.get(number, "no row"), self.wanted(said))

    def only(self, condition):
        return self.select.replace(' ORDER BY "id"', f' WHERE {condition} ORDER BY "id"')

    def description(self, column):
        what, kind, same = self.what, self.kind, self.judge.same
        same(f"{what}: type", column.type_code, kind.oid)
        same(f"{what}: format", column.format_code, int(self.binary))
        same(f"{what}: names", (column.schema_name, column.table_name, column.name), (SCHEMA, self.case.name, "v"))
        if kind.user:
            same(f"{what}: user type", column.type_name, kind.user)
        elif kind.octets:
            same(f"{what}: octets", column.display_size, kind.octets)
        if kind.oid == kinds.NUMERIC:
            same(f"{what}: digits", (column.precision, column.scale), (kind.precision, kind.scale))
        if kind.range:
            same(f"{what}: range", column.type_name.lower(), f"interval {kind.range}")

    def bytes(self, number, said, data):
        """A field as it came."""
        what, kind, source, same = f"{self.what} row {number}", self.kind, self.source, self.judge.same
        if said is None or data is None:
            same(what, data, said)
        elif self.case.postgres.endswith("[]"):
            pass  # `values` compares them.
        elif self.binary:
            same(f"{what} bytes", bytes(data), expected.binary(kind, source, said))
        else:
            text = bytes(data).decode()
            if kind.oid in (kinds.DATE, kinds.TIMESTAMP, kinds.TIMESTAMPTZ):
                read = expected.days(text) + expected.EPOCH_DAY if kind.oid == kinds.DATE else expected.micros(text)
                same(f"{what} number of the text", read, expected.number(kind.oid, source, expected.pg(said, source)))
            if source not in ("int8", "bytea", "float8") or kind.oid == kinds.INT:
                same(f"{what} text", text.encode(), expected.string(kind, said))


def select(case):
    return f'SELECT "id", "v" FROM "{SCHEMA}"."{case.name}" ORDER BY "id"'


def check_python(judge, case, kind, rows, connect):
    for ways in itertools.product((False, True), repeat=2):
        Reading(judge, case, kind, ways).check(connect, rows)


def check_node(judge, cases, admin, stand_in, directory):
    """vertica-nodejs reads the same rows as text, by simple and prepared statements, and logs in."""
    readable = [(case, kind) for case, kind in cases if not kind.user]
    selects = [[case.name, select(case)] for case, _ in readable]
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
    judge.failures += [f"vertica-nodejs: {problem}" for problem in said["problems"]]
    judge.compared += said["checks"]
    for case, kind in readable:
        rows = truth(admin, case, kind)
        for way in ("simple", "prepared"):
            found = said["rows"][way][case.name]
            judge.same(f"node {case.name} {way} rows", len(found), len(rows))
            for (number, true), (name, value) in zip(rows, found, strict=True):
                what = f"node {case.name} {way} row {number}"
                judge.same(f"{what} id", name, str(number))
                if true is None or value is None:
                    judge.same(what, value, true)
                elif not case.postgres.endswith("[]"):
                    node_value(judge, what, (case, kind), true, value)


def node_value(judge, what, typed, true, value):
    case, kind = typed
    source = case.postgres.split("(")[0]
    if source == "float8":
        judge.same(what, float(value), float(f"{float(true):.15g}"))
    elif source not in ("interval", "bytea") and (source != "int8" or kind.oid == kinds.INT):
        judge.same(what, value.encode(), expected.string(kind, true))


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
