"""What a client must read, worked out from what PostgreSQL itself says about a value, and not by the stand-in's SQL."""

import json
import re
import struct
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

from dateutil.relativedelta import relativedelta

import kinds

DAY, EPOCH_DAY = 86_400_000_000, 2451545


def pg(text, source):
    """A value that PostgreSQL printed, as Python's."""
    if text is None or source == "text":
        return text
    if source == "bool":
        return text == "t"
    if source in ("int2", "int4", "int8"):
        return int(text)
    if source == "float8":
        return float(text)
    if source == "numeric":
        return Decimal(text)
    if source == "bytea":
        return bytes.fromhex(text[2:])
    return text


def days(text):
    """Days from 2000-01-01 of a date of any year, by the proleptic Gregorian calendar."""
    year, month, day = (int(part) for part in re.match(r"(\d+)-(\d+)-(\d+)", text).groups())
    if text.endswith("BC"):
        year = 1 - year
    # The calendar repeats after 400 years of 146097 days.
    turns, rest = divmod(year - 2000, 400)
    return turns * 146097 + (date(2000 + rest, month, day) - date(2000, 1, 1)).days


def clock(text):
    hours, minutes, seconds = text.split(":")
    return (int(hours) * 3600 + int(minutes) * 60) * 1_000_000 + int((Decimal(seconds) * 1_000_000).to_integral_exact())


def zone(text):
    """A time's part before the zone, and the zone's offset in seconds."""
    match = re.fullmatch(r"(.*?)([-+])(\d+)(?::(\d+))?(?::(\d+))?", text)
    offset = int(match[3]) * 3600 + int(match[4] or 0) * 60 + int(match[5] or 0)
    return match[1], offset if match[2] == "+" else -offset


def micros(text):
    """Microseconds from 2000 of a timestamp; infinities are the least and the greatest."""
    if "infinity" in text:
        return -(2 ** 63) if text[0] == "-" else 2 ** 63 - 1
    bc = text.endswith(" BC")
    day, _, rest = text.removesuffix(" BC").partition(" ")
    offset = 0
    if re.search(r"[-+]\d\d(:\d\d)*$", rest):
        rest, offset = zone(rest)
    return days(day + (" BC" if bc else "")) * DAY + clock(rest) - offset * 1_000_000


def binary(kind, source, said):
    """The bytes of a field in binary transfer. `said` is PostgreSQL's text; for intervals its microseconds or months."""
    value, oid = pg(said, source), kind.oid
    if oid in (kinds.BOOL,):
        return b"\1" if value else b"\0"
    if oid == kinds.FLOAT:
        return struct.pack("!d", value)
    if oid == kinds.NUMERIC:
        unscaled = int(value.scaleb(kind.scale, context=wide()))
        return unscaled.to_bytes((kind.precision // 19 + 1) * 8, "big", signed=True)
    if oid == kinds.UUID:
        return UUID(value).bytes
    if oid in (kinds.CHAR, kinds.VARCHAR, kinds.LONG_VARCHAR) or kind.shape:
        return string(kind, value)
    if oid in (kinds.BINARY, kinds.VARBINARY, kinds.LONG_VARBINARY):
        return value.ljust(kind.octets, b"\0") if oid == kinds.BINARY else value
    return struct.pack("!q", number(oid, source, value))


def number(oid, source, value):
    if isinstance(value, int):
        return value
    if oid == kinds.DATE:
        return days(value) + EPOCH_DAY
    if oid == kinds.TIME:
        return clock(value)
    if oid == kinds.TIMETZ:
        local, offset = zone(value)
        return ((clock(local) - offset * 1_000_000) % DAY << 24) | (86400 - offset)
    if oid in (kinds.TIMESTAMP, kinds.TIMESTAMPTZ):
        return micros(value)
    return int(value)


def string(kind, value):
    data = value if isinstance(value, bytes) else value.encode()
    return data.ljust(kind.octets, b" ") if kind.oid == kinds.CHAR else data


def wide():
    from decimal import Context

    return Context(prec=3000)


def python(kind, source, said, binary_transfer):
    """What vertica-python makes of it; NotImplemented where Python's types cannot hold it."""
    if said is None:
        return None
    value, oid = pg(said, source), kind.oid
    if oid == kinds.FLOAT and not binary_transfer:
        return float(f"{value:.15g}")
    if oid == kinds.DATE:
        day = number(oid, source, value) - EPOCH_DAY + date(2000, 1, 1).toordinal()
        return date.fromordinal(day) if 1 <= day <= date.max.toordinal() else NotImplemented
    if oid == kinds.TIME:
        return moment(clock(value))
    if oid == kinds.TIMETZ:
        local, offset = zone(value)
        return moment(clock(local)).replace(tzinfo=timezone(timedelta(seconds=offset)))
    if oid in (kinds.TIMESTAMP, kinds.TIMESTAMPTZ):
        try:
            found = datetime(2000, 1, 1) + timedelta(microseconds=number(oid, source, value))
        except OverflowError:
            return NotImplemented
        return found.replace(tzinfo=timezone.utc) if oid == kinds.TIMESTAMPTZ else found
    if oid == kinds.INTERVAL:
        return relativedelta(microseconds=int(value))
    if oid == kinds.INTERVAL_YM:
        return relativedelta(months=int(value))
    if oid == kinds.UUID:
        return UUID(value)
    if oid == kinds.MAP or kind.shape == "row":
        return json.loads(value)
    if kind.user:
        return value
    if oid in (kinds.CHAR, kinds.VARCHAR, kinds.LONG_VARCHAR):
        return string(kind, value).decode()
    if oid == kinds.BINARY:
        return value.ljust(kind.octets, b"\0")
    return json.loads(value) if kind.shape and source == "text" else value


def moment(count):
    seconds, rest = divmod(count, 1_000_000)
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60, rest)
