//! Filters on types whose operators are outside pg_catalog have the same meaning as in the role's own
//! session.

use serde_json::{Value, json};

use crate::support::{Database, PATIENCE, Site};

const SETUP: &str = "
    CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION hstore; CREATE EXTENSION isn;
    CREATE DOMAIN email AS citext; CREATE DOMAIN emails AS email;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE TYPE pair AS (a int, b citext);
    CREATE TYPE odd; 
    CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = text);
    CREATE CAST (odd AS text) WITHOUT FUNCTION AS IMPLICIT;
    CREATE FUNCTION odd_equal(odd, odd) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT length($1::text) = length($2::text)';
    CREATE OPERATOR = (LEFTARG = odd, RIGHTARG = odd, FUNCTION = odd_equal);
    CREATE TABLE t (id int, e citext, d emails, list citext[], n text, w varchar(9), m mood, path ltree, h hstore,
                    o odd, book isbn13, p pair);
    INSERT INTO t VALUES
        (1, 'A', 'A', '{A}', 'A', 'A', 'sad', 'Top.A', 'a=>1', 'abc', '978-0-393-04002-9', (1, 'A')),
        (2, 'a', 'a', '{a}', 'a', 'a', 'ok', 'Top.a', 'b=>2', 'xyz', '978-0-393-04002-9', (1, 'a')),
        (3, 'B', 'B', '{B,c}', 'B', 'B', 'happy', 'Top.B', NULL, 'x', '978-1-4028-9462-6', (2, 'b')),
        (4, 'c', 'c', '{}', 'c', 'c', NULL, 'Top', '', NULL, NULL, NULL),
        (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
    CREATE VIEW v AS SELECT * FROM t";

/// Filters. Most of them would have another meaning, or none, with the operators of pg_catalog alone.
const FILTERS: [&str; 20] = [
    "e = 'a'",
    "e <> 'a'",
    "e IN ('a', 'x')",
    "e NOT IN ('a')",
    "e BETWEEN 'A' AND 'b'",
    "e > 'B'",
    "e LIKE 'a%'",
    "e NOT LIKE 'a%'",
    "e IS DISTINCT FROM 'a'",
    "d = 'a'",
    "d < 'B'",
    "list = '{A}'",
    "n::citext = 'a'",
    "n = 'a'",
    "e::text = 'a' AND d = 'A'",
    "m > 'sad'",
    "path = 'Top.A'",
    "h = 'a=>1'",
    "o = 'zzz'",
    "book = '978-0-393-04002-9'",
];

#[test]
fn a_filter_means_what_it_means_to_the_role_on_a_table_and_on_a_view_of_it() {
    let site = Site::new(Database::empty());
    site.db.execute(SETUP);
    let mut tables = Vec::new();
    let mut pairs = Vec::new();
    for (i, filter) in FILTERS.iter().enumerate() {
        site.db.execute(&format!("CREATE TABLE t{i} AS TABLE t; CREATE VIEW seen{i} AS TABLE t{i}"));
        for relation in [format!("t{i}"), format!("seen{i}")] {
            tables.push(json!({"table": format!("public.{relation}"), "where": filter, "columns": ["id"]}));
            pairs.push((format!("SELECT id FROM t WHERE {filter}"), format!("public_{relation}")));
        }
    }
    let daemon = site.daemon();
    let done = site.export(json!({"tables": tables, "verify": "count"}));
    site.assert_all_equal(&pairs);

    // Newer rows and the highest value follow the order of the type, in whatever schema its operators are.
    site.db.execute(
        "CREATE SCHEMA away; ALTER EXTENSION citext SET SCHEMA away; GRANT USAGE ON SCHEMA away TO PUBLIC",
    );
    let mut jobs = vec![done.job().to_owned()];
    for (column, relation) in [("e", "t"), ("d", "t"), ("e", "v")] {
        let newer = json!({"table": format!("public.{relation}"), "after": {"column": column, "value": "A"}, "columns": ["id"]});
        let done = site.export(json!({"tables": [newer]}));
        let table = site.exports.archive(done.job())["tables"][0].clone();
        assert_eq!(
            (&table["rows"], &table["high_water_mark"]),
            (&json!(2), &json!("c")),
            "{relation}.{column}: {table}"
        );
        jobs.push(done.job().to_owned());
    }
    site.assert_sound(&jobs, [daemon]);
}

#[test]
fn nobody_changes_what_built_in_operators_mean() {
    let site = Site::new(Database::empty());
    site.db.execute(SETUP);
    site.db.execute(
        "CREATE FUNCTION never(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = never)",
    );
    let daemon = site.daemon();
    let export = |filter: &str| -> (String, Value) {
        let job =
            site.request(json!({"tables": [{"table": "public.t", "where": filter, "columns": ["id"]}]}));
        let last = site.broker.events.wait_final(&job, PATIENCE);
        (job, last.body.clone())
    };
    let (fine, done) = export("w = 'a'");
    assert_eq!(done["data"]["tables"][0]["rows"], 1, "{done}");
    let (refused, done) = export("w = 'a' AND e = 'a'");
    let said = done.to_string();
    assert!(said.contains("shadowed") && said.contains("=(character varying,character varying)"), "{said}");
    site.db.execute("DROP OPERATOR public.= (varchar, varchar)");
    let (mixed, done) = export("w = 'a' AND e = 'A'");
    assert_eq!(done["data"]["tables"][0]["rows"], 1, "{done}");
    site.assert_sound(&[&fine, &refused, &mixed], [daemon]);
}
