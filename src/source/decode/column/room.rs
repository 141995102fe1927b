//! Limits the memory of values that become much larger than they were in the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Misfit;

/// Maximum bytes by which the values of a batch may exceed their bytes in the stream.
const MAX: usize = 256 << 20;
const FULL: Misfit = Misfit::Unfit("the values of its row become more than 256 MiB");

/// Counts the bytes by which values exceed their bytes in the stream, for all builders of a decoder.
#[derive(Clone, Default)]
pub(in crate::source::decode) struct Room(Arc<AtomicUsize>);

impl Room {
    /// Bytes taken since the last `clear`.
    pub(in crate::source::decode) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Starts again for the next batch.
    pub(in crate::source::decode) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Takes bytes if the limit allows it.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Misfit> {
        let taken = self.taken().saturating_add(bytes);
        if taken > MAX {
            return Err(FULL);
        }
        self.0.store(taken, Ordering::Relaxed);
        Ok(())
    }
}
