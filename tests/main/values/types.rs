//! Types of PostgreSQL: their type in files, edge values, random values.

use std::borrow::Cow;

use crate::support::Database;

/// A type of the server.
#[derive(Clone)]
pub(super) struct Type {
    /// Name of the type on the server.
    pub(super) pg: &'static str,
    /// The type that pyarrow must see.
    pub(super) arrow: &'static str,
    /// Edge values, as text.
    pub(super) edges: Cow<'static, [&'static str]>,
    /// SQL that makes a random value.
    pub(super) random: &'static str,
}

const fn ty(
    pg: &'static str,
    arrow: &'static str,
    edges: &'static [&'static str],
    random: &'static str,
) -> Type {
    Type { pg, arrow, edges: Cow::Borrowed(edges), random }
}

/// First version that has all types and values of the table.
const HAS_ALL: u64 = 150_000;

/// The types that this server has. Older servers lack some types and values.
pub(super) fn types(db: &Database) -> Vec<Type> {
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let takes =
        |ty: &Type, value: &str| db.number(&format!("SELECT takes({}, {value})::int", literal(ty.pg))) == 1;
    let version = db.number("SELECT current_setting('server_version_num')");
    let (mut known, mut lacking) = (Vec::new(), Vec::new());
    for ty in TYPES {
        if !takes(ty, "NULL") {
            lacking.push(ty.pg.to_owned());
            continue;
        }
        let (edges, refused): (Vec<_>, Vec<_>) = ty.edges.iter().partition(|edge| takes(ty, &literal(edge)));
        lacking.extend(refused.iter().map(|edge| format!("{edge} as {}", ty.pg)));
        known.push(Type { edges: edges.into(), ..ty.clone() });
    }
    eprintln!(
        "PostgreSQL {version} has {} types of {}; it lacks: {}",
        known.len(),
        TYPES.len(),
        lacking.join(", ")
    );
    // Servers that are not Debian's are tested with the types that they have. Debian has pgvector since 13.
    let debian = std::env::var_os("ADU_TEST_PG_BIN").is_none();
    lacking.retain(|what| !["public.vector", "public.halfvec"].iter().any(|ty| what.starts_with(ty)));
    assert!(!debian || version < HAS_ALL || lacking.is_empty(), "{lacking:?}");
    known
}

/// SQL that the types need.
pub(super) const SETUP: &str = "
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
    DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'postgis') THEN CREATE EXTENSION postgis; END IF;
        IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN CREATE EXTENSION vector; END IF;
    END $$;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'so \"so\"', '');
    CREATE TYPE floatrange AS RANGE (subtype = float8);
    CREATE FUNCTION takes(type text, value text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE format('SELECT %1$L::%2$s, ARRAY[NULL::%2$s]::%2$s[]', value, type); RETURN true;
           EXCEPTION WHEN OTHERS THEN RETURN false; END $$;
    CREATE FUNCTION big() RETURNS bigint LANGUAGE sql VOLATILE AS
        $$ SELECT ('x' || left(md5(random()::text), 16))::bit(64)::bigint $$;
    CREATE FUNCTION words() RETURNS text LANGUAGE sql VOLATILE AS
        $$ SELECT translate(left(md5(random()::text), (random() * 20)::int), 'abc012345', E'ü€😀 \"\\\\\\n,{') $$;
    CREATE FUNCTION bound() RETURNS text LANGUAGE sql VOLATILE AS
        $$ SELECT (array['[]', '()', '[)', '(]'])[1 + (random() * 3)::int] $$;
    CREATE FUNCTION moment() RETURNS timestamp LANGUAGE sql VOLATILE AS
        $$ SELECT timestamp '2000-01-01' + (random() * 4e9 - 2e9)::bigint * interval '1 s'
             + (random() * 1e6)::bigint * interval '1 us' $$;
";

const STRUCT_INTERVAL: &str =
    "struct<months: int32 not null, days: int32 not null, microseconds: int64 not null>";

macro_rules! range_of {
    ($bound:literal) => {
        concat!(
            "struct<lower: ",
            $bound,
            ", upper: ",
            $bound,
            ", lower_inc: bool not null, upper_inc: bool not null, empty: bool not null>"
        )
    };
}

/// The whole mapping.
pub(super) const TYPES: &[Type] = &[
    ty("boolean", "bool", &["t", "f"], "random() < 0.5"),
    ty("smallint", "int16", &["-32768", "32767", "0"], "(big() % 32768)::smallint"),
    ty("integer", "int32", &["-2147483648", "2147483647", "0"], "(big() % 2147483648)::integer"),
    ty("bigint", "int64", &["-9223372036854775808", "9223372036854775807", "0"], "big()"),
    ty("oid", "uint32", &["0", "4294967295"], "(abs(big() % 4294967296))::oid"),
    ty(
        "real",
        "float",
        &["NaN", "Infinity", "-Infinity", "-0", "3.4028235e38", "1e-45"],
        "(random() * power(10, random() * 70 - 35))::real",
    ),
    ty(
        "double precision",
        "double",
        &["NaN", "Infinity", "-Infinity", "-0", "1.7976931348623157e308", "5e-324"],
        "random() * power(10, random() * 500 - 250)",
    ),
    ty(
        "numeric(12,2)",
        "decimal128(12, 2)",
        &["-9999999999.99", "9999999999.99", "0", "-0.01"],
        "(random() * 2e8 - 1e8)::numeric(12,2)",
    ),
    ty(
        "numeric(38,10)",
        "decimal128(38, 10)",
        &["-9999999999999999999999999999.9999999999", "0.0000000001"],
        "big()::numeric / 3",
    ),
    ty(
        "numeric(76,30)",
        "decimal256(76, 30)",
        &["9999999999999999999999999999999999999999999999.999999999999999999999999999999", "-1e-30"],
        "big()::numeric * big()::numeric / 7",
    ),
    ty("numeric(5,-2)", "decimal128(7, 0)", &["9999900", "-9999900", "0"], "big() % 9999900"),
    ty("numeric(3,5)", "decimal128(5, 5)", &["0.00999", "-0.00999"], "random() * 0.009"),
    ty(
        "numeric",
        "string",
        &["NaN", "Infinity", "-Infinity", "0.000", "-1e1000", "1e-1000", "1.50"],
        "big()::numeric * power(10::numeric, (random() * 60 - 30)::int)",
    ),
    ty("numeric(100,5)", "string", &["1e90", "NaN"], "big()::numeric / 9"),
    ty(
        "money",
        "decimal128(19, 2)",
        &["-92233720368547758.08", "92233720368547758.07", "0"],
        "(big() / 100)::numeric::money",
    ),
    ty("text", "string", &["", " ", "\\N", "NULL", "line\nbreak\ttab\\", "\u{1}", "ü€😀"], "words()"),
    ty("character varying(20)", "string", &["", "ü€😀"], "words()"),
    ty("character(5)", "string", &["", "a", "äöüß€"], "left(words(), 5)"),
    ty("name", "string", &["", "a b"], "words()"),
    ty("public.citext", "string", &["", "AbC", "abc"], "words()"),
    ty("\"char\"", "string", &["", "a", "\\"], "chr(33 + (random() * 90)::int)"),
    ty(
        "public.mood",
        "string",
        &["sad", "so \"so\"", ""],
        "(enum_range(NULL::mood))[1 + (random() * 3)::int]",
    ),
    ty("xml", "string", &["<a b=\"c\">€</a>", "", "text"], "xmlelement(name a, words())"),
    ty("bytea", "binary", &["\\x", "\\x00ff0a5c"], "decode(md5(random()::text), 'hex')"),
    ty(
        "uuid",
        "extension<arrow.uuid>",
        &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "md5(random()::text)::uuid",
    ),
    ty("json", "extension<arrow.json>", &["{\"a\" : 1, \"a\":2}", "null", " [1,  2] "], "to_json(words())"),
    ty(
        "jsonb",
        "extension<arrow.json>",
        &["{\"a\": 1.50}", "null", "\"\\u00fc\"", "[]"],
        "jsonb_build_object(words(), random(), 'x', ARRAY[big()])",
    ),
    ty(
        "date",
        "date32[day]",
        &["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "0001-12-31 BC", "1970-01-01"],
        "moment()::date",
    ),
    ty(
        "timestamp without time zone",
        "timestamp[us]",
        &[
            "infinity",
            "-infinity",
            "4714-11-24 BC",
            "294247-01-10 04:00:54.775806",
            "1969-12-31 23:59:59.999999",
        ],
        "moment()",
    ),
    ty(
        "timestamp with time zone",
        "timestamp[us, tz=UTC]",
        &["infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294247-01-10 04:00:54.775806+00"],
        "moment()::timestamptz",
    ),
    ty("time without time zone", "time64[us]", &["00:00:00", "23:59:59.999999"], "moment()::time"),
    ty(
        "time with time zone",
        "string",
        &["00:00:00+15:59:59", "24:00:00-15:59", "12:00:00.5+00"],
        "timetz(moment() AT TIME ZONE 'UTC')",
    ),
    ty(
        "interval",
        STRUCT_INTERVAL,
        &[
            "0",
            "178000000 years",
            "-178000000 years",
            "-2147483648 days",
            "9223372036854775807 us",
            "-9223372036854775808 us",
            "1 mon -30 days 24:00:00.000001",
        ],
        "make_interval(months => (big() % 1000)::int, days => (big() % 1000)::int) + (big() / 1e4)::bigint * interval '1 us'",
    ),
    ty("bit(9)", "string", &["000000000", "101010101"], "(big() % 512)::int::bit(9)"),
    ty(
        "bit varying(20)",
        "string",
        &["", "1"],
        "substring(big()::bit(64) for (random() * 20)::int)::bit varying(20)",
    ),
    ty(
        "inet",
        "string",
        &["0.0.0.0", "10.1.2.3/8", "::1", "fe80::/64"],
        "'0.0.0.0'::inet + abs(big() % 4294967296)",
    ),
    ty(
        "cidr",
        "string",
        &["0.0.0.0/0", "10.0.0.0/8", "::/0"],
        "network(set_masklen('0.0.0.0'::inet + abs(big() % 4294967296), (random() * 32)::int))",
    ),
    ty(
        "macaddr",
        "string",
        &["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"],
        "left(md5(random()::text), 12)::macaddr",
    ),
    ty("macaddr8", "string", &["00:00:00:00:00:00:00:00"], "left(md5(random()::text), 16)::macaddr8"),
    ty("tsvector", "string", &["", "'it''s' a:1A,2 'b \\\\ c':3"], "to_tsvector('simple', words())"),
    ty("tsquery", "string", &["'a' & !( 'b' | 'c':A* )", ""], "plainto_tsquery('simple', words())"),
    ty(
        "pg_lsn",
        "string",
        &["0/0", "FFFFFFFF/FFFFFFFF"],
        "(to_hex((random() * 1e9)::int) || '/' || to_hex((random() * 1e9)::int))::pg_lsn",
    ),
    ty("regclass", "string", &["pg_class", "4294967295", "-"], "'pg_type'::regclass"),
    ty("regtype", "string", &["integer", "public.mood"], "'text[]'::regtype"),
    ty(
        "point",
        "struct<x: double not null, y: double not null>",
        &["(0,-0)", "(NaN,Infinity)", "(1e-300,5)"],
        "point(random(), random() * 1e9)",
    ),
    ty("line", "string", &["{1,-1,0}"], "line(point(random(), 0), point(2, random()))"),
    ty("lseg", "string", &["[(0,0),(1,1)]"], "lseg(point(random(), 0), point(2, random()))"),
    ty("box", "string", &["(1,1),(0,0)"], "box(point(random(), 0), point(2, random()))"),
    ty(
        "path",
        "string",
        &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"],
        "path(polygon(3, circle(point(random(), 0), 1)))",
    ),
    ty("polygon", "string", &["((0,0),(1,1),(2,0))"], "polygon(4, circle(point(random(), 0), 1))"),
    ty("circle", "string", &["<(0,0),1>", "<(1,2),0>"], "circle(point(random(), 0), random())"),
    ty("public.ltree", "string", &["", "a.b.c"], "md5(random()::text)::ltree"),
    ty("int2vector", "string", &["", "1 2 -3"], "(big() % 100)::text::int2vector"),
    ty(
        "int4range",
        range_of!("int32"),
        &["empty", "(,)", "[1,)", "(,5]", "[-2147483648,2147483647)"],
        "int4range((random() * 100)::int, (random() * 100 + 100)::int, bound())",
    ),
    ty(
        "numrange",
        range_of!("string"),
        &["empty", "(,)", "[1.50,)", "(NaN,NaN]", "[-1e100,Infinity]"],
        "numrange((random() * 100)::numeric, (random() * 100 + 100)::numeric, bound())",
    ),
    ty(
        "daterange",
        range_of!("date32[day]"),
        &["empty", "(,)", "[today,infinity]", "[-infinity,infinity)", "[2000-01-01,2000-01-02)"],
        "daterange(moment()::date, NULL, bound())",
    ),
    ty(
        "tstzrange",
        range_of!("timestamp[us, tz=UTC]"),
        &["empty", "(,)", "[2000-01-01 00:00:00.000001+00,infinity)"],
        "tstzrange(NULL, moment()::timestamptz, bound())",
    ),
    ty(
        "public.floatrange",
        range_of!("double"),
        &["empty", "(,)", "[-Infinity,NaN]", "[-0,0]"],
        "floatrange(random(), 1 + random(), bound())",
    ),
    ty(
        "int4multirange",
        concat!("list<element: ", range_of!("int32"), ">"),
        &["{}", "{[1,2),[5,)}", "{(,)}"],
        "int4multirange(int4range((random() * 9)::int, 10), int4range(20, 21 + (random() * 9)::int))",
    ),
    ty(
        "tsmultirange",
        concat!("list<element: ", range_of!("timestamp[us]"), ">"),
        &["{}", "{[2000-01-01,infinity]}"],
        "tsmultirange(tsrange(moment(), NULL, bound()))",
    ),
    ty(
        "public.hstore",
        "map<string, string>",
        &["", "a=>NULL,\"\"=>\"\"", "\"k \\\" \\\\\"=>\"v, =>\""],
        "hstore(ARRAY[words(), words()], ARRAY[words(), NULL])",
    ),
    ty(
        "public.geometry(PointZ,4326)",
        "binary",
        &["SRID=4326;POINT Z (1 2 3)", "SRID=4326;POINT Z EMPTY", "SRID=4326;POINT Z (-0 1e300 -1e-300)"],
        "ST_SetSRID(ST_MakePoint(random(), random(), random()), 4326)",
    ),
    ty(
        "public.geometry(Geometry,3857)",
        "binary",
        &[
            "SRID=3857;POLYGON((0 0,4 0,4 4,0 0),(1 1,2 1,2 2,1 1))",
            "SRID=3857;GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 2,3 4))",
            "SRID=3857;CURVEPOLYGON(CIRCULARSTRING(0 0,4 0,4 4,0 4,0 0))",
            "SRID=3857;MULTIPOINT EMPTY",
        ],
        "ST_Transform(ST_SetSRID(ST_MakePoint(random() * 90, random() * 80), 4326), 3857)",
    ),
    ty(
        "public.geometry",
        "binary",
        &[
            "POINT(1 2)",
            "SRID=4326;POINT ZM (1 2 3 4)",
            "TIN(((0 0,0 1,1 1,0 0)))",
            "SRID=3857;POINT M (1 2 3)",
        ],
        "ST_SetSRID(ST_MakePoint(random(), random()), (random() * 2)::int * 4326)",
    ),
    ty(
        "public.geography(LineString,4326)",
        "binary",
        &["LINESTRING(0 0,180 -90)", "LINESTRING EMPTY"],
        "ST_MakeLine(ST_MakePoint(random(), 0), ST_MakePoint(1, random()))::geography",
    ),
    ty("public.geography", "binary", &["POINT(1 2)"], "ST_MakePoint(random(), random())::geography"),
    ty(
        "public.vector(3)",
        "fixed_size_list<element: float not null>[3]",
        &["[1,-0,1e-45]", "[3.4028235e38,-3.4028235e38,0.1]"],
        "ARRAY[random(), big(), -random() / 1e30]::vector",
    ),
    ty(
        "public.vector",
        "list<element: float not null>",
        &["[1]", "[-0,1e-45,3.4028235e38]"],
        "array_fill(random(), ARRAY[1 + (random() * 20)::int])::real[]::vector",
    ),
    ty(
        "public.halfvec(2)",
        "fixed_size_list<element: float not null>[2]",
        &["[65504,-65504]", "[6e-8,-0]"],
        "ARRAY[random(), random() * 60000]::real[]::vector::halfvec",
    ),
    ty(
        "public.halfvec",
        "list<element: float not null>",
        &["[1]", "[6.1e-5,-6e-8,0.1]"],
        "array_fill(random(), ARRAY[1 + (random() * 20)::int])::real[]::vector::halfvec",
    ),
];
