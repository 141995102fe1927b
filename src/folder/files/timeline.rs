//! Which daemon exported each chunk of a job, and when. The archive keeps it, because records of chunks go away
//! with the job's workspace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{ChunkNo, Epoch};

/// Chunks that a timeline has at most. More are left out, the shortest first.
pub const MOST_CHUNKS: usize = 200_000;

/// The chunks of a job in time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// The daemons. Chunks name them by their place in this list, from 0.
    pub daemons: Vec<TimelineDaemon>,
    /// The chunks, in the order of tables, epochs and keys.
    pub chunks: Vec<TimedChunk>,
    /// How many chunks were left out, because there were more than 200,000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// A daemon that exported chunks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct TimelineDaemon {
    /// Name of its host.
    pub host: String,
    /// Identity of the process.
    pub instance: Uuid,
}

/// One chunk: `[table, epoch, chunk, daemon, start, duration]`. `table` is the place of the first table of its batch in the
/// archive's `tables`, from 0; `start` are milliseconds after `received_at`, `duration` are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(from = "[u64; 6]", into = "[u64; 6]")]
#[schemars(with = "[u64; 6]")]
pub struct TimedChunk {
    /// Place of the first table of its batch in the archive's tables.
    pub table: u32,
    /// Epoch of its plan.
    pub epoch: Epoch,
    /// Number within the table.
    pub chunk: ChunkNo,
    /// Place of its daemon.
    pub daemon: u32,
    /// Milliseconds after the request was stored.
    pub start: u64,
    /// Milliseconds.
    pub duration: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<[u64; 6]> for TimedChunk {
    fn from([table, epoch, chunk, daemon, start, duration]: [u64; 6]) -> Self {
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            table: short(table),
            epoch: Epoch(short(epoch)),
            chunk: ChunkNo(short(chunk)),
            daemon: short(daemon),
            start,
            duration,
        }
    }
}

impl From<TimedChunk> for [u64; 6] {
    fn from(c: TimedChunk) -> Self {
        [c.table.into(), c.epoch.0.into(), c.chunk.0.into(), c.daemon.into(), c.start, c.duration]
    }
}

impl Timeline {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.left_out == 0
    }

    /// The place of a daemon, which is added if it is new.
    pub fn place(&mut self, daemon: TimelineDaemon) -> u32 {
        let known = self.daemons.iter().position(|d| *d == daemon);
        let place = known.unwrap_or_else(|| {
            self.daemons.push(daemon);
            self.daemons.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// Leaves the shortest chunks out if there are more than `most`, and orders the others.
    pub fn bound(&mut self, most: usize) {
        if self.chunks.len() > most {
            self.left_out += (self.chunks.len() - most) as u64;
            self.chunks.sort_by_key(|c| std::cmp::Reverse(c.duration));
            self.chunks.truncate(most);
        }
        self.chunks.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_timeline_keeps_its_longest_chunks_in_their_order() {
        let mut line = Timeline::default();
        let daemon = |n| TimelineDaemon { host: format!("h{n}"), instance: Uuid::from_u128(n) };
        for chunk in 0..10_u32 {
            let daemon = line.place(daemon(u128::from(chunk % 2)));
            let duration = u64::from(10 - chunk);
            let chunk = ChunkNo(chunk);
            line.chunks.push(TimedChunk { table: 0, epoch: Epoch(1), chunk, daemon, start: 5, duration });
        }
        line.bound(4);
        assert_eq!((line.left_out, line.daemons.len()), (6, 2));
        assert_eq!(line.chunks.iter().map(|c| c.chunk.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let text = serde_json::to_string(&line).expect("JSON");
        assert!(text.contains("[0,1,3,1,5,7]"), "{text}");
        assert_eq!(serde_json::from_str::<Timeline>(&text).expect("readable"), line);
    }
}
