//! Faults from outside: servers die, rights are lost, disks fill up, networks lose data, requests race. The
//! daemons are real, of the built binary, and so are the servers. Whatever happens, `assert_sound` holds at
//! the end.

mod broker;
mod definitions;
mod fixtures;
mod inheritance;
mod limits;
mod mounts;
mod partial;
mod planner;
mod pooler;
mod queues;
mod races;
mod releases;
mod snapshot;
mod storage;
#[expect(dead_code, unused_imports, reason = "every test target uses its own share")]
#[path = "../support/mod.rs"]
mod support;
mod tampering;
mod tls;
mod upgrade;
