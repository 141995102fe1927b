"""Keys, certificates and the server's TLS configuration, for vertica-python's tests of TLS (test_tls.py).

They are made by the openssl program, with short keys because the tests make many.
"""

import os
import re
import subprocess
import tempfile

from lexer import literal


class Ring:
    """Names of keys and certificates, and their files."""

    def __init__(self, directory):
        self.directory, self.keys, self.certificates = directory, {}, {}
        self.certificate, self.authority = None, None


def ring(session):
    server = session.server
    if not hasattr(server, "ring"):
        server.ring = Ring(tempfile.mkdtemp(dir=server.options.state))
    return server.ring


def path(session, name, end):
    return os.path.join(ring(session).directory, f"{name}.{end}")


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def done(tag, action):
    from commands import Command

    return Command(tag, action)


def create_key(session, name):
    def action(s):
        file = path(s, name, "key")
        openssl("genrsa", "-out", file, "2048")
        ring(s).keys[name.lower()] = file

    return done("CREATE KEY", action)


def create_certificate(session, authority, name, subject, rest):
    key = re.search(r"KEY (\w+)$", rest)[1].lower()
    issuer = re.search(r"SIGNED BY (\w+)", rest)
    extensions = dict(re.findall(r"'(\w+)' = '([^']*)'", rest))

    def action(s):
        file, config = path(s, name, "pem"), path(s, name, "cnf")
        if authority:
            extensions["basicConstraints"] = "critical,CA:TRUE"
        with open(config, "w") as out:
            out.write("[extensions]\n" + "".join(f"{k} = {v}\n" for k, v in extensions.items()))
        keys = ring(s)
        request = path(s, name, "csr")
        openssl("req", "-new", "-key", keys.keys[key], "-subj", subject, "-out", request)
        signer = ["-signkey", keys.keys[key]]
        if issuer:
            ca = keys.certificates[issuer[1].lower()]
            signer = ["-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial"]
        openssl("x509", "-req", "-days", "30", "-in", request, *signer, "-extfile", config, "-extensions", "extensions", "-out", file)
        keys.certificates[name.lower()] = (file, keys.keys[key])

    return done("CREATE CERTIFICATE", action)


def text_of(session, kind, name):
    from vendor import rows

    keys = ring(session)
    file = keys.keys[name.lower()] if kind == "key" else keys.certificates[name.lower()][0]
    with open(file) as source:
        return rows(session, f"SELECT {literal(source.read())}", (kind, "long varchar(65000)"))


def configure(session, rest):
    def action(s):
        from options import context

        keys, options = ring(s), s.server.options
        named = re.search(r"(?<!ADD CA )CERTIFICATE (\w+)", rest)
        if named and named[1].upper() != "NULL":
            keys.certificate = keys.certificates[named[1].lower()]
        added = re.search(r"ADD CA CERTIFICATES (\w+)", rest)
        if added:
            keys.authority = keys.certificates[added[1].lower()][0]
        mode = re.search(r"TLSMODE '(\w+)'", rest)
        if mode and mode[1].upper() == "DISABLE":
            options.tls, options.mutual = None, False
        elif mode:
            options.mutual = mode[1].upper() == "VERIFY_CA"
            options.tls = context(*keys.certificate, keys.authority if options.mutual else None)

    return done("ALTER TLS CONFIGURATION", action)


PATTERNS = [
    (r"CREATE KEY (\w+) TYPE 'RSA' LENGTH \d+", create_key),
    (r"CREATE (CA )?CERTIFICATE (\w+) SUBJECT '([^']*)' (.*)", create_certificate),
    (r"SELECT (certificate_text) FROM CERTIFICATES WHERE name='(\w+)'", text_of),
    (r"SELECT (key) FROM CRYPTOGRAPHIC_KEYS WHERE name='(\w+)'", text_of),
    (r"ALTER TLS CONFIGURATION server (.*)", configure),
    (r"DROP KEY IF EXISTS \w+ CASCADE", lambda session: done("DROP KEY", None)),
]
