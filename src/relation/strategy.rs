//! How a relation is split into chunks, and which rows each chunk holds. Others learn about a strategy only from
//! these types. So a new strategy is a variant here, and a condition in the source that reads it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Frozen;
use super::pieces::Piece;
use crate::message::request::StrategyRequest;

/// How a table is split into chunks. Only boundaries are stored: the number of a chunk decides which rows it
/// holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Strategy {
    /// One chunk.
    Single,
    /// Chunk i holds `bounds[i-1] <= column < bounds[i]`. The first and the last chunk are open.
    Range {
        /// The column.
        column: String,
        /// How the column's values are compared. The field is named `cast` in plans, after what PostgreSQL
        /// does with bounds.
        #[serde(rename = "cast")]
        order: Frozen,
        /// Ascending, distinct values as text.
        bounds: Vec<String>,
        /// Whether a last chunk holds the rows whose key is NULL.
        nulls: bool,
    },
    /// Chunk i holds the pages `bounds[i-1] <= page < bounds[i]`. The last chunk is open.
    Ctid {
        /// Ascending page numbers.
        bounds: Vec<u64>,
    },
    /// Chunk i holds what the source cut as piece i.
    Pieces {
        /// The strategy's name in reports.
        name: String,
        /// At least one.
        pieces: Vec<Piece>,
    },
}

impl Strategy {
    /// Number of chunks; at least one.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        let chunks = match self {
            Self::Single => 1,
            Self::Range { bounds, nulls, .. } => bounds.len() + 1 + usize::from(*nulls),
            Self::Ctid { bounds } => bounds.len() + 1,
            Self::Pieces { pieces, .. } => pieces.len(),
        };
        u32::try_from(chunks).unwrap_or(u32::MAX)
    }

    /// The name of the strategy in requests and reports.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Single => "single",
            Self::Range { .. } => "range",
            Self::Ctid { .. } => "ctid",
            Self::Pieces { name, .. } => name,
        }
    }

    /// Whether the table is not split at all.
    #[must_use]
    pub fn is_single(&self) -> bool {
        match self {
            Self::Single => true,
            Self::Pieces { pieces, .. } => pieces.len() == 1,
            Self::Range { .. } | Self::Ctid { .. } => false,
        }
    }

    /// The column whose values are the boundaries.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Range { column, .. } => Some(column),
            Self::Single | Self::Ctid { .. } | Self::Pieces { .. } => None,
        }
    }

    /// The rows of chunk number `chunk`; `None` if there is no such chunk.
    #[must_use]
    pub fn slice(&self, chunk: u32) -> Option<Slice<'_>> {
        let i = chunk as usize;
        if chunk >= self.chunks() {
            return None;
        }
        Some(match self {
            Self::Single => Slice::All,
            Self::Range { column, bounds, .. } if i > bounds.len() => Slice::Nulls { column },
            Self::Range { column, order, bounds, .. } => {
                let (from, to) = between(bounds, i);
                Slice::Range { column, order, from: from.map(String::as_str), to: to.map(String::as_str) }
            }
            Self::Ctid { bounds } => numbers(Numbered::Pages, bounds, i),
            Self::Pieces { pieces, .. } => Slice::Piece(pieces.get(i)?),
        })
    }
}

/// The bounds on both sides of a range.
fn between<T>(bounds: &[T], range: usize) -> (Option<&T>, Option<&T>) {
    (range.checked_sub(1).and_then(|i| bounds.get(i)), bounds.get(range))
}

fn numbers(of: Numbered, bounds: &[u64], range: usize) -> Slice<'_> {
    let (from, to) = between(bounds, range);
    Slice::Numbers(Numbers { of, from: from.copied(), to: to.copied() })
}

/// What a source numbers, so that a chunk can hold a range of these numbers. Nobody else knows which rows
/// that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// The pages of a table.
    Pages,
}

impl Numbered {
    /// One of them, for people.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Pages => "page",
        }
    }

    /// What a request calls chunks of them.
    #[must_use]
    pub fn request(self) -> StrategyRequest {
        match self {
            Self::Pages => StrategyRequest::Ctid,
        }
    }

    /// Ranges between ascending bounds.
    fn strategy(self, bounds: Vec<u64>) -> Strategy {
        match self {
            Self::Pages => Strategy::Ctid { bounds },
        }
    }
}

/// How many numbers a source has for a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// What it numbers.
    pub of: Numbered,
    /// The first number that it does not use now; at least one.
    pub end: u64,
}

impl Extent {
    /// At most this many ranges, about equal. The last one stays open, because even a snapshot does not fix
    /// the number of pages.
    #[must_use]
    pub fn split(self, ranges: u32) -> Strategy {
        let (end, ranges) = (u128::from(self.end), u128::from(ranges).min(self.end.into()));
        let bounds = (1..ranges).map(|i| u64::try_from(i * end / ranges).expect("less than the end"));
        self.of.strategy(bounds.collect())
    }
}

/// Which rows one chunk holds. Ranges are half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slice<'a> {
    /// Everything.
    All,
    /// `from <= column < to`. A missing bound leaves that side open. If both are missing, the slice is every
    /// row whose column is not NULL.
    Range {
        /// The column.
        column: &'a str,
        /// How its values are compared.
        order: &'a Frozen,
        /// Lower bound, inclusive.
        from: Option<&'a str>,
        /// Upper bound, exclusive.
        to: Option<&'a str>,
    },
    /// Rows whose column is NULL.
    Nulls {
        /// The column.
        column: &'a str,
    },
    /// A range of numbers of the source.
    Numbers(Numbers),
    /// What the source cut itself.
    Piece(&'a Piece),
}

/// `from <= number < to`. A missing bound leaves that side open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    of: Numbered,
    from: Option<u64>,
    to: Option<u64>,
}

impl Numbers {
    /// The bounds, if they are numbers of this kind.
    #[must_use]
    pub fn of(&self, kind: Numbered) -> Option<(Option<u64>, Option<u64>)> {
        (self.of == kind).then_some((self.from, self.to))
    }
}

impl<'a> Slice<'a> {
    /// The column whose values decide which rows it holds.
    #[must_use]
    pub fn column(&self) -> Option<&'a str> {
        match *self {
            Self::Range { column, .. } | Self::Nulls { column } => Some(column),
            Self::All | Self::Numbers(_) | Self::Piece(_) => None,
        }
    }

    /// How the values of its column are compared, if it is a range of them.
    #[must_use]
    pub fn order(&self) -> Option<&'a Frozen> {
        match *self {
            Self::Range { order, .. } => Some(order),
            Self::All | Self::Nulls { .. } | Self::Numbers(_) | Self::Piece(_) => None,
        }
    }

    /// Its rows, as files name them in their metadata.
    #[must_use]
    pub fn predicate(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Nulls { column } => format!("{column} IS NULL"),
            Self::Range { column, from, to, .. } => {
                let low = from.map(|v| format!("{column} >= {v}"));
                let high = to.map(|v| format!("{column} < {v}"));
                let bounds: Vec<String> = low.into_iter().chain(high).collect();
                if bounds.is_empty() { format!("{column} IS NOT NULL") } else { bounds.join(" AND ") }
            }
            Self::Piece(piece) => piece.label.clone(),
            Self::Numbers(Numbers { of, from, to }) => {
                let (strategy, unit) = (of.request().name(), of.unit());
                let end = to.map_or("the end".into(), |to| to.to_string());
                format!("{strategy} {unit}s {} to {end}", from.unwrap_or(0))
            }
        }
    }
}

/// Its rows, for people who look at a plan.
impl fmt::Display for Slice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn between<T: fmt::Display>(what: &str, from: Option<T>, to: Option<T>) -> String {
            match (from, to) {
                (Some(from), Some(to)) => format!("{from} <= {what} < {to}"),
                (Some(from), None) => format!("{from} <= {what}"),
                (None, Some(to)) => format!("{what} < {to}"),
                (None, None) => format!("every {what}"),
            }
        }
        let text = match self {
            Self::All => "all rows".into(),
            Self::Range { column, from, to, .. } => between(column, *from, *to),
            Self::Nulls { column } => format!("{column} is NULL"),
            Self::Piece(piece) => piece.label.clone(),
            Self::Numbers(Numbers { of, from, to }) => between(of.unit(), *from, *to),
        };
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_key_and_null() {
        let order = Frozen::of(&"bigint");
        let s = Strategy::Range {
            column: "id".into(),
            order: order.clone(),
            bounds: vec!["10".into(), "20".into()],
            nulls: true,
        };
        assert_eq!(s.chunks(), 4);
        let slice = |i| s.slice(i).expect("exists");
        let range = |from, to| Slice::Range { column: "id", order: &order, from, to };
        assert_eq!(slice(0), range(None, Some("10")));
        assert_eq!(slice(1), range(Some("10"), Some("20")));
        assert_eq!(slice(2), range(Some("20"), None));
        assert_eq!(slice(3), Slice::Nulls { column: "id" });
        assert_eq!(s.slice(4), None);
    }

    #[test]
    fn page_ranges_are_even_and_end_before_the_last_page() {
        let bounds = |end, ranges| match (Extent { of: Numbered::Pages, end }).split(ranges) {
            Strategy::Ctid { bounds } => bounds,
            other => panic!("{other:?}"),
        };
        assert_eq!(bounds(10, 3), [3, 6]);
        assert_eq!(bounds(2, 5), [1]);
        assert_eq!(bounds(1, 5), [0; 0]);
        for end in [u64::from(u32::MAX), u64::MAX] {
            let all = bounds(end, 100_000);
            assert_eq!(all.len(), 99_999);
            assert!(all.is_sorted_by(|a, b| a < b) && all[0] > 0);
        }
    }

    #[test]
    fn plans_name_a_strategy_as_requests_do() {
        let ctid = Strategy::Ctid { bounds: vec![5] };
        for strategy in [&Strategy::Single, &ctid] {
            let json = serde_json::to_value(strategy).expect("JSON");
            assert_eq!(json["kind"], strategy.name());
        }
        assert_eq!(serde_json::to_string(&ctid).expect("JSON"), r#"{"kind":"ctid","bounds":[5]}"#);
        assert_eq!(Numbered::Pages.request().name(), ctid.name());
    }

    #[test]
    fn a_slice_says_which_rows_it_holds() {
        let ctid = Strategy::Ctid { bounds: vec![5, 9] };
        let order = Frozen::of(&"bigint");
        let range = |from, to| Slice::Range { column: "id", order: &order, from, to };
        for (slice, shown, predicate) in [
            (Slice::All, "all rows", "all"),
            (range(None, None), "every id", "id IS NOT NULL"),
            (range(Some("1"), Some("2")), "1 <= id < 2", "id >= 1 AND id < 2"),
            (Slice::Nulls { column: "id" }, "id is NULL", "id IS NULL"),
            (ctid.slice(0).expect("exists"), "page < 5", "ctid pages 0 to 5"),
            (ctid.slice(1).expect("exists"), "5 <= page < 9", "ctid pages 5 to 9"),
            (ctid.slice(2).expect("exists"), "9 <= page", "ctid pages 9 to the end"),
        ] {
            assert_eq!((slice.to_string().as_str(), slice.predicate().as_str()), (shown, predicate));
        }
    }
}
