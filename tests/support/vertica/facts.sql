-- Tables in which a test declares what PostgreSQL does not know about a relation, and the tables of
-- v_catalog and v_monitor that are answered from them and from PostgreSQL's catalogue. Names and meaning of the
-- columns: the pages "V_CATALOG schema" and "V_MONITOR schema" of Vertica's documentation.

CREATE SCHEMA IF NOT EXISTS vertica;
CREATE SCHEMA IF NOT EXISTS v_catalog;
CREATE SCHEMA IF NOT EXISTS v_monitor;

CREATE TABLE IF NOT EXISTS vertica.users (
  name text PRIMARY KEY, password text, method text NOT NULL DEFAULT 'trust');
INSERT INTO vertica.users VALUES ('dbadmin', NULL, 'trust') ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS vertica.columns (
  schema text, relation text, name text, type text NOT NULL, PRIMARY KEY (schema, relation, name));

CREATE TABLE IF NOT EXISTS vertica.tables (
  schema text, relation text, temporary bool NOT NULL DEFAULT false, flex bool NOT NULL DEFAULT false,
  definition text, partition_expression text, segment_expression text, sort text[],
  PRIMARY KEY (schema, relation));

CREATE TABLE IF NOT EXISTS vertica.projections (
  schema text, relation text, name text, super bool NOT NULL DEFAULT true,
  segmented bool NOT NULL DEFAULT true, up_to_date bool NOT NULL DEFAULT true, segment_expression text,
  expressions bool NOT NULL DEFAULT false, sort text[], PRIMARY KEY (schema, relation, name));

CREATE TABLE IF NOT EXISTS vertica.nodes (name text PRIMARY KEY, state text, host text, port int);

CREATE TABLE IF NOT EXISTS vertica.policies (
  table_name text, enabled text NOT NULL DEFAULT 'Enabled', type text NOT NULL DEFAULT 'Row Policy', expression text,
  column_name text);

CREATE TABLE IF NOT EXISTS vertica.sizes (
  schema text, relation text, rows int8, bytes int8, PRIMARY KEY (schema, relation));

CREATE OR REPLACE FUNCTION vertica.id(oid oid) RETURNS int8
LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT 45035996273704960 + oid::int8 $$;

-- Vertica's type of a column, from PostgreSQL's.
CREATE OR REPLACE FUNCTION vertica.type_of(type oid, typmod int) RETURNS text
LANGUAGE sql STABLE STRICT AS $$
  SELECT CASE
    WHEN t.typtype = 'd' THEN vertica.type_of(t.typbasetype, t.typtypmod)
    WHEN t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A' THEN
      'array[' || vertica.type_of(t.typelem, typmod) || ']'
    ELSE CASE t.typname
      WHEN 'bool' THEN 'boolean'
      WHEN 'int2' THEN 'int' WHEN 'int4' THEN 'int' WHEN 'int8' THEN 'int' WHEN 'oid' THEN 'int'
      WHEN 'float4' THEN 'float' WHEN 'float8' THEN 'float'
      WHEN 'numeric' THEN CASE WHEN typmod = -1 THEN 'numeric(37,15)'
        ELSE format('numeric(%s,%s)', ((typmod - 4) >> 16) & 65535, (typmod - 4) & 2047) END
      WHEN 'text' THEN 'varchar(65000)' WHEN 'name' THEN 'varchar(128)'
      WHEN 'varchar' THEN CASE WHEN typmod = -1 THEN 'varchar(65000)'
        ELSE format('varchar(%s)', least(65000, 4 * (typmod - 4))) END
      WHEN 'bpchar' THEN format('char(%s)', greatest(1, typmod - 4))
      WHEN 'date' THEN 'date' WHEN 'time' THEN 'time' WHEN 'timetz' THEN 'timetz'
      WHEN 'timestamp' THEN 'timestamp' WHEN 'timestamptz' THEN 'timestamptz'
      WHEN 'interval' THEN 'interval day to second'
      WHEN 'uuid' THEN 'uuid' WHEN 'bytea' THEN 'varbinary(65000)'
      ELSE 'long varchar(1048576)' END
    END
  FROM pg_type AS t WHERE t.oid = type
$$;

-- Relations of users. The leaves of a partitioned table are no tables in Vertica.
CREATE OR REPLACE VIEW vertica.relations AS
  SELECT c.oid, n.nspname AS schema, c.relname AS relation, c.relkind AS kind, c.relpersistence
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'vertica', 'v_catalog', 'v_monitor', 'pg_toast')
    AND n.nspname NOT LIKE 'pg_temp%' AND n.nspname NOT LIKE 'pg_toast_temp%'
    AND (has_table_privilege(current_user, c.oid, 'SELECT') OR has_any_column_privilege(current_user, c.oid, 'SELECT'))
    AND has_schema_privilege(current_user, n.oid, 'USAGE');

CREATE OR REPLACE VIEW vertica.attributes AS
  SELECT r.oid, r.schema, r.relation, r.kind, a.attname::text AS name, a.attnum, a.atttypid, NOT a.attnotnull AS nullable,
    a.attnum::int8 AS position,
    coalesce(d.type, vertica.type_of(a.atttypid, a.atttypmod)) AS type
  FROM vertica.relations AS r
  JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN vertica.columns AS d ON d.schema = r.schema AND d.relation = r.relation AND d.name = a.attname;

CREATE OR REPLACE VIEW vertica.keys AS
  SELECT r.oid, r.schema, r.relation, i.conname::text AS constraint_name, k.position::int8 AS position, a.attname::text AS name
  FROM vertica.relations AS r
  JOIN pg_constraint AS i ON i.conrelid = r.oid AND i.contype = 'p'
  CROSS JOIN LATERAL unnest(i.conkey) WITH ORDINALITY AS k(attnum, position)
  JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum = k.attnum;

-- The first columns of a table: its key, or else all columns that can be hashed and sorted.
CREATE OR REPLACE FUNCTION vertica.leading(relation oid) RETURNS text[]
LANGUAGE sql STABLE AS $$
  SELECT coalesce(
    (SELECT array_agg(name ORDER BY position) FROM vertica.keys WHERE oid = $1),
    (SELECT array_agg(name ORDER BY attnum) FROM vertica.attributes WHERE oid = $1
       AND type !~ '^(long|array|set|row|map|geo|.*=)'))
$$;

CREATE OR REPLACE FUNCTION vertica.hash_of(names text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
  SELECT 'hash(' || string_agg(CASE WHEN n ~ '^[a-z_][a-z0-9_]*$' THEN n
    ELSE '"' || replace(n, '"', '""') || '"' END, ', ' ORDER BY o) || ')'
  FROM unnest(names) WITH ORDINALITY AS u(n, o)
$$;

CREATE OR REPLACE VIEW vertica.stored AS
  SELECT r.oid, r.schema, r.relation, coalesce(p.name, r.relation || '_super') AS name,
    coalesce(p.super, true) AS super, coalesce(p.up_to_date, true) AS up_to_date,
    coalesce(p.expressions, false) AS expressions,
    CASE WHEN p.name IS NOT NULL THEN p.segmented ELSE t.segment_expression IS DISTINCT FROM '' END AS segmented,
    CASE WHEN p.name IS NOT NULL THEN p.segment_expression
      ELSE nullif(coalesce(t.segment_expression, vertica.hash_of(vertica.leading(r.oid))), '') END AS segment_expression,
    coalesce(p.sort, t.sort, vertica.leading(r.oid)) AS sort,
    row_number() OVER (PARTITION BY r.oid ORDER BY p.name) AS number
  FROM vertica.relations AS r
  LEFT JOIN vertica.tables AS t ON t.schema = r.schema AND t.relation = r.relation
  LEFT JOIN vertica.projections AS p ON p.schema = r.schema AND p.relation = r.relation
  WHERE r.kind IN ('r', 'p') AND t.definition IS NULL;

-- What kinds.py says about the types that occur. The server adds missing ones before it answers from the catalogue.
CREATE TABLE IF NOT EXISTS vertica.types (
  type text PRIMARY KEY, data_type text, data_type_id int8, data_type_length int8, character_maximum_length int8,
  numeric_precision int8, numeric_scale int8, datetime_precision int8, interval_precision int8);

CREATE TABLE IF NOT EXISTS vertica.parts (
  type_id int8, type_name text, type_kind text, position int8, name text, field_type text, numeric_precision int8,
  numeric_scale int8, PRIMARY KEY (type_id, position));

-- HAS_TABLE_PRIVILEGE, by name or by id.
CREATE OR REPLACE FUNCTION vertica.privilege(relation int8, wanted text) RETURNS bool
LANGUAGE sql STABLE STRICT AS $$
  SELECT has_table_privilege(current_user, (relation - 45035996273704960)::oid, wanted)
$$;
CREATE OR REPLACE FUNCTION vertica.privilege(relation text, wanted text) RETURNS bool
LANGUAGE sql STABLE STRICT AS $$ SELECT has_table_privilege(current_user, relation, wanted) $$;
