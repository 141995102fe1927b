//! Job state, read from the folder; the decisions that follow from it; the
//! coordinator that performs them.

pub mod archive;
pub mod coordinator;
pub mod decide;
pub mod headless;
pub mod latest;
pub mod look;
pub mod outcome;
pub mod outdated;
pub mod recent;
pub mod record;
pub mod report;
pub mod settle;
pub mod state;
pub mod window;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions_tests;
