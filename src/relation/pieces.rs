//! Chunks that a source cuts itself, because it knows how its tables are laid out.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::message::request::StrategyRequest;
use crate::message::setting::ReadWay;

/// What request and settings ask of a source that splits its own relations.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How to read it.
    pub read: ReadWay,
    /// Whether the request itself asks for this way. Else it is a default of the source, and does not apply to
    /// relations that cannot be read like this.
    pub must: bool,
    /// The strategy.
    pub strategy: StrategyRequest,
    /// Whether the request names the column to split by.
    pub by_column: bool,
    /// Rows of a chunk; if none, the source decides.
    pub chunk_rows: Option<NonZeroU64>,
    /// Bytes of the table in a chunk.
    pub chunk_bytes: NonZeroU64,
    /// Estimated rows that the filter leaves; none without a filter.
    pub filtered: Option<u64>,
    /// Whether to leave out the rows of tables that inherit from it.
    pub only: bool,
}

/// A limit of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MostChunks {
    /// Chunks at once, over all jobs and daemons.
    pub chunks: u32,
    /// What limits them, e.g. `resource queue etl: 20 slots, one of them for questions`.
    pub reason: String,
}

/// One chunk, as its source cut it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// What it reads. Only the source reads this.
    pub of: Frozen,
    /// The same for people.
    pub label: String,
}

/// How a source splits a relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Pieces {
    /// The name of the strategy in reports.
    pub strategy: &'static str,
    /// The chunks; at least one.
    pub pieces: Vec<Piece>,
    /// How they are read.
    pub read: ReadWay,
    /// Why.
    pub reason: String,
}
