//! The source `postgres`.
