//! Random schedules: overlapping jobs on three daemons, while daemons and servers are killed.
//!
//! `make chaos SEED=… ROUNDS=…`. Round N of a seed is the same as round 0 of seed + N, so that a failed round
//! can run again alone. The seed decides the moments, but the machine decides what happens between them. A
//! schedule therefore repeats nearly, not exactly.

mod mischief;
mod round;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "every test target uses its own share")]
mod support;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use support::Services;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn every_job_ends_whole_whatever_dies() {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let seed = number("ADU_CHAOS_SEED").unwrap_or(today);
    let rounds = number("ADU_CHAOS_ROUNDS").unwrap_or(6);
    println!("chaos: make chaos SEED={seed} ROUNDS={rounds}");
    let services = Services::borrow();
    for round in 0..rounds {
        let begin = Instant::now();
        println!("chaos: round {round}, again by make chaos SEED={} ROUNDS=1", seed + round);
        round::play(&services, seed + round);
        println!("chaos: round {round} held after {:.1} s", begin.elapsed().as_secs_f64());
    }
}
