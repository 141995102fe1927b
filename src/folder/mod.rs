//! The export folder as a type.
