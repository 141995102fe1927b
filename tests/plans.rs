//! How tables are split: whatever the key, chunks are balanced, disjoint and together everything.

mod balance;
mod bank;
mod coverage;
mod family;
mod incremental;
mod no_snapshot;
mod relations;
mod standby;
mod verification;
mod writers;
