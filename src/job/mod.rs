//! Job state, read from the folder; the decisions that follow from it; the
//! coordinator that performs them.

mod archiving;
pub mod coordinator;
pub mod decide;
pub mod headless;
pub mod latest;
pub mod look;
pub mod outdated;
pub mod report;
pub mod settle;
pub mod state;
pub mod window;

// The control files that say of a job all that is known of it.
pub use crate::folder::files::{archive, outcome, plan, record};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions_tests;
