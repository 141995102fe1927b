"""How a session begins: load balancing, TLS, startup, authentication, parameters.

The exchange: vertica_python/vertica/connection.py (balance_load, enable_ssl, startup_connection). Hashed passwords:
vertica_python/vertica/messages/frontend_messages/password.py.
"""

import hashlib
import os

import frames
import refusals

NEGOTIATES = 3 << 16 | 7
COMPLEX = 3 << 16 | 12


def hashed(algorithm, password, user_salt, salt):
    """The proof of a password: algorithm(algorithm(password + user salt) + salt), in hex both times."""
    inner = hashlib.new(algorithm, password.encode() + user_salt).hexdigest().encode()
    return algorithm + hashlib.new(algorithm, inner + salt).hexdigest()


def open_session(session):
    """The startup parameters, when the client is who it says; None if the connection was for something else."""
    pipe, server = session.pipe, session.server
    options = server.options
    while True:
        code, body = pipe.opening()
        if code == frames.BALANCE:
            target = server.balance(session.node)
            pipe.put(frames.balanced(*target) if target else b"N")
            pipe.flush()
        elif code == frames.SSL:
            pipe.put(b"S" if options.tls else b"N")
            pipe.flush()
            if options.tls:
                pipe.encrypt(options.tls if session.node is server.nodes[0] else options.tls_others)
        elif code == frames.CANCEL:
            server.cancel(int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big"))
            return None
        elif code >> 16 == 3:
            return started(session, frames.startup(body))
        else:
            raise refusals.fatal(4600, "08P01", f"Unsupported protocol {code >> 16}.{code & 0xFFFF}")


def started(session, values):
    server, options = session.server, session.server.options
    session.startup = values
    session.user = values.get("user", "")
    session.label = values.get("client_label", "")
    session.binary = values.get("binary_data_protocol") == "1"
    asked = values.get("protocol_version", 3 << 16 | 5)
    session.protocol = min(asked, options.protocol)
    features = values.get("protocol_features", "")
    session.nested = '"request_complex_types":true' in features.replace(" ", "") and session.protocol >= COMPLEX
    session.autocommit = values.get("autocommit") == "on"
    if server.faults.startup("deaf"):
        session.wait(lambda: False)
    if options.tls_required and not session.pipe.encrypted:
        raise refusals.fatal(6915, "28000", "TLS is required for this connection")
    name = values.get("database", "")
    if name and name != options.database:
        raise refusals.no_database(name)
    count = server.sessions_of(session.node)
    if server.faults.startup("refuse") or count > options.max_sessions:
        raise refusals.too_many(count)
    authenticate(session)
    greet(session)
    return values


def authenticate(session):
    pipe = session.pipe
    user = session.server.user(session.user)
    if user is None:
        # An unknown user is asked for a password as well.
        user = (session.user, os.urandom(16).hex(), "sha512")
    _, password, method = user
    session.method = {"trust": "Trust", "oauth": "OAuth", "password": "Password"}.get(method, "Hash")
    password = password or ""
    salt, user_salt = os.urandom(4), hashlib.sha256(session.user.encode()).digest()[:16]
    salts = salt + (16).to_bytes(4, "big") + user_salt
    # vertica-nodejs takes a request for MD5 only with both salts.
    asks = {"password": (frames.AUTH_CLEAR, b""), "md5": (frames.AUTH_MD5, salts),
            "hash_md5": (frames.AUTH_HASH_MD5, salts), "sha512": (frames.AUTH_SHA512, salts),
            "hash": (65536, salts), "oauth": (frames.AUTH_OAUTH, b""), "gss": (frames.AUTH_GSS, b""),
            "totp": (frames.AUTH_TOTP, b""), "expired": (frames.AUTH_EXPIRED, b""), "crypt": (4, b"ab")}
    proofs = {"password": password, "oauth": password, "expired": None, "gss": None, "totp": None, "crypt": None,
              "md5": hashed("md5", password, session.user.encode(), salt),
              "hash_md5": hashed("md5", password, session.user.encode(), salt),
              "sha512": hashed("sha512", password, user_salt, salt), "hash": hashed("sha512", password, user_salt, salt)}
    if method == "grace":
        # The password will expire soon (connection.py, PASSWORD_GRACE).
        pipe.put(frames.authentication(frames.AUTH_GRACE))
    if method in ("trust", "grace"):
        return
    code, extra = asks[method]
    pipe.put(frames.authentication(code, extra))
    pipe.flush()
    kind, body = pipe.message()
    if kind != b"p":
        raise refusals.fatal(4100, "08P01", "Expected a password message")
    said = body.rstrip(b"\0").decode()
    if proofs[method] is None or said != proofs[method]:
        raise refusals.wrong_password(session.user)


def greet(session):
    pipe = session.pipe
    pipe.put(frames.authentication(frames.AUTH_OK))
    options = session.server.options
    parameters = {
        "server_version": options.version.removeprefix("Vertica Analytic Database "), "auto_commit": on(session.autocommit),
        "client_locale": "en_US@collation=binary", "client_label": session.label, "long_string_types": "on",
        "standard_conforming_strings": "on", "timezone": "UTC", "MARS": "off", "workload": "",
        "request_complex_types": on(session.nested),
    }
    if options.protocol >= NEGOTIATES:
        parameters["protocol_version"] = str(session.protocol)
    for name, value in parameters.items():
        pipe.put(frames.parameter(name, value))
    pipe.put(frames.key_data(session.pid, session.key))
    pipe.put(frames.ready(b"I"))
    pipe.flush()


def on(value):
    return "on" if value else "off"
