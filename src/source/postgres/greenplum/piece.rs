//! What one chunk of a table reads, as plans store it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::pattern::qualified;

/// A table with files of its own: a leaf of a partitioned table, or a table that has no partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Leaf {
    /// Schema.
    pub(super) schema: String,
    /// Name.
    pub(super) name: String,
}

/// The rows of one chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    /// Read one after the other.
    pub(super) leaves: Vec<Leaf>,
    /// Only the rows that this segment holds; none: the rows of all segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) segment: Option<i32>,
    /// Whether its only leaf stands for whatever the server's query of it reads: a view, an external table, a
    /// partitioned table as a whole. It is not locked before it is read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_whole: bool,
}

impl fmt::Display for Piece {
    /// For people: `leaf public.sales_1_prt_2, segment 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.leaves.as_slice() {
            [leaf] => write!(f, "{}", qualified(&leaf.schema, &leaf.name))?,
            leaves => {
                let (first, last) = (leaves.first(), leaves.last());
                let name =
                    |leaf: Option<&Leaf>| leaf.map_or_else(String::new, |l| qualified(&l.schema, &l.name));
                write!(f, "{} leaves, {} to {}", leaves.len(), name(first), name(last))?;
            }
        }
        match self.segment {
            Some(segment) => write!(f, ", segment {segment}"),
            None => Ok(()),
        }
    }
}
