//! Values that are taken from pages are those that COPY sends.

use serde_json::json;

use super::types::{SETUP, Type, types};
use super::{EDGES, RANDOM_ROWS, arrow, assert_exact, column, create};
use crate::pages::{export, pages, site, vacuum};

/// Types that are taken from pages.
const TAKEN: [&str; 18] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "oid",
    "real",
    "double precision",
    "numeric",
    "text",
    "character",
    "name",
    "bytea",
    "date",
    "time",
    "interval",
    "uuid",
    "json",
    "public.mood",
];

fn is_taken(ty: &Type) -> bool {
    let (base, _) = ty.pg.split_once('(').unwrap_or((ty.pg, ""));
    TAKEN.iter().any(|taken| base == *taken || base == format!("{taken} varying"))
        || base.starts_with("time") && !base.contains("time with ")
}

#[test]
fn every_type_that_is_taken_from_pages_comes_back_exact() {
    let Some(site) = site() else { return };
    site.db.execute(SETUP);
    let types: Vec<Type> = types(&site.db).into_iter().filter(is_taken).collect();
    assert!(types.len() > 20, "only {} types", types.len());
    site.db.execute(&create("scalars", types.iter().map(|t| (t.pg.to_owned(), column(t)))));
    // Some values have a domain's type.
    site.db.execute(
        "CREATE DOMAIN whole AS integer; ALTER TABLE scalars ADD COLUMN d whole; UPDATE scalars SET d = id",
    );
    site.db.execute("ALTER TABLE scalars SET (fillfactor = 10)");
    site.db.execute("VACUUM FULL scalars");
    vacuum(&site.db, "scalars");
    let table = export(&site, &pages("public.scalars"));
    assert_eq!((&table["strategy"], &table["pages"]["recopied"]), (&json!("ctid"), &json!(0)), "{table}");
    assert!(table["pages"]["read"].as_u64() > Some(1000), "{table}");
    let judged = site.cast_back(&[json!({
        "relation": "public.scalars",
        "arrow": arrow(types.iter().map(|t| t.arrow.into())),
    })]);
    assert_exact(&judged, (EDGES + RANDOM_ROWS) as u64);
}
