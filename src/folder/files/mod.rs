//! The content of each control file, as a type. [`Workspace`] says who may create, read or replace which
//! file.
//!
//! [`Workspace`]: super::Workspace

pub mod archive;
pub mod outcome;
pub mod plan;
pub mod record;
pub mod timeline;
