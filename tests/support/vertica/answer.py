"""Runs a SELECT in PostgreSQL and sends its rows as they come.

PostgreSQL's binary COPY sends one tuple in each CopyData: the body of a DataRow. So a row is never taken apart, and
never more than a buffer of them is in memory.
"""

import os
import signal
import time
from struct import pack

import psycopg

import forms
import frames
import kinds
import pipe as pipes
import refusals

HEADER, TRAILER = 19, b"\xff\xff"
BUFFER = 64 * 1024


class Answer:
    """A SELECT that is ready to run: its columns, and PostgreSQL's statement for its rows."""

    def __init__(self, session, query):
        self.session, self.query = session, query

    def parameters(self, values):
        """The statement with values in the places of its parameters."""
        sql = self.query.sql
        for n in range(self.query.parameters):
            value = values[n] if n < len(values) else None
            text = "NULL" if value is None else "'" + value.replace("'", "''") + "'"
            sql = sql.replace(f"\x01{n}\x01", text)
        return sql

    def columns(self):
        """The columns as fields, with PostgreSQL's types for those that no table declares."""
        cursor = self.session.postgres().execute(f"SELECT * FROM ({self.parameters([])}) AS q LIMIT 0")
        found = []
        for item, column in zip(self.query.items, cursor.description, strict=True):
            source = self.session.server.type_name(column.type_code)
            try:
                kind = item.kind or kinds.of_result(column.type_code, source)
            except kinds.BadType as error:
                raise refusals.unknown_statement(f"a column of type {error}") from error
            found.append((frames.Field(item.name, kind, item.table, item.nullable), source))
        return found

    def copy(self, columns, values, binary):
        cells = ", ".join(forms.wire(f"q.c{n}", field.kind, source, binary) for n, (field, source) in enumerate(columns))
        return f"COPY (SELECT {cells} FROM ({self.parameters(values)}) AS q) TO STDOUT (FORMAT binary)"

    def describe(self):
        with self.session.snapshot(self.query):
            return self.columns()

    def run(self, sql, values, binary, describe):
        """Sends the description if asked, the rows and the tag."""
        session = self.session
        faults = session.server.faults.of(sql, self.query.rows)
        prepare(session, faults)
        with session.snapshot(self.query):
            columns = self.columns()
            if describe:
                session.pipe.put(frames.row_description([field for field, _ in columns], binary, session.nested))
            rows = Rows(session, faults)
            try:
                with session.postgres().cursor() as cursor, cursor.copy(self.copy(columns, values, binary)) as copy:
                    rows.send(copy)
            except BaseException:
                session.stop_running()
                raise
        before_the_end(session, faults)
        session.pipe.put(frames.complete("SELECT"))


def prepare(session, faults):
    for fault in faults:
        if fault.do == "slow":
            until = time.monotonic() + fault.values.get("ms", 1000) / 1000
            session.wait(lambda until=until: time.monotonic() >= until)
        if fault.do == "notice":
            session.pipe.put(frames.notice(fault.values.get("message", "a notice")))


def before_the_end(session, faults):
    for fault in faults:
        if fault.do == "cut" and fault.values.get("at") == "complete":
            session.pipe.flush(session.cancelled)
            raise pipes.Gone


class Rows:
    """The rows on their way, and the faults that they meet."""

    def __init__(self, session, faults):
        self.session, self.pipe = session, session.pipe
        self.faults = [fault for fault in faults if fault.do in ("die", "stall", "cut", "fail", "crawl")
                       and fault.values.get("at") != "complete"]
        self.crawl = next((f.values.get("ms", 100) / 1000 for f in self.faults if f.do == "crawl"), 0)
        self.stops = {fault.rows: fault for fault in self.faults if fault.do != "crawl"}

    def send(self, copy):
        session, out, count = self.session, self.pipe.outbox, 0
        first = True
        self.meet(0)
        for block in copy:
            data = bytes(block)
            if first:
                data, first = data[HEADER:], False
            if not data or data == TRAILER:
                continue
            if count in self.stops and self.stops[count].values.get("at") == "message":
                self.half(data)
            out += b"D" + pack("!I", len(data) + 4)
            out += data
            count += 1
            session.rows = count
            if count in self.stops:
                self.meet(count)
            if len(out) >= BUFFER:
                self.flush()
        self.flush()

    def flush(self):
        self.pipe.flush(self.session.cancelled)
        if self.crawl:
            until = time.monotonic() + self.crawl
            self.session.wait(lambda: time.monotonic() >= until)

    def half(self, data):
        self.pipe.put(b"D" + pack("!I", len(data) + 4) + data[: len(data) // 2])
        self.flush()
        raise pipes.Gone

    def meet(self, count):
        fault = self.stops.get(count)
        if fault is None or fault.values.get("at") == "message":
            return
        self.flush()
        if fault.do == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.do == "cut":
            raise pipes.Gone
        if fault.do == "stall":
            self.session.wait(self.session.server.faults.go.is_set)
        if fault.do == "fail":
            said = fault.values
            raise refusals.Refusal(said.get("code", 1000), said.get("sqlstate", "XX000"), said.get("message", "failed"),
                                   said.get("severity", "ERROR"))


def translated(error):
    """PostgreSQL's error as the client gets it."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return refusals.fatal(3137, "08006", f"The stand-in has lost PostgreSQL: {error}")
    return refusals.from_postgres(error)
