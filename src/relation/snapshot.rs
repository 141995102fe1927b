//! What plans name a snapshot by.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A snapshot of a source, and the line of those that hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its lineage: the same in later epochs that read the same snapshot.
    pub lineage: Uuid,
    /// The instant it shows, by the source's clock.
    pub time: Timestamp,
}
