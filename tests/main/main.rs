//! Black-box tests: real daemons of the built binary, a private PostgreSQL and a private RabbitMQ. These
//! tests do not use the library. They check only what other systems see: messages, files, commands and
//! metrics.

mod bad_input;
mod clients;
mod death;
mod fairness;
mod idempotence;
mod libpq;
mod logs;
mod one_shot;
mod operations;
mod output;
mod pages;
mod pipeline;
mod plans;
mod properties;
mod selftest;
mod shutdown;
#[expect(dead_code, unused_imports, reason = "every test target uses its own share")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "otel")]
mod traces;
mod values;
mod versions;
