-- v_catalog and v_monitor. "v_monitor.system" and "v_monitor.sessions" are not here: the server knows them.

CREATE OR REPLACE VIEW v_catalog.nodes AS
  SELECT name AS node_name, (row_number() OVER (ORDER BY name) + 45035996273704980)::int8 AS node_id,
    state AS node_state, host AS node_address, 'PERMANENT'::text AS node_type
  FROM vertica.nodes;

CREATE OR REPLACE VIEW v_catalog.schemata AS
  SELECT vertica.id(oid) AS schema_id, nspname::text AS schema_name, false AS is_system_schema
  FROM pg_namespace
  WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'vertica', 'v_catalog', 'v_monitor');

CREATE OR REPLACE VIEW v_catalog.tables AS
  SELECT 45035996273704962::int8 + n.oid::int8 AS table_schema_id, r.schema::text AS table_schema,
    vertica.id(r.oid) AS table_id, r.relation::text AS table_name,
    r.relpersistence = 't' OR coalesce(t.temporary, false) AS is_temp_table, false AS is_system_table,
    false AS force_outer, coalesce(t.flex, false) AS is_flextable, false AS has_aggregate_projection,
    coalesce(t.partition_expression, CASE WHEN r.kind = 'p' THEN pg_get_partkeydef(r.oid) END, '') AS partition_expression,
    coalesce(t.definition, '') AS table_definition
  FROM vertica.relations AS r JOIN pg_namespace AS n ON n.nspname = r.schema
  LEFT JOIN vertica.tables AS t ON t.schema = r.schema AND t.relation = r.relation
  WHERE r.kind IN ('r', 'p', 'f');

CREATE OR REPLACE VIEW v_catalog.views AS
  SELECT r.schema::text AS table_schema, vertica.id(r.oid) AS table_id, r.relation::text AS table_name,
    pg_get_viewdef(r.oid) AS view_definition, false AS is_system_view
  FROM vertica.relations AS r WHERE r.kind IN ('v', 'm');

CREATE OR REPLACE VIEW v_catalog.columns AS
  SELECT vertica.id(a.oid) AS table_id, a.schema::text AS table_schema, a.relation::text AS table_name,
    false AS is_system_table, vertica.id(a.oid)::text || '-' || a.position AS column_id, a.name AS column_name,
    f.data_type, f.data_type_id, f.data_type_length, f.character_maximum_length,
    f.numeric_precision, f.numeric_scale, f.datetime_precision, f.interval_precision,
    a.position AS ordinal_position, a.nullable AS is_nullable, ''::text AS column_default, false AS is_identity
  FROM vertica.attributes AS a JOIN vertica.types AS f ON f.type = a.type
  WHERE a.kind IN ('r', 'p', 'f');

CREATE OR REPLACE VIEW v_catalog.complex_types AS
  SELECT type_id, type_kind, type_name, position + 6 AS field_id, name AS field_name, field_type AS field_type_name,
    position AS field_position, numeric_precision, numeric_scale
  FROM vertica.parts;

CREATE OR REPLACE VIEW v_catalog.view_columns AS
  SELECT vertica.id(a.oid) AS table_id, a.schema::text AS table_schema, a.relation::text AS table_name,
    vertica.id(a.oid)::text || '-' || a.position AS column_id, a.name AS column_name,
    f.data_type, f.data_type_id, f.data_type_length, f.character_maximum_length,
    f.numeric_precision, f.numeric_scale, f.datetime_precision, f.interval_precision,
    a.position AS ordinal_position
  FROM vertica.attributes AS a JOIN vertica.types AS f ON f.type = a.type
  WHERE a.kind IN ('v', 'm');

CREATE OR REPLACE VIEW v_catalog.primary_keys AS
  SELECT vertica.id(k.oid) + 7 AS constraint_id, k.constraint_name, k.name AS column_name,
    k.position::text AS ordinal_position, k.relation::text AS table_name, 'p'::text AS constraint_type,
    true AS is_enabled, k.schema::text AS table_schema
  FROM vertica.keys AS k;

CREATE OR REPLACE VIEW v_catalog.access_policy AS
  SELECT 45035996273799000 + row_number() OVER () AS access_policy_oid, table_name, enabled AS is_policy_enabled,
    type AS policy_type, expression, column_name, false AS trust_grants
  FROM vertica.policies;

CREATE OR REPLACE VIEW v_catalog.projections AS
  SELECT s.schema::text AS projection_schema, vertica.id(s.oid) * 10 + s.number AS projection_id,
    s.name AS projection_name, s.name AS projection_basename, vertica.id(s.oid) AS anchor_table_id,
    s.relation::text AS anchor_table_name, false AS is_prejoin, s.super AS is_super_projection,
    s.segmented AS is_segmented, coalesce(s.segment_expression, '') AS segment_expression,
    ''::text AS segment_range, s.up_to_date AS is_up_to_date, true AS has_statistics,
    false AS is_aggregate_projection, s.expressions AS has_expressions
  FROM vertica.stored AS s;

CREATE OR REPLACE VIEW v_catalog.projection_columns AS
  SELECT s.name AS projection_name, vertica.id(s.oid) * 10 + s.number AS projection_id,
    a.name AS projection_column_name, a.position - 1 AS column_position,
    (array_position(s.sort, a.name) - 1)::int8 AS sort_position, vertica.id(s.oid)::text || '-' || a.position AS column_id,
    f.data_type, vertica.id(s.oid) AS table_id, s.schema::text AS table_schema, s.relation::text AS table_name,
    a.name AS table_column_name, vertica.id(s.oid)::text || '-' || a.position AS table_column_id
  FROM vertica.stored AS s JOIN vertica.attributes AS a ON a.oid = s.oid
  JOIN vertica.types AS f ON f.type = a.type;

CREATE OR REPLACE FUNCTION vertica.rows_of(relation oid) RETURNS int8
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE n int8;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s', relation::regclass) INTO n;
  RETURN n;
END $$;

-- The rows and bytes of a projection on each node.
CREATE OR REPLACE VIEW v_monitor.projection_storage AS
  WITH up AS (SELECT name, row_number() OVER (ORDER BY name) AS n, count(*) OVER () AS k FROM vertica.nodes),
  -- Counted once, and not again for each node.
  s AS MATERIALIZED (
    SELECT s.*, vertica.id(s.oid) * 10 + s.number AS id, coalesce(z.rows, vertica.rows_of(s.oid)) AS rows,
      coalesce(z.bytes, pg_total_relation_size(s.oid)) AS bytes,
      (SELECT count(*) FROM vertica.attributes AS a WHERE a.oid = s.oid) AS columns
    FROM vertica.stored AS s LEFT JOIN vertica.sizes AS z ON z.schema = s.schema AND z.relation = s.relation)
  -- The manual calls this number VARCHAR.
  SELECT up.name AS node_name, s.id::text AS projection_id, s.name AS projection_name,
    s.schema::text AS projection_schema, s.columns AS projection_column_count,
    CASE WHEN s.segmented THEN s.rows / up.k + CASE WHEN up.n <= s.rows % up.k THEN 1 ELSE 0 END ELSE s.rows END
      AS row_count,
    CASE WHEN s.segmented THEN s.bytes / up.k + CASE WHEN up.n <= s.bytes % up.k THEN 1 ELSE 0 END ELSE s.bytes END
      AS used_bytes,
    1::int8 AS ros_count, s.schema::text AS anchor_table_schema, s.relation::text AS anchor_table_name,
    vertica.id(s.oid) AS anchor_table_id
  FROM s CROSS JOIN up;

GRANT SELECT ON vertica.relations, vertica.columns, vertica.tables TO public;
GRANT USAGE ON SCHEMA vertica, v_catalog, v_monitor TO public;
GRANT SELECT ON ALL TABLES IN SCHEMA v_catalog, v_monitor TO public;
