//! Builds events from the state of a job. An event says only what is durable (invariant I5). Event ids follow
//! from the job, so that receivers recognise repeats.

use jiff::Timestamp;

use super::archive::{Archive, ArchivedTable};
use super::outcome::{Outcome, StoredRequest, TableResult};
use super::plan::EpochPlan;
use super::state::JobState;
use crate::bus::Outgoing;
use crate::config::Config;
use crate::message::event::{ErrorReport, Event, EventData, EventType, MAX_CONTAINED, TableReport};
use crate::message::pattern::qualified;
use crate::message::{Caller, JobId, SourceName};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;

/// Builds the events of one prefix.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Prefix of the broker's names.
    pub prefix: String,
}

impl Reporter {
    /// For the daemons of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { prefix: config.broker.prefix.clone() }
    }

    fn about(stored: &StoredRequest) -> EventData {
        EventData {
            job_id: Some(stored.job.clone()),
            source: Some(stored.source.clone()),
            message_id: stored.caller.message_id.clone(),
            labels: stored.request.labels.clone(),
            ..EventData::default()
        }
    }

    fn event(
        &self,
        stored: &StoredRequest,
        kind: EventType,
        part: Option<&str>,
        at: Timestamp,
        data: EventData,
    ) -> Outgoing {
        let mut event = Event::new(&self.prefix, kind, stored.job.as_str(), part, at, data);
        event.traceparent.clone_from(&stored.caller.traceparent);
        Outgoing::Event { event: Box::new(event), reply_to: None, correlation_id: None }
    }

    /// The event that the request is stored.
    #[must_use]
    pub fn accepted(&self, stored: &StoredRequest) -> Outgoing {
        self.event(stored, EventType::JobAccepted, None, stored.received_at, Self::about(stored))
    }

    /// The event that says how far the job is. The number of finished chunks tells such events apart.
    #[must_use]
    pub fn progress(&self, job: &JobState, at: Timestamp) -> Outgoing {
        let progress = job.progress();
        let number = progress.chunks_done.to_string();
        let mut data = Self::about(&job.stored);
        data.progress = Some(progress);
        self.event(&job.stored, EventType::JobProgress, Some(&number), at, data)
    }

    /// The event that the job does not move.
    #[must_use]
    pub fn stalled(&self, job: &JobState, why: &str, at: Timestamp) -> Outgoing {
        let progress = job.progress();
        let number = format!("{}-{}", progress.chunks_done, at.as_second());
        let mut data = Self::about(&job.stored);
        data.progress = Some(progress);
        data.error = Some(ErrorReport {
            code: "stalled".into(),
            message: format!("no chunk has finished for a while: {why}"),
            remedy: Some("see the daemons' logs and `adu-export status`; the job goes on by itself".into()),
            retryable: true,
        });
        self.event(&job.stored, EventType::JobStalled, Some(&number), at, data)
    }

    /// The events of the tables of a batch.
    #[must_use]
    pub fn batch(&self, stored: &StoredRequest, plan: &ExportPlan, outcome: &Outcome) -> Vec<Outgoing> {
        outcome
            .tables
            .iter()
            .filter_map(|t| {
                let planned = plan.table(t.table)?;
                let mut report = planned_report(planned);
                let kind = match &t.result {
                    TableResult::Published { directory, files, pages } => {
                        report.pages = *pages;
                        report.directory = Some(directory.clone());
                        report.rows = files.iter().map(|f| f.rows).sum();
                        report.bytes = files.iter().map(|f| f.bytes).sum();
                        report.files = u32::try_from(files.len()).unwrap_or(u32::MAX);
                        EventType::TableCompleted
                    }
                    TableResult::Failed { error } => {
                        report.error = Some(error.clone());
                        EventType::TableFailed
                    }
                    TableResult::Cancelled | TableResult::Abandoned { .. } => return None,
                };
                let mut data = Self::about(stored);
                data.snapshot_time = plan.snapshot.as_ref().map(|s| s.time);
                let name = report.table.clone();
                data.tables = vec![report];
                Some(self.event(stored, kind, Some(&name), outcome.at, data))
            })
            .collect()
    }

    /// The events of tables that could not be planned.
    #[must_use]
    pub fn unplanned(&self, stored: &StoredRequest, plan: &EpochPlan) -> Vec<Outgoing> {
        plan.failed()
            .iter()
            .map(|f| {
                let mut data = Self::about(stored);
                data.tables = vec![TableReport {
                    table: f.table.clone(),
                    error: Some(f.error.clone()),
                    ..TableReport::default()
                }];
                self.event(stored, EventType::TableFailed, Some(&f.table), plan.at(), data)
            })
            .collect()
    }

    /// The final event of a job, also for the reply queue of the caller.
    #[must_use]
    pub fn finished(&self, archive: &Archive) -> Outgoing {
        let data = EventData {
            job_id: Some(archive.job_id.clone()),
            source: Some(archive.source.clone()),
            message_id: archive.caller.message_id.clone(),
            labels: archive.labels.clone(),
            snapshot_time: archive.snapshots.values().max().copied(),
            archive: Some(archive.path()),
            duration_seconds: Some(archive.performance.total_duration_seconds),
            tables: archive.tables.iter().map(ArchivedTable::report).collect(),
            error: archive.error.clone(),
            ..EventData::default()
        };
        let kind = archive.status.event();
        let mut event =
            Event::new(&self.prefix, kind, archive.job_id.as_str(), None, archive.committed_at, data);
        // The id is the same for every kind of end, so that a receiver that counts ends counts one.
        event.id = format!("{}/job.final", archive.job_id);
        event.traceparent.clone_from(&archive.caller.traceparent);
        Outgoing::Event {
            event: Box::new(event),
            reply_to: archive.caller.reply_to.clone(),
            correlation_id: archive.caller.correlation_id.clone(),
        }
    }

    /// The event that a request was refused.
    #[must_use]
    pub fn rejected(&self, rejection: Rejection, at: Timestamp) -> Outgoing {
        let subject = rejection
            .job
            .as_ref()
            .map(JobId::to_string)
            .or_else(|| rejection.caller.message_id.clone())
            .unwrap_or_else(|| rejection.body_sha256.clone());
        let data = EventData {
            job_id: rejection.job,
            source: rejection.source,
            message_id: rejection.caller.message_id,
            error: Some(rejection.error),
            ..EventData::default()
        };
        let part = &rejection.body_sha256[..rejection.body_sha256.len().min(16)];
        let event = Event::new(&self.prefix, EventType::JobRejected, &subject, Some(part), at, data);
        Outgoing::Event {
            event: Box::new(event),
            reply_to: rejection.caller.reply_to,
            correlation_id: rejection.caller.correlation_id,
        }
    }
}

/// A refused request, and where the answer goes.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The job that the request named, if it could be read.
    pub job: Option<JobId>,
    /// The source of the request, if it could be resolved.
    pub source: Option<SourceName>,
    /// Who asked.
    pub caller: Caller,
    /// SHA-256 of the body.
    pub body_sha256: String,
    /// Why the request was refused.
    pub error: ErrorReport,
}

fn planned_report(planned: &PlannedTable) -> TableReport {
    TableReport {
        table: qualified(&planned.schema, &planned.name),
        strategy: Some(planned.strategy.name().into()),
        high_water_mark: planned.high_water_mark.clone(),
        note: planned.note.clone(),
        contains: planned.contains.iter().take(MAX_CONTAINED).cloned().collect(),
        notes: planned.columns.iter().filter_map(|c| Some((c.name.clone(), c.note.clone()?))).collect(),
        ..TableReport::default()
    }
}
