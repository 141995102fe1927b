//! A value that is exported as text is the text of its type's output function, and not of a cast to text.

use serde_json::json;

use super::assert_exact;
use crate::support::{Database, Site};

/// Types whose cast to text returns another text: a built-in type, a user's type with its own cast, and a
/// user's cast of a built-in type.
const SETUP: &str = "
    CREATE TYPE odd;
    CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = text, COLLATABLE = false);
    CREATE FUNCTION said(odd) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'cast'::text$$;
    CREATE CAST (odd AS text) WITH FUNCTION said(odd) AS ASSIGNMENT;
    CREATE FUNCTION said(numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT '1'::text$$;
    CREATE CAST (numeric AS text) WITH FUNCTION said(numeric) AS ASSIGNMENT;
    CREATE FUNCTION said(bit) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT '0'::text$$;
    CREATE CAST (bit AS text) WITH FUNCTION said(bit) AS ASSIGNMENT;
    CREATE DOMAIN address AS inet; CREATE DOMAIN addresses AS address[];
    CREATE TYPE made AS (ip inet, ips inet[], o odd, os odd[], c \"char\", n numeric, b bit(3), yes bool, fixed char(5));
    CREATE TABLE t (id int PRIMARY KEY, ip inet, net cidr, ips inet[], nets cidr[], a address, l addresses, o odd, os odd[],
                    n numeric, c \"char\", cs \"char\"[], b bit(3), bs bit(3)[], boxes box[], m made, ms made[], span numrange,
                    times timetz[], more made[], class regclass[]);
    INSERT INTO t SELECT g, i, network(i), ARRAY[i, NULL, '::1/64'], ARRAY[network(i)], i, ARRAY[i]::address[], 'o', '{\"a,b\",NULL}',
        1.50, 'c', '{a,NULL,\"\"}', '101', '{101,NULL}', '{(1,1),(0,0);(2,2),(1,1)}', m, ARRAY[m, NULL],
        numrange(1.50, NULL), '{12:00+05}', '{}', '{pg_class}'
        FROM generate_series(1, 50) g, LATERAL (SELECT ('10.0.0.' || g)::inet AS i) a,
             LATERAL (SELECT ROW(i, ARRAY[i], 'o', '{o}', 'c', 1.50, '101', true, 'x')::made AS m) b;
    INSERT INTO t (id, m, ips, l) VALUES (100, ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), '{}', NULL), (101, NULL, NULL, '{}');
    CREATE TABLE whole AS SELECT id, ips, os, CASE id WHEN 7 THEN '{{10.0.0.1},{10.0.0.2}}'::inet[] ELSE ips END AS odd_ips,
        CASE id WHEN 7 THEN '{{a},{b}}'::odd[] ELSE os END AS odd_os, CASE id WHEN 7 THEN time '24:00' END AS late FROM t";

#[test]
fn a_text_is_what_the_type_s_output_function_writes() {
    let site = Site::new(Database::empty());
    site.db.execute(SETUP);
    let daemon = site.daemon();
    let done = site.export(json!({"tables": ["public.t", "public.whole"]}));
    for relation in ["t", "whole"] {
        let rows = site.db.number(&format!("SELECT count(*) FROM {relation}"));
        assert_exact(&site.cast_back(&[json!({"relation": format!("public.{relation}")})]), rows);
    }
    let mut jobs = vec![done.job().to_owned()];
    for (column, value, mark) in
        [("ip", "10.0.0.40", "10.0.0.50"), ("net", "10.0.0.40/32", "10.0.0.50/32"), ("n", "1.25", "1.50")]
    {
        let table =
            json!({"table": "public.t", "columns": ["id"], "after": {"column": column, "value": value}});
        let done = site.export(json!({"tables": [table]}));
        let table = site.exports.archive(done.job())["tables"][0].clone();
        assert_eq!(table["high_water_mark"], mark, "{column}: {table}");
        jobs.push(done.job().to_owned());
    }
    site.assert_sound(&jobs, [daemon]);
}
