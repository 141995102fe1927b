//! The tables of one chunk; a batch of small tables has many. They take turns: one table uses the connection
//! and has rows in memory, while the tables before it become durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tracing::{Instrument, Span, error_span, warn};

use super::{End, Work};
use crate::config::{Advice, Origin};
use crate::folder::FolderError;
use crate::job::record::{Cause, RecordedTable};
use crate::message::TableNo;
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::parts::ExportError;
use crate::plan::export_plan::PlannedTable;
use crate::retry::{Policy, policy};
use crate::source::{ErrorKind, Refusal, SourceError};
use crate::worker::export::{self, TableChunk, Turn};
use crate::worker::patience::Patience;
use crate::worker::poison::{self, Mark, Trust};

/// Tables of a batch that are exported at once: the one whose turn it is, the next one, and those that become
/// durable.
const TABLES_AT_ONCE: usize = 4;

/// How the export of one table of the batch ended.
enum TableEnd {
    Parts(RecordedTable),
    Failed(Cause, ErrorReport),
    Stop(End),
}

/// The result of the tables of a chunk. If one table's end has stopped the others, the stopped tables appear
/// nowhere. Parts that they had finished are kept here so that the caller can delete them.
#[derive(Default)]
pub(super) struct Exported {
    /// In the order of the tables.
    pub(super) tables: Vec<RecordedTable>,
    /// By table.
    pub(super) failures: BTreeMap<TableNo, (Cause, ErrorReport)>,
    /// A table whose snapshot is lost. All other tables read the same snapshot.
    pub(super) lost: Option<(TableNo, ErrorReport)>,
    pub(super) stopped: Option<End>,
    /// An error of the folder.
    pub(super) broken: Option<FolderError>,
}

impl Work<'_> {
    /// Whether the source comes from a configuration or from `--dsn`.
    fn origin(&self) -> Origin {
        self.shared.context.sources().get(&self.plan.source).map_or(Origin::default(), |e| e.config.origin)
    }

    /// Logs why a table fails. `error` must not contain values of rows; only the failure file may.
    fn say(&self, cause: &Cause, code: &str, error: &str) {
        warn!(?cause, code, error, "a chunk cannot be finished as planned");
    }

    async fn told_to_stop(&self) -> Result<TableEnd, FolderError> {
        Ok(TableEnd::Stop(self.stopped().await?))
    }

    /// Exports the tables. If the end of one table ends the chunk, the running tables are told to stop, and
    /// waited for.
    pub(super) async fn tables(&self) -> Exported {
        let mut waiting = self.plan.tables.iter().filter(|t| t.batch == self.task.batch);
        let is_alone = waiting.clone().count() == 1;
        let mut under_way = FuturesUnordered::new();
        let mut exported = Exported::default();
        // This is a flag of its own, not the token: when a stop comes from outside, a table must report the
        // stop. Otherwise the chunk would be recorded without the tables that did not run.
        let mut ended = false;
        loop {
            while !ended && under_way.len() < TABLES_AT_ONCE {
                let Some(table) = waiting.next() else { break };
                let export = async { (table.number, self.guarded(table).await) };
                // The chunk's own span has the name of a table that is alone.
                let span = match is_alone {
                    true => Span::none(),
                    false => error_span!("table", table = qualified(&table.schema, &table.name)),
                };
                under_way.push(export.instrument(span));
            }
            let Some((table, end)) = under_way.next().await else { break };
            match end {
                Ok(TableEnd::Parts(table)) => {
                    exported.tables.push(table);
                    continue;
                }
                Ok(TableEnd::Failed(cause, error)) if cause != Cause::LineageLost => {
                    exported.failures.insert(table, (cause, error));
                    continue;
                }
                // This table was stopped because of an earlier end.
                _ if ended => continue,
                Ok(TableEnd::Failed(_, error)) => exported.lost = Some((table, error)),
                Ok(TableEnd::Stop(end)) => exported.stopped = Some(end),
                Err(error) => exported.broken = Some(error),
            }
            ended = true;
            self.cancel.cancel();
        }
        exported.tables.sort_unstable_by_key(|table| table.table);
        exported
    }

    /// Exports one table's chunk. Healthy chunks run together, a suspect runs alone in this process, and a
    /// chunk that has killed the process too often does not run.
    async fn guarded(&self, table: &PlannedTable) -> Result<TableEnd, FolderError> {
        let (shared, task) = (self.shared, self.task);
        let mut trust = self.starts.as_ref().map_or(Trust::Healthy, |s| poison::trust(s, table.number));
        if trust == Trust::Poisoned {
            let starts = self.starts.as_deref().unwrap_or_default();
            match poison::deaths(shared, task, starts, self.cancel).await? {
                Some(deaths) => trust = poison::trust(&deaths, table.number),
                None => return self.told_to_stop().await,
            }
        }
        let entry = async {
            match trust {
                Trust::Poisoned => None,
                Trust::Healthy => Some((Some(shared.lone.read().await), None)),
                Trust::Suspect => {
                    warn!("a chunk that may have killed its process runs alone");
                    Some((None, Some(shared.lone.write().await)))
                }
            }
        };
        let entered = tokio::select! {
            biased;
            entered = entry => entered,
            () = self.cancel.cancelled() => return self.told_to_stop().await,
        };
        if entered.is_none() {
            let error = poison::report(task.chunk);
            self.say(&Cause::Permanent, &error.code, &error.message);
            return Ok(TableEnd::Failed(Cause::Permanent, error));
        }
        // Write the start marker only now, after all waiting: a death during the wait is the fault of another
        // chunk.
        let Some(turn) = self.turn().await else { return self.told_to_stop().await };
        let work = self.table(table, turn);
        let end = match self.starts {
            // Any orderly end removes the marker, because such a start did not kill its process.
            Some(_) => {
                let alone = trust == Trust::Suspect;
                Mark::new(shared, task, table.number, alone).await?.over(work).await
            }
            None => work.await,
        };
        drop(entered);
        end
    }

    /// Waits for the next turn. `None` if the work is to stop.
    async fn turn(&self) -> Option<Turn> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            turn = Arc::clone(&self.turns).acquire_owned() => turn.ok(),
        }
    }

    /// Exports one table's chunk and tries again where that helps. Each try takes a turn of its own.
    async fn table(&self, table: &PlannedTable, first: Turn) -> Result<TableEnd, FolderError> {
        let context = &self.shared.context;
        let mut turn = Some(first);
        let mut pauses = context.pauses();
        // The pauses of successive tries that all reached another server than the one that has the snapshot.
        let mut elsewhere_pauses = None;
        let mut patience = Patience::new(self.shared, self.cancel);
        loop {
            let next = match turn.take() {
                Some(turn) => Some(turn),
                None => self.turn().await,
            };
            let Some(turn) = next else { return self.told_to_stop().await };
            while context.destination.free().await? < context.config.export.min_free_bytes {
                if !patience.full("fewer bytes are free than export.min_free_bytes").await {
                    return self.told_to_stop().await;
                }
            }
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let chunk = TableChunk {
                task: self.task,
                plan: self.plan,
                table,
                source: &self.source,
                cancel: self.cancel,
                progress: self.progress,
                trace: &self.trace,
            };
            let error = match self.keep_and_export(&chunk, turn).await {
                Ok(table) => return Ok(TableEnd::Parts(table)),
                Err(error) => error,
            };
            if self.cancel.is_cancelled() {
                return self.told_to_stop().await;
            }
            let (pace, elsewhere) = match error {
                ExportError::Gone => {
                    // Either the workspace is gone or the whole root is. If the root is gone, the guard
                    // returns an error.
                    context.folder.guard().await?;
                    return Ok(TableEnd::Stop(End::Done { wake: false }));
                }
                ExportError::Full(why) => {
                    if !patience.full(&why).await {
                        return self.told_to_stop().await;
                    }
                    pauses = context.pauses();
                    continue;
                }
                ExportError::ReadOnly(why) => return Err(FolderError::WrongRoot(why)),
                ExportError::Storage(why) => {
                    if !patience.failed(&why).await? {
                        return self.told_to_stop().await;
                    }
                    continue;
                }
                ExportError::Source(error) => match policy(&error) {
                    Policy::Report(cause) => {
                        self.say(&cause, &error.code, &error.to_string());
                        return Ok(TableEnd::Failed(cause, error.report(self.origin())));
                    }
                    Policy::Stop => return self.told_to_stop().await,
                    Policy::Retry(pace) => {
                        context.metrics.retried(&error.kind);
                        self.shared.trouble(format!("{}: {}", self.plan.source, error.message));
                        warn!(code = error.code, %error, "a chunk is tried again");
                        let elsewhere = error.refusal == Some(Refusal::SnapshotElsewhere);
                        (pace, elsewhere.then(|| error.report(self.origin())))
                    }
                },
            };
            let pause = match elsewhere {
                None => {
                    elsewhere_pauses = None;
                    pauses.next(pace).ok_or(TableEnd::Stop(End::Release))
                }
                Some(error) => {
                    let pauses = elsewhere_pauses.get_or_insert_with(|| context.pauses());
                    pauses.next(pace).ok_or_else(|| {
                        self.say(&Cause::Permanent, &error.code, &error.message);
                        TableEnd::Failed(Cause::Permanent, error)
                    })
                }
            };
            let pause = match pause {
                Ok(pause) => pause,
                Err(end) => return Ok(end),
            };
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return self.told_to_stop().await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn keep_and_export(
        &self,
        chunk: &TableChunk<'_>,
        turn: Turn,
    ) -> Result<RecordedTable, ExportError> {
        let under = match &self.plan.snapshot {
            Some(snapshot) => {
                let kept = self.shared.keepers.of_plan(&self.source, snapshot, &self.task.job, self.cancel);
                Some(kept.await.map_err(ExportError::Source)?)
            }
            None => None,
        };
        let exported = export::export(&self.shared.context, chunk, under.clone(), turn).await;
        exported.map_err(|error| match error {
            ExportError::Source(e)
                if e.kind == ErrorKind::LineageLost && e.refusal != Some(Refusal::SnapshotGone) =>
            {
                // Nobody else tells a keeper that holds nothing that the session which holds the snapshot is gone.
                if let Some(keeper) = under.filter(|keeper| !keeper.holds()) {
                    keeper.lost().cancel();
                }
                ExportError::Source(snapshot_elsewhere(&e))
            }
            other => other,
        })
    }
}

/// We hold a keeper, but the server does not know its snapshot: the keeper's connection is about to be found
/// dead, or another server answered. The next try may join another keeper.
fn snapshot_elsewhere(error: &SourceError) -> SourceError {
    SourceError::transient("snapshot_elsewhere", format!("{}; its keeper lives", error.message))
        .with_remedy(Advice::SeveralServers)
        .refusing(Refusal::SnapshotElsewhere)
}
