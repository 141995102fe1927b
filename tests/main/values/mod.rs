//! Every value is exact: the server itself compares the values in the files with its own.

use serde_json::{Value, json};

use crate::support::{Database, Judgement, Site};

mod arrays;
mod encodings;
mod pages;
mod portable;
mod relations;
mod settings;
mod shapes;
mod texts;
mod types;
mod unfit;
mod wide;

use types::{SETUP, Type, types};

/// Number of random rows. Edge values and one NULL come in addition.
const RANDOM_ROWS: usize = 10_000;
/// Rows before the random ones: one NULL, and room for as many edge values as any type has.
const EDGES: usize = 10;

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// SQL of one column: NULL, then the edges, then random values.
fn column(ty: &Type) -> String {
    assert!(ty.edges.len() < EDGES, "{}", ty.pg);
    let edges: Vec<String> = ty
        .edges
        .iter()
        .enumerate()
        .map(|(i, edge)| format!("WHEN {} THEN {}::{}", i + 1, literal(edge), ty.pg))
        .collect();
    format!("CASE g WHEN 0 THEN NULL {} ELSE ({})::{} END", edges.join(" "), ty.random, ty.pg)
}

/// SQL of one array column: NULL, empty, the edges between NULLs, then random arrays.
fn array(ty: &Type) -> String {
    let edges: Vec<String> = ty.edges.iter().map(|edge| format!("{}::{}", literal(edge), ty.pg)).collect();
    let (pg, random) = (ty.pg, ty.random);
    format!(
        "CASE g WHEN 0 THEN NULL WHEN 1 THEN '{{}}'::{pg}[] WHEN 2 THEN ARRAY[NULL]::{pg}[] \
         WHEN 3 THEN ARRAY[NULL, {}, NULL]::{pg}[] ELSE ARRAY[({random})::{pg}, NULL, ({random})::{pg}] END",
        edges.join(", ")
    )
}

fn create(table: &str, columns: impl Iterator<Item = (String, String)>) -> String {
    let (definitions, values): (Vec<_>, Vec<_>) =
        columns.enumerate().map(|(i, (pg, sql))| (format!("c{i} {pg}"), sql)).unzip();
    format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, {}); \
         INSERT INTO {table} SELECT g, {} FROM generate_series(0, {}) g; ANALYZE {table};",
        definitions.join(", "),
        values.join(", "),
        EDGES + RANDOM_ROWS - 1
    )
}

fn arrow(types: impl Iterator<Item = String>) -> Value {
    types.enumerate().map(|(i, ty)| (format!("c{i}"), json!(ty))).collect::<serde_json::Map<_, _>>().into()
}

/// The type of a list. Elements are the server's text if they have no other form.
fn list(ty: &Type) -> String {
    // Arrays of shapes have texts as elements.
    let arrow = if ty.pg.starts_with("public.geo") { "string" } else { ty.arrow };
    format!("list<element: {arrow}>")
}

fn range(table: &str) -> Value {
    json!({"table": table, "strategy": "range", "chunk_rows": 3000})
}

/// The row with the lowest interval. The server cannot read its own text of it.
const UNREADABLE: usize = 6;

/// Domains, composites and arrays of these, for every type of the mapping.
fn create_made_of_others(types: &[Type]) -> String {
    let each = |what: &dyn Fn(usize, &Type) -> String, between: &str| {
        types.iter().enumerate().map(|(i, ty)| what(i, ty)).collect::<Vec<_>>().join(between)
    };
    let domains = each(&|i, ty| format!("CREATE DOMAIN d{i} AS {}", ty.pg), "; ");
    let attributes = each(&|i, _| format!("a{i} d{i}"), ", ");
    let columns = each(&|i, _| format!("c{i} d{i}"), ", ");
    let values = each(&|i, _| format!("c{i}"), ", ");
    format!(
        "{domains}; CREATE TYPE every AS ({attributes});
         CREATE TYPE plain AS (i int, t text, n numeric, d date, r int4range, h public.hstore);
         CREATE TYPE nested AS (e every, p plain, l plain[]);
         CREATE TABLE domains (id bigint PRIMARY KEY, {columns});
         INSERT INTO domains SELECT * FROM scalars WHERE id < {EDGES} OR id % 20 = 0;
         CREATE TABLE composites (id bigint PRIMARY KEY, e every, l every[], p plain, lp plain[], n nested);
         INSERT INTO composites SELECT id, e, ARRAY[e, NULL], p, ARRAY[p, NULL, p], ROW(e, p, ARRAY[p])::nested
            FROM (SELECT id, ROW({values})::every AS e,
                         ROW(id, 'it''s', id / 7.0, 'infinity', int4range(NULL, 5), 'a=>NULL'::public.hstore)::plain AS p
                  FROM domains) q WHERE id < 2000 AND id <> {UNREADABLE};
         INSERT INTO composites (id, p, lp, n) VALUES (-1, NULL, NULL, NULL),
            (-2, ROW(NULL, NULL, NULL, NULL, NULL, NULL), '{{}}', ROW(NULL, NULL, NULL));"
    )
}

#[test]
fn every_type_comes_back_exact() {
    let site = Site::new(Database::empty());
    site.db.execute(SETUP);
    let types = types(&site.db);
    site.db.execute(&create("scalars", types.iter().map(|t| (t.pg.to_owned(), column(t)))));
    site.db.execute(&create("arrays", types.iter().map(|t| (format!("{}[]", t.pg), array(t)))));
    site.db.execute(&create_made_of_others(&types));
    let daemon = site.daemon();
    let tables = [
        range("public.scalars"),
        range("public.arrays"),
        json!("public.domains"),
        json!("public.composites"),
    ];
    let done = site.export(json!({"tables": tables}));
    for table in ["public_scalars", "public_arrays"] {
        assert!(site.exports.names(table).len() >= 3, "{table} in chunks");
    }
    let judged = site.cast_back(&[
        json!({"relation": "public.scalars", "arrow": arrow(types.iter().map(|t| t.arrow.into()))}),
        json!({"relation": "public.arrays", "arrow": arrow(types.iter().map(list))}),
    ]);
    assert_exact(&judged, (EDGES + RANDOM_ROWS) as u64);
    for table in ["domains", "composites"] {
        let arrow = arrow(types.iter().map(|t| t.arrow.into()));
        let arrow = if table == "domains" { arrow } else { json!({}) };
        let rows = site.db.number(&format!("SELECT count(*) FROM {table}"));
        assert_exact(
            &site.cast_back(&[json!({"relation": format!("public.{table}"), "arrow": arrow})]),
            rows,
        );
    }

    site.assert_readable("public_scalars", &arrow(types.iter().map(|t| t.pg.into())));
    site.assert_readable("public_arrays", &arrow(types.iter().map(|t| format!("{}[]", t.pg))));

    // Change single values slightly, to show that the comparison notices.
    site.db.execute(
        "UPDATE scalars SET c5 = -c5 WHERE id = 4; UPDATE arrays SET c1 = '{}' WHERE id = 0;
         UPDATE arrays SET c16 = NULL WHERE id = 9",
    );
    let judged =
        site.cast_back(&[json!({"relation": "public.scalars"}), json!({"relation": "public.arrays"})]);
    let [scalars, arrays] = &judged[..] else { panic!("two tables") };
    assert!(scalars.differences.iter().any(|d| d.contains("column c5 (real): 1 values")), "{scalars:?}");
    assert!(arrays.differences.iter().any(|d| d.contains("column c1 (smallint[]): 1 values")), "{arrays:?}");
    assert!(arrays.differences.iter().any(|d| d.contains("column c16")), "{arrays:?}");
    site.assert_sound(&[done.job()], [daemon]);
}

/// Every relation was compared and is equal.
#[track_caller]
fn assert_exact(judged: &[Judgement], rows: u64) {
    for relation in judged {
        assert!(relation.differences.is_empty(), "{relation:#?}");
        assert_eq!(relation.rows, rows, "{}", relation.relation);
    }
}
