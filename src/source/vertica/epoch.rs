//! The snapshot of a job: an epoch of the server. (Texts for people say *server epoch*, because an epoch is a plan of
//! a job elsewhere.)
//!
//! `AT EPOCH n` shows what was committed up to epoch n, in every session, until the ancient history mark (AHM)
//! passes n. So nobody keeps an epoch: the plan names it, and any process reads under it. Whether the mark has
//! passed is asked when a plan's epoch is taken up, before each chunk and after its last row.

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::sessions::Leased;
use super::sqlstate::Stage;
use super::statements::{self, Epoch};
use crate::relation::{Frozen, Snapshot};
use crate::source::{Keeper, Refusal, SourceError};

/// The epochs of a server at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epochs {
    /// The newest epoch that takes no more commits.
    pub(super) last_closed: Epoch,
    /// The oldest epoch that can still be read.
    pub(super) ahm: Epoch,
    /// The server's clock.
    pub(super) now: Timestamp,
}

impl Epochs {
    /// Asks for them.
    pub(super) async fn ask(session: &mut Leased, stage: Stage, what: &str) -> Result<Self, SourceError> {
        let answer = session.query(&statements::epochs(), stage, what).await?;
        let unclear = || {
            SourceError::permanent("protocol", format!("{what}: the server does not tell its epochs"))
                .with_remedy("let the user read v_monitor.system")
        };
        let row = answer.rows().next().ok_or_else(unclear)?;
        let number = |i| row.int(i).ok().flatten().and_then(|n| u64::try_from(n).ok());
        let (Some(current), Some(ahm), Some(micros)) = (number(0), number(1), row.int(2).ok().flatten())
        else {
            return Err(unclear());
        };
        Ok(Self {
            last_closed: Epoch(current.saturating_sub(1)),
            ahm: Epoch(ahm),
            now: Timestamp::from_microsecond(micros).map_err(|_| unclear())?,
        })
    }

    /// Whether an epoch can still be read.
    ///
    /// # Errors
    /// When the mark has passed it.
    pub(super) fn check(&self, epoch: Epoch) -> Result<(), SourceError> {
        if epoch >= self.ahm {
            return Ok(());
        }
        Err(SourceError::lineage_lost(format!(
            "server epoch {epoch}, which the job reads, can no longer be read: the ancient history mark is at {}",
            self.ahm
        ))
        .with_remedy(
            "keep the history for longer than the longest job takes: ALTER DATABASE … SET HistoryRetentionTime",
        )
        .refusing(Refusal::SnapshotGone))
    }
}

/// Stands for an epoch. It keeps nothing.
pub(super) struct EpochKeeper {
    snapshot: Snapshot,
    epoch: Epoch,
    lost: CancellationToken,
}

impl EpochKeeper {
    /// A new snapshot: the last closed epoch.
    pub(super) fn of_now(lineage: Uuid, epochs: &Epochs) -> Arc<dyn Keeper> {
        let epoch = epochs.last_closed;
        let snapshot = Snapshot { lineage, time: epochs.now, recall: Frozen::of(&epoch) };
        Arc::new(Self { snapshot, epoch, lost: CancellationToken::new() })
    }

    /// The epoch that a plan names.
    pub(super) fn recalled(snapshot: &Snapshot) -> Result<Arc<Self>, SourceError> {
        let epoch = snapshot.recall.thaw().map_err(|_| {
            SourceError::lineage_lost("the plan names no server epoch: another kind of source made it")
                .refusing(Refusal::SnapshotGone)
        })?;
        Ok(Arc::new(Self { snapshot: snapshot.clone(), epoch, lost: CancellationToken::new() }))
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The keeper that a chunk or question reads under, if it is one of these.
    pub(super) fn of(keeper: &dyn Keeper) -> Result<&Self, SourceError> {
        (keeper as &dyn Any).downcast_ref().ok_or_else(|| {
            SourceError::lineage_lost("the snapshot is no server epoch of a Vertica database")
                .refusing(Refusal::SnapshotGone)
        })
    }

    /// Notes that the epoch can no longer be read.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }
}

impl Keeper for EpochKeeper {
    fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    fn holds(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ErrorKind;

    #[test]
    fn an_epoch_comes_back_from_the_plan_and_is_lost_behind_the_mark() {
        let at = |ahm| Epochs { last_closed: Epoch(88), ahm: Epoch(ahm), now: Timestamp::UNIX_EPOCH };
        let keeper = EpochKeeper::of_now(Uuid::from_u128(1), &at(5));
        let plan = serde_json::to_string(&keeper.snapshot()).expect("JSON");
        let snapshot: Snapshot = serde_json::from_str(&plan).expect("a snapshot");
        let recalled = EpochKeeper::recalled(&snapshot).expect("an epoch");
        assert_eq!((recalled.epoch(), recalled.holds()), (Epoch(88), false));
        assert!(at(87).check(Epoch(88)).is_ok() && at(88).check(Epoch(88)).is_ok());
        let lost = at(89).check(Epoch(88)).expect_err("behind the mark");
        assert_eq!((lost.kind, lost.refusal), (ErrorKind::LineageLost, Some(Refusal::SnapshotGone)));
        let other = Snapshot { recall: Frozen::default(), ..snapshot };
        assert!(EpochKeeper::recalled(&other).is_err());
    }
}
