"""Messages as bytes. Each message of the server is described where a client reads it.

Server to client: vertica_python/vertica/messages/backend_messages/*.py, v-protocol/src/parser.ts. Client to server:
vertica_python/vertica/messages/frontend_messages/*.py, v-protocol/src/serializer.ts.
"""

from dataclasses import dataclass
from struct import pack, unpack_from

import kinds

CANCEL, SSL, BALANCE = 80877102, 80877103, 80936960
VERSION_FIELD = b"protocol_version"


def frame(kind, body=b""):
    return kind + pack("!I", len(body) + 4) + body


def cstring(text):
    return text.encode() + b"\0"


# authentication.py
AUTH_OK, AUTH_CLEAR, AUTH_MD5, AUTH_GSS, AUTH_EXPIRED, AUTH_GRACE, AUTH_OAUTH, AUTH_TOTP = 0, 3, 5, 7, 9, 11, 12, 14
AUTH_HASH_MD5, AUTH_SHA512 = 65536 + 5, 65536 + 512


def authentication(code, extra=b""):
    return frame(b"R", pack("!I", code) + extra)


# backend_key_data.py, parameter_status.py, ready_for_query.py, command_complete.py, load_balance_response.py
def key_data(pid, key):
    return frame(b"K", pack("!II", pid, key))


def parameter(name, value):
    return frame(b"S", cstring(name) + cstring(value))


def ready(status):
    return frame(b"Z", status)


def complete(tag):
    return frame(b"C", cstring(tag))


def balanced(host, port):
    return frame(b"Y", pack("!I", port) + cstring(host))


# error_response.py, notice_response.py
def error(refusal):
    return frame(b"E", fields(refusal.fields()))


def notice(message):
    return frame(b"N", fields({"S": "NOTICE", "C": "00000", "M": message, "V": "0"}))


def fields(values):
    return b"".join(key.encode() + cstring(value) for key, value in values.items()) + b"\0"


PARSED, BOUND, CLOSED, NO_DATA, EMPTY = frame(b"1"), frame(b"2"), frame(b"3"), frame(b"n"), frame(b"I")


def command_description(tag):
    """command_description.py"""
    return frame(b"m", cstring(tag) + pack("!H", 0) + cstring(""))


@dataclass
class Field:
    """A column of an answer. `table` is (id, schema, name, attribute) or None."""

    name: str
    kind: object
    table: object = None
    nullable: bool = True


def row_description(columns, binary, nested):
    """row_description.py. With `nested` the fields of rows and the elements of arrays follow their parent; they
    have no values of their own in DataRow."""
    described = Described(binary, nested)
    for position, column in enumerate(columns, 1):
        table_id, schema, name, attribute = column.table or (0, "", "", position)
        place = pack("!Q", table_id) + (cstring(schema) + cstring(name) if table_id else b"")
        described.add(column, place, attribute, 0)
    return frame(b"T", described.body())


class Described:
    """Fields of a row description, and the pool of the user-defined types that they use."""

    def __init__(self, binary, nested):
        self.binary, self.nested = binary, nested
        self.pool, self.out, self.numbers = [], [], iter(range(10001, 60000))

    def add(self, column, place, attribute, parent):
        kind = column.kind
        oid, typmod, user = kind.oid, kind.typmod, 0
        if kind.is_complex and not self.nested:
            oid, typmod = 115, -1
        if kind.user:
            if (kind.oid, kind.user) not in self.pool:
                self.pool.append((kind.oid, kind.user))
            user, oid = 1, self.pool.index((kind.oid, kind.user))
        body = cstring(column.name) + place + pack("!H", attribute)
        body += pack("!H", parent) if self.nested else b""
        self.out.append(body + pack("!BIhHHiH", user, oid, kind.size, int(column.nullable), 0, typmod, int(self.binary)))
        if kind.is_complex and self.nested:
            for name, inner in children(kind):
                self.add(Field(name, inner), place, next(self.numbers), attribute)

    def body(self):
        if not self.out:
            return pack("!H", 0)
        types = b"".join(pack("!I", base) + cstring(user) for base, user in self.pool)
        return pack("!HI", len(self.out), len(self.pool)) + types + b"".join(self.out)


def children(kind):
    if kind.shape == "row":
        return [(name, inside(child)) for name, child in kind.fields]
    if kind.shape == "array":
        return [("elements", inside(kind.element))]
    return []


def inside(kind):
    """Inside of another type every array is described with its element."""
    if kind.shape != "array":
        return kind
    return kinds.Kind(kind.text, kinds.ARRAY, -1, shape="array", element=kind.element)


def parameter_description(count):
    """parameter_description.py. Every parameter is a varchar."""
    one = pack("!BIiH", 0, 9, -1, 0)
    return frame(b"t", pack("!H", count) + (pack("!I", 0) + one * count if count else b""))


def startup(body):
    """The parameters of a startup message, after the fixed version (startup.py, serializer.ts)."""
    values, at = {}, 0
    while at < len(body) and body[at] != 0:
        key, at = string(body, at)
        if key == VERSION_FIELD:
            values["protocol_version"] = unpack_from("!I", body, at)[0]
            at += 5
        else:
            value, at = string(body, at)
            values[key.decode()] = value.decode()
    return values


def string(body, at):
    end = body.index(b"\0", at)
    return body[at:end], end + 1


def bind(body):
    """Portal, statement, values and whether the answer is binary (bind.py; serializer.ts, bind)."""
    portal, at = string(body, 0)
    name, at = string(body, at)
    (formats,) = unpack_from("!H", body, at)
    at += 2 + 2 * formats
    (count,) = unpack_from("!H", body, at)
    at += 2 + 4 * count
    values = []
    for _ in range(count):
        (size,) = unpack_from("!i", body, at)
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    (results,) = unpack_from("!H", body, at)
    binary = results > 0 and unpack_from("!H", body, at + 2)[0] == 1
    return portal.decode(), name.decode(), values, binary
