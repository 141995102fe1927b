//! Shapes of PostGIS need no function of the extension. The server checks our conversion.

use serde_json::json;

use crate::support::{Database, EXPORTER, PATIENCE, Site};

/// Every kind of shape. Each is tested with and without Z, M and a spatial reference, empty, and within
/// collections.
const KINDS: [(&str, &str); 16] = [
    ("POINT", "(1 2)"),
    ("LINESTRING", "(0 0,1 1,2 -2)"),
    ("POLYGON", "((0 0,9 0,9 9,0 0),(1 1,2 1,2 2,1 1))"),
    ("MULTIPOINT", "((1 2),(3 4))"),
    ("MULTILINESTRING", "((0 0,1 1),(2 2,3 3,4 4))"),
    ("MULTIPOLYGON", "(((0 0,9 0,9 9,0 0)),((0 0,5 0,5 5,0 0)))"),
    ("GEOMETRYCOLLECTION", "(POINT(1 2),LINESTRING(0 0,1 1))"),
    ("CIRCULARSTRING", "(0 0,1 1,2 0)"),
    ("COMPOUNDCURVE", "(CIRCULARSTRING(0 0,1 1,2 0),(2 0,3 3))"),
    ("CURVEPOLYGON", "(CIRCULARSTRING(0 0,4 0,4 4,0 4,0 0),(1 1,3 3,3 1,1 1))"),
    ("MULTICURVE", "((0 0,5 5),CIRCULARSTRING(4 0,4 4,8 4))"),
    ("MULTISURFACE", "(CURVEPOLYGON(CIRCULARSTRING(0 0,4 0,4 4,0 4,0 0)),((10 10,14 12,11 10,10 10)))"),
    ("POLYHEDRALSURFACE", "(((0 0,0 1,1 1,0 0)),((0 0,0 1,1 0,0 0)))"),
    ("TRIANGLE", "((0 0,0 9,9 0,0 0))"),
    ("TIN", "(((0 0,0 1,1 1,0 0)),((0 0,0 1,1 0,0 0)))"),
    (
        "GEOMETRYCOLLECTION",
        "(GEOMETRYCOLLECTION(GEOMETRYCOLLECTION(POINT(1 2)),TIN(((0 0,0 1,1 1,0 0)))),MULTIPOINT((1 2)))",
    ),
];

#[test]
fn shapes_of_every_kind_are_what_postgis_makes_of_them_without_a_right_to_its_functions() {
    let site = Site::new(Database::empty());
    let kinds: Vec<String> = KINDS.iter().map(|(kind, shape)| format!("('{kind}', '{shape}')")).collect();
    site.db.execute(&format!(
        "CREATE SCHEMA gis; CREATE EXTENSION postgis SCHEMA gis; SET search_path = public, gis;
         CREATE TABLE shapes AS SELECT row_number() OVER () AS id, s::geometry AS shape FROM (
            SELECT CASE d.dims WHEN 0 THEN ST_Force2D(k.g) WHEN 1 THEN ST_Force3DZ(k.g, 7) WHEN 2 THEN ST_Force3DM(k.g, 8)
                   ELSE ST_Force4D(k.g, 7, 8) END AS s
            FROM (SELECT (kind || shape)::geometry AS g FROM (VALUES {kinds}) v (kind, shape)
                  UNION ALL SELECT (kind || ' EMPTY')::geometry FROM (VALUES {kinds}) v (kind, shape)) k,
                 generate_series(0, 3) AS d (dims)) made;
         INSERT INTO shapes SELECT id + 1000, ST_Collect(ARRAY[shape, ST_Collect(shape, shape)]) FROM shapes
            WHERE NOT ST_IsEmpty(shape);
         INSERT INTO shapes VALUES (0, NULL);
         CREATE DOMAIN place AS geometry(Geometry,4326);
         CREATE TYPE spot AS (name text, at geometry(Point,3857), r inet);
         CREATE TABLE declared (id bigint PRIMARY KEY, g geometry(Geometry,3857), z geometry(GeometryZ,3857),
                                m geometry(GeometryM,3857), zm geometry(GeometryZM,3857), d place);
         INSERT INTO declared SELECT id, CASE ST_Zmflag(shape) WHEN 0 THEN s END, CASE ST_Zmflag(shape) WHEN 2 THEN s END,
                CASE ST_Zmflag(shape) WHEN 1 THEN s END, CASE ST_Zmflag(shape) WHEN 3 THEN s END,
                CASE ST_Zmflag(shape) WHEN 0 THEN ST_SetSRID(shape, 4326) END
            FROM shapes, ST_SetSRID(shape, 3857) s;
         CREATE TABLE hollow AS SELECT id, ST_SetSRID(ST_Collect(ARRAY[shape, ST_Collect(shape, shape)]), 3857)
                ::geometry(GeometryCollection,3857) AS g FROM shapes WHERE ST_IsEmpty(shape) AND ST_Zmflag(shape) = 0;
         CREATE TABLE spots AS SELECT id, ROW('x', ST_SetSRID(ST_MakePoint(id, 3), 3857), inet '::1')::spot AS s FROM shapes;
         CREATE TABLE free (id bigint PRIMARY KEY, g geometry, e geometry, p geography, l geography(Geometry,4326));
         INSERT INTO free SELECT id, shape, ST_SetSRID(shape, 4326),
                CASE WHEN GeometryType(shape) IN ('POINT', 'LINESTRING', 'POLYGON', 'MULTIPOINT', 'POINTM') THEN shape::geography END,
                CASE WHEN ST_CoordDim(shape) = 2 AND GeometryType(shape) IN ('POINT', 'LINESTRING', 'POLYGON') THEN shape::geography END
            FROM shapes;
         DROP TABLE shapes;
         REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA gis FROM PUBLIC; REVOKE ALL ON SCHEMA gis FROM PUBLIC, {EXPORTER}",
        kinds = kinds.join(", ")
    ));
    assert!(site.db.number("SELECT count(*) FROM declared") > 150);
    let daemon = site.daemon();
    let done =
        site.export(json!({"tables": ["public.declared", "public.free", "public.spots", "public.hollow"]}));
    site.assert_equal(&[
        (
            "SELECT id, gis.ST_AsBinary(g) AS g, gis.ST_AsBinary(z) AS z, gis.ST_AsBinary(m) AS m, \
                    gis.ST_AsBinary(zm) AS zm, gis.ST_AsBinary(d) AS d FROM declared",
            "public_declared",
        ),
        (
            "SELECT id, gis.ST_AsEWKB(g) AS g, gis.ST_AsEWKB(e) AS e, gis.ST_AsEWKB(p::gis.geometry) AS p, \
                    gis.ST_AsBinary(l::gis.geometry) AS l FROM free",
            "public_free",
        ),
    ]);
    // ST_AsBinary loses the shapes in a collection of empty shapes.
    for table in ["spots", "hollow"] {
        let rows = site.db.number(&format!("SELECT count(*) FROM {table}"));
        super::assert_exact(&site.cast_back(&[json!({"relation": format!("public.{table}")})]), rows);
    }
    site.assert_sound(&[done.job()], [daemon]);
}

/// The right that a role lacks, its request, and the answer.
const DENIED: [(&str, &str, &[&str]); 9] = [
    (
        "REVOKE SELECT ON plain FROM exporter",
        "public.plain",
        &["no SELECT right", "GRANT SELECT ON \"public\".\"plain\""],
    ),
    (
        "REVOKE SELECT ON plain FROM exporter; GRANT SELECT (id) ON plain TO exporter",
        "public.plain",
        &["no SELECT right on the columns v", "`columns`"],
    ),
    (
        "REVOKE USAGE ON SCHEMA apart FROM exporter",
        "apart.t",
        &["no USAGE right on schema apart", "GRANT USAGE ON SCHEMA"],
    ),
    (
        "REVOKE EXECUTE ON FUNCTION doubled FROM PUBLIC",
        "public.computed",
        &["permission denied for function doubled", "GRANT EXECUTE ON FUNCTION \"doubled\""],
    ),
    (
        "ALTER VIEW owned OWNER TO nobody_much",
        "public.owned",
        &["permission denied for table plain", "GRANT SELECT ON \"plain\"", "to the owner of the view"],
    ),
    (
        "REVOKE USAGE ON SCHEMA apart FROM exporter",
        "public.qualified",
        &["permission denied for schema apart", "GRANT USAGE ON SCHEMA \"apart\""],
    ),
    (
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_relation_filenode FROM PUBLIC",
        "public.plain",
        &[
            "permission denied for function pg_relation_filenode",
            "GRANT EXECUTE ON FUNCTION \"pg_relation_filenode\"",
        ],
    ),
    (
        "REVOKE EXECUTE ON FUNCTION pg_catalog.has_table_privilege(oid, text) FROM PUBLIC",
        "public.plain",
        &[
            "permission denied for function has_table_privilege",
            "GRANT EXECUTE ON FUNCTION \"has_table_privilege\"",
        ],
    ),
    (
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_export_snapshot FROM PUBLIC",
        "public.plain",
        &[
            "permission denied for function pg_export_snapshot",
            "GRANT EXECUTE ON FUNCTION \"pg_export_snapshot\"",
        ],
    ),
];

#[test]
fn whoever_lacks_a_right_is_told_which_one_whatever_it_is_on() {
    let site = Site::new(Database::empty());
    site.db.execute(&format!(
        "CREATE SCHEMA apart; GRANT USAGE ON SCHEMA apart TO {EXPORTER}; CREATE TABLE apart.t AS SELECT 1 AS id;
         CREATE TABLE plain AS SELECT g AS id, 'v' || g AS v FROM generate_series(1, 9) g;
         CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN n * 2; END';
         CREATE VIEW computed AS SELECT id, doubled(id) AS twice FROM plain;
         CREATE FUNCTION hidden() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN count(*) FROM apart.t; END';
         CREATE VIEW qualified AS SELECT id, hidden() AS n FROM plain;
         DO $$ BEGIN CREATE ROLE nobody_much; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         CREATE VIEW owned AS SELECT * FROM plain",
    ));
    let daemon = site.daemon();
    let mut jobs = Vec::new();
    for (change, table, words) in DENIED {
        site.db.execute(&format!("BEGIN; {change}; COMMIT"));
        let job = site.request(json!({"tables": [table], "deadline": "30s"}));
        let last = site.broker.events.wait_final(&job, PATIENCE);
        assert_eq!(last.kind(), "job.failed", "{change}: {}", last.body);
        let said = last.body.to_string().replace("\\\"", "\"");
        for word in words {
            assert!(said.contains(word), "{change}: no `{word}` in {said}");
        }
        site.db.execute(
            "GRANT SELECT ON plain TO exporter; GRANT USAGE ON SCHEMA apart TO exporter; ALTER VIEW owned OWNER TO postgres;
             GRANT EXECUTE ON FUNCTION doubled, pg_catalog.pg_relation_filenode, pg_catalog.has_table_privilege(oid, text),
                pg_catalog.pg_export_snapshot TO PUBLIC",
        );
        jobs.push(job);
    }
    let done = site.export(
        json!({"tables": ["public.plain", "apart.t", "public.computed", "public.owned", "public.qualified"]}),
    );
    jobs.push(done.job().to_owned());
    site.assert_sound(&jobs, [daemon]);
}
