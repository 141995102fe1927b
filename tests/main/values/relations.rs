//! Every kind of relation, of name and of column, and every number of columns.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::assert_exact;
use crate::support::{Database, Services, Site};

fn judged(site: &Site, relations: &[&str]) {
    let pairs: Vec<Value> = relations.iter().map(|r| json!({"relation": format!("public.{r}")})).collect();
    let rows: Vec<u64> =
        relations.iter().map(|r| site.db.number(&format!("SELECT count(*) FROM {r}"))).collect();
    for (relation, rows) in site.cast_back(&pairs).iter().zip(rows) {
        assert_exact(std::slice::from_ref(relation), rows);
    }
}

#[test]
fn every_kind_of_relation_is_exported_whole() {
    let site = Site::new(Database::empty());
    let port = Services::get().postgres;
    let name = &site.db.name;
    site.db.execute(&format!(
        "CREATE TABLE plain (id int PRIMARY KEY, gone text, v text, twice int GENERATED ALWAYS AS (id * 2) STORED,
                             counted int GENERATED ALWAYS AS IDENTITY, also_gone int, late text DEFAULT 'x');
         INSERT INTO plain (id, gone, v) SELECT g, 'gone', g::text FROM generate_series(1, 100) g;
         ALTER TABLE plain DROP gone; ALTER TABLE plain DROP also_gone;
         ALTER TABLE plain ADD added numeric(5,2) DEFAULT 1.25;
         CREATE UNLOGGED TABLE unlogged AS SELECT g AS id FROM generate_series(1, 10) g;
         CREATE TABLE parent (id int, v text); CREATE TABLE child (more int) INHERITS (parent);
         INSERT INTO parent VALUES (1, 'parent'); INSERT INTO child VALUES (2, 'child', 3);
         CREATE TYPE shape AS (a int, b text); CREATE TABLE typed OF shape;
         INSERT INTO typed VALUES (1, NULL), (NULL, 'b');
         CREATE TABLE split (id int, v text, gone int) PARTITION BY HASH (id);
         CREATE TABLE split_0 (gone int, v text, id int);
         ALTER TABLE split ATTACH PARTITION split_0 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE split_1 PARTITION OF split FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO split SELECT g, g::text, g FROM generate_series(1, 500) g; ALTER TABLE split DROP gone;
         CREATE FUNCTION unqualified(n int) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM plain WHERE id < n';
         CREATE FUNCTION inlined(n int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT n IN (SELECT id FROM plain)';
         CREATE VIEW seen AS SELECT id, v, unqualified(id) AS below, NULL AS nothing FROM plain WHERE inlined(id);
         CREATE MATERIALIZED VIEW kept AS SELECT id, unqualified(id) AS below FROM plain;
         CREATE TABLE whole_rows AS SELECT p.id, p AS whole FROM plain p;
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw
            OPTIONS (host '127.0.0.1', port '{port}', dbname '{name}');
         CREATE USER MAPPING FOR PUBLIC SERVER here OPTIONS (user 'postgres', password_required 'false');
         CREATE FOREIGN TABLE far (id int, v text, twice int) SERVER here OPTIONS (table_name 'plain');
         CREATE TABLE wide ({});
         INSERT INTO wide (c1) SELECT g FROM generate_series(1, 50) g; UPDATE wide SET c1600 = c1 WHERE c1 > 10;
         ANALYZE",
        (1..=1600).map(|i| format!("c{i} int")).collect::<Vec<_>>().join(", ")
    ));
    let relations = [
        "plain",
        "unlogged",
        "parent",
        "child",
        "typed",
        "split",
        "seen",
        "kept",
        "whole_rows",
        "far",
        "wide",
    ];
    let daemon = site.daemon();
    let tables: Vec<String> = relations.iter().map(|r| format!("public.{r}")).collect();
    let done = site.export(json!({"tables": tables}));
    judged(&site, &relations);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn columns_keep_their_names_whatever_these_are() {
    let names = [
        "id",
        "Id",
        "ID",
        "a b",
        "a.b",
        "a\"b",
        "a'b",
        "a/b\\c",
        "select",
        "ünï €😀",
        " ",
        "-- x",
        "%s $1 {}",
        "ctid2",
        &"x".repeat(63),
        &format!("{}é", "y".repeat(61)),
        "list",
        "element",
        "key_value",
    ];
    let quoted = names.map(|n| format!("\"{}\"", n.replace('"', "\"\"")));
    let columns = |ty: &str| quoted.iter().map(|n| format!("{n} {ty}")).collect::<Vec<_>>().join(", ");
    let site = Site::new(Database::empty());
    let (ints, addresses) = (columns("int"), columns("inet"));
    let numbers = (1..=names.len()).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let nulls = vec!["NULL"; names.len()].join(", ");
    let row = format!("ROW({}, '::1')", vec!["NULL"; names.len() - 1].join(", "));
    site.db.execute(&format!(
        "CREATE TABLE odd ({ints}); CREATE TYPE odd_type AS ({addresses});
         CREATE TABLE odd_parts (id int, c odd_type, l odd_type[]);
         INSERT INTO odd VALUES ({numbers}), ({nulls});
         INSERT INTO odd_parts VALUES (1, {row}, ARRAY[{row}::odd_type]), (2, NULL, NULL)",
    ));
    let daemon = site.daemon();
    let some = json!({"table": "public.odd", "columns": ["a\"b", "ID", "a.b"], "where": "\"a\"\"b\" = 6"});
    let done = site.export(json!({"tables": ["public.odd", "public.odd_parts"]}));
    let again = site.export(json!({"tables": [some]}));
    judged(&site, &["odd", "odd_parts"]);
    site.assert_equal(&[(
        "SELECT \"a\"\"b\", \"ID\", \"a.b\" FROM odd WHERE \"a\"\"b\" = 6",
        "public_odd_v2",
    )]);
    site.assert_sound(&[done.job(), again.job()], [daemon]);
}

#[test]
fn a_server_in_latin1_is_read_in_utf8() {
    let site = Site::new(Database::encoded("LATIN1"));
    site.db.execute(
        "CREATE TYPE mood AS ENUM ('très', 'ok');
         CREATE TABLE \"café\" (id int PRIMARY KEY, \"é\" text, c char(5), n name, m mood, j json, a text[]);
         INSERT INTO \"café\" VALUES (1, 'é', 'àb', 'ñ', 'très', '{\"ü\": \"ß\"}', '{é,NULL}');
         INSERT INTO \"café\" (id) VALUES (2)",
    );
    let daemon = site.daemon();
    let done = site.export(json!({"tables": ["public.café"]}));
    let directory = site.exports.directories().into_iter().next().expect("a directory");
    let files = json!(site.exports.path(&directory));
    assert_exact(&site.cast_back(&[json!({"relation": "public.\"café\"", "files": files})]), 2);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn text_that_is_not_utf8_is_refused_by_name_and_can_be_had_as_bytes() {
    refuses_then_exports_bytes(SQL_ASCII);
}

/// A damaged database, or one that was upgraded from a server that did not verify texts, may contain such
/// text.
#[test]
fn text_that_is_not_utf8_in_a_database_that_is_can_be_had_as_bytes() {
    refuses_then_exports_bytes(UTF8);
}

/// Numbers of encodings, from `pg_char_to_encoding`.
const SQL_ASCII: u8 = 0;
const UTF8: u8 = 6;

/// `encoding` is the encoding that the database claims to have.
fn refuses_then_exports_bytes(encoding: u8) {
    let site = Site::new(Database::encoded("SQL_ASCII"));
    site.db.execute(
        "CREATE TABLE raw (id int PRIMARY KEY, good text, bad text, n int);
         INSERT INTO raw VALUES (1, 'a', 'b', 1), (2, 'é', convert_from('\\xff61e9', 'SQL_ASCII'), 2);
         INSERT INTO raw (id) VALUES (3)",
    );
    let declare = |encoding| {
        let database = "datname = current_database()";
        site.db.execute(&format!("UPDATE pg_database SET encoding = {encoding} WHERE {database}"));
    };
    declare(encoding);
    let daemon = site.daemon();
    let job = site.request(json!({"tables": ["public.raw"]}));
    let last = site.broker.events.wait_final(&job, crate::support::PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    let error = last.data()["tables"][0]["error"].to_string();
    for word in ["public.raw", "UTF-8", "as_bytes"] {
        assert!(error.contains(word), "{word}: {error}");
    }
    let done = site.export(json!({"tables": [{"table": "public.raw", "as_bytes": ["bad"]}]}));
    assert_eq!(site.exports.directories(), BTreeSet::from(["public_raw".to_owned()]));
    declare(SQL_ASCII);
    site.assert_equal(&[("SELECT id, good, convert_to(bad, 'SQL_ASCII') AS bad, n FROM raw", "public_raw")]);
    assert!(done.data()["tables"][0]["notes"]["bad"].as_str().is_some_and(|n| n.contains("bytes")));
    site.assert_sound(&[done.job(), &job], [daemon]);
}
