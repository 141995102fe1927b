"""SQL expressions by which PostgreSQL itself turns a value into what Vertica sends.

PostgreSQL writes the results with binary COPY, whose tuples are the bodies of DataRow: a count, then a length and
bytes for each field. So an expression's binary form in PostgreSQL must be Vertica's. A string's binary form is its
text in both, which serves the text format as well. The byte forms: vertica_python/vertica/deserializer.py.
"""

import kinds

RAW = "int8"


def wire(sql, kind, source, binary):
    """The expression for a value `sql` of PostgreSQL's type `source` as a field of DataRow."""
    if source == "bytea" and kind.oid in (kinds.VARCHAR, kinds.LONG_VARCHAR):
        return sql
    if kind.oid in STRINGS or kind.shape:
        return text(sql, kind, source, binary)
    if kind.oid in (kinds.BINARY, kinds.VARBINARY, kinds.LONG_VARBINARY):
        padded = padded_bytes(sql, kind)
        return padded if binary else f"encode({padded}, 'escape')"
    return bits(sql, kind, source) if binary else text(sql, kind, source, binary)


STRINGS = (kinds.CHAR, kinds.VARCHAR, kinds.LONG_VARCHAR)


def bits(sql, kind, source):
    """The binary form of what is not a string."""
    oid = kind.oid
    if oid == kinds.NUMERIC:
        return numeric(sql, kind)
    if oid == kinds.DATE and source != RAW:
        return f"vertica.julian({sql}::date)"
    if oid == kinds.TIMETZ and source != RAW:
        return f"vertica.timetz_bits({sql}::timetz)"
    if oid == kinds.INTERVAL and source != RAW:
        return f"vertica.microseconds({sql}::interval)"
    if oid == kinds.INTERVAL_YM and source != RAW:
        return f"vertica.months({sql}::interval)"
    plain = {kinds.BOOL: "bool", kinds.INT: "int8", kinds.FLOAT: "float8", kinds.UUID: "uuid"}
    if oid not in plain and source == RAW:
        return sql
    plain |= {kinds.TIME: "time", kinds.TIMESTAMP: "timestamp", kinds.TIMESTAMPTZ: "timestamptz"}
    return f"{sql}::{plain[oid]}"


def numeric(sql, kind):
    limbs = kind.precision // 19 + 1
    unscaled = f"round({exact(sql, kind)} * vertica.ten({kind.scale}), 0)"
    if limbs == 1:
        return f"({unscaled})::int8"
    return f"vertica.unscaled({unscaled}, {limbs})"


def exact(sql, kind):
    """The value with the type's digits; more digits than that are an error, as PostgreSQL gives it."""
    if kind.precision <= 1000:
        return f"{sql}::numeric({kind.precision},{kind.scale})"
    return f"round({sql}::numeric, {kind.scale})"


def padded_bytes(sql, kind):
    if kind.oid != kinds.BINARY:
        return f"{sql}::bytea"
    zeros = f"decode(repeat('00', greatest(0, {kind.octets} - octet_length({sql}))), 'hex')"
    return f"({sql}::bytea || {zeros})"


def text(sql, kind, source, binary):
    """The text that the server prints, also inside of JSON."""
    oid = kind.oid
    if kind.shape:
        return collection(sql, kind, source, binary)
    if oid == kinds.CHAR:
        return f"({sql}::text || repeat(' ', greatest(0, {kind.octets} - octet_length({sql}::text))))"
    if oid == kinds.BOOL:
        return f"left({sql}::bool::text, 1)"
    if oid == kinds.FLOAT:
        return f"vertica.float_text({sql}::float8)"
    if oid == kinds.NUMERIC:
        return f"{exact(sql, kind)}::text"
    if oid == kinds.INTERVAL:
        number = sql if source == RAW else f"vertica.microseconds({sql}::interval)"
        return f"vertica.interval_text({number}, '{kind.range}')"
    if oid == kinds.INTERVAL_YM:
        number = sql if source == RAW else f"vertica.months({sql}::interval)"
        return f"vertica.interval_text({number}, '{kind.range}')"
    if source == RAW:
        raw = {kinds.DATE: f"vertica.date_text({sql})", kinds.TIMESTAMP: f"vertica.timestamp_text({sql}, '')",
               kinds.TIMESTAMPTZ: f"vertica.timestamp_text({sql}, '+00')"}
        if oid in raw:
            return raw[oid]
    if oid in (kinds.BINARY, kinds.VARBINARY, kinds.LONG_VARBINARY):
        return f"encode({padded_bytes(sql, kind)}, 'escape')"
    return f"{sql}::text"


def collection(sql, kind, source, binary):
    """JSON: what the column holds as text, or made from an array of PostgreSQL."""
    if not source.startswith("_") or kind.shape not in ("array", "set"):
        return f"{sql}::text"
    element = item("e", kind.element, source[1:], binary)
    return (f"CASE WHEN {sql} IS NOT NULL THEN (SELECT '[' || coalesce(string_agg(coalesce({element}, 'null'), ','"
            f" ORDER BY o), '') || ']' FROM unnest({sql}) WITH ORDINALITY AS u(e, o)) END")


def item(sql, kind, source, binary):
    if kind.oid == kinds.BOOL:
        return f"{sql}::bool::text"
    if kind.oid == kinds.INT:
        return f"{sql}::int8::text"
    if kind.oid == kinds.FLOAT:
        number = f"{sql}::float8::text" if binary else f"vertica.float_text({sql}::float8)"
        odd = f"{sql}::float8 IN ('NaN', 'Infinity', '-Infinity')"
        return f"CASE WHEN {odd} THEN to_json({number})::text ELSE {number} END"
    return f"to_json({text(sql, kind, source, binary)})::text"
