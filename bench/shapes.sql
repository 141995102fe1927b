-- Tables of odd shapes. A COPY of each takes a second or two. Their names are the cases of the bench.
SET synchronous_commit = off;
SELECT setseed(0.5);

-- 500 columns.
SELECT 'CREATE TABLE columns_500 AS SELECT ' || string_agg(format('(random() * %s)::%s AS c%s', 10 ^ (1 + i % 8),
         (ARRAY['int', 'bigint', 'float8', 'int'])[1 + i % 4], i), ', ') || ' FROM generate_series(1, 40000)'
  FROM generate_series(1, 500) i \gexec

-- Text of 10 KB, which is stored out of line.
CREATE TABLE text_10kb (id int, document text);
ALTER TABLE text_10kb ALTER document SET STORAGE EXTERNAL;
INSERT INTO text_10kb
  SELECT g, (SELECT string_agg(md5((g * 400 + i)::text), ' ') FROM generate_series(1, 310) i)
    FROM generate_series(1, 40000) g;

-- Four of five values are NULL.
SELECT 'CREATE TABLE nulls_80 AS SELECT ' || string_agg(format('CASE WHEN random() < 0.2 THEN %s END AS c%s',
         (ARRAY['(random() * 1e6)::int', '(random() * 1e12)::bigint', 'random()', 'md5(random()::text)'])[1 + i % 4], i), ', ')
         || ' FROM generate_series(1, 1200000)'
  FROM generate_series(1, 20) i \gexec

-- Few distinct strings.
CREATE TABLE strings_few AS
  SELECT (ARRAY['open', 'paid', 'shipped', 'returned', 'lost'])[1 + (random() * 4)::int] AS status,
         'country of number ' || (random() * 200)::int AS country,
         'customer segment ' || (random() * 10)::int AS segment,
         'warehouse ' || (random() * 1000)::int AS warehouse,
         (ARRAY['AIR', 'SHIP', 'TRUCK', 'RAIL'])[1 + (random() * 3)::int] AS mode
    FROM generate_series(1, 3000000);

-- Arrays of ten integers.
CREATE TABLE int_arrays AS
  SELECT g AS id, ARRAY[g, g + 1, g * 7 % 1000, g % 13, 5, 6, g % 100, g / 2, 9, 10] AS numbers
    FROM generate_series(1, 1500000) g;

-- 50 narrow integers.
SELECT 'CREATE TABLE narrow_50 AS SELECT ' || string_agg(format('(random() * %s)::%s AS c%s', 10 ^ (1 + i % 4),
         (ARRAY['smallint', 'int'])[1 + i % 2], i), ', ') || ' FROM generate_series(1, 1200000)'
  FROM generate_series(1, 50) i \gexec
VACUUM ANALYZE;
