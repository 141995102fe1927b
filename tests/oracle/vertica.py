"""Compares what was exported from Vertica, or its stand-in, with what vertica-python reads.

The argument is JSON: {"do", "dsn", "schema", "out"} and more, by what is to be done.

fill      values of every type, in the database behind a stand-in ("postgres": its DSN, "rows": random ones of each)
create    a few tables on a real server
compare   each table of the schema with its directory below "out"; prints "same", or the differences
drop      the schema of a real server
"""

import datetime
import decimal
import json
import os
import struct
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support", "vertica"))

import pyarrow as pa
import pyarrow.parquet as pq
import vertica_python

# Julian day of 1970-01-01, and microseconds from 1970 to 2000.
EPOCH_DAY, TO_2000 = 2440588, 946684800000000
MOST = 2**63 - 1
INTERVAL_YM, ROW = 114, 300


def connect(order, **more):
    url = urllib.parse.urlparse(order["dsn"])
    options = {"host": url.hostname, "port": url.port or 5433, "user": urllib.parse.unquote(url.username),
               "password": order.get("password") or urllib.parse.unquote(url.password or ""),
               "database": url.path.lstrip("/"), "tlsmode": "disable" if "sslmode=disable" in url.query else "prefer"}
    return vertica_python.connect(**options, request_complex_types=True, **more)


def fill(order):
    import psycopg

    import cases
    import clients

    with psycopg.connect(order["postgres"], autocommit=True) as admin:
        admin.execute(f'CREATE SCHEMA {clients.SCHEMA}')
        for case in cases.CASES:
            clients.fill(admin, case, order["rows"])
        admin.execute(f"GRANT USAGE ON SCHEMA {clients.SCHEMA} TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA {clients.SCHEMA} TO PUBLIC")
    print(json.dumps([case.name for case in cases.CASES]))


REAL = {
    "plain": ("b boolean, i int, f float, n numeric(30,10), w numeric(90,5), d date, t time, tz timetz, ts timestamp, tt timestamptz,"
              " iv interval day to second, ym interval year to month, u uuid, c char(5), v varchar(20), bi varbinary(9)",
              "(true, 9223372036854775807, 0.1, -12345678901234567890.0123456789, 1.5, '2024-02-29', '23:59:59.999999',"
              " '12:00:00+05:30', '1999-12-31 23:59:59.999999', '2024-02-29 12:00:00+02', '1 day 02:03:04.5', '1 year 2 months',"
              " '00010203-0405-0607-0809-0a0b0c0d0e0f', 'ab', E'\\n''x', '\\x00ff')"),
    "arrays": ("a array[int], s array[varchar(10)]", "(ARRAY[1, NULL, -3], ARRAY['a', ''])"),
}


def create(order):
    with connect(order) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE SCHEMA {order['schema']}")
        for name, (columns, values) in REAL.items():
            table = f"{order['schema']}.{name}"
            cursor.execute(f"CREATE TABLE {table} (id int NOT NULL, {columns})")
            nulls = ", ".join(["NULL"] * len(columns.split(", ")))
            cursor.execute(f"INSERT INTO {table} SELECT 1, * FROM (SELECT {values[1:-1]}) x")
            cursor.execute(f"INSERT INTO {table} VALUES (2, {nulls})")
        connection.commit()


def drop(order):
    with connect(order) as connection:
        connection.cursor().execute(f"DROP SCHEMA {order['schema']} CASCADE")


def read(order, table, names, binary, raw):
    """Description and rows by id."""
    with connect(order, binary_transfer=binary) as connection:
        cursor = connection.cursor()
        cursor.disable_sqldata_converter = raw
        columns = ", ".join(f'"{name}"' for name in names)
        cursor.execute(f'SELECT {columns} FROM "{order["schema"]}"."{table}"')
        rows, refused = {}, None
        try:
            for row in cursor.iterate():
                rows[row[0] if not raw else number(row[0], binary)] = row
        except (vertica_python.errors.Error, OverflowError, ValueError) as error:
            refused = error
        return cursor.description, rows, refused


def number(data, binary):
    return struct.unpack("!q", data)[0] if binary else int(data)


def wanted(field, described, text, binary, value):
    """The value that the file must have: (kind, value)."""
    ty = field.type
    if text is None:
        return None
    if pa.types.is_boolean(ty):
        return text == b"t"
    if pa.types.is_integer(ty):
        return int(text)
    if pa.types.is_floating(ty):
        return struct.unpack("!d", binary)[0]
    if pa.types.is_decimal(ty):
        return decimal.Decimal(text.decode())
    if pa.types.is_date(ty):
        return struct.unpack("!q", binary)[0] - EPOCH_DAY
    if pa.types.is_timestamp(ty):
        micros = struct.unpack("!q", binary)[0]
        # Infinity becomes the highest number, and -infinity its negative.
        return max(micros, -MOST) if abs(micros) >= MOST else micros + TO_2000
    if pa.types.is_time(ty):
        return struct.unpack("!q", binary)[0]
    if pa.types.is_struct(ty) and described.type_code == ROW:
        return plain(value)
    if pa.types.is_struct(ty):
        n = struct.unpack("!q", binary)[0]
        months = described.type_code == INTERVAL_YM
        return {"months": n if months else 0, "days": 0, "microseconds": 0 if months else n}
    if pa.types.is_list(ty):
        return [plain(v) for v in sorted(value, key=repr)] if isinstance(value, set) else [plain(v) for v in value]
    if pa.types.is_string(ty):
        return text.decode()
    return bytes(binary)


def plain(value):
    """A value of a list or row, without differences that are Python's."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat() if value.tzinfo is None else value.astimezone(datetime.timezone.utc).isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value.normalize(), "f")
    return value


def found(field, column):
    """The values of a column, as `wanted` gives them."""
    ty = field.type
    if isinstance(ty, pa.BaseExtensionType):
        column, ty = column.combine_chunks().storage if isinstance(column, pa.ChunkedArray) and column.num_chunks == 1 else \
            pa.chunked_array([chunk.storage for chunk in column.chunks], type=ty.storage_type), ty.storage_type
    if pa.types.is_date(ty):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(ty) or pa.types.is_time(ty):
        column = column.cast(pa.int64())
    values = column.to_pylist()
    return [plain(v) for v in values] if pa.types.is_nested(ty) else values


def differences(order, table):
    files = os.path.join(order["out"], f"{order['schema']}_{table}")
    exported = pa.concat_tables([pq.read_table(os.path.join(files, name)) for name in sorted(os.listdir(files))])
    names = exported.schema.names
    described, texts, refused = read(order, table, names, False, True)
    _, binaries, also = read(order, table, names, True, True)
    if refused or also:
        return [f"{table}: vertica-python refuses raw rows: {refused or also}"]
    values = None
    ids = exported.column("id").to_pylist()
    if len(ids) != len(texts) or set(ids) != set(texts):
        return [f"{table}: {len(ids)} rows instead of {len(texts)}"]
    told = []
    for at, field in enumerate(exported.schema):
        place = next(i for i, d in enumerate(described) if d.name == field.name)
        ty = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
        if (pa.types.is_list(ty) or pa.types.is_struct(ty)) and values is None:
            _, values, why = read(order, table, names, True, False)
            if why:
                return [f"{table}: vertica-python refuses values: {why}"]
        storage = pa.field(field.name, ty)
        for number, have in zip(ids, found(field, exported.column(at)), strict=True):
            text, binary = texts[number][place], binaries[number][place]
            value = values[number][place] if values is not None else None
            want = wanted(storage, described[place], text, binary, value)
            if isinstance(value, set) and have is not None:
                have = sorted(have, key=repr)
            if have != want and repr(have) != repr(want):
                told.append(f"{table}.{field.name} {ty}, row {number}: file {have!r:.120}, vertica-python {want!r:.120}")
    return told[:20]


def compare(order):
    tables = sorted(name.removeprefix(f"{order['schema']}_") for name in os.listdir(order["out"])
                    if name.startswith(f"{order['schema']}_"))
    told = [line for table in tables for line in differences(order, table)]
    print("\n".join(told) if told else "same")
    if "tables" in order:
        types = {table: [str(f.type) for f in pq.read_schema(first(order, table))][-1] for table in tables}
        print(json.dumps(types))


def first(order, table):
    files = os.path.join(order["out"], f"{order['schema']}_{table}")
    return os.path.join(files, sorted(os.listdir(files))[0])


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    {"fill": fill, "create": create, "compare": compare, "drop": drop}[asked["do"]](asked)
