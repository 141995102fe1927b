-- Removes what page-reader.sql made in this database, for all roles. Run it as a superuser:
--
--   psql -d warehouse -f page-reader-remove.sql
--
-- The extension pageinspect stays if it is elsewhere than in the schema adu_page_reader.

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
DROP SCHEMA IF EXISTS adu_page_reader CASCADE;
COMMIT;

-- The role owns a function in each database in which page-reader.sql was run.
DO $do$
BEGIN
  DROP ROLE IF EXISTS adu_page_reader;
EXCEPTION WHEN dependent_objects_still_exist THEN
  RAISE NOTICE 'the role adu_page_reader stays: another database uses it';
END
$do$;
