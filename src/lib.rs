//! ADU Export writes tables of PostgreSQL and Greenplum (later Vertica) to clean directories of Parquet
//! files, on request from RabbitMQ.
//!
//! The path of one request through the modules: a body arrives on a [`bus`] and is read as a [`message`];
//! `intake` makes it durable in the [`folder`]; the coordinator of [`job`] has a worker make a [`plan`]
//! (`planning`); workers read chunks from a [`source`], decode them and [`mod@write`] parts for the
//! [`destination`]; the coordinator has finished tables published and publishes events. Plans and sources
//! describe tables in terms of [`relation`].

pub mod bus;
mod certificates;
pub mod cli;
pub mod config;
pub mod context;
pub mod daemon;
pub mod destination;
mod failpoint;
pub mod folder;
pub mod http;
pub mod intake;
pub mod job;
pub mod logging;
pub mod machine;
pub mod message;
pub mod metrics;
pub mod parts;
pub mod plan;
pub mod planning;
pub mod relation;
pub mod retry;
pub mod source;
pub mod spelling;
pub mod status;
pub mod text;
pub mod traces;
pub mod worker;
pub mod write;
