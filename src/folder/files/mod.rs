//! What the control files hold, each as a type. Who may create, read or replace which is [`Workspace`]'s.
//!
//! [`Workspace`]: super::Workspace

pub mod archive;
pub mod outcome;
pub mod plan;
pub mod record;
