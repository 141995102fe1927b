"""Keeps the snapshots of epochs, so that they outlive a server that is killed.

One transaction in PostgreSQL exports a snapshot for each epoch; the snapshots live as long as the transaction.
The keeper ends when its owner has ended or PostgreSQL has. It answers one JSON object for each connection:
"close" closes an epoch if anything was committed since the last one, "find" tells an epoch's snapshot, "ahm" moves
the Ancient History Mark.
"""

import json
import os
import socket
import sys

import psycopg

FILE = "keeper.json"


class Epochs:
    def __init__(self, postgres, state):
        self.state = state
        self.connection = psycopg.connect(postgres, autocommit=False)
        self.cursor = self.connection.cursor()
        self.snapshots, self.seen = {}, None
        self.current = self.ahm = self.before() + 1
        self.close(True)
        self.ahm = self.current - 1

    def before(self):
        """The last number that an earlier keeper gave, whose snapshots are lost."""
        try:
            with open(os.path.join(self.state, "epoch")) as file:
                return int(file.read())
        except FileNotFoundError:
            return 16

    def close(self, force):
        seen = self.cursor.execute("SELECT txid_current_snapshot()::text").fetchone()[0]
        if seen == self.seen and not force:
            return
        # One statement, so that both are the same snapshot.
        name, self.seen = self.cursor.execute("SELECT pg_export_snapshot(), txid_current_snapshot()::text").fetchone()
        self.snapshots[self.current] = name
        self.current += 1
        with open(os.path.join(self.state, "epoch"), "w") as file:
            file.write(str(self.current))

    def answer(self, asked):
        if asked["do"] == "close":
            self.close(asked.get("force", False))
        if asked["do"] == "ahm":
            self.ahm = max(self.ahm, min(int(asked["epoch"]), self.current - 1))
        found = {"current": self.current, "ahm": self.ahm}
        if asked["do"] == "find":
            found["snapshot"] = self.snapshots.get(int(asked["epoch"]))
        return found


def serve(epochs, listener, owner):
    listener.settimeout(0.5)
    while alive(owner) and not epochs.connection.broken:
        try:
            peer, _ = listener.accept()
        except TimeoutError:
            continue
        with peer:
            peer.settimeout(5)
            try:
                line = peer.makefile("r").readline()
                peer.sendall(json.dumps(epochs.answer(json.loads(line))).encode() + b"\n")
            except (OSError, ValueError):
                continue


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main():
    postgres, state, owner = sys.argv[1], sys.argv[2], int(sys.argv[3])
    epochs = Epochs(postgres, state)
    listener = socket.create_server(("127.0.0.1", 0))
    path = os.path.join(state, FILE)
    with open(path + ".new", "w") as file:
        json.dump({"port": listener.getsockname()[1], "pid": os.getpid(), "postgres": postgres}, file)
    os.rename(path + ".new", path)
    serve(epochs, listener, owner)


if __name__ == "__main__":
    main()
