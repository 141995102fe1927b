//! What a chunk does after its last row: it commits, proves that the snapshot lived until then, and compares
//! what it depends on and could not lock.
//!
//! A session that imported a snapshot goes on without an error when the exporting session has ended, but from
//! then on it may read other rows. So the rows of a chunk count only if, after the last of them, the snapshot
//! can still be imported. Without that proof the chunk fails, and its part is discarded.

use std::sync::Arc;

use futures_util::future::join;

use super::super::quote::literal;
use super::super::session::Session;
use super::super::snapshot;
use super::super::sqlstate::Stage;
use super::seen::Fingerprint;
use crate::failpoint;
use crate::source::{ErrorKind, Keeper, SourceError};

/// The end of a chunk.
pub(in super::super) struct Ending {
    /// What the chunk read under.
    pub(super) under: Option<Arc<dyn Keeper>>,
    /// What it depends on and could not lock, as the snapshot shows it.
    pub(super) fingerprint: Option<Fingerprint>,
}

impl Ending {
    /// Ends the transaction, and returns the connection if all is well.
    pub(in super::super) async fn run(self, session: Session, what: &str) -> Result<(), SourceError> {
        let commit = session.run("SELECT; COMMIT", Stage::Question, what);
        let proof = async {
            match self.under.as_deref() {
                Some(keeper) => prove(&session, keeper, what).await,
                None => Ok(()),
            }
        };
        // Both are sent before the first answer arrives.
        let (committed, proved) = join(commit, proof).await;
        committed?;
        proved?;
        if let Some(fingerprint) = self.fingerprint {
            fingerprint.compare(&session, what).await?;
        }
        session.give_back();
        Ok(())
    }
}

/// Imports the keeper's snapshot once more. If that fails, the session that exported it has ended.
pub(super) async fn prove(session: &Session, keeper: &dyn Keeper, what: &str) -> Result<(), SourceError> {
    if failpoint::is_left_out("prove", "snapshot") {
        return Ok(());
    }
    let id = snapshot::id(keeper)?;
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; COMMIT",
        literal(id)
    );
    session.run(&sql, Stage::Import, what).await.inspect_err(|e| {
        if e.kind == ErrorKind::LineageLost {
            keeper.lost().cancel();
        }
    })
}
