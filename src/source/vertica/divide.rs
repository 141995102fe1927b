//! Cuts a table into chunks as its rows are stored (pure).
//!
//! A superprojection is segmented by a hash of some columns, and each node holds a range of these hashes. So a
//! chunk is a range of the same hash. If Vertica spreads rows by the number that `HASH` gives, which was not
//! verified, it is on few nodes, and a multiple of the number of nodes makes all of them work alike. `HASH` gives
//! numbers from 0 to 2^63 - 1, and the same number for a row in every session.
//!
//! Where the rows are sorted by the key first, ranges of the key are better, because the server skips what lies
//! outside of a range. Tables that every node holds as a whole are not hashed either.

use super::condition::{HashRange, HashedColumn};
use crate::message::request::StrategyRequest;
use crate::message::setting::ReadWay;
use crate::relation::pieces::{Piece, Pieces, Wanted};
use crate::relation::{Facts, Frozen, Relation};
use crate::source::SourceError;
use crate::text::count;

/// The first number that `HASH` never gives.
const HASHES: u64 = 1 << 63;
/// Rows of a chunk, if nothing else is asked for.
const CHUNK_ROWS: u64 = 5_000_000;
/// Most chunks of a table: part numbers have six digits.
const MAX_CHUNKS: u64 = 100_000;
/// Most columns in one hash. Older servers take no more.
const MAX_HASHED: usize = 32;

/// How a relation is stored, for [`divide`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Why it is read by one query, e.g. `it is a view`; none for a table that the server stores.
    pub(super) whole: Option<&'static str>,
    /// The expression that decides on which node a row is stored, as the catalogue writes it; none for a table
    /// that every node holds as a whole.
    pub(super) segmentation: Option<String>,
    /// The column by which the superprojection is sorted first.
    pub(super) leading: Option<String>,
    /// Columns that may be hashed.
    pub(super) hashable: Vec<HashedColumn>,
    /// Number of nodes.
    pub(super) nodes: u64,
    /// Whether it has partitions, which can be swapped and moved.
    pub(super) partitioned: bool,
}

impl Layout {
    /// What the survey stored about a relation.
    pub(super) fn of(relation: &Relation) -> Option<&Self> {
        relation.own.as_ref().and_then(Facts::get)
    }
}

/// Cuts a relation. None: it is split by ranges of a key, or not at all.
pub(super) fn divide(
    relation: &Relation,
    wanted: &Wanted,
    name: &str,
) -> Result<Option<Pieces>, SourceError> {
    if wanted.read != ReadWay::Auto && wanted.must {
        return Err(SourceError::permanent(
            "read",
            format!("{name} cannot be read by {}: Vertica tables are read in one way", wanted.read.as_str()),
        )
        .with_remedy("leave `read` out"));
    }
    let Some(layout) = Layout::of(relation) else { return Ok(None) };
    let asked = wanted.strategy == StrategyRequest::Hash;
    if !asked && (wanted.strategy != StrategyRequest::Auto || wanted.by_column) {
        return Ok(None);
    }
    if let Some(what) = layout.whole {
        return if asked { Err(impossible(name, what)) } else { Ok(None) };
    }
    let chunks = chunks(relation, layout, wanted);
    if chunks < 2 && !asked {
        return Ok(None);
    }
    let key = relation.primary_key.first();
    if !asked && layout.segmentation.is_none() {
        return Ok(None);
    }
    if !asked && key.is_some() && key == layout.leading.as_ref() && is_range_key(relation, key) {
        return Ok(None);
    }
    let Some((columns, why)) = hashed(relation, layout) else {
        return if asked { Err(impossible(name, "no column of it can be hashed")) } else { Ok(None) };
    };
    let nodes = count(layout.nodes, "node");
    let rows = wanted.filtered.or(relation.estimated_rows).unwrap_or(0) / chunks;
    let reason = format!(
        "hash: {} of {}, about {} rows each, for {nodes}; {why}",
        count(chunks, "range"),
        shown(&columns),
        crate::text::Rows(rows)
    );
    Ok(Some(Pieces { strategy: "hash", pieces: ranges(&columns, chunks), read: ReadWay::Auto, reason }))
}

/// Number of chunks: a multiple of the number of nodes, or one.
fn chunks(relation: &Relation, layout: &Layout, wanted: &Wanted) -> u64 {
    let all = relation.estimated_rows.unwrap_or(0);
    let rows = wanted.filtered.unwrap_or(all);
    let by_rows = rows.div_ceil(wanted.chunk_rows.map_or(CHUNK_ROWS, std::num::NonZeroU64::get));
    // A filter leaves a part of the bytes.
    let bytes = match (rows < all, all) {
        (true, 1..) => u64::try_from(u128::from(relation.bytes) * u128::from(rows) / u128::from(all))
            .unwrap_or(relation.bytes),
        _ => relation.bytes,
    };
    let wanted = by_rows.max(bytes.div_ceil(wanted.chunk_bytes.get()));
    if wanted < 2 {
        return 1;
    }
    let nodes = layout.nodes.max(1);
    let most = (MAX_CHUNKS / nodes).max(1) * nodes;
    wanted.div_ceil(nodes).saturating_mul(nodes).min(most)
}

/// Whether ranges of this column are possible and skip what lies outside of them.
fn is_range_key(relation: &Relation, key: Option<&String>) -> bool {
    let column = key.and_then(|key| relation.columns.iter().find(|c| c.column.name == *key));
    column.is_some_and(|column| column.order.is_some() && column.readable)
}

/// What to hash, and why: the columns of the segmentation, else the key, else all columns.
fn hashed(relation: &Relation, layout: &Layout) -> Option<(Vec<HashedColumn>, String)> {
    let names: Vec<&str> = layout.hashable.iter().map(|column| column.name.as_str()).collect();
    let of = |wanted: &[String]| -> Option<Vec<HashedColumn>> {
        let find = |name: &String| layout.hashable.iter().find(|column| column.name == *name).cloned();
        wanted.iter().map(find).collect::<Option<_>>().filter(|found: &Vec<_>| !found.is_empty())
    };
    let stored = layout.segmentation.as_deref().and_then(|text| segmentation(text, &names));
    if let Some(columns) = stored.and_then(|columns| of(&columns)) {
        return Some((columns, "as the nodes hold them".into()));
    }
    let why = match &layout.segmentation {
        None => "every node holds the whole table",
        Some(_) => "the segmentation of its superprojection is not a hash of columns",
    };
    if let Some(key) = of(&relation.primary_key) {
        return Some((key, format!("{why}, so by the primary key")));
    }
    let columns: Vec<HashedColumn> = layout.hashable.iter().take(MAX_HASHED).cloned().collect();
    (!columns.is_empty()).then(|| (columns, format!("{why}, so by its columns")))
}

/// The columns of `hash(a, t.b, "C")`, if the text is exactly that and names each of them. Anything else is
/// no segmentation that is printed again (invariant I7).
pub(super) fn segmentation(text: &str, columns: &[&str]) -> Option<Vec<String>> {
    let text = text.trim();
    let name = text.get(..4)?;
    if !name.eq_ignore_ascii_case("hash") {
        return None;
    }
    let inner = text.get(4..)?.trim_start().strip_prefix('(')?.strip_suffix(')')?;
    let mut found = Vec::new();
    let mut rest = inner;
    loop {
        let (name, quoted, after) = reference(rest.trim_start())?;
        found.push(column(&name, quoted, columns)?);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    (found.len() <= MAX_HASHED).then_some(found)
}

/// Reads `schema.table.column`: the last name, whether it was quoted, and what follows.
fn reference(mut text: &str) -> Option<(String, bool, &str)> {
    for _ in 0..4 {
        let (name, quoted, rest) = identifier(text)?;
        match rest.strip_prefix('.') {
            Some(after) => text = after,
            None => return Some((name, quoted, rest)),
        }
    }
    None
}

/// Reads one identifier.
fn identifier(text: &str) -> Option<(String, bool, &str)> {
    if let Some(inside) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = inside.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                return (!name.is_empty()).then(|| (name, true, &inside[at + 1..]));
            }
        }
        return None;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    let starts_well = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    starts_well.then(|| (text[..end].to_owned(), false, &text[end..]))
}

/// The column with this name. Names without quotes are compared without regard to case, if that is certain.
fn column(name: &str, quoted: bool, columns: &[&str]) -> Option<String> {
    if let Some(exact) = columns.iter().find(|column| **column == name) {
        return Some((*exact).to_owned());
    }
    let mut alike = columns.iter().filter(|column| !quoted && column.to_lowercase() == name.to_lowercase());
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some((*only).to_owned()),
        _ => None,
    }
}

/// Equal ranges of all hashes.
fn ranges(columns: &[HashedColumn], chunks: u64) -> Vec<Piece> {
    let bound = |i: u64| {
        let bound = u128::from(HASHES) * u128::from(i) / u128::from(chunks);
        u64::try_from(bound).expect("at most 2^63")
    };
    let piece = |i: u64| {
        let from = (i > 0).then(|| bound(i));
        let to = (i + 1 < chunks).then(|| bound(i + 1));
        let label = format!("hash of {}, range {} of {chunks}", shown(columns), i + 1);
        Piece { of: Frozen::of(&HashRange { columns: columns.to_vec(), from, to }), label }
    };
    (0..chunks).map(piece).collect()
}

fn shown(columns: &[HashedColumn]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    match names.as_slice() {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

fn impossible(name: &str, why: &str) -> SourceError {
    SourceError::permanent("strategy_unavailable", format!("{name} cannot be split by hash: {why}"))
        .with_remedy("leave `strategy` out, or use range with a chunk_column, or single")
}

#[cfg(test)]
#[path = "divide_tests.rs"]
mod tests;
