//! Arrays of more than one dimension as lists of lists.

use serde_json::json;

use super::assert_exact;
use crate::support::{Database, PATIENCE, Site};

/// A type, a random value of it, and its type in the files; none if its elements have no form but text.
const ELEMENTS: [(&str, &str, Option<&str>); 16] = [
    ("boolean", "random() > 0.5", Some("bool")),
    ("smallint", "(random() * 1000)::smallint", Some("int16")),
    ("bigint", "(random() * 1e12)::bigint", Some("int64")),
    ("double precision", "random()", Some("double")),
    ("numeric(12,2)", "(random() * 1e6)::numeric(12,2)", Some("decimal128(12, 2)")),
    ("numeric", "random()::numeric", Some("string")),
    ("text", "md5(random()::text) || ' {\",\\}'", Some("string")),
    ("mood", "(ARRAY['sad', 'ok'])[1 + (random())::int]::mood", Some("string")),
    ("bytea", "decode(md5(random()::text), 'hex')", Some("binary")),
    ("uuid", "md5(random()::text)::uuid", Some("extension<arrow.uuid>")),
    (
        "date",
        "CASE WHEN random() < 0.1 THEN 'infinity' ELSE '2000-01-01'::date + (random() * 9999)::int END",
        Some("date32[day]"),
    ),
    ("timestamptz", "to_timestamp(random() * 1e9)", Some("timestamp[us, tz=UTC]")),
    ("jsonb", "jsonb_build_object('a', random())", Some("extension<arrow.json>")),
    (
        "pair",
        "ROW((random() * 9)::int, ARRAY[md5(random()::text)])::pair",
        Some("struct<i: int32, t: list<element: string>>"),
    ),
    ("int4range", "int4range((random() * 9)::int, 100)", None),
    ("inet", "('10.0.0.' || (random() * 9)::int)::inet", None),
];

fn lists(dimensions: usize, element: &str) -> String {
    (0..dimensions).fold(element.to_owned(), |ty, _| format!("list<element: {ty}>"))
}

#[test]
fn matrices_of_every_kind_of_element_come_back_exact() {
    let site = Site::new(Database::empty());
    site.db.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (i int, t text[])");
    let column = |i: usize, pg: &str, random: &str| {
        // Arrays of two and of three dimensions, with NULLs, empty, and NULL.
        let row = format!("ARRAY[{random}, NULL, {random}]::{pg}[]");
        let plane = format!("ARRAY[{row}, {row}]");
        let full = if i.is_multiple_of(2) { plane.clone() } else { format!("ARRAY[{plane}, {plane}]") };
        format!("CASE g % 10 WHEN 0 THEN NULL WHEN 1 THEN '{{}}'::{pg}[] ELSE {full} END::{pg}[] AS c{i}")
    };
    let columns: Vec<String> =
        ELEMENTS.iter().enumerate().map(|(i, (pg, random, _))| column(i, pg, random)).collect();
    // The columns do not declare how many dimensions they have.
    site.db.execute(&format!(
        "CREATE TABLE matrices AS SELECT g::bigint AS id, {} FROM generate_series(1, 3000) g; \
         ALTER TABLE matrices ADD PRIMARY KEY (id); \
         CREATE TABLE declared (id int PRIMARY KEY, m double precision[][], t text[][][]); \
         INSERT INTO declared SELECT g, ARRAY[[g, 0.5], [NULL, g]], ARRAY[[[g::text]]] FROM generate_series(1, 3000) g; \
         ANALYZE",
        columns.join(", ")
    ));
    let daemon = site.daemon();
    let done = site.export(json!({"tables": [
        {"table": "public.matrices", "arrays": "nested", "strategy": "range", "chunk_rows": 1000},
        {"table": "public.declared", "arrays": "nested", "strategy": "range", "chunk_rows": 1000},
    ]}));
    let archive = site.exports.archive(done.job());
    let table = |name: &str| {
        let tables = archive["tables"].as_array().expect("tables");
        tables.iter().find(|t| t["table_name"] == name).expect("archived").clone()
    };
    assert_eq!(table("public.declared")["epoch"], 1, "what a column declares is tried first");
    assert_eq!(table("public.matrices")["epoch"], 2, "the values say how many dimensions there are");
    let expected: serde_json::Map<_, _> = ELEMENTS
        .iter()
        .enumerate()
        .filter_map(|(i, (.., arrow))| {
            let dimensions = 2 + i % 2;
            let ty = match arrow {
                Some(element) => lists(dimensions, element),
                None if ELEMENTS[i].0 == "int4range" => return None,
                None => "string".to_owned(),
            };
            Some((format!("c{i}"), json!(ty)))
        })
        .collect();
    let judged = site.cast_back(&[
        json!({"relation": "public.matrices", "arrow": expected}),
        json!({"relation": "public.declared", "arrow": {"m": lists(2, "double"), "t": lists(3, "string")}}),
    ]);
    assert_exact(&judged, 3000);
    site.assert_sound(&[done.job()], [daemon]);
}

#[test]
fn arrays_that_differ_are_text_or_null_or_refused_as_others_that_do_not_fit() {
    let site = Site::new(Database::empty());
    site.db.execute(
        "CREATE TABLE odd (id int PRIMARY KEY, mixed int[], shifted int[][], fine int[], later int[], flat int[][]); \
         INSERT INTO odd SELECT g, ARRAY[[g]], ARRAY[[g]], ARRAY[g], '{}', ARRAY[g] FROM generate_series(1, 3000) g; \
         UPDATE odd SET mixed = ARRAY[[[1]]] WHERE id = 1500; \
         UPDATE odd SET shifted = '[0:0][1:2]={{1,2}}' WHERE id = 2500; \
         UPDATE odd SET later = ARRAY[[7]] WHERE id = 2999; ANALYZE",
    );
    let daemon = site.daemon();
    let table = json!({"table": "public.odd", "arrays": "nested", "strategy": "range", "chunk_rows": 1000});
    let done = site.export(json!({"tables": [table]}));
    let notes = &done.data()["tables"][0]["notes"];
    assert!(notes["mixed"].as_str().is_some_and(|n| n.starts_with("text, because an array has")), "{notes}");
    assert!(notes["shifted"].as_str().is_some_and(|n| n.contains("does not begin at index 1")), "{notes}");
    assert!(notes["later"].as_str().is_some_and(|n| n.contains("2 dimensions as lists of lists")), "{notes}");
    assert!(notes["fine"].is_null(), "{notes}");
    let arrow = json!({"mixed": "string", "shifted": "string", "fine": lists(1, "int32"), "later": lists(2, "int32"), "flat": lists(1, "int32")});
    assert_exact(&site.cast_back(&[json!({"relation": "public.odd", "arrow": arrow})]), 3000);

    let with = |on_unfit: &str| json!({"tables": [table], "on_unfit": on_unfit});
    // What values say of their dimensions comes before what becomes of values that do not fit.
    let nulls = site.export(with("null"));
    site.db.execute(
        "CREATE TABLE with_nulls AS SELECT id, NULL::int[] AS mixed, \
            CASE WHEN id <> 2500 THEN shifted END AS shifted, fine, later, flat FROM odd",
    );
    let arrow = json!({"mixed": lists(1, "int32"), "shifted": lists(2, "int32"), "later": lists(2, "int32"), "flat": lists(1, "int32")});
    let pair =
        json!({"relation": "public.with_nulls", "files": site.exports.path("public_odd_v2"), "arrow": arrow});
    assert_exact(&site.cast_back(&[pair]), 3000);
    let job = site.request(with("error"));
    let last = site.broker.events.wait_final(&job, PATIENCE);
    assert_eq!(last.kind(), "job.failed", "{}", last.body);
    assert!(
        last.data()["tables"][0]["error"].to_string().contains("more than one dimension"),
        "{}",
        last.body
    );
    site.assert_sound(&[done.job(), nulls.job(), &job], [daemon]);
}
