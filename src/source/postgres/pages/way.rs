//! Whether a table is planned to be read by pages, and why. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::reading::Reading;
use super::super::types::PgType;
use super::columns::{form, not_taken, wire};
use super::facts::{Server, Table};
use crate::message::setting::ReadWay;
use crate::relation::pieces::Wanted;
use crate::relation::{Column, Facts, Relation};
use crate::source::{SourceError, Way};
use crate::text::bytes_text;

/// Smaller tables are read by COPY: asking for their pages would take longer.
pub(in super::super) const FEWEST_PAGES: u64 = 1_000;
/// `auto` reads tables by pages up to this part of the buffers that all sessions share: pages of a table go through
/// these buffers, and take the place of others' pages.
const PART_OF_BUFFERS: u64 = 4;
/// `auto` reads by pages if they have less than this times the bytes that COPY would send, in percent.
const MOST_BYTES: u64 = 150;

/// What a survey finds out about a table that has enough pages.
pub(in super::super) struct PageFacts {
    pub(in super::super) server: Arc<Server>,
    pub(in super::super) table: Table,
}

/// How a table is read, and why.
pub(in super::super) fn way(
    relation: &Relation,
    columns: &[Column],
    wanted: &Wanted,
    is_of_primary: bool,
) -> Way {
    let copy = |why: String| Way { read: ReadWay::Auto, why: Some(format!("by copy, because {why}")) };
    let facts = relation.own.as_ref().and_then(Facts::get::<PageFacts>);
    match (wanted.read, facts) {
        (ReadWay::Copy | ReadWay::Retrieve | ReadWay::Query, _) | (ReadWay::Auto, None) => Way::default(),
        (ReadWay::Pages, None) => copy(format!("it is no table of at least {FEWEST_PAGES} pages")),
        // Nobody has prepared the database for this role, so nobody expects it.
        (ReadWay::Auto, Some(facts)) if facts.server.doubt().is_some() => Way::default(),
        (read, Some(facts)) => {
            let doubt = doubt(relation, columns, wanted, is_of_primary, facts);
            let careful = || if read == ReadWay::Auto { harm(relation, columns, facts) } else { None };
            match doubt.or_else(careful) {
                Some(why) => copy(why),
                None => Way { read: ReadWay::Pages, why: Some("by pages".into()) },
            }
        }
    }
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

/// Why reading pages would cost others, or gain nothing.
fn harm(relation: &Relation, columns: &[Column], facts: &PageFacts) -> Option<String> {
    let most = facts.server.buffers / PART_OF_BUFFERS;
    if relation.heap_bytes > most {
        return Some(format!(
            "its pages would take more than {} of shared_buffers; read = \"pages\" reads them nevertheless",
            bytes_text(most)
        ));
    }
    if !facts.table.is_mostly_visible() {
        return Some("too few of its pages are marked as visible to all".into());
    }
    let is_exported = |name: &String| columns.iter().any(|column| column.name == *name);
    let widths = relation.columns.iter().filter(|c| is_exported(&c.column.name)).map(|c| c.width + 4);
    let sent = relation.estimated_rows.unwrap_or(0).saturating_mul(2 + widths.sum::<u64>());
    (relation.heap_bytes.saturating_mul(100) >= sent.saturating_mul(MOST_BYTES)).then(|| {
        format!(
            "its pages have {}, and COPY sends about {}",
            bytes_text(relation.heap_bytes),
            bytes_text(sent)
        )
    })
}
