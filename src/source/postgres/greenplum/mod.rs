//! Greenplum and its relatives, built on PostgreSQL's modules: the same protocol, types and texts, other
//! catalogues, other ways to read, and snapshots that only few sessions can hold.
//!
//! `catalogue` surveys, `divide` splits tables into pieces (pure), `piece` is what a plan stores of a chunk,
//! `prepared` begins each chunk: `seen` compares the locked tables with the snapshot. `chunk` reads a piece by
//! COPY.
//! `retrieve` reads a piece from the hosts of its segments, over sessions of `segment`. `ending` proves after
//! the last row that the snapshot lived. `cluster` knows segments and limits. `answer` loses no row of the catalogue.

mod answer;
pub(super) mod catalogue;
pub(super) mod chunk;
pub(super) mod cluster;
pub(super) mod divide;
mod ending;
mod piece;
mod prepared;
#[cfg(test)]
mod replay_tests;
mod retrieve;
mod seen;
mod segment;

pub(super) use ending::Ending;
