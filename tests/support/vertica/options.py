"""The command line of the stand-in."""

import argparse
import ssl
import tempfile


class Options:
    """What was asked, and what the control port changes later."""

    version = "Vertica Analytic Database v24.4.0-0"

    def __init__(self, arguments=None):
        parser = argparse.ArgumentParser(description="A stand-in for a Vertica server, backed by PostgreSQL.")
        parser.add_argument("--postgres", required=True, help="connection string of the database behind it")
        parser.add_argument("--port", default="0", help="of each node, with commas, or of the first; 0 takes a free one")
        parser.add_argument("--nodes", type=int, default=3)
        parser.add_argument("--control", type=int, default=0, help="port for commands")
        parser.add_argument("--state", help="directory that outlives the server")
        parser.add_argument("--owner", type=int, help="process with which server and keeper end")
        parser.add_argument("--database", default="vdb")
        parser.add_argument("--max-sessions", type=int, default=50, help="for each node")
        parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
        parser.add_argument("--tls-others", nargs=2, metavar=("CERT", "KEY"), help="of all nodes but the first")
        parser.add_argument("--tls-required", action="store_true")
        parser.add_argument("--tls-client-ca", metavar="CA")
        parser.add_argument("--protocol", default="3.16", help="greatest version")
        parser.add_argument("--load-balance", default="none", choices=("none", "roundrobin", "random"))
        parser.add_argument("--pools", default="general,export")
        parser.add_argument("--vendor-tests", action="store_true")
        given = parser.parse_args(arguments)
        self.postgres, self.control = given.postgres, given.control
        ports = [int(port) for port in given.port.split(",")]
        if len(ports) == 1:
            ports += [0] * (given.nodes - 1)
        self.ports = ports
        self.state = given.state or tempfile.mkdtemp(prefix="vertica-stand-in-")
        self.owner, self.database, self.max_sessions = given.owner, given.database, given.max_sessions
        self.tls, self.tls_required = None, given.tls_required
        if given.tls:
            self.tls = context(*given.tls, given.tls_client_ca)
        self.tls_others = context(*given.tls_others, given.tls_client_ca) if given.tls_others else self.tls
        self.mutual = bool(given.tls_client_ca)
        self.protocol, self.load_balance = self.version_number(given.protocol), given.load_balance
        self.pools, self.vendor_tests = set(given.pools.split(",")), given.vendor_tests

    @staticmethod
    def version_number(text):
        major, minor = text.split(".")
        return int(major) << 16 | int(minor)


def context(cert, key, client_ca):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(cert, key)
    if client_ca:
        made.load_verify_locations(client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made
