//! The numbers by which epochs, tables, batches and chunks of a job are told apart. Each is a type of its
//! own, so that the compiler notices where one is taken for another.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// One planning of a job. The first plan has number 1.
    Epoch
}

number! {
    /// A table within a job: its place in the first plan that has it, the same in all later ones.
    TableNo
}

number! {
    /// A batch within an epoch: the number of its first table.
    BatchNo
}

number! {
    /// A chunk within a batch, counted from 0 in the order of the keys.
    ChunkNo
}

impl Epoch {
    /// The epoch of the first plan.
    pub const FIRST: Self = Self(1);

    /// The epoch that follows this many plans.
    #[must_use]
    pub fn after(plans: usize) -> Self {
        Self(u32::try_from(plans).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Position of the epoch's plan among the plans of the job.
    #[must_use]
    pub fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }
}

impl BatchNo {
    /// The batch that a table is the first of.
    #[must_use]
    pub fn of_first(table: TableNo) -> Self {
        Self(table.0)
    }

    /// The batch's first table.
    #[must_use]
    pub fn first(self) -> TableNo {
        TableNo(self.0)
    }
}

impl ChunkNo {
    /// The number of the chunk at a position.
    #[must_use]
    pub fn at(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Position of the chunk among the chunks of its batch.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A batch within a job: what is exported, recorded and published together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// Epoch of the plan.
    pub epoch: Epoch,
    /// Number of the batch in that epoch.
    pub batch: BatchNo,
}
