//! How tables are split: whatever the key, chunks are balanced, disjoint and together everything.

mod balance;
mod coverage;
mod incremental;
mod verification;
mod writers;
