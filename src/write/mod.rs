//! Writes batches as row groups, and row groups as a durable part file.

mod compressor;
mod encoding;
mod flat;
mod hashing;
pub mod metadata;
pub mod part;
pub mod read_back;
mod row_group;
mod sample;

pub use metadata::Provenance;
pub use part::{PartWriter, WriteError, WrittenPart};
