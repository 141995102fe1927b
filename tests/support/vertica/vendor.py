"""Statements of vertica-python's own tests (vertica_python/tests/integration_tests), with --vendor-tests only.

These tests prove the stand-in's protocol: authentication, TLS, load balancing, cancel, formats, descriptions of
columns. Each statement that they need for that is done here in the simplest way. Nothing here serves the project's
code.
"""

import re

import kinds
import refusals
import vendor_keys
from answer import Answer
from lexer import literal, quote
from query import Item, Query, Reader
from relations import Catalog

POSTGRES = {
    kinds.BOOL: "bool", kinds.INT: "int8", kinds.FLOAT: "float8", kinds.CHAR: "bpchar", kinds.VARCHAR: "text",
    kinds.LONG_VARCHAR: "text", kinds.DATE: "date", kinds.TIME: "time", kinds.TIMETZ: "timetz",
    kinds.TIMESTAMP: "timestamp", kinds.TIMESTAMPTZ: "timestamptz", kinds.INTERVAL: "interval",
    kinds.INTERVAL_YM: "interval", kinds.NUMERIC: "numeric", kinds.UUID: "uuid", kinds.BINARY: "bytea",
    kinds.VARBINARY: "bytea", kinds.LONG_VARBINARY: "bytea",
}


def find(session, text):
    text = re.sub(r"\(SELECT current_session\(\)\)", "current_session()", text, flags=re.IGNORECASE)
    text = re.sub(r"v_monitor\.user_sessions|v_internal\.dc_session_starts", "v_monitor.sessions", text)
    for pattern, make in PATTERNS:
        match = re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL)
        if match:
            return make(session, *match.groups())
    return Answer(session, Reader(text, Catalog(session)).statement())


def rows(session, sql, *columns):
    """An answer of PostgreSQL's statement; columns are (name, Vertica's type)."""
    names = ", ".join(f"v.c{n}" for n in range(len(columns)))
    aliases = ", ".join(f"c{n}" for n in range(len(columns)))
    items = [Item(name, "", kinds.parse(kind)) for name, kind in columns]
    return Answer(session, Query(items, f"SELECT {names} FROM ({sql}) AS v({aliases})"))


def done(tag, action=None, ends=False):
    from commands import Command

    return Command(tag, action, ends)


def nothing(session, *_):
    return done("DDL")


# Users

def create_user(session, name, password):
    return done("CREATE USER", lambda s: users(s, "INSERT INTO vertica.users VALUES (%s, %s, 'md5')", [name, password]))


def identify(session, name, password):
    algorithm = session.server.algorithms.get(name, "md5")
    return done("ALTER USER", lambda s: users(s, "UPDATE vertica.users SET password = %s, method = %s WHERE name = %s",
                                             [password, algorithm, name]))


def expire(session, name, algorithm=None):
    def action(s):
        if algorithm:
            s.server.algorithms[name] = algorithm.lower()
        users(s, "UPDATE vertica.users SET method = 'expired' WHERE name = %s", [name])

    return done("ALTER USER", action)


def drop_user(session, name):
    return done("DROP USER", lambda s: users(s, "DELETE FROM vertica.users WHERE name = %s", [name]))


def users(session, sql, values):
    with session.server.own() as admin:
        admin.execute(sql, values)


# Tables

def create_table(session, name, columns):
    def action(s):
        if s.ask("SELECT 1 FROM pg_class WHERE relname = %s AND relnamespace = 'public'::regnamespace", [name]):
            raise refusals.Refusal(4213, "42710", f'Object "{name}" already exists')
        parts = []
        for column in kinds.split(columns.strip()):
            column_name, _, kind = column.partition(" ")
            kind = kinds.parse(kind)
            parts.append(f"{quote(column_name)} {POSTGRES[kind.oid]}")
            users(s, "INSERT INTO vertica.columns VALUES ('public', %s, %s, %s) ON CONFLICT (schema, relation, name)"
                     " DO UPDATE SET type = excluded.type", [name, column_name, kind.text])
        users(s, f"CREATE TABLE public.{quote(name)} ({', '.join(parts)})", [])

    return done("CREATE TABLE", action)


def drop_table(session, name):
    return done("DROP TABLE", lambda s: users(s, f"DROP TABLE IF EXISTS public.{quote(name)}", []))


def everything(session, name):
    relation = Catalog(session).stored("public", name)
    names = ", ".join(quote(column.name) for column in relation.columns)
    return Answer(session, Reader(f'SELECT {names} FROM "public".{quote(name)}', Catalog(session)).statement())


def note_node(session):
    node = session.node.name
    return done("INSERT", lambda s: users(s, "INSERT INTO public.test_loadbalance VALUES (%s)", [node]))


def counted(session, expression):
    return rows(session, f"SELECT {expression} FROM public.test_loadbalance", ("?column?", "boolean"))


def balance(session, policy):
    session.server.options.load_balance = policy.lower()
    return rows(session, f"SELECT 'Successfully changed the client initiator load balancing policy to: {policy.lower()}'",
                ("SET_LOAD_BALANCE_POLICY", "varchar(128)"))


# Long answers

def long_count(session):
    return rows(session, "SELECT count(*) FROM generate_series(1, 30000) AS a, generate_series(1, 1000000) AS b", ("count", "int"))


def many_rows(session):
    series = "SELECT id, timestamp '2021-01-01' + id * interval '1 s' FROM (SELECT generate_series(1, 31536001) AS id) AS s"
    return rows(session, series, ("id", "int"), ("time", "timestamp"))


# Values

def cast(session, value, text):
    kind = kinds.parse(text)
    value = re.sub(r"\bSET\[", "ARRAY[", value)
    if kind.shape == "row":
        parts = kinds.split(value[len("ROW(") : -1])
        pairs = ", ".join(f"{literal(name)}, {part}" for (name, _), part in zip(kind.fields, parts, strict=True))
        sql = f"json_build_object({pairs})::text"
    elif kind.is_complex:
        sql = f"to_json({value})::text"
    elif kind.shape:
        sql = f"({value})::{POSTGRES[kind.element.oid]}[]"
    elif kind.oid in (kinds.BINARY, kinds.VARBINARY, kinds.LONG_VARBINARY):
        sql = f"substring(convert_to({value}, 'UTF8') FROM 1 FOR {kind.octets})"
    elif kind.range:
        sql = f"({value})::interval {kind.range}"
    elif kind.oid in (kinds.TIME, kinds.TIMETZ, kinds.TIMESTAMP, kinds.TIMESTAMPTZ) and kind.typmod >= 0:
        sql = f"({value})::{POSTGRES[kind.oid]}({kind.precision})"
    else:
        sql = f"({value})::{POSTGRES[kind.oid]}"
    return rows(session, f"SELECT {sql}", ("?column?", text))


NAME = r'"?(\w+)"?'
PATTERNS = [
    (rf"CREATE USER {NAME} IDENTIFIED BY '(\w+)'", create_user),
    (rf"ALTER USER {NAME} IDENTIFIED BY '(\w+)'", identify),
    (rf"ALTER USER {NAME} SECURITY_ALGORITHM '(\w+)'", expire),
    (rf"ALTER USER {NAME} PASSWORD EXPIRE", expire),
    (rf"DROP USER IF EXISTS {NAME}", drop_user),
    (r"(?:CREATE|GRANT|DROP) AUTHENTICATION .*", nothing),
    (r"SELECT set_load_balance_policy\('(\w+)'\)", balance),
    (r"INSERT INTO test_loadbalance \(\s*SELECT node_name FROM sessions\s+WHERE session_id = current_session\(\)\)", note_node),
    (r"SELECT (count\(n\)=3) FROM test_loadbalance (GROUP BY n)",
     lambda session, count, group: rows(session, f"SELECT {count} FROM public.test_loadbalance {group}", ("?column?", "boolean"))),
    (r"SELECT (count\(DISTINCT n\)[>=]1) FROM test_loadbalance", counted),
    (r"INSERT INTO vptest SELECT .*", nothing),
    (r"SELECT id, time FROM vptest", many_rows),
    (r"select count\(\*\) from \(select node_name from CONFIGURATION_PARAMETERS\).*", long_count),
    (rf"CREATE TABLE {NAME}\s*\((.*)\)", create_table),
    (rf"DROP TABLE IF EXISTS {NAME}", drop_table),
    (rf"SELECT \* FROM {NAME}", everything),
    (r"SHOW WORKLOAD", lambda session: rows(session, "SELECT 'workload', ''", ("name", "varchar(8)"), ("setting", "varchar(65000)"))),
    (r"SELECT contents FROM dc_client_server_messages .*", lambda session: rows(
        session, f"SELECT {literal('workload: ' + session.startup.get('workload', ''))}", ("contents", "varchar(100)"))),
    (r"SELECT ATAN\(12.345\)", lambda session: rows(session, "SELECT atan(12.345)", ("ATAN", "float"))),
    (r"SELECT (true|false|-?[\d.]+|'[^']*'|ARRAY\[.*\]|SET\[.*\]|ROW\(.*\))::((?:[A-Za-z]).*)", cast),
    *vendor_keys.PATTERNS,
]
