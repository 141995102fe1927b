-- Odd values of every kind of column, for readers of Parquet. A table's comment is its line in the README. If a
-- portable export has other values, a view of the same name in the schema `portable` has these values.
CREATE SCHEMA readers;
CREATE SCHEMA portable;
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TYPE readers.mood AS ENUM ('sad', 'so "so"', '');
CREATE TYPE readers.timerange AS RANGE (subtype = time);
CREATE TYPE readers.pair AS (n int, t text);
CREATE TYPE readers.odd AS (u uuid, t time, w numeric(50,2), j json, d date);
SET TimeZone = 'UTC';

CREATE TABLE readers.a01 (b boolean, i2 smallint, i4 integer, i8 bigint, o oid);
INSERT INTO readers.a01 VALUES (true, -32768, -2147483648, -9223372036854775808, 0),
    (false, 32767, 2147483647, 9223372036854775807, 4294967295), (NULL, NULL, NULL, NULL, NULL);
COMMENT ON TABLE readers.a01 IS 'boolean, integers, oid';

CREATE TABLE readers.a02 AS SELECT g AS key, g * 1000003 AS far, (g % 40)::int AS few,
    ('x' || md5(g::text))::bit(64)::bigint AS random, ('x' || md5(g::text))::bit(32)::int AS random4,
    (('x' || md5(g::text))::bit(64)::bigint & 1073741823) AS bits30,
    (('x' || md5(g::text))::bit(64)::bigint & 288230376151711743) AS bits58,
    date '2000-01-01' + (g % 9000)::int AS day, timestamp '2000-01-01' + g * interval '1.000001 s' AS instant,
    (g * 12345.67)::numeric(15,2) AS amount, md5(g::text) AS word, CASE WHEN g % 3 = 0 THEN g END AS holes
    FROM generate_series(1, 30000::bigint) g;
COMMENT ON TABLE readers.a02 IS 'whole numbers in many rows: how they are encoded';

CREATE TABLE readers.a03 (f4 real, f8 double precision);
INSERT INTO readers.a03 VALUES ('NaN', 'NaN'), ('Infinity', 'Infinity'), ('-Infinity', '-Infinity'), ('-0', '-0'),
    (3.4028235e38, 1.7976931348623157e308), (1e-45, 5e-324), (0.1, 0.1), (NULL, NULL);
COMMENT ON TABLE readers.a03 IS 'real, double precision';

CREATE TABLE readers.a04 (n12 numeric(12,2), n38 numeric(38,10), m money);
INSERT INTO readers.a04 VALUES (-9999999999.99, -9999999999999999999999999999.9999999999, '-92233720368547758.08'),
    (0.01, 0.0000000001, '0.10'), (NULL, NULL, NULL);
COMMENT ON TABLE readers.a04 IS 'numeric up to 38 digits, money';

CREATE TABLE readers.a05 (n39 numeric(39,2), n76 numeric(76,30));
INSERT INTO readers.a05 VALUES (1.50, 9999999999999999999999999999999999999999999999.999999999999999999999999999999),
    (-9999999999999999999999999999999999999.99, -1e-30), (NULL, NULL);
COMMENT ON TABLE readers.a05 IS 'numeric of 39 to 76 digits';

CREATE TABLE readers.a06 (n numeric, t text, v varchar(20), c char(5), ci public.citext, e readers.mood, i inet, tz timetz);
INSERT INTO readers.a06 VALUES ('NaN', E'\u0001\n\t€😀', '', 'a', 'AbC', 'so "so"', '10.1.2.3/8', '24:00:00-15:59'),
    (-1.50, '', 'ü', '', '', '', '::1', '12:00:00.5+00'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
COMMENT ON TABLE readers.a06 IS 'text, numeric without precision, and what becomes text';

CREATE TABLE readers.a07 (j json, jb jsonb);
INSERT INTO readers.a07 VALUES ('{"a" : 1, "a":2.50}', '{"a": 12345678901234567890.50}'), (' [1,  {"b": null}] ', '[]'),
    ('null', '"ü"'), (NULL, NULL);
COMMENT ON TABLE readers.a07 IS 'json, jsonb';

CREATE TABLE readers.a08 (b bytea);
INSERT INTO readers.a08 VALUES ('\x'), ('\x00ff0a5c'), (NULL);
COMMENT ON TABLE readers.a08 IS 'bytea';

CREATE TABLE readers.a09 (u uuid);
INSERT INTO readers.a09 VALUES ('00000000-0000-0000-0000-000000000000'), ('01234567-89ab-cdef-fedc-ba9876543210'), (NULL);
COMMENT ON TABLE readers.a09 IS 'uuid';

CREATE TABLE readers.a10 (u uuid);
INSERT INTO readers.a10 VALUES (NULL), (NULL);
COMMENT ON TABLE readers.a10 IS 'uuid, all NULL';

CREATE TABLE readers.a11 (t time);
INSERT INTO readers.a11 VALUES ('00:00:00'), ('23:59:59.999999'), ('01:02:03.45'), (NULL);
COMMENT ON TABLE readers.a11 IS 'time';

CREATE TABLE readers.a12 (d date, ts timestamp, tz timestamptz);
INSERT INTO readers.a12 VALUES ('1970-01-01', '1969-12-31 23:59:59.999999', '2000-01-01 00:00:00.5+00'),
    ('1678-01-01', '1678-01-01', '2261-12-31 23:59:59.999999+00'), (NULL, NULL, NULL);
COMMENT ON TABLE readers.a12 IS 'date, timestamp, timestamptz from 1678 to 2261';

CREATE TABLE readers.a13 (d date, ts timestamp, tz timestamptz);
INSERT INTO readers.a13 VALUES ('0001-01-01', '0001-01-01', '0001-01-01 00:00:00+00'),
    ('9999-12-31', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00'), (NULL, NULL, NULL);
COMMENT ON TABLE readers.a13 IS 'the same from 0001 to 9999';

CREATE TABLE readers.a14 (d date, ts timestamp, tz timestamptz);
INSERT INTO readers.a14 VALUES ('4714-11-24 BC', '4714-11-24 BC', '4714-11-24 00:00:00+00 BC'),
    ('5874897-12-31', '294247-01-10 04:00:54.775806', '294247-01-10 04:00:54.775806+00'), (NULL, NULL, NULL);
COMMENT ON TABLE readers.a14 IS 'the same before 0001 and after 9999';

CREATE TABLE readers.a15 (d date, ts timestamp, tz timestamptz, p date NOT NULL);
INSERT INTO readers.a15 VALUES ('infinity', 'infinity', 'infinity', '2000-01-01'),
    ('-infinity', '-infinity', '-infinity', '-infinity'), ('2000-01-01', '2000-01-01', '2000-01-01', 'infinity');
COMMENT ON TABLE readers.a15 IS 'infinity and -infinity of these';
CREATE VIEW portable.a15 AS SELECT CASE WHEN isfinite(d) THEN d END AS d, CASE WHEN isfinite(ts) THEN ts END AS ts,
    CASE WHEN isfinite(tz) THEN tz END AS tz, CASE WHEN isfinite(p) THEN p END AS p FROM readers.a15;

CREATE TABLE readers.a16 (i interval, p point);
INSERT INTO readers.a16 VALUES ('1 mon -30 days 24:00:00.000001', '(0,-0)'), ('-178000000 years', '(1e-300,5)'),
    (NULL, NULL);
COMMENT ON TABLE readers.a16 IS 'interval, point';

CREATE TABLE readers.a17 (i int[], t text[], f float8[], b bool[], n numeric(12,2)[]);
INSERT INTO readers.a17 VALUES ('{1,NULL,-2}', '{"",NULL,€}', '{NaN,NULL,-0}', '{t,NULL}', '{1.50,NULL}'),
    ('{}', '{}', '{}', '{}', '{}'), ('{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}');
COMMENT ON TABLE readers.a17 IS 'arrays';

CREATE TABLE readers.a18 (c readers.pair);
INSERT INTO readers.a18 VALUES (ROW(1, 'a')), (ROW(NULL, '')), (ROW(NULL, NULL));
COMMENT ON TABLE readers.a18 IS 'composites';

CREATE TABLE readers.a19 (c readers.pair[]);
INSERT INTO readers.a19 VALUES (ARRAY[ROW(1, 'a'), ROW(NULL, NULL)]::readers.pair[]), ('{}');
COMMENT ON TABLE readers.a19 IS 'arrays of composites';

CREATE TABLE readers.a20 (i int4range, n numrange);
INSERT INTO readers.a20 VALUES ('empty', '[1.50,)'), ('[1,5)', '(,NaN]'), ('(,)', 'empty');
COMMENT ON TABLE readers.a20 IS 'ranges';

CREATE TABLE readers.a21 (h public.hstore);
INSERT INTO readers.a21 VALUES ('a=>NULL,b=>""'), (''), ('"k \" "=>"v, =>"');
COMMENT ON TABLE readers.a21 IS 'hstore';

CREATE TABLE readers.a22 (i int[], c readers.pair, r int4range, h public.hstore);
INSERT INTO readers.a22 VALUES (NULL, NULL, NULL, NULL), ('{1}', ROW(1, 'a'), '[1,2)', 'a=>b');
COMMENT ON TABLE readers.a22 IS 'NULL of arrays, composites, ranges, hstore';

CREATE TABLE readers.a23 (u uuid[], t time[], w numeric(50,2)[], j jsonb[], d date[]);
INSERT INTO readers.a23 VALUES ('{01234567-89ab-cdef-fedc-ba9876543210,NULL}', '{01:02:03.45,NULL}', '{1.50,NULL}',
    ARRAY['{"a": 1.50}', NULL]::jsonb[], '{2000-01-01,NULL}'), ('{}', '{}', '{}', '{}', '{}');
COMMENT ON TABLE readers.a23 IS 'arrays of uuid, time, numeric of 50 digits, jsonb';

CREATE TABLE readers.a24 (c readers.odd, t readers.timerange);
INSERT INTO readers.a24 VALUES
    (ROW('01234567-89ab-cdef-fedc-ba9876543210', '01:02:03.45', -1.50, '{"a" : 1}', '2000-01-01'), '[01:00,23:59:59.5)'),
    (ROW(NULL, '23:59:59.999999', 0, NULL, NULL), 'empty');
COMMENT ON TABLE readers.a24 IS 'composites and ranges of these';

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
        CREATE TABLE readers.a25 (v public.vector(3), w public.vector);
        INSERT INTO readers.a25 VALUES ('[1,-0,0.1]', '[1]'), ('[3.4028235e38,0,1e-45]', '[0.1,2]'), (NULL, NULL);
        COMMENT ON TABLE readers.a25 IS 'vector';
    END IF;
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'postgis') THEN
        CREATE EXTENSION IF NOT EXISTS postgis SCHEMA public;
        CREATE TABLE readers.a26 (p public.geometry(Point,4326));
        INSERT INTO readers.a26 VALUES ('SRID=4326;POINT(1 2)'), ('SRID=4326;POINT(-0.5 1e300)'), (NULL);
        COMMENT ON TABLE readers.a26 IS 'geometry with declared SRID and kind';
        CREATE TABLE readers.a27 (g public.geometry, a public.geometry(Geometry,3857));
        INSERT INTO readers.a27 VALUES ('SRID=4326;POINT ZM (1 2 3 4)', 'SRID=3857;POLYGON((0 0,4 0,4 4,0 0))'), (NULL, NULL);
        COMMENT ON TABLE readers.a27 IS 'other geometry';
    END IF;
END $$;

GRANT USAGE ON SCHEMA readers, portable TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA readers, portable TO PUBLIC;

-- Columns that directories are named after.
CREATE SCHEMA hive;
CREATE TABLE hive.parts AS
SELECT n,
       (ARRAY['EU', 'a/b', 'a=b', '50%', '%2F', 'ü', 'a b', ' a', 'a ', '.', '..', '~', 'a:b', '007', 'true', '2024-01-01', 'NULL',
              'it''s "q"', E'line\nbreak', E'a\\b', '__x', '_x', '.x', '[x]{y}^', 'a,b;c', 'x#y?z*', '1e5'])[1 + n % 27] AS text,
       n % 2 = 0 AS flag,
       (n % 7 - 3)::smallint AS small,
       n % 5 AS whole,
       CASE n % 3 WHEN 0 THEN 9223372036854775807 WHEN 1 THEN -9223372036854775808 ELSE 5 END AS big,
       CASE n % 3 WHEN 0 THEN '0001-01-01'::date WHEN 1 THEN '9999-12-31' ELSE '2024-02-29' END AS day,
       md5((n % 5)::text)::uuid AS id
FROM generate_series(1, 300) n;
INSERT INTO hive.parts (n) VALUES (0);
