//! Chooses the split from the facts of one table and the request.

use super::super::size::Size;
use super::{KeyRanges, MAX_CHUNKS, Split, SplitRequest};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::StrategyRequest;
use crate::relation::{
    BoundaryMethod, Extent, Frozen, Numbered, Relation, RelationKind, Strategy, SurveyColumn,
};
use crate::spelling::did_you_mean;
use crate::text::{Rows, bytes_text};

/// A table with at least this correlation counts as stored in the order of a column.
const IN_ORDER: f32 = 0.9;
/// The histogram is used if the rows with the most common values are at most this share of a mean chunk. All
/// of these rows may lie in one chunk.
const MOST_COMMON: f32 = 0.5;
/// Pages that a sample reads for each range. Rows on the same page often have similar keys, so pages count,
/// not rows. 300 pages estimate the size of a range to within 6 % (one standard deviation).
const SAMPLED_PAGES: u64 = 300;
/// Largest sample in millionths of the pages. Above it, an ordered pass is better, because it is exact.
const MOST_SAMPLED: u32 = 250_000;
/// Page size, for partitioned tables, which have no page count.
const PAGE_BYTES: u64 = 8192;

/// One table and everything that decides its split.
pub(super) struct Table<'a> {
    pub(super) relation: &'a Relation,
    pub(super) request: &'a SplitRequest<'a>,
    pub(super) size: Size,
    pub(super) chunks: u32,
}

type Choice = (Split, String);

impl Table<'_> {
    fn name(&self) -> String {
        qualified(&self.relation.schema, &self.relation.name)
    }

    fn unavailable(&self, strategy: StrategyRequest, why: &str) -> ErrorReport {
        let hash = if self.may_be_hashed() { "hash, " } else { "" };
        ErrorReport::permanent(
            "strategy_unavailable",
            format!("table {} cannot be split by {}: {why}", self.name(), strategy.name()),
            format!("leave `strategy` out, or use {hash}range with a chunk_column, or single"),
        )
    }

    /// Whether the strategy `hash` may be possible.
    fn may_be_hashed(&self) -> bool {
        self.relation.own.is_some() && self.relation.kind == RelationKind::Table
    }

    /// `auto`: the first strategy that fits.
    pub(super) fn auto(&self) -> Choice {
        if self.relation.foreign {
            return single(&format!("one scan, because {}", self.foreign()));
        }
        if self.relation.kind == RelationKind::View {
            return single("a view is read by one scan; a chunk_column would split it");
        }
        if self.chunks < 2 {
            return self.small();
        }
        if self.request.by_numbers
            && let Ok(extent) = self.extent()
        {
            return self.numbered(extent, "each page is read once");
        }
        if let Some((column, order)) = self.newer_by_index() {
            return self.range(
                column,
                order,
                BoundaryMethod::OrderedPass,
                "an index reads only what is newer",
            );
        }
        let key = self.key_column();
        let key_reason = match key {
            Some((column, order)) => match self.not_in_order(column) {
                None => {
                    let why = format!("numeric primary key, {}", correlation(column));
                    return self.range(column, order, BoundaryMethod::Statistics, &why);
                }
                Some(why) => why,
            },
            None if self.relation.primary_key.is_empty() => "there is no primary key".to_owned(),
            None => "the primary key cannot be sorted, or may not be read".to_owned(),
        };
        match (self.extent(), key) {
            (Ok(extent), _) => self.numbered(extent, &key_reason),
            (Err(no_pages), Some((SurveyColumn { column, doubt: Some(doubt), .. }, _))) => single(&format!(
                "no page ranges: {}, and each range of primary key `{}` would scan the whole table: {doubt}",
                no_pages.text(),
                column.name
            )),
            (Err(NoExtent::OwnWay), Some((column, order))) => {
                let why = if column.indexed {
                    "primary key, in whose order rows are stored"
                } else {
                    "primary key"
                };
                self.range(column, order, self.method(column), why)
            }
            (Err(no_pages), Some((column, order))) => {
                let why = format!("primary key; no page ranges: {}", no_pages.text());
                self.range(column, order, self.method(column), &why)
            }
            (Err(no_pages), None) => {
                let why = no_pages.text();
                single(&format!("{key_reason}, and no page ranges: {why}; a chunk_column would split it"))
            }
        }
    }

    /// A strategy that is made of numbers of the source.
    pub(super) fn asked_extent(&self) -> Result<Choice, ErrorReport> {
        let asked = self.request.strategy;
        let numbered = self.relation.extent.map_or(Numbered::Pages, |extent| extent.of);
        if asked != numbered.request() {
            let product = asked.product().unwrap_or("other");
            return Err(self.unavailable(asked, &format!("it is for {product} sources")));
        }
        match self.extent() {
            // A small table may have no page yet.
            Ok(_) | Err(NoExtent::Unknown) if self.chunks < 2 => Ok(self.small()),
            Ok(extent) => Ok(self.numbered(extent, "asked for")),
            Err(why) => Err(self.unavailable(asked, why.text())),
        }
    }

    pub(super) fn asked_range(&self) -> Result<Choice, ErrorReport> {
        if self.relation.foreign {
            let why = format!("{}: only one scan is consistent", self.foreign());
            return Err(self.unavailable(StrategyRequest::Range, &why));
        }
        let (column, order) = match self.request.chunk_column {
            Some(name) => self.sortable(name)?,
            None => self.key_column().ok_or_else(|| self.without_key())?,
        };
        if self.chunks < 2 {
            return Ok(self.small());
        }
        let why = match self.request.chunk_column {
            Some(_) => "column asked for",
            None => "asked for, on the primary key",
        };
        // Page ranges read each page once. Without an index, each range of a column reads the whole table.
        if !column.indexed
            && self.request.strategy == StrategyRequest::Auto
            && let Ok(extent) = self.extent()
        {
            let why = match &column.doubt {
                Some(doubt) => format!("indexes of `{}` cannot be trusted: {doubt}", column.column.name),
                None => format!("no index begins with `{}`", column.column.name),
            };
            return Ok(self.numbered(extent, &why));
        }
        Ok(self.range(column, order, self.method(column), why))
    }

    /// Why a relation with rows of foreign tables must not be split.
    fn foreign(&self) -> &'static str {
        match self.relation.kind {
            RelationKind::Foreign => "it is a foreign table, which does not follow the snapshot",
            RelationKind::Partitioned | RelationKind::Partition => {
                "some of its partitions are foreign tables, which do not follow the snapshot"
            }
            RelationKind::View => "it reads foreign tables, which do not follow the snapshot",
            _ => "some of its children are foreign tables, which do not follow the snapshot",
        }
    }

    /// The column of an incremental export, if an index finds the newer rows. Page ranges would read the
    /// whole table.
    fn newer_by_index(&self) -> Option<(&SurveyColumn, &Frozen)> {
        let name = self.request.after?;
        let column = self.relation.columns.iter().find(|c| c.column.name == name && c.indexed)?;
        Some((column, column.order.as_ref()?))
    }

    /// First column of the primary key, if ranges of it are possible and the role may read it.
    fn key_column(&self) -> Option<(&SurveyColumn, &Frozen)> {
        let name = self.relation.primary_key.first()?;
        let column = self.relation.columns.iter().find(|c| c.column.name == *name && c.readable)?;
        Some((column, column.order.as_ref()?))
    }

    fn sortable(&self, name: &str) -> Result<(&SurveyColumn, &Frozen), ErrorReport> {
        let columns = &self.relation.columns;
        let table = self.name();
        let Some(column) = columns.iter().find(|c| c.column.name == name) else {
            return Err(ErrorReport::permanent(
                "unknown_column",
                format!("chunk_column `{name}` does not exist in table {table}"),
                format!("{}{}", self.sortable_names(), did_you_mean(name, names(columns))),
            ));
        };
        let order = column.order.as_ref().ok_or_else(|| {
            let ty = &column.column.source_type;
            ErrorReport::permanent(
                "not_sortable",
                format!(
                    "chunk_column `{name}` of table {table} is of type {ty}, which cannot be split into ranges"
                ),
                self.sortable_names(),
            )
        })?;
        Ok((column, order))
    }

    fn without_key(&self) -> ErrorReport {
        let why = if self.relation.primary_key.is_empty() {
            "it has no primary key"
        } else {
            "its primary key cannot be sorted, or may not be read"
        };
        ErrorReport::permanent(
            "strategy_unavailable",
            format!("table {} cannot be split by range: {why}, and no chunk_column is named", self.name()),
            self.sortable_names(),
        )
    }

    fn sortable_names(&self) -> String {
        let columns = self.relation.columns.iter().filter(|c| c.order.is_some());
        let found: Vec<&str> = columns.map(|c| c.column.name.as_str()).take(6).collect();
        match found.as_slice() {
            [] if self.may_be_hashed() => "no column of it can be sorted: use hash, single or auto".into(),
            [] => "no column of it can be sorted: use strategy single or auto".into(),
            found => {
                format!("name a chunk_column that can be sorted, e.g. {}, or use auto", found.join(", "))
            }
        }
    }

    /// Why ranges of this key column are not the best choice; none if they are.
    fn not_in_order(&self, column: &SurveyColumn) -> Option<String> {
        let name = &column.column.name;
        match column.correlation {
            _ if !column.numeric => Some(format!("primary key `{name}` is not numeric")),
            None => Some(format!("there are no statistics of primary key `{name}`")),
            Some(_) if self.relation.outdated => {
                Some("it has grown by more than a quarter since ANALYZE".into())
            }
            Some(c) if c.abs() < IN_ORDER => {
                Some(format!("primary key `{name}` is stored out of order, {}", correlation(column)))
            }
            Some(_) if self.request.filtered => {
                Some("statistics of the primary key do not describe the filtered rows".to_owned())
            }
            Some(_) if self.method(column) != BoundaryMethod::Statistics => {
                let found = column.histogram_bounds;
                Some(format!("{found} histogram bounds of primary key `{name}` are too few"))
            }
            Some(_) => None,
        }
    }

    /// Uses statistics if their histogram is fine enough, else a sample if it is much smaller than the table.
    /// A histogram leaves out the most common values, so all rows with these values may lie in one range.
    fn method(&self, column: &SurveyColumn) -> BoundaryMethod {
        let fine = column.histogram_bounds > self.chunks;
        if fine
            && !self.relation.outdated
            && !self.request.filtered
            && column.common_share * self.chunks as f32 <= MOST_COMMON
        {
            return BoundaryMethod::Statistics;
        }
        match self.sample() {
            Some(ppm) => BoundaryMethod::Sample { ppm },
            None => BoundaryMethod::OrderedPass,
        }
    }

    /// Sample size in millionths of the pages; none if the relation has no pages, or too few for a sample to
    /// save work.
    fn sample(&self) -> Option<u32> {
        let pages = match self.relation.kind {
            RelationKind::Partitioned => self.relation.heap_bytes / PAGE_BYTES,
            RelationKind::View | RelationKind::Foreign => 0,
            _ => match self.relation.extent {
                Some(Extent { of: Numbered::Pages, end }) => end,
                _ => 0,
            },
        };
        let wanted = u64::from(self.chunks) * SAMPLED_PAGES;
        let ppm = (wanted * 1_000_000).div_ceil(pages.min(self.size.rows).max(1));
        u32::try_from(ppm).ok().filter(|ppm| *ppm <= MOST_SAMPLED)
    }

    /// The numbers that chunks can be made of, or why there are none.
    fn extent(&self) -> Result<Extent, NoExtent> {
        match (self.relation.extent, self.relation.kind) {
            _ if self.relation.foreign => Err(NoExtent::Foreign),
            (Some(extent), _) if self.request.snapshot => Ok(extent),
            _ if self.relation.own.is_some() => Err(NoExtent::OwnWay),
            (_, RelationKind::Partitioned) => Err(NoExtent::Partitioned),
            (_, RelationKind::View | RelationKind::Foreign) => Err(NoExtent::NoTable),
            _ if !self.request.snapshot => Err(NoExtent::NoSnapshot),
            _ => Err(NoExtent::Unknown),
        }
    }

    fn small(&self) -> Choice {
        let asked = match self.request.chunk_rows {
            Some(rows) => format!("one chunk of {} rows holds", Rows(rows.get())),
            None => "one file holds".into(),
        };
        single(&format!("{asked} all of about {} rows", Rows(self.size.rows)))
    }

    fn numbered(&self, extent: Extent, why: &str) -> Choice {
        let strategy = extent.split(self.chunks);
        let (name, unit, chunks) = (strategy.name(), extent.of.unit(), u64::from(strategy.chunks()));
        let rows = Rows(self.size.rows / chunks);
        let size = bytes_text(self.relation.bytes / chunks);
        let reason = format!("{name}: {why}; {chunks} {unit} ranges of {size}, about {rows} rows each");
        (Split::By(strategy), reason + self.capped())
    }

    fn range(&self, column: &SurveyColumn, order: &Frozen, method: BoundaryMethod, why: &str) -> Choice {
        let name = &column.column.name;
        let from = match method {
            BoundaryMethod::Statistics => format!("{} histogram bounds", column.histogram_bounds),
            BoundaryMethod::Sample { ppm } => {
                format!("a sample of {:.2} % of its pages", f64::from(ppm) / 10_000.0)
            }
            BoundaryMethod::OrderedPass => "one ordered pass".into(),
        };
        let (rows, nulls) = (Rows(self.size.rows / u64::from(self.chunks)), column.column.nullable);
        let null_chunk = if nulls { ", one more for NULL" } else { "" };
        // A query of a partitioned table may skip partitions. What a query of a view reads is unknown.
        let knows = !matches!(self.relation.kind, RelationKind::View | RelationKind::Partitioned);
        let no_index = match &column.doubt {
            Some(doubt) => {
                format!(
                    "; in the order of bytes, without index: each chunk scans the whole table, because {doubt}"
                )
            }
            None if !knows || column.indexed => String::new(),
            None if self.relation.own.is_some() => {
                "; the table is not sorted by it first: each chunk reads the column from end to end".into()
            }
            None => "; no index begins with it: each chunk scans the whole table".into(),
        };
        let reason = format!(
            "range on {name}: {why}, {} chunks of about {rows} rows from {from}{null_chunk}{no_index}",
            self.chunks
        );
        let split = Split::IntoRanges(KeyRanges {
            column: name.clone(),
            order: order.clone(),
            method,
            ranges: self.chunks,
            nulls,
        });
        (split, reason + self.capped())
    }

    fn capped(&self) -> &'static str {
        if u64::from(self.chunks) == MAX_CHUNKS { " (the most that a table may have)" } else { "" }
    }
}

/// Why chunks of a table cannot be ranges of numbers of the source.
#[derive(Clone, Copy)]
enum NoExtent {
    Partitioned,
    Foreign,
    NoTable,
    NoSnapshot,
    OwnWay,
    Unknown,
}

impl NoExtent {
    fn text(self) -> &'static str {
        match self {
            Self::Partitioned => "the table is partitioned",
            Self::Foreign => "rows of foreign tables are not on its pages",
            Self::NoTable => "it is a view or a foreign table",
            Self::NoSnapshot => "without a snapshot rows may move between pages",
            Self::OwnWay => "its source has no pages",
            Self::Unknown => {
                "the server is older than PostgreSQL 14, the table is no heap, or the role may read some of its columns only"
            }
        }
    }
}

pub(super) fn single(why: &str) -> Choice {
    (Split::By(Strategy::Single), format!("single: {why}"))
}

fn names(columns: &[SurveyColumn]) -> impl Iterator<Item = &str> {
    columns.iter().map(|c| c.column.name.as_str())
}

fn correlation(column: &SurveyColumn) -> String {
    format!("correlation {:.2}", column.correlation.unwrap_or(0.0))
}
