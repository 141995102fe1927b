"""Vertica's types: how they are written, their oids, modifiers and sizes.

Oids and the bits of modifiers: vertica_python/datatypes.py. A modifier of a numeric is precision << 16 | scale,
plus 4; of a string its octets plus 4; of a time its digits; of an interval the bits of its range and its digits.
"""

import re
import zlib
from dataclasses import dataclass, field

BOOL, INT, FLOAT, CHAR, VARCHAR, DATE, TIME, TIMESTAMP, TIMESTAMPTZ = 5, 6, 7, 8, 9, 10, 11, 12, 13
INTERVAL, TIMETZ, NUMERIC, VARBINARY, UUID = 14, 15, 16, 17, 20
INTERVAL_YM, LONG_VARCHAR, LONG_VARBINARY, BINARY = 114, 115, 116, 117
ROW, ARRAY, MAP = 300, 301, 302

# Where the element's oid does not fit into 1500 + oid and 2700 + oid.
FAR = {LONG_VARBINARY: 18, LONG_VARCHAR: 19, INTERVAL_YM: 21, BINARY: 22}

MONTH, YEAR, DAY, HOUR, MINUTE, SECOND = 1 << 17, 1 << 18, 1 << 19, 1 << 26, 1 << 27, 1 << 28
RANGES = {
    "year": YEAR, "month": MONTH, "year to month": YEAR | MONTH,
    "day": DAY, "day to hour": DAY | HOUR, "day to minute": DAY | HOUR | MINUTE,
    "day to second": DAY | HOUR | MINUTE | SECOND,
    "hour": HOUR, "hour to minute": HOUR | MINUTE, "hour to second": HOUR | MINUTE | SECOND,
    "minute": MINUTE, "minute to second": MINUTE | SECOND, "second": SECOND,
}
SIMPLE = {
    "boolean": BOOL, "bool": BOOL, "float": FLOAT, "float8": FLOAT, "double precision": FLOAT, "real": FLOAT,
    "int": INT, "integer": INT, "bigint": INT, "int8": INT, "smallint": INT, "tinyint": INT,
    "date": DATE, "uuid": UUID,
    "time": TIME, "timetz": TIMETZ, "time with timezone": TIMETZ, "timestamp": TIMESTAMP, "datetime": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ, "timestamp with timezone": TIMESTAMPTZ,
    "char": CHAR, "varchar": VARCHAR, "long varchar": LONG_VARCHAR,
    "binary": BINARY, "varbinary": VARBINARY, "bytea": VARBINARY, "long varbinary": LONG_VARBINARY,
    "numeric": NUMERIC, "decimal": NUMERIC, "number": NUMERIC,
}
# Octets if the type names none.
OCTETS = {CHAR: 1, VARCHAR: 80, LONG_VARCHAR: 1048576, BINARY: 1, VARBINARY: 80, LONG_VARBINARY: 1048576}
SIZES = {BOOL: 1, INT: 8, FLOAT: 8, DATE: 8, TIME: 8, TIMETZ: 8, TIMESTAMP: 8, TIMESTAMPTZ: 8, INTERVAL: 8,
         INTERVAL_YM: 8, UUID: 16}
# User-defined types of Vertica itself. Their base: vertica-python reads them as binary strings.
SPATIAL = {"geometry": 1048576, "geography": 1048576}


class BadType(ValueError):
    """The text is no type of Vertica."""


@dataclass
class Kind:
    """A type."""

    text: str
    oid: int
    typmod: int = -1
    precision: int = 0
    scale: int = 0
    octets: int = 0
    range: str = ""
    # "array" or "set" with one element, "row" with fields, "map".
    shape: str = ""
    element: "Kind | None" = None
    fields: list = field(default_factory=list)
    # The name of a user-defined type; the rest is its base.
    user: str = ""

    @property
    def size(self):
        return SIZES.get(self.oid, -1)

    @property
    def is_complex(self):
        """Its fields or elements are fields of RowDescription."""
        return self.oid in (ROW, ARRAY, MAP)


def parse(text):
    """The type that a text names."""
    text = " ".join(text.split())
    if "=" in text:
        user, base = text.split("=", 1)
        kind = parse(base)
        kind.user, kind.text = user.strip(), user.strip()
        return kind
    lower = text.lower()
    if lower.startswith(("array[", "set[")) and text.endswith("]"):
        shape, inner = text[:-1].split("[", 1)
        return collection(text, shape.lower(), inner)
    if lower.startswith("row(") and text.endswith(")"):
        fields = []
        for n, part in enumerate(split(text[4:-1])):
            name, _, kind = part.partition(" ")
            try:
                fields.append((name.strip('"'), parse(kind)))
            except BadType:
                fields.append((f"f{n}", parse(part)))
        return Kind(text, ROW, shape="row", fields=fields)
    if lower.startswith("map[") and text.endswith("]"):
        return Kind(text, MAP, shape="map")
    return scalar(text, lower)


def collection(text, shape, inner):
    element = parse(split(inner)[0])
    if element.shape or element.user:
        if shape == "set":
            raise BadType(text)
        return Kind(text, ARRAY, shape="array", element=element)
    base = 1500 if shape == "array" else 2700
    oid = base + FAR.get(element.oid, element.oid)
    return Kind(text, oid, element.typmod, shape=shape, element=element)


def scalar(text, lower):
    match = re.fullmatch(r"([a-z0-9_ ]+?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?", lower)
    if not match:
        raise BadType(text)
    name, one, two = match[1], match[2], match[3]
    if name.startswith("interval"):
        span = name[len("interval"):].strip() or "day to second"
        if span not in RANGES:
            raise BadType(text)
        months = span in ("year", "month", "year to month")
        digits = 0 if months else int(one if one is not None else 6)
        return Kind(text, INTERVAL_YM if months else INTERVAL, RANGES[span] | digits, digits, range=span)
    if name in SPATIAL:
        octets = int(one or SPATIAL[name])
        return Kind(text, LONG_VARBINARY, octets + 4, octets=octets, user=name)
    oid = SIMPLE.get(name)
    if oid is None:
        raise BadType(text)
    if oid == NUMERIC:
        precision, scale = (int(one), int(two or 0)) if one else (37, 15)
        return Kind(text, oid, (precision << 16 | scale) + 4, precision, scale)
    if oid in OCTETS:
        octets = int(one or OCTETS[oid])
        return Kind(text, oid, octets + 4, octets=octets)
    if oid in (TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ):
        return Kind(text, oid, int(one) if one else -1, int(one) if one else 6)
    if one:
        raise BadType(text)
    return Kind(text, oid)


def split(text):
    """The parts between commas that are not in brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return parts


def of_result(oid, typname):
    """The type of a column of a catalogue's answer, from PostgreSQL's."""
    names = {"bool": "boolean", "int2": "int", "int4": "int", "int8": "int", "float8": "float", "numeric": "numeric(38,0)",
             "text": "varchar(65000)", "name": "varchar(128)", "varchar": "varchar(65000)", "timestamptz": "timestamptz",
             "timestamp": "timestamp", "date": "date", "uuid": "uuid", "unknown": "varchar(65000)", "time": "time"}
    if typname not in names:
        raise BadType(f"{typname} ({oid})")
    return parse(names[typname])


def number_of(kind):
    """The number of a type; complex and user-defined types have numbers of their own."""
    if kind.is_complex or kind.user:
        return 45035996273800000 + zlib.crc32(kind.text.lower().encode())
    return kind.oid


def name_of(kind):
    """The name that the catalogue prints."""
    if kind.user:
        return kind.text
    return f"_ct_{number_of(kind)}" if kind.is_complex else kind.text.lower()


def parts(kind):
    """What v_catalog.complex_types says about a type and the types in it, one tuple for each field."""
    if not kind.is_complex:
        return []
    # A map's fields are not read.
    fields = kind.fields or ([("", kind.element)] if kind.element else [])
    own = [(number_of(kind), name_of(kind), kind.shape.capitalize(), position, name, name_of(part),
            part.precision if part.oid == NUMERIC else None, part.scale if part.oid == NUMERIC else None)
           for position, (name, part) in enumerate(fields)]
    return own + [row for _, part in fields for row in parts(part)]


def facts(text):
    """What v_catalog.columns says about a type, in the order of the columns of vertica.types."""
    kind = parse(text)
    octets = kind.octets if kind.oid in OCTETS else None
    length = octets or (kind.size if kind.size > 0 else (kind.precision // 19 + 1) * 8 if kind.oid == NUMERIC else -1)
    numeric = kind.oid == NUMERIC
    timed = kind.oid in (TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ)
    interval = kind.oid in (INTERVAL, INTERVAL_YM)
    return (text, name_of(kind), number_of(kind), length, octets if kind.oid in (CHAR, VARCHAR, LONG_VARCHAR) else None,
            kind.precision if numeric else None, kind.scale if numeric else None,
            kind.precision if timed and kind.typmod >= 0 else None, kind.precision if interval else None)
