//! The state of jobs, read from the folder; the decisions that follow from it; the coordinator that performs
//! them.

mod archiving;
pub mod coordinator;
pub mod decide;
pub mod headless;
pub mod latest;
pub mod look;
pub mod outdated;
pub mod report;
pub mod settle;
mod spans;
pub mod spread;
pub mod state;
pub mod window;

// The control files from which the state of a job is read.
pub use crate::folder::files::{archive, outcome, plan, record, timeline};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions_tests;
