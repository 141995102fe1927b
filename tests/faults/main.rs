//! Faults from outside: servers that die, rights that go, disks that fill up,
//! networks that swallow, requests that race. Real daemons of the built
//! binary, real servers; whatever happens, `assert_sound` holds in the end.

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
