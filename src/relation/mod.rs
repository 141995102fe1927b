//! Relations as data: their columns and file types, facts, strategies and slices, selections.
//!
//! `plan/` and `source/` both use this module, and know each other only through it. This module does not say
//! how a source fetches a value: that is in [`Frozen`], which only the source reads.

pub mod column;
mod facts;
pub mod filter;
mod frozen;
pub mod hive;
pub mod pieces;
mod selection;
mod snapshot;
mod strategy;

pub use column::{Column, ColumnType};
pub use facts::{
    Facts, MappingOptions, Relation, RelationKind, SurveyColumn, SurveyRequest, UnfitColumn, Unreadable,
};
pub use filter::Filter;
pub use frozen::Frozen;
pub use selection::{Boundaries, BoundaryMethod, Division, Selection, SplitKey};
pub use snapshot::Snapshot;
pub use strategy::{Extent, Numbered, Numbers, Slice, Strategy};
