"""One client: its login, its statements by the simple or the extended protocol, and its end.

Message flows: vertica_python/vertica/cursor.py (_execute_simple_query, _prepare, _execute_prepared_statement),
vertica-nodejs/lib/query.js.
"""

import contextlib
import secrets
import threading

import psycopg

import answer
import commands
import frames
import login
import pipe as pipes
import refusals
from query import Reader
from relations import Catalog


class Session:
    def __init__(self, server, sock, node):
        self.server, self.pipe, self.node = server, pipes.Pipe(sock), node
        self.pid, self.key = secrets.randbits(31), secrets.randbits(31)
        self.user = self.label = self.statement = self.method = ""
        self.startup, self.protocol, self.rows = {}, 0, 0
        self.binary = self.nested = self.running = self.autocommit = False
        self.pool, self.status, self.logged_in = "general", b"I", False
        self.cancelled, self.lock, self.connection = threading.Event(), threading.Lock(), None
        self.statements, self.portals = {}, {}

    def described(self):
        """As v_monitor.sessions and the control port tell it."""
        given = self.startup
        return {
            "session_id": f"{self.node.name}-{self.pid}:0x{self.key:x}", "node_name": self.node.name, "user_name": self.user,
            "client_label": self.label, "client_os_user_name": given.get("client_os_user_name", ""),
            "client_os_hostname": given.get("client_os_hostname", ""), "authentication_method": self.method,
            "ssl_state": self.server.ssl_state(self),
        }

    def told(self):
        return {"pid": self.pid, "user": self.user, "label": self.label, "node": self.node.name, "running": self.running,
                "statement": self.statement, "rows": self.rows, "tls": self.pipe.encrypted, "binary": self.binary,
                "protocol": f"{self.protocol >> 16}.{self.protocol & 0xFFFF}", "pool": self.pool, "sent": self.pipe.sent,
                "logged_in": self.logged_in}

    # Life

    def live(self):
        try:
            if login.open_session(self) is not None:
                self.logged_in = True
                self.serve()
        except refusals.Refusal as refusal:
            with contextlib.suppress(pipes.Gone):
                self.pipe.put(frames.error(refusal))
                self.pipe.flush()
        except psycopg.Error as error:
            with contextlib.suppress(pipes.Gone):
                self.pipe.put(frames.error(answer.translated(error)))
                self.pipe.flush()
        except (pipes.Gone, ValueError, OSError):
            pass
        finally:
            self.stop_running()
            self.pipe.cut()
            if self.connection:
                self.connection.close()

    def serve(self):
        skipping = False
        while True:
            kind, body = self.pipe.message()
            if kind == b"X":
                return
            if skipping and kind != b"S":
                continue
            skipping = False
            try:
                self.handle(kind, body)
            except refusals.Refusal as refusal:
                self.fail(refusal)
                skipping = kind != b"Q"
            except psycopg.Error as error:
                self.fail(answer.translated(error))
                skipping = kind != b"Q"
            except pipes.Stopped:
                self.fail(refusals.cancelled())
                skipping = kind != b"Q"
            if kind == b"Q":
                self.pipe.put(frames.ready(self.status))
                self.pipe.flush()

    def fail(self, refusal):
        self.stop_running()
        self.pipe.put(frames.error(refusal))
        self.pipe.flush()
        if refusal.severity == "FATAL":
            raise pipes.Gone

    def handle(self, kind, body):
        if kind == b"Q":
            self.run(body.rstrip(b"\0").decode(), [], self.binary, describe=True)
        elif kind == b"P":
            name, at = frames.string(body, 0)
            sql, _ = frames.string(body, at)
            self.statements[name.decode()] = (sql.decode(), self.read(sql.decode()))
            self.pipe.put(frames.PARSED)
        elif kind == b"D":
            self.describe(body)
        elif kind == b"B":
            portal, name, values, binary = frames.bind(body)
            if name not in self.statements:
                raise refusals.Refusal(4511, "26000", f'Prepared statement "{name}" does not exist')
            self.portals[portal] = (name, values, binary)
            self.pipe.put(frames.BOUND)
        elif kind == b"E":
            name, values, binary = self.portals[frames.string(body, 0)[0].decode()]
            self.run(self.statements[name][0], values, binary, describe=False)
        elif kind == b"C":
            (self.statements if body[:1] == b"S" else self.portals).pop(body[1:].rstrip(b"\0").decode(), None)
            self.pipe.put(frames.CLOSED)
        elif kind == b"H":
            self.pipe.flush()
        elif kind == b"S":
            self.pipe.put(frames.ready(self.status))
            self.pipe.flush()
        else:
            raise refusals.fatal(4100, "08P01", f"Unexpected message {kind!r}")

    # Statements

    def read(self, sql):
        """The statement as a command or a query; what the stand-in does not know is an error."""
        known = False
        try:
            command = commands.find(self, sql)
            if command is None:
                command = answer.Answer(self, Reader(sql, Catalog(self)).statement())
            known = True
            return command
        finally:
            self.server.heard(self, sql, known)

    def describe(self, body):
        name = body[1:].rstrip(b"\0").decode()
        if body[:1] == b"P":
            name = self.portals[name][0]
        if name not in self.statements:
            raise refusals.Refusal(4511, "26000", f'Prepared statement "{name}" does not exist')
        found = self.statements[name][1]
        if isinstance(found, answer.Answer):
            fields = [field for field, _ in found.describe()]
            self.pipe.put(frames.parameter_description(found.query.parameters))
            self.pipe.put(frames.row_description(fields, self.binary, self.nested))
            tag = "SELECT"
        else:
            self.pipe.put(frames.parameter_description(0) + frames.NO_DATA)
            tag = found.tag
        self.pipe.put(frames.command_description(tag))

    def run(self, sql, values, binary, describe):
        if not sql.strip().rstrip(";"):
            self.pipe.put(frames.EMPTY)
            return
        with self.lock:
            self.cancelled.clear()
            self.statement, self.rows, self.running = sql, 0, True
        try:
            # Read again for each run: the catalogue may have changed since Parse.
            found = self.read(sql)
            if isinstance(found, answer.Answer):
                found.run(sql, values, binary, describe)
            else:
                found.run(self)
        finally:
            self.stop_running()
        if not self.autocommit:
            self.status = b"I" if isinstance(found, commands.Command) and found.ends else b"T"

    def stop_running(self):
        with self.lock:
            self.running = False

    def cancel(self):
        """By another session's thread."""
        with self.lock:
            if not self.running:
                return
            self.cancelled.set()
            connection = self.connection
        if connection and not connection.closed:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=5)

    def close(self):
        """As CLOSE_SESSION does, by another thread."""
        self.cancel()
        self.pipe.shut()

    def wait(self, done):
        """Until `done`, a cancel or the end of the client."""
        while not done():
            if self.cancelled.is_set():
                raise pipes.Stopped
            self.pipe.look()

    # PostgreSQL

    def postgres(self):
        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(self.server.options.postgres, autocommit=True)
            self.connection.execute("SET timezone = 'UTC'; SET intervalstyle = 'postgres'; SET datestyle = 'ISO';"
                                    "SET search_path = ''; SET jit = off; SET bytea_output = 'hex'")
            role = self.connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.user]).fetchone()
            if role and self.user != "dbadmin":
                self.connection.execute("SELECT set_config('role', %s, false)", [self.user])
        return self.connection

    def ask(self, sql, values):
        return self.postgres().execute(sql, values).fetchall()

    @contextlib.contextmanager
    def snapshot(self, query):
        """A transaction under the snapshot of the statement's epoch."""
        connection = self.postgres()
        epoch = query.epoch
        # Temporary and external tables have no history (documentation, "Historical queries").
        if epoch is None or query.relations and all(relation.timeless for relation in query.relations):
            yield
            return
        name = self.server.history.snapshot(None if epoch == "latest" else epoch)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            if name:
                connection.execute(f"SET TRANSACTION SNAPSHOT '{name}'")
            yield
        finally:
            if not connection.closed:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
