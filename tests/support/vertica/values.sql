-- Values of PostgreSQL as Vertica sends them. Each function returns what goes on the wire, or the text that the
-- server prints. Byte forms: vertica_python/vertica/deserializer.py (load_*_binary), texts: load_*_text there.

CREATE SCHEMA IF NOT EXISTS vertica;

-- numeric: the unscaled value as a two's complement integer of 8 bytes for each limb, big-endian.
CREATE OR REPLACE FUNCTION vertica.unscaled(value numeric, limbs int) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  base constant numeric := 18446744073709551616;
  half constant numeric := 9223372036854775808;
  span numeric := 1;
  rest numeric := value;
  next numeric;
  limb numeric;
  bytes bytea := '';
BEGIN
  IF value = 'NaN' THEN
    RAISE EXCEPTION 'Vertica''s numeric has no NaN' USING ERRCODE = '22003';
  END IF;
  FOR i IN 1..limbs LOOP span := span * base; END LOOP;
  IF value >= div(span, 2) OR value < -div(span, 2) THEN
    RAISE EXCEPTION 'the numeric needs more than % bytes', limbs * 8 USING ERRCODE = '22003';
  END IF;
  IF rest < 0 THEN rest := rest + span; END IF;
  FOR i IN 1..limbs LOOP
    next := div(rest, base);
    limb := rest - next * base;
    IF limb >= half THEN limb := limb - base; END IF;
    bytes := int8send(limb::int8) || bytes;
    rest := next;
  END LOOP;
  RETURN bytes;
END $$;

-- 10 to the power of scale, exactly. power() rounds large results.
CREATE OR REPLACE FUNCTION vertica.ten(scale int) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT ('1' || repeat('0', scale))::numeric $$;

-- float: 15 significant digits, as Vertica prints by default.
CREATE OR REPLACE FUNCTION vertica.float_text(value float8) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET extra_float_digits = 0 AS $$ SELECT value::text $$;

-- date: the Julian day.
CREATE OR REPLACE FUNCTION vertica.julian(value date) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT (value - date '2000-01-01')::int8 + 2451545 $$;

-- Division that rounds down, exactly. A quotient of PostgreSQL has only some digits, so floor() of it may be too high.
CREATE OR REPLACE FUNCTION vertica.floored(a numeric, b numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT div(a - mod(mod(a, b) + b, b), b) $$;

-- The year (1 BC is 0), month and day of a Julian day, for days that PostgreSQL's date cannot hold.
CREATE OR REPLACE FUNCTION vertica.civil(julian int8, OUT year int8, OUT month int8, OUT day int8)
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  z numeric := julian::numeric - 1721120;  -- days since 0000-03-01
  era numeric := vertica.floored(z, 146097);
  doe int8 := (z - era * 146097)::int8;
  yoe int8 := (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  doy int8 := doe - (365 * yoe + yoe / 4 - yoe / 100);
  mp int8 := (5 * doy + 2) / 153;
BEGIN
  day := doy - (153 * mp + 2) / 5 + 1;
  month := CASE WHEN mp < 10 THEN mp + 3 ELSE mp - 9 END;
  year := yoe + (era * 400)::int8 + CASE WHEN month <= 2 THEN 1 ELSE 0 END;
END $$;

CREATE OR REPLACE FUNCTION vertica.day_text(julian int8) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT CASE WHEN length(y::text) < 4 THEN lpad(y::text, 4, '0') ELSE y::text END
    || '-' || lpad(month::text, 2, '0') || '-' || lpad(day::text, 2, '0')
  FROM vertica.civil(julian), LATERAL (SELECT CASE WHEN year > 0 THEN year ELSE 1 - year END AS y) AS s
$$;

CREATE OR REPLACE FUNCTION vertica.date_text(julian int8) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT vertica.day_text(julian) || CASE WHEN (vertica.civil(julian)).year > 0 THEN '' ELSE ' BC' END
$$;

-- A number of microseconds as hh:mm:ss with as many fractional digits as are needed.
CREATE OR REPLACE FUNCTION vertica.clock_text(micros int8) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT to_char(micros / 3600000000, 'FM9999999999999900') || ':' || lpad((micros / 60000000 % 60)::text, 2, '0')
    || ':' || lpad((micros / 1000000 % 60)::text, 2, '0')
    || CASE WHEN micros % 1000000 = 0 THEN ''
       ELSE '.' || rtrim(lpad((micros % 1000000)::text, 6, '0'), '0') END
$$;

-- timestamp and timestamptz that are stored as microseconds from 2000-01-01, for years that PostgreSQL lacks.
CREATE OR REPLACE FUNCTION vertica.timestamp_text(micros int8, zone text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT CASE micros WHEN 9223372036854775807 THEN 'infinity' WHEN (-9223372036854775808)::int8 THEN '-infinity'
    ELSE vertica.day_text(day + 2451545) || ' ' || vertica.clock_text((micros - day::numeric * 86400000000)::int8)
      || zone || CASE WHEN (vertica.civil(day + 2451545)).year > 0 THEN '' ELSE ' BC' END END
  FROM (SELECT vertica.floored(micros, 86400000000)::int8 AS day) AS s
$$;

-- timetz: the upper 40 bits are microseconds in UTC, the lower 24 bits are 86400 minus the offset in seconds.
CREATE OR REPLACE FUNCTION vertica.timetz_bits(value timetz) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (CASE WHEN utc BETWEEN 0 AND 86400000000 THEN utc
          ELSE (utc + 172800000000) % 86400000000 END << 24) | (86400 - zone)
  FROM (SELECT (extract(hour FROM value)::int8 * 3600 + extract(minute FROM value)::int8 * 60 - zone) * 1000000
          + extract(microseconds FROM value)::int8 AS utc, zone
        FROM (SELECT extract(timezone FROM value)::int8 AS zone) AS z) AS s
$$;

-- interval of days to seconds: microseconds. interval of years and months: months.
CREATE OR REPLACE FUNCTION vertica.microseconds(value interval) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT ((extract(year FROM value)::int8 * 12 + extract(month FROM value)::int8) * 30
     + extract(day FROM value)::int8) * 86400000000 + extract(hour FROM value)::int8 * 3600000000
     + extract(minute FROM value)::int8 * 60000000 + extract(microseconds FROM value)::int8
$$;

CREATE OR REPLACE FUNCTION vertica.months(value interval) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT extract(year FROM value)::int8 * 12 + extract(month FROM value)::int8
$$;

-- The text of an interval, by the range of its type ("day to second", "hour", …).
CREATE OR REPLACE FUNCTION vertica.interval_text(value int8, range text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
  sign text := CASE WHEN value < 0 THEN '-' ELSE '' END;
  n numeric := abs(value::numeric);
  days int8 := div(n, 86400000000);
  hours int8 := div(n, 3600000000);
  minutes int8 := div(n, 60000000);
  seconds text := div(n, 1000000)::text;
  part text := CASE WHEN n % 1000000 = 0 THEN '' ELSE '.' || rtrim(lpad((n % 1000000)::int8::text, 6, '0'), '0') END;
  rest text := lpad((div(n, 1000000) % 60)::text, 2, '0') || part;
  mm text := lpad((minutes % 60)::text, 2, '0');
  lead text := CASE WHEN days = 0 THEN '' ELSE days::text || ' ' END;
  hh text := lpad((hours % 24)::text, 2, '0');
BEGIN
  RETURN sign || CASE range
    WHEN 'day' THEN days::text
    WHEN 'day to hour' THEN CASE WHEN hours % 24 = 0 THEN days::text WHEN days = 0 THEN hours || ':00' ELSE lead || hh END
    WHEN 'day to minute' THEN lead || hh || ':' || mm
    WHEN 'hour' THEN hours::text
    WHEN 'hour to minute' THEN lpad(hours::text, greatest(2, length(hours::text)), '0') || ':' || mm
    WHEN 'hour to second' THEN lpad(hours::text, greatest(2, length(hours::text)), '0') || ':' || mm || ':' || rest
    WHEN 'minute' THEN minutes::text
    WHEN 'minute to second' THEN lpad(minutes::text, greatest(2, length(minutes::text)), '0') || ':' || rest
    WHEN 'second' THEN seconds || part
    WHEN 'year' THEN div(n, 12)::text
    WHEN 'month' THEN n::text
    WHEN 'year to month' THEN div(n, 12)::text || '-' || (n % 12)::text
    ELSE lead || hh || ':' || mm || ':' || rest
  END;
END $$;

-- A cheap key for HASH: deterministic, nearly uniform in [0, 2^63), NULLs included.
CREATE OR REPLACE FUNCTION vertica.hash(line text) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT hashtextextended(line, 0) & 9223372036854775807 $$;
