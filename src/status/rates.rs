//! Rows and bytes per minute of the last hour, and per second now. A daemon keeps its own; all of them together
//! are the fleet's.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::message::presence::{MINUTES, Rates};

/// What "now" means: long enough for sources that send in bursts.
const NOW: Duration = Duration::from_secs(10);

/// The rates of this process.
#[derive(Debug, Default)]
pub struct RateLog {
    /// Totals at recent moments, for the rate of now.
    recent: VecDeque<(Instant, u64, u64)>,
    /// The minute of the last entry of `minutes`.
    minute: i64,
    minutes: VecDeque<(u64, u64)>,
}

/// The minute of a time, counted from 1970.
#[must_use]
pub fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

impl RateLog {
    /// Notes how much was read since the start of the process.
    pub fn note(&mut self, now: Timestamp, (rows, bytes): (u64, u64)) {
        let up = Instant::now();
        let (_, rows_before, bytes_before) = self.recent.back().copied().unwrap_or((up, 0, 0));
        let minute = minute_of(now);
        if self.minutes.is_empty() {
            self.minute = minute;
            self.minutes.push_back((0, 0));
        }
        // A clock that was set back adds to the last minute; after a jump, what is older than an hour is forgotten.
        for _ in 0..(minute - self.minute).clamp(0, MINUTES as i64) {
            self.minutes.push_back((0, 0));
        }
        self.minute = self.minute.max(minute);
        while self.minutes.len() > MINUTES {
            self.minutes.pop_front();
        }
        if let Some(last) = self.minutes.back_mut() {
            last.0 += rows.saturating_sub(rows_before);
            last.1 += bytes.saturating_sub(bytes_before);
        }
        self.recent.push_back((up, rows, bytes));
        while self.recent.len() > 2 && self.recent.get(1).is_some_and(|(at, ..)| up - *at >= NOW) {
            self.recent.pop_front();
        }
    }

    /// The rates as other daemons hear them.
    #[must_use]
    pub fn rates(&self) -> Rates {
        let (rows_per_second, bytes_per_second) = match (self.recent.front(), self.recent.back()) {
            (Some(from), Some(to)) if to.0 > from.0 => {
                let seconds = (to.0 - from.0).as_secs_f64();
                ((to.1 - from.1) as f64 / seconds, (to.2 - from.2) as f64 / seconds)
            }
            _ => (0.0, 0.0),
        };
        Rates {
            rows_per_second,
            bytes_per_second,
            minute: self.minute,
            rows: self.minutes.iter().map(|m| m.0).collect(),
            bytes: self.minutes.iter().map(|m| m.1).collect(),
        }
    }
}

/// Rows and bytes of each of the last 60 minutes, the oldest first, over all daemons.
#[must_use]
pub fn together<'a>(rates: impl Iterator<Item = &'a Rates>, now: Timestamp) -> Vec<(u64, u64)> {
    let last = minute_of(now);
    let mut sums = vec![(0_u64, 0_u64); MINUTES];
    for rates in rates {
        let entries = rates.rows.iter().zip(&rates.bytes).rev();
        for (minute, (rows, bytes)) in (0..MINUTES as i64).map(|back| rates.minute - back).zip(entries) {
            let place = usize::try_from(minute - last + MINUTES as i64 - 1).ok();
            if let Some(sum) = place.and_then(|place| sums.get_mut(place)) {
                sum.0 = sum.0.saturating_add(*rows);
                sum.1 = sum.1.saturating_add(*bytes);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rates_are_those_of_the_last_seconds_and_of_each_minute() {
        let start = Timestamp::from_second(600).expect("a time");
        let mut log = RateLog::default();
        log.note(start, (0, 0));
        for second in 1..=90 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let at = start + jiff::SignedDuration::from_secs(second);
            log.note(at, (second.unsigned_abs() * 10, second.unsigned_abs() * 1000));
        }
        let rates = log.rates();
        assert_eq!((rates.rows_per_second, rates.bytes_per_second), (10.0, 1000.0));
        assert_eq!((rates.minute, rates.rows.as_slice()), (11, [590, 310].as_slice()));
        let now = Timestamp::from_second(12 * 60).expect("a time");
        let sums = together([&rates, &rates].into_iter(), now);
        assert_eq!((sums.len(), &sums[57..]), (60, [(1180, 118_000), (620, 62_000), (0, 0)].as_slice()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_an_hour_is_forgotten() {
        let mut log = RateLog::default();
        for minute in 0..200 {
            log.note(Timestamp::from_second(minute * 60).expect("a time"), (minute.unsigned_abs(), 0));
        }
        assert_eq!(log.rates().rows, vec![1; MINUTES]);
        let late = Timestamp::from_second(1_000_000).expect("a time");
        log.note(late, (500, 0));
        assert_eq!(log.rates().rows.iter().sum::<u64>(), 301, "only what was read since the last note");
        assert!(together([&log.rates()].into_iter(), Timestamp::UNIX_EPOCH).iter().all(|m| *m == (0, 0)));
    }
}
