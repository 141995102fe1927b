//! Batches become row groups, row groups a durable part file.

pub mod metadata;
pub mod part;

pub use part::{PartFile, PartWriter};
