//! Waits with a deadline for things that must happen.

use std::time::{Duration, Instant};

/// Long enough for any job of the tests, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const STEP: Duration = Duration::from_millis(20);

/// Asks until there is an answer. Panics with `what` after the deadline.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}");
        std::thread::sleep(STEP);
    }
}

/// Asks until nothing is left. Panics with the rest after the deadline.
#[track_caller]
pub(crate) fn none_left(what: &str, within: Duration, mut probe: impl FnMut() -> Vec<String>) {
    let end = Instant::now() + within;
    loop {
        let left = probe();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "not within {within:?}: {what}; still {left:#?}");
        std::thread::sleep(STEP);
    }
}

/// Watches for something that must not happen during `span`. Panics as soon as it happens.
#[track_caller]
pub(crate) fn never(what: &str, span: Duration, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(!happened(), "must not happen: {what}");
        std::thread::sleep(STEP);
    }
}
