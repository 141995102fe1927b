//! How plans name a snapshot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Frozen;

/// A snapshot of a source, and the lineage of keepers that hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The lineage. Later epochs that read the same snapshot have the same lineage.
    pub lineage: Uuid,
    /// The time whose rows the snapshot shows, by the source's clock.
    pub time: Timestamp,
    /// What the source needs to find the snapshot again, if nobody has to keep it. Only the source reads this.
    #[serde(default, skip_serializing_if = "Frozen::is_nothing")]
    pub recall: Frozen,
}

impl Snapshot {
    /// Whether sessions have to hold it. If not, the plan says enough to find it again.
    #[must_use]
    pub fn needs_keepers(&self) -> bool {
        self.recall.is_nothing()
    }
}
