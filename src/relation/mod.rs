//! Relations as data: their columns and file types, facts, slices, selections.
//!
//! Planning and sources both stand on this room, and neither knows the other.
//! Nothing here says how a source finds a value: that is [`Frozen`], which a
//! source makes and reads, and which everybody else carries unread.

pub mod column;
mod facts;
pub mod filter;
mod frozen;
mod selection;
mod slice;
mod snapshot;

pub use column::{Column, ColumnType};
pub use facts::{
    Facts, MappingOptions, Relation, RelationKind, SurveyColumn, SurveyRequest, UnfitColumn, Unreadable,
};
pub use filter::Filter;
pub use frozen::Frozen;
pub use selection::{Boundaries, BoundaryMethod, Division, Selection, SplitKey};
pub use slice::Slice;
pub use snapshot::Snapshot;
