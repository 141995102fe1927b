//! Whether reading a table by pages would do harm, so that `auto` does not. Pure.
//!
//! Pages that are read one by one stay in the buffers that all sessions share, and push out others' pages. PostgreSQL
//! itself scans a table of up to a quarter of these buffers in the same way, so such a table costs nobody more. Of a
//! larger one it keeps only a few pages at a time. A table that is in the buffers already pushes out nothing.

use std::collections::HashMap;

use super::facts::Table;
use super::server::Server;
use crate::relation::{Column, Relation};
use crate::text::bytes_text;

/// Tables up to this part of the buffers are read by pages.
const PART_OF_BUFFERS: u64 = 4;
/// Larger tables are if at least this share of their pages is in the buffers, in percent.
const CACHED: u64 = 75;
/// Nobody asks about more buffers than this: the answer would cost the server too much.
const MOST_BUFFERS: u64 = 16 << 30;
/// The pages must have less than this times the bytes that COPY would send, in percent.
const MOST_BYTES: u64 = 150;
/// This share of the pages must be marked as visible to all, in percent.
const VISIBLE: u64 = 75;

/// What decides about harm, besides the size of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Care {
    /// Bytes of each column's value in a mean row, where there are statistics.
    pub(super) widths: HashMap<String, f64>,
    /// Pages of the table in the buffers, if that is known.
    pub(super) cached: Option<u64>,
}

/// Whether it makes sense to ask how much of a table is in the buffers.
pub(super) fn may_be_cached(server: &Server, table: &Table) -> bool {
    let bytes = table.counted.0.saturating_mul(server.block);
    server.buffers <= MOST_BUFFERS
        && bytes > server.buffers / PART_OF_BUFFERS
        && bytes.saturating_mul(CACHED) <= server.buffers.saturating_mul(100)
}

/// Why `auto` reads the pages of a table, or why it does not.
pub(super) fn judge(
    relation: &Relation,
    columns: &[Column],
    (server, table, care): (&Server, &Table, &Care),
) -> Result<String, String> {
    let heap = relation.heap_bytes;
    let pages = heap / server.block.max(1);
    let most = server.buffers / PART_OF_BUFFERS;
    let cached = care.cached.unwrap_or(0);
    let why = if heap <= most {
        "they fit into a quarter of shared_buffers".to_owned()
    } else if pages > 0 && cached.saturating_mul(100) >= pages.saturating_mul(CACHED) {
        format!("{} % of them are in shared_buffers", (cached * 100 / pages).min(100))
    } else {
        return Err(format!(
            "its pages would take more than a quarter of shared_buffers ({}); read = \"pages\" reads them nevertheless",
            bytes_text(most)
        ));
    };
    // Without any mark, nobody may have counted them. Then the first pages of each chunk tell.
    let (counted, visible) = table.counted;
    if visible > 0 && visible.saturating_mul(100) < counted.saturating_mul(VISIBLE) {
        return Err(format!(
            "only {} % of its pages are marked as visible to all, because rows have changed since VACUUM",
            visible * 100 / counted.max(1)
        ));
    }
    let sent = sent(relation, columns, care);
    if heap.saturating_mul(100) >= sent.saturating_mul(MOST_BYTES) {
        return Err(format!(
            "its pages have {}, and COPY sends about {}",
            bytes_text(heap),
            bytes_text(sent)
        ));
    }
    Ok(why)
}

/// Bytes that COPY would send, about.
fn sent(relation: &Relation, columns: &[Column], care: &Care) -> u64 {
    let width = |column: &Column| {
        let known = care.widths.get(&column.name).copied();
        let usual = || relation.columns.iter().find(|c| c.column.name == column.name).map(|c| c.width as f64);
        4.0 + known.or_else(usual).unwrap_or(0.0)
    };
    let row = 2.0 + columns.iter().map(width).sum::<f64>();
    (row * relation.estimated_rows.unwrap_or(0) as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::server;
    use super::*;
    use crate::relation::{Facts, Frozen, RelationKind, SurveyColumn};

    const MIB: u64 = 1 << 20;

    fn column(name: &str, width: u64) -> SurveyColumn {
        let column = Column {
            name: name.into(),
            source_type: "text".into(),
            ty: crate::relation::ColumnType::Text,
            nullable: true,
            reading: Frozen::default(),
            note: None,
        };
        SurveyColumn {
            column,
            readable: true,
            canonical: false,
            facts: Facts::of(()),
            width,
            order: None,
            ordered: false,
            numeric: false,
            correlation: None,
            histogram_bounds: 0,
            indexed: false,
            doubt: None,
            common_share: 0.0,
        }
    }

    /// A table of this many MiB, with 100,000 rows of a narrow and a wide column.
    fn table(mib: u64) -> Relation {
        Relation {
            schema: "s".into(),
            name: "t".into(),
            kind: RelationKind::Table,
            unreadable: None,
            elsewhere: None,
            partial: None,
            contains: Vec::new(),
            alone: None,
            has_own_rows: true,
            foreign: false,
            estimated_rows: Some(100_000),
            bytes: mib * MIB,
            heap_bytes: mib * MIB,
            outdated: false,
            extent: None,
            primary_key: Vec::new(),
            columns: vec![column("narrow", 8), column("wide", 32)],
            own: None,
            ways: None,
        }
    }

    fn judged(mib: u64, visible: u64, cached: Option<u64>, columns: &[&str]) -> Result<String, String> {
        let relation = table(mib);
        let pages = mib * MIB / 8192;
        let counted = Table::counted(pages, pages * visible / 100);
        // The wide column fills the pages.
        let widths = HashMap::from([("wide".to_owned(), (mib * MIB / 100_000) as f64 * 0.8)]);
        let care = Care { widths, cached: cached.map(|share| pages * share / 100) };
        let columns: Vec<Column> = relation
            .columns
            .iter()
            .filter(|c| columns.contains(&c.column.name.as_str()))
            .map(|c| c.column.clone())
            .collect();
        judge(&relation, &columns, (&server(64 * MIB), &counted, &care))
    }

    #[test]
    fn auto_reads_pages_that_push_out_nobody_and_are_no_more_bytes_than_copy_sends() {
        let all = ["narrow", "wide"];
        assert!(judged(16, 100, None, &all).expect("pages").contains("a quarter of shared_buffers"));
        assert!(
            judged(17, 100, None, &all).expect_err("COPY").contains("more than a quarter of shared_buffers")
        );
        assert!(judged(17, 100, Some(74), &all).is_err());
        assert!(judged(17, 100, Some(75), &all).expect("pages").contains("are in shared_buffers"));
        assert!(judged(16, 100, None, &["narrow"]).expect_err("COPY").contains("COPY sends about"));
        assert!(judged(16, 100, None, &["wide"]).is_ok());
        assert!(judged(16, 75, None, &all).is_ok());
        assert!(judged(16, 74, None, &all).expect_err("COPY").contains("73 % of its pages"));
        assert!(judged(16, 0, None, &all).is_ok(), "the first pages of a chunk tell");
    }

    #[test]
    fn nobody_asks_about_buffers_in_vain() {
        let pages = |mib: u64| Table::counted(mib * MIB / 8192, 0);
        assert!(!may_be_cached(&server(64 * MIB), &pages(16)), "it is small enough");
        assert!(may_be_cached(&server(64 * MIB), &pages(17)));
        assert!(!may_be_cached(&server(64 * MIB), &pages(86)), "too much of it cannot be there");
        assert!(!may_be_cached(&server(MOST_BUFFERS + 1), &pages(8 << 10)), "the question costs too much");
    }
}
