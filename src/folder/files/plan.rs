//! `plans/eN.json`: the plan of one epoch of a job.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::event::ErrorReport;
use crate::message::{Epoch, JobId, SourceName, TableNo};
use crate::plan::ExportPlan;
use crate::plan::export_plan::{FailedTable, PlannedTable, SkippedRelation};
use crate::relation::Snapshot;

/// The plan of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub enum EpochPlan {
    /// A plan of tables. Possibly none of them can be exported.
    Export(Arc<ExportPlan>),
    /// No tables: a coordinator closed the epoch, so that the job can end.
    Closed(Arc<ClosedPlan>),
}

/// An epoch that a coordinator closed before anybody planned it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClosedPlan {
    /// Version of the format.
    pub v: u32,
    /// The job.
    pub job: JobId,
    /// The epoch.
    pub epoch: Epoch,
    /// The source.
    pub source: SourceName,
    /// When it was closed. No other plan has this field.
    pub closed_at: Timestamp,
    /// Tables that waited to be planned and fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedTable>,
    /// Why nothing could be planned at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

impl From<ExportPlan> for EpochPlan {
    fn from(plan: ExportPlan) -> Self {
        // Older releases closed an epoch by a plan without tables, whose `ready` directory did not exist.
        if !plan.ready.is_nil() || !plan.tables.is_empty() || plan.snapshot.is_some() {
            return Self::Export(Arc::new(plan));
        }
        let ExportPlan { v, job, epoch, source, planned_at: closed_at, failed, error, .. } = plan;
        ClosedPlan { v, job, epoch, source, closed_at, failed, error }.into()
    }
}

impl From<ClosedPlan> for EpochPlan {
    fn from(plan: ClosedPlan) -> Self {
        Self::Closed(Arc::new(plan))
    }
}

impl EpochPlan {
    /// The plan, unless the epoch was closed.
    #[must_use]
    pub fn export(&self) -> Option<&Arc<ExportPlan>> {
        match self {
            Self::Export(plan) => Some(plan),
            Self::Closed(_) => None,
        }
    }

    /// The epoch of the plan.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Export(plan) => plan.epoch,
            Self::Closed(plan) => plan.epoch,
        }
    }

    /// When the plan was made.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Export(plan) => plan.planned_at,
            Self::Closed(plan) => plan.closed_at,
        }
    }

    /// The snapshot that the plan's chunks read, if they read one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.export()?.snapshot.as_ref()
    }

    /// The table of this number.
    #[must_use]
    pub fn table(&self, number: TableNo) -> Option<&PlannedTable> {
        self.export()?.table(number)
    }

    /// The tables of the plan.
    #[must_use]
    pub fn tables(&self) -> &[PlannedTable] {
        self.export().map_or(&[], |plan| &plan.tables)
    }

    /// Tables that cannot be exported.
    #[must_use]
    pub fn failed(&self) -> &[FailedTable] {
        match self {
            Self::Export(plan) => &plan.failed,
            Self::Closed(plan) => &plan.failed,
        }
    }

    /// Relations that are left out.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedRelation] {
        self.export().map_or(&[], |plan| &plan.skipped)
    }

    /// Why nothing could be planned at all.
    #[must_use]
    pub fn error(&self) -> Option<&ErrorReport> {
        match self {
            Self::Export(plan) => plan.error.as_ref(),
            Self::Closed(plan) => plan.error.as_ref(),
        }
    }
}
