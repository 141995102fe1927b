-- Lets an ordinary role read tables by pages (read = "pages" of ADU Export). Run it in each database, as a superuser:
--
--   psql -d warehouse -v role=exporter -f page-reader.sql
--
-- It makes one function for this role: adu_page_reader.<role>. Whoever may execute the function may read what the role may
-- read; nothing else is asked, so EXECUTE is granted to this role alone. It may be run again: it replaces what an older
-- release made. Run it again after a restore from a dump: the function then refuses, because its role has another number.
-- page-reader-remove.sql removes everything.
--
-- The function returns pages of a table only if the role may now SELECT the whole table, if the table has no row-level
-- security and no dropped columns, and only pages whose rows are visible to everybody. Beside these rows, pages show what
-- PostgreSQL notes about them (numbers of transactions), and behind a row up to 7 bytes that belonged to a removed row of
-- the same table.

\set ON_ERROR_STOP on
\if :{?role}
\else
  \warn 'name the role: psql -v role=exporter -f page-reader.sql'
  \quit
\endif

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;
SELECT set_config('adu_export.role', :'role', true) AS role \gset

DO $do$
DECLARE
  for_role text := current_setting('adu_export.role');
  role_oid oid := (SELECT oid FROM pg_roles WHERE rolname = for_role);
  extension text;
  safe boolean;
  other record;
BEGIN
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE EXCEPTION 'run this as a superuser';
  END IF;
  IF role_oid IS NULL THEN
    RAISE EXCEPTION 'there is no role %', for_role;
  END IF;
  IF current_setting('server_version_num')::int NOT BETWEEN 140000 AND 189999 THEN
    RAISE EXCEPTION 'pages of PostgreSQL 14 to 18 can be read';
  END IF;

  -- Nobody else may own the schema, or be the role that asks for row-level security.
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'adu_page_reader') THEN
    CREATE SCHEMA adu_page_reader;
  END IF;
  IF NOT (SELECT r.rolsuper FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
          WHERE n.nspname = 'adu_page_reader') THEN
    RAISE EXCEPTION 'the schema adu_page_reader belongs to a role that is no superuser';
  END IF;
  REVOKE ALL ON SCHEMA adu_page_reader FROM PUBLIC;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'adu_page_reader') THEN
    CREATE ROLE adu_page_reader NOLOGIN NOINHERIT;
  END IF;
  IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'adu_page_reader'
             AND (r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole
                  OR EXISTS (SELECT FROM pg_auth_members m WHERE r.oid = m.member
                             OR r.oid = m.roleid AND NOT (SELECT g.rolsuper FROM pg_roles g WHERE g.oid = m.member)))) THEN
    RAISE EXCEPTION 'the role adu_page_reader must not log in, bypass row-level security, or have members';
  END IF;

  CREATE EXTENSION IF NOT EXISTS pageinspect SCHEMA adu_page_reader;
  -- Who owns the schema of get_raw_page could put a function of his own in its place.
  SELECT quote_ident(n.nspname), s.rolsuper INTO extension, safe
    FROM pg_extension x
    JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = x.oid
      AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_proc p ON p.oid = d.objid JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_roles o ON o.oid = n.nspowner JOIN pg_database b ON b.datname = current_database()
    JOIN pg_roles s ON s.oid = CASE WHEN o.rolname = 'pg_database_owner' THEN b.datdba ELSE o.oid END
    WHERE x.extname = 'pageinspect' AND p.proname = 'get_raw_page'
      AND p.proargtypes::text = '25 25 20';
  IF extension IS NULL THEN
    RAISE EXCEPTION 'the extension pageinspect is too old: ALTER EXTENSION pageinspect UPDATE';
  END IF;
  IF NOT safe THEN
    RAISE EXCEPTION 'the schema of pageinspect belongs to a role that is no superuser: '
      'ALTER EXTENSION pageinspect SET SCHEMA adu_page_reader';
  END IF;

  -- A superuser bypasses row-level security and so cannot ask for it. This role can, and it sees what holds now,
  -- whatever the caller's snapshot shows.
  DROP FUNCTION IF EXISTS adu_page_reader.has_row_security(oid);
  CREATE FUNCTION adu_page_reader.has_row_security(relation oid) RETURNS boolean
    LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'SELECT row_security_active(relation)';
  REVOKE ALL ON FUNCTION adu_page_reader.has_row_security(oid) FROM PUBLIC;
  ALTER FUNCTION adu_page_reader.has_row_security(oid) OWNER TO adu_page_reader;

  EXECUTE format('DROP FUNCTION IF EXISTS adu_page_reader.%I(oid, bigint, integer)', for_role);
  EXECUTE format($make$
    CREATE FUNCTION adu_page_reader.%1$I(relation oid, first bigint, pages integer) RETURNS bytea[]
      LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
      SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
    AS $function$
    DECLARE
      -- The role whose rights count.
      reader CONSTANT oid := %2$s;
      table_name text;
      kind text;
      schema_name text;
      columns integer;
      taken bytea[];
    BEGIN
      IF pages NOT BETWEEN 1 AND 64 OR first < 0 OR first + pages > 4294967294 THEN
        RAISE EXCEPTION 'ask for 1 to 64 pages' USING ERRCODE = 'invalid_parameter_value';
      END IF;
      -- A restored dump keeps the number, and the role has another one.
      IF to_regrole(%4$L) IS DISTINCT FROM reader::regrole THEN
        RAISE EXCEPTION 'this function was made for another role: run page-reader.sql again'
          USING ERRCODE = 'insufficient_privilege';
      END IF;
      -- get_raw_page takes a name. While pages are read, neither the table nor its schema may get another name: so both
      -- are locked, until the end of this block, which undoes the locks.
      BEGIN
        LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE;
        table_name := relation::regclass::text;
        -- This locks the table until then, and runs nothing: not even the planner, which would run functions of indexes.
        EXECUTE 'PREPARE adu_page_reader AS SELECT FROM ONLY ' || table_name;
        EXECUTE 'DEALLOCATE adu_page_reader';
        IF to_regclass(table_name) IS DISTINCT FROM relation::regclass THEN
          RAISE EXCEPTION 'the table has another name now' USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        -- From here on, only functions that look into the server's caches decide: they see what holds now.
        SELECT o.type, o.schema INTO kind, schema_name
          FROM pg_identify_object('pg_class'::regclass, relation, 0) o;
        -- The caller's snapshot may be older than the table, or than a column that was added and dropped. No column ever
        -- loses its number.
        columns := coalesce((SELECT c.relnatts FROM pg_class c WHERE c.oid = relation), 0);
        WHILE pg_describe_object('pg_class'::regclass, relation, columns + 1) IS NOT NULL LOOP
          columns := columns + 1;
        END LOOP;
        IF kind IS NULL OR kind NOT IN ('table', 'materialized view')
           OR schema_name IS NULL OR schema_name ~ '^pg_' OR schema_name = 'information_schema'
           OR has_schema_privilege(reader, schema_name, 'USAGE') IS NOT TRUE
           OR has_table_privilege(reader, relation, 'SELECT') IS NOT TRUE
           OR adu_page_reader.has_row_security(relation) IS NOT FALSE
           OR EXISTS (SELECT FROM generate_series(1, columns) n
                      WHERE has_column_privilege(reader, relation, n::smallint, 'SELECT') IS NULL) THEN
          RAISE EXCEPTION 'pages of %% may not be read', table_name USING ERRCODE = 'insufficient_privilege';
        END IF;
        -- A page has a hole between its items and its rows.
        SELECT array_agg(CASE WHEN get_byte(p.page, 10) & 4 = 4 AND p.lower_end <= p.upper_start
                              THEN substr(p.page, 1, p.lower_end) || substr(p.page, p.upper_start + 1) END)
          INTO taken
          FROM (SELECT r.page, get_byte(r.page, 12) + 256 * get_byte(r.page, 13) AS lower_end,
                       get_byte(r.page, 14) + 256 * get_byte(r.page, 15) AS upper_start
                FROM (SELECT %3$s.get_raw_page(table_name, 'main'::text, b) AS page
                      FROM generate_series(first, first + pages - 1, 1::bigint) b OFFSET 0) r OFFSET 0) p;
        RAISE EXCEPTION 'done' USING ERRCODE = 'AD001';
      EXCEPTION WHEN SQLSTATE 'AD001' THEN
        RETURN taken;
      END;
    END
    $function$ $make$, for_role, role_oid, extension, quote_ident(for_role));
  EXECUTE format('REVOKE ALL ON FUNCTION adu_page_reader.%I(oid, bigint, integer) FROM PUBLIC', for_role);
  -- Default privileges may have given it to others.
  FOR other IN
    SELECT DISTINCT p.oid::regprocedure AS function, a.grantee::regrole AS role
    FROM pg_proc p, aclexplode(p.proacl) a
    WHERE p.pronamespace = 'adu_page_reader'::regnamespace AND p.proname IN (for_role, 'has_row_security')
      AND a.grantee NOT IN (0, p.proowner)
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', other.function, other.role);
  END LOOP;
  EXECUTE format('GRANT EXECUTE ON FUNCTION adu_page_reader.%1$I(oid, bigint, integer) TO %1$I', for_role);
  EXECUTE format('GRANT USAGE ON SCHEMA adu_page_reader TO %I', for_role);
  EXECUTE format('COMMENT ON FUNCTION adu_page_reader.%I(oid, bigint, integer) IS %L', for_role,
    'ADU Export, version 2: pages of tables, for this role');
END
$do$;
COMMIT;
\echo 'the role' :role 'can read tables by pages'
