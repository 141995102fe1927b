#!/usr/bin/env python3
"""Lets PostgreSQL compare: the values that pyarrow reads from Parquet, cast back, must be those of the server.

Standard input is JSON:
    {"dsn": "postgres://…", "pairs": [{"relation": "schema.table", "files": "DIR",
                                       "arrow": {"column": "type"}, "columns": ["column", …]}, …]}
Every value is sent to the server as a literal of its type, and the type's own input function reads it there. The
server then compares the rows, as it prints them, with EXCEPT ALL in both directions: both sides must have the same
rows equally often. `arrow` says which types columns must have in the files.
Standard output is JSON, one object per pair: {"relation", "rows", "differences": [text, …]}.
"""

import json
import os
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

SETTINGS = "SET search_path = pg_catalog; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 3;"
RANGE = ["lower", "upper", "lower_inc", "upper_inc", "empty"]
DAY = 86_400_000_000
EPOCH = 2_440_588  # the Julian day of 1970-01-01


def psql(dsn, sql):
    command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "-"]
    env = os.environ | {"PGCLIENTENCODING": "UTF8", "PGOPTIONS": "-c client_min_messages=warning"}
    done = subprocess.run(command, input=sql.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace").strip()[:600])
    return done.stdout.decode()


class Types:
    """The server's types, by the name that format_type returns."""

    def __init__(self, dsn):
        rows = psql(
            dsn,
            SETTINGS
            + """SELECT json_build_object('name', format_type(t.oid, NULL), 'kind', t.typtype,
                   'base', format_type(t.typbasetype, NULL), 'exact', format_type(t.typbasetype, t.typtypmod),
                   'delimiter', t.typdelim,
                   'element', CASE WHEN t.typcategory = 'A' THEN format_type(t.typelem, NULL) END,
                   'subtype', (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid),
                   'extension', (SELECT t.typname FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e'
                                  AND d.classid = 'pg_type'::regclass),
                   'attributes', (SELECT json_agg(format_type(a.atttypid, NULL) ORDER BY a.attnum)
                                  FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
                                    AND NOT a.attisdropped AND t.typtype = 'c')) FROM pg_type t;""",
        )
        self.by_name = {}
        for line in rows.splitlines():
            row = json.loads(line)
            self.by_name[row["name"]] = row

    def get(self, name):
        """A type; for a domain its base type."""
        row = self.by_name[name]
        while row["kind"] == "d":
            row = self.by_name[row["base"]]
        return row


    def exact(self, name, with_typmod):
        """The type of a column; for a domain its base type, because values do not depend on its constraints."""
        row = self.by_name[name]
        while row["kind"] == "d":
            with_typmod, row = row["exact"], self.by_name[row["base"]]
        return with_typmod


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def in_quotes(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def clock(microseconds):
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"


def span(microseconds):
    """An interval's time. Servers before 15 cannot read more than 32 bits of microseconds, and no server can read so many hours."""
    if microseconds is None or abs(microseconds) >= 2**31 * 3_600_000_000:
        return f"{microseconds} microseconds"
    return ("-" if microseconds < 0 else "") + clock(abs(microseconds))


def date(days):
    if days == 2**31 - 1:
        return "infinity"
    return "-infinity" if days == -(2**31 - 1) else f"J{EPOCH + days}"


def timestamp(zone):
    def render(value):
        if value == 2**63 - 1:
            return "infinity"
        return "-infinity" if value == -(2**63 - 1) else f"J{EPOCH + value // DAY} {clock(value % DAY)}{zone}"

    return render


def floating(value):
    return repr(value).replace("inf", "Infinity").replace("nan", "NaN")


def scalar(ty):
    """For a value without elements: the type that pyarrow casts it to first (or None), and a function that writes it."""
    if pa.types.is_boolean(ty):
        return None, lambda v: "t" if v else "f"
    if pa.types.is_integer(ty):
        return None, str
    if pa.types.is_floating(ty):
        return None, floating
    if pa.types.is_decimal(ty):
        return None, lambda v: format(v, "f")
    if pa.types.is_string(ty) or isinstance(ty, pa.JsonType):
        return None, str
    if isinstance(ty, pa.UuidType):
        return None, str
    if pa.types.is_binary(ty):
        return None, lambda v: "\\x" + v.hex()
    if pa.types.is_date32(ty):
        return pa.int32(), date
    if pa.types.is_time64(ty):
        return pa.int64(), clock
    if pa.types.is_timestamp(ty):
        return pa.int64(), timestamp("+00" if ty.tz == "UTC" else "")
    raise TypeError(f"nobody writes {ty}")


def literals(types, array, pg):
    """The literals of an array whose type on the server is `pg`. NULL is None."""
    ty, valid = array.type, array.is_valid().to_pylist()
    if pa.types.is_map(ty):
        keys, values = (literals(types, a, types.get("text")) for a in (array.keys, array.items))
        pairs = [in_quotes(k) + "=>" + ("NULL" if v is None else in_quotes(v)) for k, v in zip(keys, values)]
        return lists(array.offsets, valid, lambda a, b: ",".join(pairs[a:b]))
    if pa.types.is_list(ty) or pa.types.is_fixed_size_list(ty):
        if pg["kind"] == "m":
            ranges = literals(types, array.values, {"kind": "r"})
            return lists(array.offsets, valid, lambda a, b: "{" + ",".join(ranges[a:b]) + "}")
        if not pg["element"]:
            vectors = array.to_pylist()
            return [None if v is None else "[" + ",".join(map(floating, v)) + "]" for v in vectors]
        element, inner = types.by_name[pg["element"]], types.get(pg["element"])
        delimiter = element["delimiter"]
        is_list = inner["element"] or inner["kind"] == "m" or inner["extension"] in ("vector", "halfvec")
        if pa.types.is_list(array.values.type) and not is_list:
            # An array of more dimensions.
            values = literals(types, array.values, pg)
        else:
            values = literals(types, array.values, inner)
            values = ["NULL" if v is None else in_quotes(v) for v in values]
        return lists(array.offsets, valid, lambda a, b: "{" + delimiter.join(values[a:b]) + "}")
    if pa.types.is_struct(ty):
        return structs(types, array, pg, valid)
    cast, write = scalar(ty)
    if pa.types.is_binary(ty) and re.search(r"\bgeo(metry|graphy)$", pg.get("name", "")):
        # The server adds the reference system that the column declares.
        write = bytes.hex
    values = (array.cast(cast) if cast else array).to_pylist()
    return [None if v is None else write(v) for v in values]


def lists(offsets, valid, between):
    ends = offsets.to_pylist()
    return [between(ends[i], ends[i + 1]) if ok else None for i, ok in enumerate(valid)]


def structs(types, array, pg, valid):
    fields = [array.field(i) for i in range(array.type.num_fields)]
    if pg["kind"] == "c":
        attributes = [types.get(name) for name in pg["attributes"]]
        parts = [literals(types, f, a) for f, a in zip(fields, attributes, strict=True)]
        parts = [["" if v is None else in_quotes(v) for v in part] for part in parts]
        return ["(" + ",".join(row) + ")" if ok else None for ok, row in zip(valid, zip(*parts))]
    if pg["kind"] == "r":
        # The server's type of a bound does not matter for its literal, as long as it is not a composite.
        bounds = [literals(types, f, {"kind": "b", "element": None}) for f in fields[:2]]
        flags = [f.to_pylist() for f in fields[2:]]

        def write(lower, upper, lower_inc, upper_inc, empty):
            if empty:
                return "empty"
            shown = ["" if v is None else in_quotes(v) for v in (lower, upper)]
            return ("[" if lower_inc else "(") + ",".join(shown) + ("]" if upper_inc else ")")

        return [write(*row) if ok else None for ok, row in zip(valid, zip(*bounds, *flags))]
    parts = [f.to_pylist() for f in fields]
    if pg["name"] == "interval":
        form, parts = "{} mons {} days {}", [*parts[:2], [span(v) for v in parts[2]]]
    elif pg["name"] == "point":
        form, parts = "({},{})", [[floating(v) for v in part] for part in parts]
    else:
        raise TypeError(f"{pg['name']} is no struct")
    return [form.format(*row) if ok else None for ok, row in zip(valid, zip(*parts))]


def escaped(text):
    if text is None:
        return "\\N"
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def columns_of(dsn, relation):
    literal = "'" + relation.replace("'", "''") + "'"
    rows = psql(
        dsn,
        SETTINGS
        + f"""SELECT json_build_array(attname, format_type(atttypid, NULL), format_type(atttypid, atttypmod))
              FROM pg_attribute WHERE attrelid = {literal}::regclass AND attnum > 0 AND NOT attisdropped
              ORDER BY attnum;""",
    )
    return [json.loads(line) for line in rows.splitlines()]


def read(files):
    paths = sorted(os.path.join(files, name) for name in os.listdir(files))
    return pa.concat_tables([pq.ParquetFile(path).read() for path in paths])


def compare(dsn, types, pair):
    """The number of rows, and the differences as lines of text."""
    relation = pair["relation"]
    columns = columns_of(dsn, relation)
    if pair.get("columns"):
        columns = [c for c in columns if c[0] in pair["columns"]]
    table = read(pair["files"])
    if table.column_names != [c[0] for c in columns]:
        return table.num_rows, [f"columns {table.column_names} instead of {[c[0] for c in columns]}"]
    wrong = []
    for field in table.schema:
        # Only pyarrow shows the name of a map's entries.
        found = re.sub(r" \('[^']*'\)", "", str(field.type))
        expected = pair.get("arrow", {}).get(field.name, found)
        if found != expected:
            wrong.append(f"column {field.name} is {found} instead of {expected}")
    if wrong:
        return table.num_rows, wrong
    fields, definitions, originals = [], [], []
    for index, (name, pg, with_typmod) in enumerate(columns):
        row = types.by_name[pg]
        base = types.get(pg)
        chunks = table.column(index).chunks
        fields.append([value for chunk in chunks for value in literals(types, chunk, base)])
        # The server does not allow columns of pseudo-types.
        shown = "text" if row["kind"] == "p" else types.exact(pg, with_typmod)
        definitions.append(f"c{index} {shown}")
        originals.append(quoted(name) + ("::text" if row["kind"] == "p" else ""))
    rows = "".join("\t".join(map(escaped, row)) + "\n" for row in zip(*fields))
    back = [f"c{i}" for i in range(len(columns))]

    def differences(original, ours):
        sides = [f"SELECT ROW({original})::text FROM ONLY_ q", f"SELECT ROW({ours})::text FROM back"]
        sides[0] = sides[0].replace("ONLY_", relation)
        return "".join(
            f"SELECT count(*) FROM ({a} EXCEPT ALL {b}) d;\n" for a, b in (sides, reversed(sides))
        )

    load = (
        f"{SETTINGS} CREATE TEMP TABLE back ({', '.join(definitions)});\nCOPY back FROM STDIN;\n{rows}\\.\n"
        # Functions of views may depend on the search path that they were made for.
        "RESET search_path;\n"
    )
    only = psql(dsn, load + differences(", ".join(originals), ", ".join(back))).split()
    if only == ["0", "0"]:
        return table.num_rows, []
    wrong = [f"{only[0]} rows only on the server, {only[1]} only in the files"]
    each = psql(dsn, load + "".join(map(differences, originals, back))).split()
    for (name, _, pg), server, ours in zip(columns, each[::2], each[1::2]):
        if (server, ours) != ("0", "0"):
            wrong.append(f"column {name} ({pg}): {server} values only on the server, {ours} only in the files")
    return table.num_rows, wrong


def main():
    order = json.load(sys.stdin)
    types = Types(order["dsn"])
    for pair in order["pairs"]:
        try:
            rows, wrong = compare(order["dsn"], types, pair)
        except Exception as error:  # reported with its relation; the other pairs are still compared
            rows, wrong = 0, [f"{type(error).__name__}: {error}"]
        print(json.dumps({"relation": pair["relation"], "rows": rows, "differences": wrong}), flush=True)


main()
