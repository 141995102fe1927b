"""The control port: one JSON object on a line, one answer on a line. README.md lists the commands."""

import json
import os
import signal
import socketserver


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            try:
                answer = {"ok": True, **obey(self.server.stand_in, json.loads(line))}
            except (KeyError, ValueError, TypeError, OSError) as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")
            self.wfile.flush()


class Control(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True

    def __init__(self, stand_in, port):
        super().__init__(("127.0.0.1", port), Handler)
        self.stand_in = stand_in


FAULTS = ("stall", "cut", "fail", "slow", "notice", "crawl", "refuse", "deaf")


def obey(server, asked):
    do = asked["do"]
    if do == "die" and "rows" not in asked:
        os.kill(os.getpid(), signal.SIGKILL)
    if do in FAULTS or do == "die":
        server.faults.add(asked)
        return {}
    return COMMANDS[do](server, asked) or {}


def sessions(server, _):
    return {"sessions": [session.told() for session in server.all_sessions() if session.logged_in]}


def statements(server, _):
    return {"statements": list(server.statements)}


def epoch(server, _):
    current, ahm = server.history.close(force=True)
    return {"epoch": current - 1, "ahm": ahm}


def ahm(server, asked):
    current, _ = server.history.close(force="epoch" not in asked)
    return {"ahm": server.history.move(asked.get("epoch", current - 1))}


def protocol(server, asked):
    server.options.protocol = server.options.version_number(asked["version"])


def policy(server, asked):
    server.options.load_balance = asked["policy"].lower()


def limit(server, asked):
    server.options.max_sessions = int(asked["n"])


def close(server, asked):
    for session in server.all_sessions():
        if session.pid == asked["pid"]:
            session.close()


COMMANDS = {
    "sessions": sessions, "statements": statements, "epoch": epoch, "ahm": ahm, "protocol": protocol,
    "load_balance": policy, "max_sessions": limit, "close": close,
    "forget": lambda server, _: server.statements.clear(),
    "good": lambda server, _: server.faults.clear(),
    "go": lambda server, _: server.faults.go.set(),
}
