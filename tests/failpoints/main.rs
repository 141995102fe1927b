//! Daemons that are killed or stopped at a chosen step, by failpoints of a build
//! that has them (feature `failpoints`): real PostgreSQL, RabbitMQ, files and
//! processes. What a point is called says `src/failpoint.rs`.

mod coordinators;
mod keepers;
mod points;
mod poison;
mod scene;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the other targets, which use the rest")]
mod support;
mod workers;
