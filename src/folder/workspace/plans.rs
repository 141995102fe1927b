//! `plans/`: the plans of epochs, or why they cannot be planned.

use uuid::Uuid;

use super::Workspace;
use crate::folder::files::outcome::PlanFailure;
use crate::folder::files::plan::{ClosedPlan, EpochPlan};
use crate::folder::{Created, FolderError, layout};
use crate::message::{BatchNo, Epoch};
use crate::plan::ExportPlan;

impl Workspace<'_> {
    /// The plan of an epoch.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::read`].
    pub async fn plan(&self, epoch: Epoch) -> Result<Option<EpochPlan>, FolderError> {
        self.folder.read_plan(&layout::plan(self.job, epoch)).await
    }

    /// Like [`plan`](Self::plan), but `None` comes from the server and not from a cache.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::read`].
    pub async fn plan_anew(&self, epoch: Epoch) -> Result<Option<EpochPlan>, FolderError> {
        if let Some(found) = self.plan(epoch).await? {
            return Ok(Some(found));
        }
        self.folder.store().revalidate(&layout::plans(self.job)).await?;
        self.plan(epoch).await
    }

    /// Whether an epoch has a plan.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn has_plan(&self, epoch: Epoch) -> Result<bool, FolderError> {
        self.has(&layout::plan(self.job, epoch)).await
    }

    /// Makes the directories of an epoch's records. This comes before its plan: a plan promises that they
    /// exist.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn make_records(
        &self,
        epoch: Epoch,
        batches: impl Iterator<Item = BatchNo>,
    ) -> Result<(), FolderError> {
        let store = self.folder.store();
        let records = layout::epoch_dir(self.job, "records", epoch);
        store.make_dir(&records).await?;
        Ok(store.make_dirs(&records, batches.map(|b| b.to_string()).collect()).await?)
    }

    /// Writes the plan of its epoch.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::create`].
    pub async fn create_plan(&self, plan: &ExportPlan) -> Result<Created, FolderError> {
        self.folder.create(&layout::plan(self.job, plan.epoch), plan).await
    }

    /// Closes an epoch, unless it has a plan.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::create`].
    pub async fn close_epoch(&self, plan: &ClosedPlan) -> Result<(), FolderError> {
        self.folder.create(&layout::plan(self.job, plan.epoch), plan).await.map(drop)
    }

    /// Why an epoch cannot be planned, if a planner wrote that down.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::read`].
    pub async fn plan_failure(&self, epoch: Epoch) -> Result<Option<PlanFailure>, FolderError> {
        let dir = layout::plans(self.job);
        for name in self.folder.store().list(&dir).await? {
            if layout::epoch_of_plan_failure(&name) == Some(epoch) {
                return self.folder.read(&format!("{dir}/{name}")).await;
            }
        }
        Ok(None)
    }

    /// Writes down why an epoch cannot be planned.
    ///
    /// # Errors
    /// As [`crate::folder::Folder::create`].
    pub async fn fail_plan(&self, epoch: Epoch, id: Uuid, failure: &PlanFailure) -> Result<(), FolderError> {
        self.folder.create(&layout::plan_failure(self.job, epoch, id), failure).await.map(drop)
    }
}
