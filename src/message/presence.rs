//! What each daemon tells all others about itself, so that the status page of any of them shows the whole
//! fleet. Everything but the instance may be missing: other releases say less.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inbox::Alive;
use super::{SourceName, Task};

/// Minutes that [`Rates`] remember.
pub const MINUTES: usize = 60;

/// A daemon as it describes itself, on connecting and every `alive_interval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    /// What the coordinator hears too.
    #[serde(flatten)]
    pub alive: Alive,
    /// Name of its host.
    #[serde(default)]
    pub host: String,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// When the process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Whether it is the coordinator.
    #[serde(default)]
    pub coordinates: bool,
    /// What keeps it from working, one reason each, as `/readyz` says.
    #[serde(default)]
    pub obstacles: Vec<String>,
    /// How far the tasks are that it works on.
    #[serde(default)]
    pub doing: Vec<Doing>,
    /// The connections of its pools.
    #[serde(default)]
    pub pools: BTreeMap<SourceName, Pool>,
    /// What it read in the last hour.
    #[serde(default)]
    pub rates: Rates,
}

/// A task that a daemon works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doing {
    /// The task.
    pub task: Task,
    /// Seconds since its delivery.
    #[serde(default)]
    pub seconds: f64,
    /// Rows read so far.
    #[serde(default)]
    pub rows: u64,
    /// Bytes read so far.
    #[serde(default)]
    pub bytes: u64,
}

/// Connections of a pool, without those that keep snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Open and free.
    #[serde(default)]
    pub idle: u64,
    /// In use.
    #[serde(default)]
    pub busy: u64,
    /// Chunks and plans that wait for a connection.
    #[serde(default)]
    pub waiting: u64,
}

/// Rows and bytes that a daemon read, now and minute by minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Rows per second, over the last seconds.
    #[serde(default)]
    pub rows_per_second: f64,
    /// Bytes per second, over the last seconds.
    #[serde(default)]
    pub bytes_per_second: f64,
    /// The minute of the last entry below, counted from 1970.
    #[serde(default)]
    pub minute: i64,
    /// Rows of each minute up to `minute`, at most [`MINUTES`].
    #[serde(default)]
    pub rows: Vec<u64>,
    /// Bytes of each minute up to `minute`.
    #[serde(default)]
    pub bytes: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use crate::message::Control;

    #[test]
    fn a_daemon_of_another_release_may_say_less_or_more() {
        let least = r#"{"control": "alive", "instance": "00000000-0000-0000-0000-000000000007", "slots": 2,
            "cores": 4, "sources": ["warehouse"], "holding": [], "lineages": [], "invented_later": [1]}"#;
        let Ok(Control::Alive(presence)) = serde_json::from_str(least) else { panic!("it is understood") };
        assert_eq!((presence.alive.slots, presence.host.as_str()), (2, ""));
        let text = serde_json::to_string(&Control::Alive(presence.clone())).expect("JSON");
        assert_eq!(serde_json::from_str::<Control>(&text).expect("readable"), Control::Alive(presence));
    }
}
