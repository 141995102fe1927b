//! The fleet at a glance: what is wrong, the jobs, the daemons, the sources, the storage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::picture::JobBrief;
use crate::message::presence::Pool;
use crate::message::{JobId, SourceName};

/// What the first page shows.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Overview {
    /// When this was.
    pub at: Timestamp,
    /// When what is shown of jobs was read from the export folder: earlier than `at` while the folder answers slowly or
    /// not at all. None before the first look has ended: no job is shown then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The daemon that answers.
    pub instance: Uuid,
    /// Its host.
    pub host: String,
    /// Its version.
    pub version: String,
    /// What is wrong, the worst first.
    pub troubles: Vec<Trouble>,
    /// How many jobs there are.
    pub jobs: JobCounts,
    /// What the fleet reads.
    pub rates: FleetRates,
    /// Jobs that run or wait, in the order of arrival; at most 30.
    pub running: Vec<JobBrief>,
    /// Jobs that have ended, the newest first.
    pub ended: Vec<JobBrief>,
    /// The page of `ended`, from 1.
    pub page: u32,
    /// How many pages of `ended` there are.
    pub pages: u32,
    /// The daemons that were heard in the last hour.
    pub daemons: Vec<DaemonView>,
    /// The sources of the daemon that answers.
    pub sources: Vec<SourceView>,
    /// Where results are.
    pub storage: Storage,
    /// Where messages are.
    pub broker: Broker,
    /// Archives that are still to be read: until then, fewer jobs are shown.
    pub archives_unread: u64,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct JobCounts {
    /// Jobs that run.
    pub running: u32,
    /// Jobs that wait to be planned.
    pub waiting: u32,
    /// Jobs that ended since midnight (UTC).
    pub ended_today: u32,
    /// Those of them that completed.
    pub completed_today: u32,
    /// Those of them of which some tables failed.
    pub partial_today: u32,
    /// Those of them of which all tables failed.
    pub failed_today: u32,
    /// Those of them that were cancelled.
    pub cancelled_today: u32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Work does not go on, or was lost.
    Alarm,
    /// It will not go on for long, or not as well as it should.
    Warning,
}

impl Severity {
    /// As text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Trouble {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, with which object.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The section of OPERATIONS.md that says more, as in its links.
    pub section: &'static str,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
}

/// What the fleet reads from its sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct FleetRates {
    /// Rows per second, over the last ten seconds.
    pub rows_per_second: f64,
    /// Bytes per second, over the last ten seconds.
    pub bytes_per_second: f64,
    /// Each minute of the last hour, the oldest first. The last one is not over.
    pub last_hour: Vec<Minute>,
}

/// A minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Minute {
    /// Rows read.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Whether a daemon is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It was heard within `timing.alive_timeout`.
    Alive,
    /// It takes no more work and ends.
    Leaving,
    /// It was not heard for `timing.alive_timeout`, and did not say that it leaves.
    Silent,
    /// It is silent, and a daemon that started later on its host has its place.
    Replaced,
}

impl Standing {
    /// As text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "left",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
        }
    }
}

/// A daemon.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DaemonView {
    /// Its process.
    pub instance: Uuid,
    /// Its host.
    pub host: String,
    /// Its version.
    pub version: String,
    /// Whether it is there.
    pub standing: Standing,
    /// Whether it is the one that answers.
    pub here: bool,
    /// Whether it is the coordinator.
    pub coordinates: bool,
    /// Chunks that it exports at once.
    pub slots: u32,
    /// Its cores.
    pub cores: u32,
    /// Seconds since it was heard.
    pub silent_seconds: f64,
    /// When its process started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The sources that it can read.
    pub sources: Vec<SourceName>,
    /// How many tasks it works on.
    pub tasks: u32,
    /// Those tasks, the longest first; at most 8.
    pub holding: Vec<Held>,
    /// How many snapshots it holds.
    pub snapshots: u32,
    /// Rows per second.
    pub rows_per_second: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// What keeps it from working.
    pub obstacles: Vec<String>,
}

/// A task that a daemon works on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Held {
    /// The job.
    pub job_id: JobId,
    /// Place of the table in the job; none while the job is planned, or if the job is not known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<u32>,
    /// What it is, e.g. `chunk 17 of public.orders`.
    pub what: String,
    /// Seconds since it began.
    pub seconds: f64,
    /// Rows so far.
    pub rows: u64,
    /// Bytes so far.
    pub bytes: u64,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SourceView {
    /// Its name.
    pub source: SourceName,
    /// Its kind.
    pub kind: String,
    /// Connections of all daemons' pools.
    pub pool: Pool,
    /// Connections that the pool of each daemon may have.
    pub pool_size: u32,
    /// How many daemons can read it.
    pub daemons: u32,
    /// Chunks that run now.
    pub chunks_out: u64,
    /// Chunks that may run at once, over all daemons.
    pub chunks_allowed: u64,
    /// What sets this limit.
    pub allowed_by: String,
    /// Jobs that run or wait.
    pub jobs: u32,
    /// Snapshots that are still read, the oldest first.
    pub snapshots: Vec<SnapshotView>,
}

/// A snapshot that is still read.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SnapshotView {
    /// Its lineage.
    pub lineage: Uuid,
    /// A job that reads it.
    pub job_id: JobId,
    /// Seconds since its time.
    pub age_seconds: f64,
    /// `max_snapshot_age` of the source, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_seconds: Option<f64>,
    /// Whether sessions have to hold it.
    pub needs_sessions: bool,
    /// Hosts of the daemons that hold it.
    pub held_by: Vec<String>,
}

/// Where results are.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Storage {
    /// The export folder, as the daemon that answers sees it.
    pub root: String,
    /// Its identity.
    pub id: Uuid,
    /// Free bytes; none if this is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Workers pause while fewer bytes are free.
    pub min_free_bytes: u64,
    /// Whether they pause here.
    pub paused: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where messages are.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Broker {
    /// Prefix of all names there.
    pub prefix: String,
    /// Whether the daemon that answers is connected.
    pub connected: bool,
    /// Whether the broker takes no messages, because of an alarm.
    pub blocked: bool,
    /// Host of the daemon that coordinates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
}

impl JobCounts {
    /// Counts jobs. `today` is midnight.
    #[must_use]
    pub fn of<'a>(
        running: impl Iterator<Item = &'a JobBrief>,
        ended: impl Iterator<Item = &'a JobBrief>,
        today: Timestamp,
    ) -> Self {
        use super::picture::Phase;
        let mut counts = Self::default();
        for job in running {
            match job.status {
                Phase::Waiting => counts.waiting += 1,
                _ => counts.running += 1,
            }
        }
        let of_today = |job: &&JobBrief| job.committed_at.is_some_and(|at| at >= today);
        let mut by_status: BTreeMap<&str, u32> = BTreeMap::new();
        for job in ended.take_while(of_today) {
            counts.ended_today += 1;
            *by_status.entry(job.status.as_str()).or_default() += 1;
        }
        let of = |phase: Phase| by_status.get(phase.as_str()).copied().unwrap_or_default();
        counts.completed_today = of(Phase::Completed);
        counts.partial_today = of(Phase::Partial);
        counts.failed_today = of(Phase::Failed);
        counts.cancelled_today = of(Phase::Cancelled);
        counts
    }
}
