//! Support code for tests. A test owns a [`Site`]: a database, names on the broker, an export root and
//! daemons. All sites share two servers, which start with the first test and end with the test process.

pub(crate) mod amqp;
mod bouncer;
mod broker;
mod checker;
mod collector;
mod daemon;
mod database;
mod dice;
mod events;
mod exports;
mod greenplum;
pub(crate) mod manual;
mod oracle;
pub(crate) mod packed;
mod postgres;
mod proxy;
pub(crate) mod raw;
mod services;
mod site;
mod slow;
mod standin;
mod tpch;
mod wait;

pub(crate) use bouncer::Bouncer;
pub(crate) use broker::{Broker, url};
pub(crate) use collector::{Collector, Taken, Traced};
pub(crate) use daemon::{BINARY, Daemon, leashed};
pub(crate) use database::{Database, EXPORTER, PASSWORD};
pub(crate) use dice::Dice;
pub(crate) use events::Event;
pub(crate) use oracle::{Judgement, engines};
pub(crate) use postgres::Postgres;
pub(crate) use proxy::Proxy;
pub(crate) use services::{Borrowed, Services, block_on, free_port, project, python, scratch};
pub(crate) use site::{Site, answer, said};
pub(crate) use slow::{Slow, assert_planned_again, fill, mid_job, table};
pub(crate) use standin::StandIn;
pub(crate) use wait::{PATIENCE, eventually, never, none_left};
