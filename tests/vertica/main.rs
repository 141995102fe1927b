//! Black-box tests of `kind = "vertica"` against the stand-in server of `tests/support/vertica/`, which answers from
//! the test's own PostgreSQL. The vendor's clients read the same stand-in, so these tests and they agree about the
//! same bytes. `real.rs` runs against a server that `ADU_TEST_VERTICA_DSN` names.

mod deaths;
mod encryption;
mod history;
mod limits;
mod plans;
mod real;
mod scene;
mod stopping;
#[expect(dead_code, unused_imports, reason = "every test target uses its own share")]
#[path = "../support/mod.rs"]
mod support;
mod values;
