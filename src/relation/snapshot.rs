//! How plans name a snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A snapshot of a source, and the lineage of keepers that hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The lineage. Later epochs that read the same snapshot have the same lineage.
    pub lineage: Uuid,
    /// The time whose rows the snapshot shows, by the source's clock.
    pub time: Timestamp,
}
