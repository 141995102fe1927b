//! Whether a table is planned to be read by pages, and why. Pure.

use std::collections::BTreeMap;

use super::super::reading::Reading;
use super::super::types::PgType;
use super::care::judge;
use super::columns::{form, not_taken, wire};
use super::survey::PageFacts;
use crate::failpoint;
use crate::message::setting::ReadWay;
use crate::relation::pieces::Wanted;
use crate::relation::{Column, Facts, Relation};
use crate::source::{SourceError, Way};

/// Smaller tables are read by COPY: asking for their pages would take longer.
const FEWEST_PAGES: u64 = 1_000;

/// Whether a table with so many pages is large enough. Tests leave the rule out to read small tables by pages.
pub(in super::super) fn is_large(pages: f64) -> bool {
    pages >= FEWEST_PAGES as f64 || pages >= 1.0 && failpoint::is_left_out("count", "pages")
}

/// How a table is read, and why.
pub(in super::super) fn way(
    relation: &Relation,
    columns: &[Column],
    wanted: &Wanted,
    is_of_primary: bool,
) -> Way {
    let copy = |why: String| Way { read: ReadWay::Auto, why: Some(format!("by copy, because {why}")) };
    let facts = relation.ways.as_ref().and_then(Facts::get::<PageFacts>);
    let is_auto = match wanted.read {
        ReadWay::Pages => false,
        ReadWay::Auto => true,
        ReadWay::Copy | ReadWay::Retrieve | ReadWay::Query => return Way::default(),
    };
    let facts = match facts {
        // Nobody has prepared the database for this role, so nobody expects it.
        None if is_auto => return Way::default(),
        Some(facts) if is_auto && facts.server.doubt().is_some() => return Way::default(),
        None => return copy(format!("it is no table of at least {FEWEST_PAGES} pages")),
        Some(facts) => facts,
    };
    if let Some(why) = doubt(relation, columns, wanted, is_of_primary, facts) {
        return copy(why);
    }
    let mut why = format!("by pages: {}", facts.table.marked());
    if is_auto {
        let care = facts.care.clone().unwrap_or_default();
        match judge(relation, columns, (&facts.server, &facts.table, &care)) {
            Ok(because) => why = format!("{why}, and {because}"),
            Err(harm) => return copy(harm),
        }
    }
    Way { read: ReadWay::Pages, why: Some(why) }
}

/// A table of PostgreSQL has no pieces of its own.
///
/// # Errors
/// When the request asks for a way that only Greenplum has.
pub(in super::super) fn usual_pieces(name: &str, wanted: &Wanted) -> Result<(), SourceError> {
    match wanted.read {
        ReadWay::Auto | ReadWay::Copy | ReadWay::Pages => Ok(()),
        // A default of the source.
        ReadWay::Retrieve | ReadWay::Query if !wanted.must => Ok(()),
        ReadWay::Retrieve | ReadWay::Query => {
            let way = wanted.read.as_str();
            let why = format!("{name} cannot be read by {way}: PostgreSQL tables are read by copy or pages");
            Err(SourceError::permanent("read", why).with_remedy("leave `read` out"))
        }
    }
}

/// Why pages would not give the same rows, or cannot be read.
fn doubt(
    relation: &Relation,
    columns: &[Column],
    wanted: &Wanted,
    is_of_primary: bool,
    facts: &PageFacts,
) -> Option<String> {
    if !is_of_primary {
        return Some("there is no snapshot that was taken on a primary".into());
    }
    if wanted.filtered.is_some() {
        return Some("it has a filter".into());
    }
    if columns.is_empty() {
        return Some("no column is exported".into());
    }
    let is_taken = |column: &&Column| {
        let surveyed = relation.columns.iter().find(|c| c.column.name == column.name);
        let ty = surveyed.and_then(|c| c.facts.get::<PgType>()).map(PgType::undomained);
        let labels = BTreeMap::new();
        ty.zip(Reading::of(column).ok()).is_some_and(|(ty, reading)| {
            let labels = (ty.typtype == 'e').then_some(&labels);
            wire(ty.oid, labels).is_some() && form(&reading, ty.oid).is_some()
        })
    };
    facts
        .server
        .doubt()
        .or_else(|| facts.table.doubt(&facts.server))
        .or_else(|| columns.iter().find(|c| !is_taken(c)).map(|column| not_taken(&column.name)))
}
