"""Values of every type: for each a type of Vertica, the type of the PostgreSQL column behind it, edge values and a
SQL expression for random ones."""

from dataclasses import dataclass


@dataclass
class Case:
    name: str
    vertica: str
    postgres: str
    edges: list
    random: str = ""


def digits(count, scale=0):
    """An expression for a random numeric with up to `count` digits and either sign."""
    text = f"(SELECT string_agg(floor(random() * 10)::int::text, '') FROM generate_series(1, 1 + floor(random() * {count} + g * 0)::int))"
    return f"((CASE WHEN random() < 0.5 THEN '-' ELSE '' END || {text} || 'e-{scale}')::numeric)"


def text(alphabet, length):
    picks = f"(SELECT string_agg(substr({alphabet}, 1 + floor(random() * length({alphabet}))::int, 1), '')" \
            f" FROM generate_series(1, floor(random() * {length} + g * 0)::int))"
    return f"coalesce({picks}, '')"


MICROS = "floor(random() * 86400000000)::int8"
WIDE = "E'aé ∑𝄞\\n\\t\"\\\\''%|,日本'"
TIMES = ["00:00:00", "23:59:59.999999", "12:00:00", "01:02:03.4", "00:00:00.000001"]
STAMPS = ["2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999",
          "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "0001-12-31 00:00:00 BC", "4713-11-24 00:00:00 BC",
          "infinity", "-infinity", "1970-01-01 00:00:00", "2024-02-29 12:34:56.789"]
# Microseconds from 2000 for years that PostgreSQL's timestamps lack (before 4713 BC).
RAW_STAMPS = ["0", "-211845068000000000", "-9223372036854775807", "-211845067199999999", "9223371331199999999"]
INTERVALS = ["0", "1 day 02:03:04.0005", "-1 day -02:03:04.0005", "00:00:00.000001", "-00:00:00.000001",
             "106751991 days 04:00:54.775807", "-106751991 days -04:00:54.775807", "23:59:59.999999", "1 day"]
MONTHS = ["0", "1 year 10 months", "-1 year -10 months", "11 months", "-11 months", "1000 years", "-12345 months"]


def intervals(span):
    units = {"day": "days", "hour": "hours", "minute": "mins", "second": "secs"}[span.split()[-1]]
    amount = "random() * 200000 - 100000" if units == "secs" else "floor(random() * 20000 - 10000)"
    return Case(f"interval_{span.replace(' ', '_')}", f"interval {span}", "interval", ["0", f"5 {span.split()[-1]}", f"-5 {span.split()[-1]}"],
                f"make_interval({units} => ({amount})::{'float8' if units == 'secs' else 'int'})")


CASES = [
    Case("bool", "boolean", "bool", ["true", "false"], "random() < 0.5"),
    Case("int", "int", "int8", ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9007199254740993"],
         "(random() * 1e18)::int8 * CASE WHEN random() < 0.5 THEN 9 ELSE -9 END"),
    Case("smallint", "int", "int2", ["0", "32767", "-32768"], "(random() * 30000)::int2"),
    Case("float", "float", "float8", ["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1", "1e15"],
         "(random() - 0.5) * pow(10, floor(random() * 600 - 300))"),
    Case("numeric_18_4", "numeric(18,4)", "numeric(18,4)", ["0", "99999999999999.9999", "-99999999999999.9999", "0.0001", "-0.0001"], digits(18, 4)),
    Case("numeric_19_0", "numeric(19,0)", "numeric(19,0)", ["9999999999999999999", "-9999999999999999999", "9223372036854775808", "-9223372036854775809"], digits(19)),
    Case("numeric_37_15", "numeric(37,15)", "numeric(37,15)", ["0.000000000000001", "-9999999999999999999999.999999999999999",
         "18446744073709.551616", "-18446.744073709551616"], digits(37, 15)),
    Case("numeric_38_0", "numeric(38,0)", "numeric(38,0)", ["9" * 38, "-" + "9" * 38], digits(38)),
    Case("numeric_76_30", "numeric(76,30)", "numeric(76,30)", ["9" * 46 + "." + "9" * 30, "-" + "9" * 46 + "." + "9" * 30], digits(76, 30)),
    Case("numeric_80_2", "numeric(80,2)", "numeric(80,2)", ["9" * 78 + ".99", "-" + "9" * 78 + ".99"], digits(80, 2)),
    Case("numeric_1024_200", "numeric(1024,200)", "numeric", ["9" * 824 + "." + "9" * 200, "-" + "9" * 824 + "." + "9" * 200], digits(1000, 200)),
    Case("date", "date", "date", ["2000-01-01", "1999-12-31", "0001-01-01", "9999-12-31", "10000-01-01", "5874897-12-31",
         "0001-12-31 BC", "4713-11-24 BC", "2024-02-29"], "date '1000-01-01' + (random() * 3000000)::int"),
    Case("date_raw", "date", "int8", ["2451545", "0", "-1", "-9131000000000000", "9131000000000000", "1721426", "1721425", "5373485"],
         "(random() * 6000000)::int8"),
    Case("time", "time", "time", TIMES, f"time '00:00' + {MICROS} * interval '1 us'"),
    Case("time_3", "time(3)", "time(3)", ["22:36:33.124", "23:59:59.999"]),
    Case("timetz", "timetz", "timetz", ["00:00:00+00", "23:59:59.999999-11:59", "00:00:00+14", "12:34:56.5+05:30",
         "01:00:00-05:19:36", "22:36:33.123456+06:30"],
         f"timezone(make_interval(mins => (random() * 1400 - 700)::int), (time '00:00' + {MICROS} * interval '1 us')::timetz)"),
    Case("timestamp", "timestamp", "timestamp", STAMPS, "timestamp '1000-01-01' + random() * interval '8000 years'"),
    Case("timestamp_raw", "timestamp", "int8", RAW_STAMPS),
    Case("timestamptz", "timestamptz", "timestamptz", [s.replace(" BC", "+00 BC") if " BC" in s else s + ("" if "inf" in s else "+00") for s in STAMPS],
         "timestamptz '1000-01-01 00:00:00+00' + random() * interval '8000 years'"),
    Case("timestamptz_raw", "timestamptz", "int8", RAW_STAMPS),
    Case("interval", "interval day to second", "interval", INTERVALS,
         "make_interval(days => (random() * 200000 - 100000)::int, secs => 0) + (random() - 0.5) * interval '100 hours'"),
    *[intervals(span) for span in ("day", "hour", "hour to minute", "hour to second", "minute", "minute to second", "second")],
    Case("interval_raw", "interval day to second", "int8", ["0", "9223372036854775807", "-9223372036854775807", "86400000000", "-1"]),
    Case("months", "interval year to month", "interval", MONTHS, "make_interval(months => (random() * 200000 - 100000)::int)"),
    Case("years", "interval year", "interval", ["3 years", "-3 years", "0"]),
    Case("only_months", "interval month", "interval", ["22 months", "-22 months", "0"]),
    Case("months_raw", "interval year to month", "int8", ["0", "-1", "9223372036854775807", "-9223372036854775807"]),
    Case("uuid", "uuid", "uuid", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
         "00010203-0405-0607-0809-0a0b0c0d0e0f"], "md5(random()::text || g)::uuid"),
    Case("char", "char(12)", "text", ["", "a", "  ab  ", "ᚱᚱᚱᚱ", "twelve chars"], f"left({text(WIDE, 4)}, 3)"),
    Case("char_blanks", "char(5)", "char(5)", ["", "a", "abc  "]),
    Case("varchar", "varchar(400)", "text", ["", " ", "trailing  ", "\u16b1\nb", "'\"\\", "\u0001\u007f", "NULL"], text(WIDE, 60)),
    Case("varchar_nul", "varchar(100)", "bytea", ["\\x", "\\x00", "\\x610062", "\\xe29191"]),
    Case("long_varchar", "long varchar(1000000)", "text", ["", "x" * 70000], text(WIDE, 300)),
    Case("binary", "binary(6)", "bytea", ["\\x", "\\x00", "\\x010203040506", "\\x5c5c"], "substring(decode(md5(random()::text || g), 'hex') FROM 1 FOR 4)"),
    Case("varbinary", "varbinary(100)", "bytea", ["\\x", "\\x00", "\\xff00ff", "\\x5c", "\\x27", "\\x0a0d7f80"], "decode(md5(random()::text || g), 'hex')"),
    Case("long_varbinary", "long varbinary(1000000)", "bytea", ["\\x", "\\x" + "00ff" * 40000], "decode(md5(random()::text || g), 'hex')"),
    Case("array_int", "array[int]", "int8[]", ["{}", "{NULL}", "{1,-2,NULL,9223372036854775807}"], "ARRAY[g, (random() * 1e9)::int8, NULL]"),
    Case("array_bool", "array[boolean]", "bool[]", ["{}", "{t,f,NULL}"], "ARRAY[random() < 0.5, NULL]"),
    Case("array_float", "array[float]", "float8[]", ["{}", "{NaN,Infinity,-Infinity,NULL,0.5}"], "ARRAY[random()::numeric(6,5)::float8]"),
    Case("array_numeric", "array[numeric(30,10)]", "numeric(30,10)[]", ["{}", "{-1.12,0,NULL,12345678901234567890.0123456789}"],
         f"ARRAY[{digits(30, 10)}]"),
    Case("array_varchar", "array[varchar(50)]", "text[]", ["{}", '{"","a\\"b",NULL,"\u16b1\n\\\\"}'], f"ARRAY[{text(WIDE, 20)}, NULL]"),
    Case("array_date", "array[date]", "date[]", ["{}", "{2021-06-10,NULL,0221-05-02}"], "ARRAY[date '1000-01-01' + (random() * 3000000)::int]"),
    Case("array_timestamp", "array[timestamp]", "timestamp[]", ["{}", '{"2021-06-10 01:02:03.5",NULL}'],
         "ARRAY[timestamp '1000-01-01' + random() * interval '8000 years']"),
    Case("array_uuid", "array[uuid]", "uuid[]", ["{}", "{00010203-0405-0607-0809-0a0b0c0d0e0f,NULL}"], "ARRAY[md5(random()::text || g)::uuid]"),
    Case("array_binary", "array[varbinary(20)]", "bytea[]", ["{}", '{"\\\\x41","\\\\x4210",NULL}'], "ARRAY[decode(md5(random()::text || g), 'hex')]"),
    Case("set_int", "set[int]", "int8[]", ["{}", "{1,2,NULL}"], "ARRAY[g, g + 1]"),
    Case("set_varchar", "set[varchar(20)]", "text[]", ["{}", '{"","b",NULL}'], "ARRAY[md5(g::text)]"),
    Case("array_array", "array[array[int]]", "text", ["[]", "[[1,2],null,[]]", "[null]"], "'[[' || g || ',null],[]]'"),
    Case("row", "row(name varchar(20), age int, tags array[int])", "text",
         ['{"name":"Amy","age":2,"tags":[1,2]}', '{"name":null,"age":null,"tags":null}', '{"name":"\\"\u16b1","age":-1,"tags":[]}'],
         """'{"name":"n' || g || '","age":' || g || ',"tags":[' || g || ']}'"""),
    Case("array_row", "array[row(name varchar(20), id int)]", "text", ['[{"name":"Amy","id":2},null]', "[]"]),
    Case("map", "map[varchar(10),int]", "text", ['{"a":1,"b":null}', "{}"]),
    Case("geometry", "geometry(1000)", "bytea", ["\\x0101000000000000000000f03f0000000000000040"]),
    Case("geography", "geography(1000)", "bytea", ["\\x0101000000000000000000f03f0000000000000040"]),
    Case("user_type", "mytype=varbinary(100)", "bytea", ["\\x010203"]),
]
