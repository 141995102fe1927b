"""A stand-in for checks: started, told what to do, and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile

import vertica_python

HERE = os.path.dirname(os.path.abspath(__file__))


class StandIn:
    def __init__(self, postgres, *options):
        self.postgres, self.options = postgres, list(options)
        self.directory = tempfile.TemporaryDirectory(prefix="vertica-stand-in-")
        self.ports = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        with open(os.path.join(self.directory.name, "keeper.json")) as file:
            os.kill(json.load(file)["pid"], signal.SIGTERM)
        self.directory.cleanup()

    def start(self):
        """Starts it; again at the same ports."""
        command = [sys.executable, os.path.join(HERE, "server.py"), "--postgres", self.postgres, "--state", self.directory.name,
                   "--owner", str(os.getpid()), *self.options]
        if self.ports:
            command += ["--port", ",".join(map(str, self.ports)), "--control", str(self.control)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready = json.loads(self.process.stdout.readline())
        self.ports, self.control = ready["nodes"], ready["control"]
        self.port = ready["port"]

    def tell(self, do, **values):
        with socket.create_connection(("127.0.0.1", self.control), timeout=20) as peer:
            peer.sendall(json.dumps({"do": do, **values}).encode() + b"\n")
            line = peer.makefile("r").readline()
        answer = json.loads(line) if line else {"ok": True}
        if not answer.pop("ok"):
            raise RuntimeError(answer["error"])
        return answer

    def connect(self, **options):
        given = {"host": "127.0.0.1", "port": self.port, "user": "dbadmin", "database": "vdb", "tlsmode": "disable",
                 "autocommit": True, "connection_timeout": 30}
        return vertica_python.connect(**(given | options))


class Certificate:
    """A certificate for localhost that signs itself."""

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory()
        self.key = os.path.join(self.directory.name, "key.pem")
        self.certificate = os.path.join(self.directory.name, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", self.key, "-out", self.certificate],
                       check=True, capture_output=True, timeout=60)
        return self

    def __exit__(self, *_):
        self.directory.cleanup()
