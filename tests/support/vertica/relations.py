"""What a name in FROM stands for: a table or view of PostgreSQL, a catalogue table, or a table that only the server
can answer."""

from dataclasses import dataclass, field

import kinds
import refusals
from lexer import literal, quote

CATALOGUES = ("v_catalog", "v_monitor")


@dataclass
class Column:
    name: str
    kind: object
    source: str
    table: object
    nullable: bool


@dataclass
class Relation:
    sql: str
    columns: list = field(default_factory=list)
    # A table or view of a user.
    stored: bool = False
    # A temporary or external table.
    timeless: bool = False


class Catalog:
    """Relations as a session sees them. `session` has the connection to PostgreSQL, `server` the rest."""

    def __init__(self, session):
        self.session, self.server = session, session.server

    def relation(self, parts):
        if len(parts) == 1 and self.server.options.vendor_tests:
            parts = ["v_monitor" if parts[0] in ("sessions", "current_session") else "v_catalog", *parts]
        if len(parts) != 2:
            raise refusals.no_relation(".".join(parts))
        schema, name = parts
        if schema in CATALOGUES:
            return self.catalogue(schema, name)
        return self.stored(schema, name)

    def catalogue(self, schema, name):
        known = {("v_monitor", "system"): self.system, ("v_monitor", "sessions"): self.sessions,
                 ("v_monitor", "current_session"): self.sessions}
        if (schema, name) in known:
            return known[schema, name]()
        found = self.session.ask(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0", [f"{schema}.{name}"])
        if not found:
            raise refusals.no_relation(f"{schema}.{name}")
        self.server.learn_types()
        columns = [Column(column, None, "", None, True) for (column,) in found]
        return Relation(f"{schema}.{name}", columns)

    def system(self):
        current, ahm = self.server.history.close()
        return values({"current_epoch": current, "ahm_epoch": ahm, "last_good_epoch": current - 1}, "system")

    def sessions(self):
        row = self.session.described()
        return values(row, "sessions")

    def stored(self, schema, name):
        rows = self.session.ask(
            "SELECT r.schema, r.relation, a.attname, coalesce(d.type, vertica.type_of(a.atttypid, a.atttypmod)), t.typname,"
            " a.attnum, NOT a.attnotnull, vertica.id(r.oid), f.temporary OR f.definition IS NOT NULL"
            " FROM vertica.relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " JOIN pg_type AS t ON t.oid = a.atttypid"
            " LEFT JOIN vertica.tables AS f ON (f.schema, f.relation) = (r.schema, r.relation)"
            " LEFT JOIN vertica.columns AS d ON (d.schema, d.relation, d.name) = (r.schema, r.relation, a.attname)"
            " WHERE r.schema = %s AND r.relation = %s ORDER BY a.attnum", [schema, name])
        if not rows:
            self.absent(schema, name)
        columns = []
        for schema, name, column, text, source, attribute, nullable, number, _ in rows:
            table = (number, schema, name, attribute)
            columns.append(Column(column, kinds.parse(text), source, table, nullable))
        return Relation(f"{quote(schema)}.{quote(name)}", columns, stored=True, timeless=bool(rows[0][-1]))

    def absent(self, schema, name):
        hidden = ("pg_catalog", "information_schema", "vertica")
        there = self.session.ask("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
        if not there or schema in hidden:
            raise refusals.no_schema(schema)
        if self.session.ask("SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace"
                            " WHERE nspname = %s AND relname = %s AND NOT relispartition"
                            " AND relkind IN ('r', 'p', 'v', 'm', 'f')", [schema, name]):
            raise refusals.no_permission(name)
        raise refusals.no_relation(f"{schema}.{name}")

    def said(self, function):
        if function == "VERSION":
            return self.server.options.version
        if function == "CURRENT_SESSION":
            return self.session.described()["session_id"]
        return self.session.user


def values(row, alias):
    """A relation of one row that the server knows."""
    cells = ", ".join(f"{v}::int8" if isinstance(v, int) else f"{literal(str(v))}::text" for v in row.values())
    names = ", ".join(row)
    sql = f"(SELECT * FROM (VALUES ({cells})) AS {alias}_row({names}))"
    return Relation(sql, [Column(name, None, "", None, True) for name in row])
