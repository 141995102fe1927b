//! Values that become much more than the server sent for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Misfit;

/// Most bytes that the values of a batch become beyond those of the stream.
const MAX: usize = 256 << 20;
const FULL: Misfit = Misfit::Unfit("the values of its row become more than 256 MiB");

/// Counts these bytes over all builders of a decoder.
#[derive(Clone, Default)]
pub(in crate::source::decode) struct Room(Arc<AtomicUsize>);

impl Room {
    /// Bytes taken since it was cleared.
    pub(in crate::source::decode) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// For the next batch.
    pub(in crate::source::decode) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Takes bytes if there is room for them.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Misfit> {
        let taken = self.taken().saturating_add(bytes);
        if taken > MAX {
            return Err(FULL);
        }
        self.0.store(taken, Ordering::Relaxed);
        Ok(())
    }
}
