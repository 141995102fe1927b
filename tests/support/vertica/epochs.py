"""Epochs as the server asks the keeper for them (keeper.py)."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import refusals
from keeper import FILE

HERE = os.path.dirname(os.path.abspath(__file__))


class History:
    """The epochs of a database."""

    def __init__(self, postgres, state, owner):
        self.postgres, self.state, self.owner = postgres, state, owner
        self.path = os.path.join(state, FILE)
        self.lock = threading.Lock()
        self.start()

    def start(self):
        """Finds the keeper of an earlier server, or starts one."""
        try:
            self.port = self.found()
            self.asked({"do": "state"})
        except (OSError, ValueError, KeyError):
            if os.path.exists(self.path):
                os.unlink(self.path)
            # A group of its own, so that a signal for the server's group does not end it.
            subprocess.Popen([sys.executable, os.path.join(HERE, "keeper.py"), self.postgres, self.state, str(self.owner)],
                             start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self.wait()

    def found(self):
        with open(self.path) as file:
            said = json.load(file)
        if said["postgres"] != self.postgres:
            raise ValueError("the keeper of another database")
        return said["port"]

    def wait(self):
        for _ in range(200):
            if os.path.exists(self.path):
                self.port = self.found()
                return
            time.sleep(0.05)
        raise RuntimeError("the keeper of the epochs did not start")

    def ask(self, asked):
        """The keeper's answer. If it has ended, because PostgreSQL has, another one starts without the history."""
        try:
            return self.asked(asked)
        except (OSError, ValueError):
            with self.lock:
                self.start()
            return self.asked(asked)

    def asked(self, asked):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as peer:
            peer.sendall(json.dumps(asked).encode() + b"\n")
            return json.loads(peer.makefile("r").readline())

    def close(self, force=False):
        """Current epoch and AHM, after closing an epoch if anything was committed."""
        said = self.ask({"do": "close", "force": force})
        return said["current"], said["ahm"]

    def move(self, epoch):
        return self.ask({"do": "ahm", "epoch": epoch})["ahm"]

    def snapshot(self, epoch):
        """The name of an epoch's snapshot; None is the latest state."""
        if epoch is None:
            return None
        said = self.ask({"do": "find", "epoch": epoch})
        if epoch < said["ahm"]:
            raise refusals.before_history()
        if epoch >= said["current"] or said["snapshot"] is None:
            raise refusals.no_epoch()
        return said["snapshot"]
