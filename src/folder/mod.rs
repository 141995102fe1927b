//! The export folder as a type.

pub mod exclusive;
