//! How tables are split: whatever the key, chunks are balanced, do not overlap, and together hold every row.

mod balance;
mod bank;
mod collations;
mod coverage;
mod family;
mod incremental;
mod literals;
mod no_snapshot;
mod operators;
mod relations;
mod standby;
mod verification;
mod writers;
