"""A stand-in for a Vertica server. It speaks Vertica's protocol and answers from a PostgreSQL database.

README.md says how to start it and what it knows. This module owns the process: listeners, sessions, the connection
for what no session owns, and the end.
"""

import ctypes
import dataclasses
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback

import psycopg

import kinds
from control import Control
from epochs import History
from faults import Faults
from keeper import alive
from options import Options
from session import Session

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass
class Node:
    name: str
    port: int
    listener: object


class Server:
    def __init__(self, options):
        self.options = options
        os.makedirs(options.state, exist_ok=True)
        self.owner = options.owner or os.getppid()
        self.faults, self.algorithms = Faults(), {}
        self.lock, self.sessions, self.statements, self.turn = threading.Lock(), set(), [], 0
        self.admin_lock, self.admin, self.names = threading.Lock(), None, {}
        self.nodes = [self.listen(n, port) for n, port in enumerate(options.ports)]
        self.install()
        self.history = History(options.postgres, options.state, self.owner)
        self.control = Control(self, options.control)

    def listen(self, n, port):
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        return Node(f"v_{self.options.database}_node{n + 1:04}", listener.getsockname()[1], listener)

    def install(self):
        """The schemas of the stand-in. One server at a time installs."""
        with self.own() as admin:
            admin.execute("SELECT pg_advisory_lock(24)")
            for file in ("values.sql", "facts.sql", "catalogue.sql"):
                with open(os.path.join(HERE, file)) as source:
                    admin.execute(source.read())
            kept = {name: state for name, state in admin.execute("SELECT name, state FROM vertica.nodes").fetchall()}
            admin.execute("DELETE FROM vertica.nodes")
            for node in self.nodes:
                admin.execute("INSERT INTO vertica.nodes VALUES (%s, %s, '127.0.0.1', %s)",
                              [node.name, kept.get(node.name, "UP"), node.port])
            admin.execute("SELECT pg_advisory_unlock(24)")

    def own(self):
        """The connection of the server itself, for one caller at a time."""
        return Borrowed(self)

    def learn_types(self):
        """Adds what kinds.py says about types that are new since the last look."""
        with self.own() as admin:
            new = admin.execute("SELECT DISTINCT type FROM vertica.attributes EXCEPT SELECT type FROM vertica.types").fetchall()
            for (text,) in new:
                marks = ", ".join(["%s"] * 9)
                admin.execute(f"INSERT INTO vertica.types VALUES ({marks}) ON CONFLICT DO NOTHING", kinds.facts(text))
                for part in kinds.parts(kinds.parse(text)):
                    admin.execute("INSERT INTO vertica.parts VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", part)

    def type_name(self, oid):
        if oid not in self.names:
            with self.own() as admin:
                found = admin.execute(
                    "SELECT coalesce(b.typname, t.typname) FROM pg_type AS t LEFT JOIN pg_type AS b"
                    " ON b.oid = t.typbasetype AND t.typtype = 'd' WHERE t.oid = %s", [oid]).fetchone()
            self.names[oid] = found[0] if found else "unknown"
        return self.names[oid]

    def user(self, name):
        with self.own() as admin:
            return admin.execute("SELECT name, password, method FROM vertica.users WHERE name = %s", [name]).fetchone()

    # Sessions

    def all_sessions(self):
        with self.lock:
            return list(self.sessions)

    def sessions_of(self, node):
        """Sessions of a node, that which asks included."""
        return sum(1 for s in self.all_sessions() if s.node is node and (s.logged_in or s.user))

    def cancel(self, pid, key):
        for session in self.all_sessions():
            if session.pid == pid and session.key == key:
                session.cancel()

    def heard(self, session, sql, known):
        with self.lock:
            self.statements.append({"sql": sql, "known": known, "pid": session.pid})

    def balance(self, node):
        """Where a client that asks is sent; None if the policy is NONE."""
        if self.options.load_balance == "none":
            return None
        with self.lock:
            self.turn += 1
            chosen = self.nodes[self.turn % len(self.nodes)]
            if self.options.load_balance == "random":
                chosen = random.choice(self.nodes)
        return "127.0.0.1", chosen.port

    def ssl_state(self, session):
        if not session.pipe.encrypted:
            return "None"
        return "Mutual" if self.options.mutual else "Server"

    def accept(self, node):
        while True:
            try:
                peer, _ = node.listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(self, peer, node)
            with self.lock:
                self.sessions.add(session)
            threading.Thread(target=self.live, args=(session,), daemon=True).start()

    def live(self, session):
        try:
            session.live()
        except Exception:
            traceback.print_exc()
        finally:
            with self.lock:
                self.sessions.discard(session)

    def run(self):
        for node in self.nodes:
            threading.Thread(target=self.accept, args=(node,), daemon=True).start()
        threading.Thread(target=self.control.serve_forever, daemon=True).start()
        ports = [node.port for node in self.nodes]
        ready = {"port": ports[0], "nodes": ports, "control": self.control.server_address[1], "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        while alive(self.owner):
            time.sleep(0.3)


class Borrowed:
    """The server's connection, opened again if PostgreSQL was away."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.server.admin_lock.acquire()
        try:
            if not self.works():
                self.server.admin = psycopg.connect(self.server.options.postgres, autocommit=True)
            return self.server.admin
        except BaseException:
            self.server.admin_lock.release()
            raise

    def works(self):
        try:
            return self.server.admin is not None and self.server.admin.execute("SELECT 1") is not None
        except psycopg.Error:
            return False

    def __exit__(self, *_):
        self.server.admin_lock.release()


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sys.setswitchinterval(0.002)
    server = Server(Options())
    # PR_SET_PDEATHSIG: without an owner of its own the server ends with its parent.
    if server.options.owner is None:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    server.run()
    os._exit(0)


if __name__ == "__main__":
    main()
