//! How plans name a snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A snapshot of a source, and the lineage of keepers that hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its lineage. Later epochs that read the same snapshot have the same one.
    pub lineage: Uuid,
    /// The time that it shows, by the source's clock.
    pub time: Timestamp,
}
