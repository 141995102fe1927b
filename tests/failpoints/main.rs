//! Daemons that are killed or stopped at a chosen step, with the failpoints of a special build (feature
//! `failpoints`). PostgreSQL, RabbitMQ, files and processes are real. `src/failpoint.rs` lists the names of
//! the failpoints.

mod coordinators;
mod keepers;
mod parts;
mod points;
mod poison;
mod scene;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the other targets, which use the rest")]
mod support;
mod workers;
