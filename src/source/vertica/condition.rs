//! Which rows of a relation one chunk reads.
//!
//! Invariant I6: the conditions of a table's chunks do not overlap, and together they are true for every row.
//! Ranges are half-open, the first and the last are open, and NULL has a home: rows whose hash is NULL are in the
//! first hash range (the documentation does not say that `HASH` is never NULL), and a nullable key has a chunk
//! for NULL.

use serde::{Deserialize, Serialize};

use crate::relation::{Frozen, Slice};
use crate::source::SourceError;
use crate::source::sql::quote::{ident, literal};

/// The type in which bounds of a key are compared. Plans store it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyType {
    Int,
    Numeric { precision: u16, scale: u16 },
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Text,
}

impl KeyType {
    /// Its name in SQL.
    pub(super) fn sql(&self) -> String {
        match self {
            Self::Int => "INT".into(),
            Self::Numeric { precision, scale } => format!("NUMERIC({precision},{scale})"),
            Self::Date => "DATE".into(),
            Self::Timestamp => "TIMESTAMP".into(),
            Self::TimestampTz => "TIMESTAMPTZ".into(),
            Self::Uuid => "UUID".into(),
            Self::Text => "VARCHAR(65000)".into(),
        }
    }

    /// Whether values are numbers.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Numeric { .. })
    }

    /// A typed literal.
    pub(super) fn literal(&self, value: &str) -> String {
        format!("{}::{}", literal(value), self.sql())
    }
}

/// A column of a hash. The hash of a value depends on the type of its column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HashedColumn {
    pub(super) name: String,
    /// The type in the catalogue's words.
    #[serde(rename = "type")]
    pub(super) source_type: String,
}

/// A range of hashes. Plans store it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HashRange {
    /// What is hashed.
    pub(super) columns: Vec<HashedColumn>,
    /// The lowest hash; none for the first range, which also holds rows without a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<u64>,
    /// The first hash that is not in it; none for the last range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<u64>,
}

/// The condition of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Hash(HashRange),
    Key { column: String, ty: KeyType, from: Option<String>, to: Option<String> },
    Null { column: String },
}

impl Condition {
    /// The condition of a slice; none for every row.
    pub(super) fn of(slice: Slice<'_>) -> Result<Option<Self>, SourceError> {
        let unknown = || {
            SourceError::permanent(
                "strategy",
                format!("a Vertica source does not know chunks such as {slice}"),
            )
            .with_remedy("export the table again")
        };
        Ok(Some(match slice {
            Slice::All => return Ok(None),
            Slice::Nulls { column } => Self::Null { column: column.to_owned() },
            Slice::Range { column, order, from, to } => Self::Key {
                column: column.to_owned(),
                ty: order.thaw().map_err(|_| unknown())?,
                from: from.map(str::to_owned),
                to: to.map(str::to_owned),
            },
            Slice::Piece(piece) => {
                let range: HashRange = piece.of.thaw().map_err(|_| unknown())?;
                if range.columns.is_empty() {
                    return Err(unknown());
                }
                Self::Hash(range)
            }
            Slice::Numbers(_) => return Err(unknown()),
        }))
    }

    /// The columns that it names, with their types where these decide which rows it holds.
    pub(super) fn columns(&self) -> Vec<(&str, Option<&str>)> {
        match self {
            Self::Hash(range) => {
                range.columns.iter().map(|c| (c.name.as_str(), Some(c.source_type.as_str()))).collect()
            }
            Self::Key { column, .. } | Self::Null { column } => vec![(column, None)],
        }
    }

    /// In SQL.
    pub(super) fn sql(&self) -> String {
        match self {
            Self::Null { column } => format!("{} IS NULL", ident(column)),
            Self::Key { column, from: None, to: None, .. } => format!("{} IS NOT NULL", ident(column)),
            Self::Key { column, ty, from, to } => {
                let column = ident(column);
                let low = from.as_ref().map(|from| format!("{column} >= {}", ty.literal(from)));
                let high = to.as_ref().map(|to| format!("{column} < {}", ty.literal(to)));
                low.into_iter().chain(high).collect::<Vec<_>>().join(" AND ")
            }
            Self::Hash(HashRange { columns, from, to }) => {
                let columns: Vec<String> = columns.iter().map(|column| ident(&column.name)).collect();
                let hash = format!("HASH({})", columns.join(","));
                match (from, to) {
                    // A table in one range: every row.
                    (None, None) => format!("({hash} IS NOT NULL OR {hash} IS NULL)"),
                    (None, Some(to)) => format!("({hash} < {to} OR {hash} IS NULL)"),
                    (Some(from), None) => format!("{hash} >= {from}"),
                    (Some(from), Some(to)) => format!("{hash} >= {from} AND {hash} < {to}"),
                }
            }
        }
    }
}

/// How the survey stores the type of a key.
pub(super) fn order(ty: &KeyType) -> Frozen {
    Frozen::of(ty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::pieces::Piece;

    fn sql(slice: Slice<'_>) -> Option<String> {
        Condition::of(slice).expect("known").map(|condition| condition.sql())
    }

    #[test]
    fn ranges_touch_without_overlap_and_nulls_have_a_home() {
        let ty = order(&KeyType::Numeric { precision: 20, scale: 2 });
        let range = |from, to| Slice::Range { column: "a\"b", order: &ty, from, to };
        assert_eq!(sql(range(None, Some("1"))).as_deref(), Some("\"a\"\"b\" < '1'::NUMERIC(20,2)"));
        assert_eq!(
            sql(range(Some("1"), Some("it's"))).as_deref(),
            Some("\"a\"\"b\" >= '1'::NUMERIC(20,2) AND \"a\"\"b\" < 'it''s'::NUMERIC(20,2)")
        );
        assert_eq!(sql(range(None, None)).as_deref(), Some("\"a\"\"b\" IS NOT NULL"));
        assert_eq!(sql(Slice::Nulls { column: "k" }).as_deref(), Some("\"k\" IS NULL"));
        assert_eq!(sql(Slice::All), None);
    }

    #[test]
    fn hash_ranges_cover_rows_without_a_hash_once() {
        let range = |from, to| {
            let column = |name: &str| HashedColumn { name: name.into(), source_type: "int".into() };
            let range = HashRange { columns: vec![column("a"), column("b\"")], from, to };
            let piece = Piece { of: Frozen::of(&range), label: String::new() };
            sql(Slice::Piece(&piece)).expect("a condition")
        };
        let hash = "HASH(\"a\",\"b\"\"\")";
        assert_eq!(range(None, Some(5)), format!("({hash} < 5 OR {hash} IS NULL)"));
        assert_eq!(range(Some(5), Some(9)), format!("{hash} >= 5 AND {hash} < 9"));
        assert_eq!(range(Some(9), None), format!("{hash} >= 9"));
        assert_eq!(range(None, None), format!("({hash} IS NOT NULL OR {hash} IS NULL)"));
    }

    #[test]
    fn what_another_source_planned_is_refused() {
        let order = Frozen::of(&"int8) OR (true");
        let slice = Slice::Range { column: "k", order: &order, from: Some("1"), to: None };
        assert!(Condition::of(slice).is_err());
        let none = HashRange { columns: vec![], from: None, to: None };
        for of in [Frozen::of(&"leaf"), Frozen::of(&none)] {
            let piece = Piece { of, label: String::new() };
            assert!(Condition::of(Slice::Piece(&piece)).is_err());
        }
    }
}
