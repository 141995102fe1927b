#!/usr/bin/env python3
"""Compares how engines read Parquet files: does an engine read the same values as pyarrow?

    engines.py ENGINE     standard input is JSON, {"directories": ["DIR", …]}

Standard output is JSON, one object per directory: {"directory", "columns": {"column": RESULT, …}}. The rows of a
directory are those of its files, in the order of their names. A RESULT is "same", "refused: …", or "other: …" with the
first value that differs. cast_back.py checks whether pyarrow is right. If the engine refuses the whole file, each
column is read alone.
"""

import datetime
import decimal
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}


def number(value):
    """A float in a unique form: its shortest text, with the sign of zero."""
    value = float(value)
    return "NaN" if math.isnan(value) else repr(value)


def digits(value):
    """A decimal in a unique form: without zeros at its end."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def instant(count, unit):
    if unit != "ns":
        return count * MICROSECONDS[unit]
    return count // 1000 if count % 1000 == 0 else f"{count} ns"


def plain(array, like):
    """The values of an array in a form that can be compared. `like` is the type that pyarrow finds in the file."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in plain(chunk, like)]
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage, like)
    if isinstance(like, pa.BaseExtensionType):
        like = like.storage_type
    ty = array.type
    if pa.types.is_dictionary(ty):
        return plain(array.dictionary_decode(), like)
    if pa.types.is_date32(ty):
        return array.cast(pa.int32()).to_pylist()
    if pa.types.is_timestamp(ty):
        return [None if v is None else instant(v, ty.unit) for v in array.cast(pa.int64()).to_pylist()]
    if pa.types.is_time64(ty):
        return [None if v is None else instant(v, ty.unit) for v in array.cast(pa.int64()).to_pylist()]
    if pa.types.is_map(ty):
        item = like.item_type if pa.types.is_map(like) else ty.item_type
        keys, items = plain(array.keys, pa.string()), plain(array.items, item)
        return between(array, list(zip(keys, items)), array.offsets)
    if pa.types.is_fixed_size_list(ty):
        # Not `flatten`: it leaves out the values below NULLs.
        whole = pa.types.is_list(like) or pa.types.is_fixed_size_list(like)
        values = plain(array.values, like.value_type if whole else ty.value_type)
        size, start = ty.list_size, array.offset
        rows = [values[(start + i) * size : (start + i + 1) * size] for i in range(len(array))]
        return [row if ok else None for row, ok in zip(rows, array.is_valid().to_pylist())]
    if pa.types.is_list(ty) or pa.types.is_large_list(ty):
        whole = pa.types.is_list(like) or pa.types.is_fixed_size_list(like)
        return between(array, plain(array.values, like.value_type if whole else ty.value_type), array.offsets)
    if pa.types.is_struct(ty):
        types = {f.name: f.type for f in like} if pa.types.is_struct(like) else {}
        names = [f.name for f in ty]
        parts = [plain(array.field(i), types.get(name, ty.field(i).type)) for i, name in enumerate(names)]
        rows = [dict(zip(names, row)) for row in zip(*parts)]
        return [row if ok else None for row, ok in zip(rows, array.is_valid().to_pylist())]
    return [value_like(value, like) for value in array.to_pylist()]


def between(array, values, offsets):
    ends = offsets.to_pylist()
    valid = array.is_valid().to_pylist()
    return [[*map(listed, values[ends[i] : ends[i + 1]])] if ok else None for i, ok in enumerate(valid)]


def listed(value):
    return list(value) if isinstance(value, tuple) else value


def value_like(value, like):
    """A Python value in the form of `plain`."""
    if isinstance(like, pa.BaseExtensionType):
        like = like.storage_type
    if value is None:
        return None
    if pa.types.is_map(like):
        pairs = value.items() if isinstance(value, dict) else value
        return [[value_like(k, like.key_type), value_like(v, like.item_type)] for k, v in pairs]
    if pa.types.is_list(like) or pa.types.is_fixed_size_list(like):
        return [value_like(v, like.value_type) for v in value] if hasattr(value, "__iter__") else value
    if pa.types.is_struct(like):
        return {f.name: value_like(value.get(f.name), f.type) for f in like} if isinstance(value, dict) else str(value)
    if pa.types.is_binary(like) or pa.types.is_fixed_size_binary(like):
        if hasattr(value, "bytes"):
            value = value.bytes
        if like == pa.binary(16) and isinstance(value, str) and UUID.fullmatch(value):
            return value.replace("-", "")
        value = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        return bytes(value).hex() if isinstance(value, (bytes, bytearray, memoryview)) else f"no bytes: {value}"
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return value
    if isinstance(value, decimal.Decimal):
        return digits(value)
    if pa.types.is_decimal(like):
        return f"the double {value!r}" if isinstance(value, float) else digits(decimal.Decimal(value))
    if pa.types.is_floating(like):
        return number(value)
    if isinstance(value, float):
        return f"the double {value!r}" if pa.types.is_integer(like) and not value.is_integer() else int(value) if value == value and abs(value) != math.inf else number(value)
    return value


def pandas_like(values, like):
    """Like `value_like`, for a column of pandas."""
    import numpy
    import pandas

    def one(value, like):
        if isinstance(value, numpy.generic) and not isinstance(value, numpy.datetime64):
            value = value.item()
        if value is None or value is pandas.NaT or value is pandas.NA:
            return None
        if isinstance(value, float) and math.isnan(value) and not pa.types.is_floating(like):
            return None
        if isinstance(value, (pandas.Timestamp, numpy.datetime64, datetime.date)):
            instant = pandas.Timestamp(value)
            count = numpy.datetime64(instant.to_datetime64(), "us").astype(int).item()
            return count // 86_400_000_000 if pa.types.is_date32(like) else count
        if isinstance(value, (list, numpy.ndarray)) and (pa.types.is_list(like) or pa.types.is_fixed_size_list(like)):
            return [one(v, like.value_type) for v in value]
        if pa.types.is_string(like) and not isinstance(value, (str, bytes)):
            return f"no text: {value}"
        return value_like(value, like)

    return [one(value, like.storage_type if isinstance(like, pa.BaseExtensionType) else like) for value in values]


def unmarked(value, like):
    """A value from engines.mjs, which marks values that JSON does not have."""
    if isinstance(like, pa.BaseExtensionType):
        like = like.storage_type
    if isinstance(value, list):
        if pa.types.is_struct(like):
            return f"a list: {value}"
        inner = like.value_type if hasattr(like, "value_type") else like
        return [unmarked(v, inner) for v in value]
    if not isinstance(value, dict):
        return value_like(value, like)
    if set(value) == {"$integer"}:
        return value_like(int(value["$integer"]), like)
    if set(value) == {"$float"}:
        return value_like(float(value["$float"]), like)
    if set(value) == {"$bytes"}:
        return value_like(bytes.fromhex(value["$bytes"]), like)
    if set(value) == {"$milliseconds"}:
        ms = value["$milliseconds"]
        if ms is None:
            return "no date"
        return ms // 86_400_000 if pa.types.is_date32(like) else ms * 1000
    if pa.types.is_map(like):
        return [[key, unmarked(item, like.item_type)] for key, item in value.items()]
    if pa.types.is_struct(like):
        return {f.name: unmarked(value.get(f.name), f.type) for f in like}
    return f"an object: {value}"


class Arrow:
    """An engine that returns Arrow data."""

    def read(self, paths, names, schema):
        table = self.table(paths, names)
        return {name: plain(table.column(name), schema.field(name).type) for name in names}


class Pyarrow(Arrow):
    version = pa.__version__

    def table(self, paths, names):
        return pa.concat_tables([pq.ParquetFile(path).read(columns=names) for path in paths])


class Duckdb(Arrow):
    def __init__(self):
        import duckdb

        self.version = duckdb.__version__
        self.duck = duckdb.connect()
        self.duck.execute("SET TimeZone = 'UTC'; SET threads = 2")

    def table(self, paths, names):
        columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
        return self.duck.execute(f"SELECT {columns} FROM read_parquet(?)", [paths]).to_arrow_table()


class Polars(Arrow):
    def __init__(self):
        import polars

        self.version, self.polars = polars.__version__, polars

    def table(self, paths, names):
        return self.polars.read_parquet(paths, columns=names).to_arrow()


class Datafusion(Arrow):
    def __init__(self):
        import datafusion

        self.version, self.datafusion = datafusion.__version__, datafusion

    def table(self, paths, names):
        context = self.datafusion.SessionContext()
        tables = []
        for path in paths:
            frame = context.read_parquet(path)
            columns = [self.datafusion.col('"' + name.replace('"', '""') + '"') for name in names]
            tables.append(frame.select(*columns).to_arrow_table())
        return pa.concat_tables(tables)


class Daft(Arrow):
    def __init__(self):
        import daft

        self.version, self.daft = daft.__version__, daft

    def table(self, paths, names):
        return self.daft.read_parquet(paths).select(*names).to_arrow()


class Spark(Arrow):
    def __init__(self):
        import pyspark
        from pyspark.sql import SparkSession

        self.version = pyspark.__version__
        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.driver.bindAddress", "127.0.0.1")
        self.spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
        self.spark.sparkContext.setLogLevel("OFF")

    def table(self, paths, names):
        return self.spark.read.parquet(*paths).select(*[f"`{name}`" for name in names]).toArrow()


class Clickhouse(Arrow):
    def __init__(self):
        import chdb

        self.version, self.chdb = chdb.__version__, chdb
        (self.version,) = str(chdb.query("SELECT version()", "TSV")).split()

    def table(self, paths, names):
        columns = ", ".join("`" + name + "`" for name in names)
        tables = []
        for path in paths:
            query = f"SELECT {columns} FROM file('{path}', Parquet) SETTINGS output_format_arrow_string_as_string = 0"
            tables.append(pa.ipc.open_file(pa.BufferReader(self.chdb.query(query, "Arrow").bytes())).read_all())
        return pa.concat_tables(tables)


class Fastparquet:
    def __init__(self):
        import fastparquet

        self.version, self.fastparquet = fastparquet.__version__, fastparquet

    def read(self, paths, names, schema):
        columns = {name: [] for name in names}
        for path in paths:
            frame = self.fastparquet.ParquetFile(path).to_pandas()
            for name in names:
                like = schema.field(name).type
                parts = [c for c in frame.columns if c.startswith(name + ".")]
                if name not in frame.columns and parts:
                    columns[name].extend("a column for each part" for _ in range(len(frame)))
                else:
                    columns[name].extend(pandas_like(list(frame[name]), like))
        return columns


class Hyparquet:
    def __init__(self):
        self.script = pathlib.Path(__file__).with_name("engines.mjs")
        self.modules = os.environ["ADU_NODE_MODULES"]
        manifest = pathlib.Path(self.modules, "hyparquet/package.json")
        self.version = json.loads(manifest.read_text(encoding="utf-8"))["version"]

    def read(self, paths, names, schema):
        command = ["node", str(self.script), self.modules, json.dumps(names), *paths]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it crashed")
        rows = json.loads(done.stdout)
        return {name: [unmarked(row[name], schema.field(name).type) for row in rows] for name in names}


ENGINES = {
    "pyarrow": Pyarrow,
    "DuckDB": Duckdb,
    "Polars": Polars,
    "DataFusion": Datafusion,
    "Spark": Spark,
    "ClickHouse": Clickhouse,
    "daft": Daft,
    "fastparquet": Fastparquet,
    "hyparquet": Hyparquet,
}


def first_difference(ours, theirs):
    if len(ours) != len(theirs):
        return f"{len(theirs)} rows instead of {len(ours)}"
    for row, (left, right) in enumerate(zip(ours, theirs)):
        # Compared as texts, because 1 == True in Python.
        if json.dumps(left, sort_keys=True, default=str) != json.dumps(right, sort_keys=True, default=str):
            return f"row {row} is {short(right)} instead of {short(left)}"
    return None


def short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def results(engine, directory):
    """The result of an engine for each column."""
    paths = sorted(str(path) for path in pathlib.Path(directory).glob("*.parquet"))
    reference = Pyarrow()
    schema = pq.read_schema(paths[0])
    expected = reference.read(paths, schema.names, schema)

    def compare(names):
        try:
            found = engine.read(paths, names, schema)
        except BaseException as error:  # a panic of Rust is not an Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            if len(names) > 1:
                return {name: result for each in names for name, result in compare([each]).items()}
            said = " ".join(f"{type(error).__name__}: {error}".split())
            return {names[0]: "refused: " + said[:160]}
        differ = {name: first_difference(expected[name], found[name]) for name in names}
        return {name: "same" if why is None else "other: " + why for name, why in differ.items()}

    return compare(schema.names)


def main():
    name = sys.argv[1]
    engine = ENGINES[name]()
    print(json.dumps({"engine": name, "version": engine.version}), flush=True)
    for directory in json.load(sys.stdin)["directories"]:
        columns = results(engine, directory)
        print(json.dumps({"directory": directory, "columns": columns}), flush=True)


if __name__ == "__main__":
    main()
