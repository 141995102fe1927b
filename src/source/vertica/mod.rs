//! Vertica as a source.
//!
//! `wire` is the client: it speaks the server's own protocol. `sqlstate` says what an error means.

mod sqlstate;
mod wire;
