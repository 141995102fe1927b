//! How the rows of tables are stored: the superprojection of each.

use std::collections::HashMap;

use super::asking::{ask, text};
use super::sessions::Leased;
use super::statements::{self, Wanted};
use super::wire::Row;
use crate::source::SourceError;

/// A projection that has all columns of its table.
#[derive(Default)]
pub(super) struct Superprojection {
    /// The expression that decides on which node a row is; none if every node has the whole table.
    pub(super) segmentation: Option<String>,
    /// The column by which it is sorted first.
    pub(super) leading: Option<String>,
    /// Rows of the table, deleted ones too.
    pub(super) rows: u64,
    /// Bytes on disk.
    pub(super) bytes: u64,
}

/// The largest up-to-date superprojection of each of these tables, by the number of the table.
pub(super) async fn superprojections(
    session: &mut Leased,
    tables: &[i64],
    nodes: u64,
) -> Result<HashMap<i64, Superprojection>, SourceError> {
    let of = Wanted(tables);
    if tables.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sizes: HashMap<i64, [u64; 4]> = HashMap::new();
    for row in ask(session, &statements::sizes(of)).await?.rows() {
        let Some(id) = row.int(0)? else { continue };
        sizes.insert(id, [size(&row, 1)?, size(&row, 2)?, size(&row, 3)?, size(&row, 4)?]);
    }
    let mut leading: HashMap<i64, String> = HashMap::new();
    for row in ask(session, &statements::leading_columns(of)).await?.rows() {
        let Some(id) = row.int(0)? else { continue };
        leading.insert(id, text(&row, 1)?);
    }
    let mut found: HashMap<i64, Superprojection> = HashMap::new();
    for row in ask(session, &statements::projections(of)).await?.rows() {
        let (Some(id), Some(table)) = (row.int(0)?, row.int(1)?) else { continue };
        if row.bool(2)? != Some(true) || row.bool(4)? != Some(true) {
            continue;
        }
        let is_segmented = row.bool(3)? == Some(true);
        let [rows, rows_of_node, bytes, bytes_of_node] = sizes.get(&id).copied().unwrap_or_default();
        let (rows, bytes) = if is_segmented { (rows, bytes) } else { (rows_of_node, bytes_of_node) };
        // A segmentation on one node only is none.
        let segmentation = if is_segmented && nodes > 0 { Some(text(&row, 5)?) } else { None };
        let this = Superprojection { segmentation, leading: leading.remove(&id), rows, bytes };
        match found.get(&table) {
            Some(other) if other.rows >= this.rows => {}
            _ => {
                found.insert(table, this);
            }
        }
    }
    Ok(found)
}

/// A count that may be missing, or a sum that is a numeric.
fn size(row: &Row<'_>, column: usize) -> Result<u64, SourceError> {
    Ok(row.int(column)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}
