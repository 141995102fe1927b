//! Black-box tests: real daemons of the built binary, a private PostgreSQL, a
//! private RabbitMQ. Nothing here uses the library: what holds, holds for the
//! messages, files, commands and metrics that other systems see.

mod support;

mod selftest;
