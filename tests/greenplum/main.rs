//! Black-box tests against a real Greenplum cluster, which `ADU_TEST_GREENPLUM_DSN` names: `make
//! greenplum-check`. Each test has its own database there. They are not part of `make test`.

mod definitions;
mod kinds;
mod limits;
mod scene;
mod short;
mod snapshot;
mod stopping;
#[expect(dead_code, unused_imports, reason = "every test target uses its own share")]
#[path = "../support/mod.rs"]
mod support;
mod types;
#[expect(dead_code, reason = "only the types and their edge values are used here")]
#[path = "../main/values/types.rs"]
mod values;
