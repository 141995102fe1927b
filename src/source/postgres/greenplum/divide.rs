//! Splits a table into pieces, one per chunk, and chooses how they are read. Pure.
//!
//! `COPY leaf TO` is formatted on the segments. It costs the coordinator a ninth of the CPU time of a
//! `COPY (SELECT …)`. It has no condition, so its smallest piece is a leaf. A retrieve cursor costs the
//! coordinator next to nothing, and the segments 1.5 to 2.1 times the CPU time of a copy. So small and usual tables
//! are copied, huge leaves are retrieved, and what needs an expression is queried.

use std::fmt;
use std::num::NonZeroU64;

use super::super::quote::table;
use super::piece::{Leaf, Piece};
use crate::message::pattern::qualified;
use crate::message::request::StrategyRequest;
use crate::message::setting::ReadWay;
use crate::relation::Frozen;
use crate::relation::pieces::{self, Pieces, Wanted};
use crate::source::SourceError;
use crate::text::{Rows, bytes_text, count};

/// Largest leaf that is copied as one chunk.
const COPY_BYTES: u64 = 64 << 30;
/// The same in rows.
const COPY_ROWS: u64 = 200_000_000;
/// Rows of a chunk if neither request nor settings set `chunk_rows`.
const LARGE_ROWS: u64 = 5_000_000;
/// Most leaves of a chunk. Each of them takes a lock on every segment.
const MAX_LEAVES: usize = 64;
/// Most chunks of a table: part numbers have six digits.
const MAX_CHUNKS: usize = 100_000;

/// What the survey found out about a table.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Layout {
    /// The tables with files of their own, in the order of their names.
    pub(super) leaves: Vec<SizedLeaf>,
    /// The table itself.
    pub(super) own: Leaf,
    /// Why a query must read the table as a whole, if it must.
    pub(super) whole: Option<Whole>,
    /// Why the table cannot be read by COPY of the table; none if it can.
    pub(super) no_copy: Option<&'static str>,
    /// Whether every segment holds all rows.
    pub(super) is_replicated: bool,
    /// How its rows are distributed, e.g. `DISTRIBUTED BY (id)`.
    pub(super) distribution: String,
    /// Content ids of the segments.
    pub(super) segments: Vec<i32>,
    /// Why rows cannot be retrieved from the segments; none if they can.
    pub(super) no_retrieve: Option<String>,
}

/// Why a query must read a table as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    View,
    MaterializedView,
    External,
    /// This partition is an external table.
    HasExternal(Leaf),
    /// The role may read the table, but not this partition itself.
    HasUnreadable(Leaf),
}

impl fmt::Display for Whole {
    /// What the table is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |leaf: &Leaf| qualified(&leaf.schema, &leaf.name);
        match self {
            Self::View => write!(f, "a view"),
            Self::MaterializedView => write!(f, "a materialized view"),
            Self::External => write!(f, "an external table"),
            Self::HasExternal(leaf) => write!(f, "a table with the external partition {}", name(leaf)),
            Self::HasUnreadable(leaf) => {
                write!(f, "a table whose partition {} the role may not read", name(leaf))
            }
        }
    }
}

/// A leaf and its size.
#[derive(Clone, Debug)]
pub(super) struct SizedLeaf {
    pub(super) leaf: Leaf,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Layout {
    /// Splits the table. `converted` says which columns are not fetched as they are stored.
    ///
    /// # Errors
    /// When the request asks for something that this table cannot have.
    pub(in super::super) fn divide(
        &self,
        name: &str,
        wanted: &Wanted,
        converted: Option<&str>,
    ) -> Result<Pieces, SourceError> {
        let wanted = &match wanted.read {
            ReadWay::Pages if wanted.must => {
                return Err(impossible(name, "Greenplum tables are not read by pages")
                    .with_remedy("leave `read` out, or ask for \"copy\", \"retrieve\" or \"query\""));
            }
            ReadWay::Pages => Wanted { read: ReadWay::Auto, ..*wanted },
            _ => *wanted,
        };
        match wanted.strategy {
            StrategyRequest::Auto | StrategyRequest::Single | StrategyRequest::Segment => {}
            StrategyRequest::Range | StrategyRequest::Ctid | StrategyRequest::Hash => {
                return Err(impossible(name, "Greenplum tables are split by leaf and segment").with_remedy(
                    "leave `strategy` and `chunk_column` out, or ask for \"segment\" or \"single\"",
                ));
            }
        }
        if let Some(whole) = &self.whole {
            return self.as_a_whole(name, wanted, whole);
        }
        if wanted.only && self.leaves.len() > 1 {
            let own = self.leaves.iter().filter(|l| l.leaf == self.own).cloned().collect();
            let alone = Self { leaves: own, ..self.clone() };
            return alone.divide(name, wanted, converted);
        }
        let (read, why) = self.way(name, wanted, converted)?;
        let by_segment = self.is_by_segment(name, wanted, read)?;
        let pieces = self.cut(wanted, by_segment);
        if pieces.len() > MAX_CHUNKS {
            let why = format!("it would have {} chunks of at most {MAX_CHUNKS}", pieces.len());
            return Err(impossible(name, &why).with_remedy("raise `chunk_rows`"));
        }
        let strategy = match (by_segment, pieces.len()) {
            (true, _) => "segment",
            (false, 1) => "single",
            (false, _) => "leaf",
        };
        let chunks = count(pieces.len() as u64, "chunk");
        let leaves = match self.leaves.len() {
            1 => String::new(),
            n => format!(" of {n} leaves"),
        };
        let reason = format!("{strategy}: {chunks}{leaves}, {why}; {}", self.distribution);
        Ok(Pieces { strategy, pieces: frozen(pieces), read, reason })
    }

    /// How the table is read, and why.
    fn way(
        &self,
        name: &str,
        wanted: &Wanted,
        converted: Option<&str>,
    ) -> Result<(ReadWay, String), SourceError> {
        let expression = match wanted.filtered {
            Some(_) => Some("a filter"),
            None => converted.or(self.no_copy),
        };
        let retrieve = |why: String| match &self.no_retrieve {
            None => (ReadWay::Retrieve, why),
            Some(no) => (ReadWay::Query, format!("query, because rows cannot be retrieved: {no}")),
        };
        Ok(match (wanted.read, expression) {
            (ReadWay::Copy, Some(what)) if !wanted.must => {
                (ReadWay::Query, format!("query, because of {what}"))
            }
            (ReadWay::Copy, Some(what)) => {
                return Err(impossible(name, &format!("COPY of a table cannot have {what}"))
                    .with_remedy("ask for read \"auto\", \"retrieve\" or \"query\""));
            }
            (ReadWay::Copy, None) => (ReadWay::Copy, "copy: asked for".into()),
            (ReadWay::Query, _) => (ReadWay::Query, "query: asked for".into()),
            (ReadWay::Retrieve, _) if self.is_replicated && expression.is_none() => {
                (ReadWay::Copy, "copy, because each segment of a replicated table holds all rows".into())
            }
            (ReadWay::Retrieve, _) => match converted {
                None => retrieve("retrieve: asked for".into()),
                // The cursor's processes on the segments start later, and do not get all settings.
                Some(what) => (
                    ReadWay::Query,
                    format!(
                        "query, because of {what}: retrieve cursors have not all settings that make its text"
                    ),
                ),
            },
            (ReadWay::Auto | ReadWay::Pages, Some(what)) => {
                (ReadWay::Query, format!("query, because of {what}"))
            }
            (ReadWay::Auto | ReadWay::Pages, None) => match self.leaves.iter().find(|l| l.is_huge()) {
                Some(huge) if !self.is_replicated && wanted.strategy != StrategyRequest::Single => {
                    retrieve(format!("retrieve, because {} has {}", huge.leaf.name, huge.size()))
                }
                _ if wanted.strategy == StrategyRequest::Segment => {
                    retrieve("retrieve, by segment as asked for".into())
                }
                _ => (ReadWay::Copy, "copy".into()),
            },
        })
    }

    /// Whether each chunk reads the rows of one segment.
    fn is_by_segment(&self, name: &str, wanted: &Wanted, read: ReadWay) -> Result<bool, SourceError> {
        let by_segment = match (wanted.strategy, read) {
            (StrategyRequest::Single, _) => false,
            (StrategyRequest::Segment, ReadWay::Copy) => {
                return Err(impossible(name, "COPY of a table reads all segments")
                    .with_remedy("ask for the strategy \"segment\" with read \"retrieve\" or \"query\""));
            }
            (StrategyRequest::Segment, _) | (_, ReadWay::Retrieve) => true,
            (_, ReadWay::Query) => self.is_large(wanted),
            _ => false,
        };
        if self.is_replicated && wanted.strategy == StrategyRequest::Segment {
            return Err(impossible(name, "a replicated table has all rows on every segment")
                .with_remedy("leave `strategy` out"));
        }
        Ok(by_segment && !self.is_replicated)
    }

    /// The pieces: groups of leaves, each for all segments or for one.
    fn cut(&self, wanted: &Wanted, by_segment: bool) -> Vec<Piece> {
        let groups = match wanted.strategy {
            StrategyRequest::Single => vec![self.leaves.iter().map(|l| l.leaf.clone()).collect()],
            _ => self.groups(wanted, by_segment),
        };
        let segments: Vec<Option<i32>> =
            if by_segment { self.segments.iter().copied().map(Some).collect() } else { vec![None] };
        let of_group = |leaves: Vec<Leaf>| {
            let piece = |&segment| Piece { leaves: leaves.clone(), segment, is_whole: false };
            segments.iter().map(piece).collect::<Vec<_>>()
        };
        groups.into_iter().flat_map(of_group).collect()
    }

    fn is_large(&self, wanted: &Wanted) -> bool {
        let rows = wanted.filtered.unwrap_or_else(|| self.leaves.iter().map(|l| l.rows).sum());
        rows > wanted.chunk_rows.map_or(LARGE_ROWS, NonZeroU64::get)
    }

    /// Leaves that share a chunk: small ones together, until the chunk is full.
    fn groups(&self, wanted: &Wanted, by_segment: bool) -> Vec<Vec<Leaf>> {
        // A chunk of one segment reads its share of each leaf only.
        let share = if by_segment { self.segments.len().max(1) as u64 } else { 1 };
        let most_rows = wanted.chunk_rows.map_or(LARGE_ROWS, NonZeroU64::get).saturating_mul(share);
        let most_bytes = wanted.chunk_bytes.get().saturating_mul(share);
        let mut groups: Vec<Vec<Leaf>> = Vec::new();
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        for leaf in &self.leaves {
            let fits = rows + leaf.rows <= most_rows && bytes + leaf.bytes <= most_bytes;
            match groups.last_mut() {
                Some(group) if fits && group.len() < MAX_LEAVES => group.push(leaf.leaf.clone()),
                _ => {
                    groups.push(vec![leaf.leaf.clone()]);
                    (rows, bytes) = (0, 0);
                }
            }
            rows += leaf.rows;
            bytes += leaf.bytes;
        }
        groups
    }

    /// One chunk that queries the relation itself.
    fn as_a_whole(&self, name: &str, wanted: &Wanted, whole: &Whole) -> Result<Pieces, SourceError> {
        // With a right to all of its leaves the table could be read by any way.
        let grant = match whole {
            Whole::HasUnreadable(_) => {
                Some(format!("GRANT SELECT ON {} TO <role>", table(&self.own.schema, &self.own.name)))
            }
            _ => None,
        };
        let refused = |why: &str, field: &str| {
            let remedy = match &grant {
                Some(grant) => format!("{grant}, or leave `{field}` out"),
                None => format!("leave `{field}` out"),
            };
            Err(impossible(name, &format!("{whole} {why}")).with_remedy(remedy))
        };
        if let ReadWay::Copy | ReadWay::Retrieve = wanted.read
            && wanted.must
        {
            return refused("is read by a query", "read");
        }
        if wanted.strategy == StrategyRequest::Segment {
            return refused("is one chunk", "strategy");
        }
        let leaves = self.leaves.iter().map(|l| l.leaf.clone()).collect();
        let cure = grant.as_ref().map(|grant| format!("; to split it: {grant}")).unwrap_or_default();
        Ok(Pieces {
            strategy: "single",
            pieces: frozen(vec![Piece { leaves, segment: None, is_whole: !wanted.only }]),
            read: ReadWay::Query,
            reason: format!("single: {whole}, by a query{cure}"),
        })
    }
}

impl SizedLeaf {
    fn is_huge(&self) -> bool {
        self.bytes > COPY_BYTES || self.rows > COPY_ROWS
    }

    fn size(&self) -> String {
        format!("{} rows, {}", Rows(self.rows), bytes_text(self.bytes))
    }
}

fn frozen(pieces: Vec<Piece>) -> Vec<pieces::Piece> {
    let piece = |piece: Piece| pieces::Piece { of: Frozen::of(&piece), label: piece.to_string() };
    pieces.into_iter().map(piece).collect()
}

fn impossible(name: &str, why: &str) -> SourceError {
    SourceError::permanent("strategy", format!("{name} cannot be split or read as asked: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        read: ReadWay::Auto,
        must: true,
        strategy: StrategyRequest::Auto,
        by_column: false,
        chunk_rows: NonZeroU64::new(5_000_000),
        chunk_bytes: NonZeroU64::new(4 << 30).expect("not zero"),
        filtered: None,
        only: false,
    };

    fn layout(leaves: &[(u64, u64)]) -> Layout {
        let leaf = |(i, &(rows, bytes)): (usize, &(u64, u64))| SizedLeaf {
            leaf: Leaf { schema: "public".into(), name: format!("t_1_prt_{i}") },
            rows,
            bytes,
        };
        Layout {
            leaves: leaves.iter().enumerate().map(leaf).collect(),
            distribution: "DISTRIBUTED BY (id)".into(),
            segments: vec![0, 1, 2],
            ..Layout::default()
        }
    }

    fn pieces(divided: &Pieces) -> Vec<(usize, Option<i32>)> {
        let piece = |piece: &pieces::Piece| piece.of.thaw::<Piece>().expect("a piece");
        divided.pieces.iter().map(piece).map(|p| (p.leaves.len(), p.segment)).collect()
    }

    #[test]
    fn small_leaves_share_a_chunk_and_large_ones_are_copied_alone() {
        let m = 1_000_000;
        let divided = layout(&[(2 * m, 1), (3 * m, 1), (m, 1), (150 * m, 60 << 30), (m, 1)])
            .divide("public.t", &WANTED, None)
            .expect("divided");
        assert_eq!(pieces(&divided), [(2, None), (1, None), (1, None), (1, None)]);
        assert_eq!((divided.strategy, divided.read), ("leaf", ReadWay::Copy));
        assert_eq!(divided.reason, "leaf: 4 chunks of 5 leaves, copy; DISTRIBUTED BY (id)");
        let small = layout(&[(10, 10)]).divide("public.t", &WANTED, None).expect("divided");
        assert_eq!((pieces(&small), small.strategy), (vec![(1, None)], "single"));
    }

    #[test]
    fn a_huge_leaf_is_retrieved_by_segment_or_queried_where_that_cannot_be() {
        let huge = layout(&[(300_000_000, 100 << 30)]);
        let divided = huge.divide("public.t", &WANTED, None).expect("divided");
        assert_eq!(pieces(&divided), [(1, Some(0)), (1, Some(1)), (1, Some(2))]);
        assert_eq!((divided.strategy, divided.read), ("segment", ReadWay::Retrieve));
        let without = Layout { no_retrieve: Some("the extension is missing".into()), ..huge };
        let divided = without.divide("public.t", &WANTED, None).expect("divided");
        assert_eq!((divided.strategy, divided.read), ("segment", ReadWay::Query));
        assert!(divided.reason.contains("the extension is missing"), "{}", divided.reason);
    }

    #[test]
    fn filters_and_casts_are_queried_and_replicated_tables_are_read_once() {
        let table = layout(&[(20_000_000, 1 << 30)]);
        let filtered =
            table.divide("public.t", &Wanted { filtered: Some(100), ..WANTED }, None).expect("divided");
        assert_eq!((pieces(&filtered), filtered.read), (vec![(1, None)], ReadWay::Query));
        let casts = table.divide("public.t", &WANTED, Some("column `e` (inet)")).expect("divided");
        assert!(casts.reason.contains("query, because of column `e` (inet)"), "{}", casts.reason);
        assert_eq!((pieces(&casts).len(), casts.read), (3, ReadWay::Query));
        let replicated = Layout { is_replicated: true, ..table };
        for read in [ReadWay::Auto, ReadWay::Retrieve, ReadWay::Copy, ReadWay::Query] {
            let divided = replicated.divide("public.t", &Wanted { read, ..WANTED }, None).expect("divided");
            assert_eq!(pieces(&divided), [(1, None)], "{read:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let table = layout(&[(20, 20)]);
        for wanted in [
            Wanted { strategy: StrategyRequest::Range, ..WANTED },
            Wanted { read: ReadWay::Copy, filtered: Some(1), ..WANTED },
            Wanted { read: ReadWay::Copy, strategy: StrategyRequest::Segment, ..WANTED },
        ] {
            let error = table.divide("public.t", &wanted, None).expect_err("refused");
            assert!(error.message.contains("public.t") && error.remedy.is_some(), "{error}");
        }
        let view = Layout { whole: Some(Whole::View), ..table };
        assert_eq!(view.divide("public.v", &WANTED, None).expect("divided").read, ReadWay::Query);
        let copy = Wanted { read: ReadWay::Copy, ..WANTED };
        assert!(view.divide("public.v", &copy, None).is_err());
        let default = Wanted { must: false, ..copy };
        assert_eq!(view.divide("public.v", &default, None).expect("divided").read, ReadWay::Query);
    }

    #[test]
    fn a_partition_that_the_role_may_not_read_is_named_with_the_cure() {
        let own = Leaf { schema: "sales".into(), name: "orders".into() };
        let leaf = Leaf { schema: "sales".into(), name: "orders_1_prt_3".into() };
        let table = Layout { whole: Some(Whole::HasUnreadable(leaf)), own, ..layout(&[(20, 20)]) };
        let copy = Wanted { read: ReadWay::Copy, ..WANTED };
        let error = table.divide("sales.orders", &copy, None).expect_err("refused");
        assert!(error.message.contains("partition sales.orders_1_prt_3"), "{error}");
        let remedy = error.report(crate::config::Origin::Configuration).remedy;
        assert_eq!(
            remedy.as_deref(),
            Some("GRANT SELECT ON \"sales\".\"orders\" TO <role>, or leave `read` out")
        );
        let divided = table.divide("sales.orders", &WANTED, None).expect("divided");
        assert!(
            divided.reason.contains("orders_1_prt_3") && divided.reason.contains("GRANT"),
            "{}",
            divided.reason
        );
    }
}
