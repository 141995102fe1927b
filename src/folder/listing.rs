//! What the folder holds besides the files of one job: the list of workspaces and archives.

use std::collections::BTreeMap;

use super::files::archive::Archive;
use super::layout::{self, Aside};
use super::{Folder, FolderError, Renamed};
use crate::message::JobId;

/// An entry of `.temp`, apart from the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The workspace of a job.
    Workspace(JobId),
    /// A workspace that was moved aside.
    Aside(Aside),
}

impl Folder {
    /// Workspaces, and workspaces that were moved aside.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn standing(&self) -> Result<Vec<Standing>, FolderError> {
        let names = self.store().list(layout::TEMP).await?;
        let read = |name: &String| match layout::job_of_workspace(name) {
            Some(job) => Some(Standing::Workspace(job)),
            None => Aside::parse(name).map(Standing::Aside),
        };
        Ok(names.iter().filter_map(read).collect())
    }

    /// Jobs that have a workspace.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn jobs(&self) -> Result<Vec<JobId>, FolderError> {
        let job = |standing| match standing {
            Standing::Workspace(job) => Some(job),
            Standing::Aside(_) => None,
        };
        Ok(self.standing().await?.into_iter().filter_map(job).collect())
    }

    /// Jobs that have an archive.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn archived(&self) -> Result<Vec<JobId>, FolderError> {
        let names = self.store().list(layout::BY_ID).await?;
        let job = |name: &String| JobId::parse(name.strip_suffix(".json")?).ok();
        Ok(names.iter().filter_map(job).collect())
    }

    /// Names under which people find archives, the newest days first.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn archive_names(&self) -> Result<Vec<String>, FolderError> {
        let mut names = self.store().list(layout::BY_DATE).await?;
        // `job_<id>_<date>.json`
        names.sort_by_cached_key(|name| {
            std::cmp::Reverse(name.rsplit('_').next().unwrap_or_default().to_owned())
        });
        Ok(names)
    }

    /// Names under which people find the archives of the newest `limit` jobs, the newest first.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn recent_archives(&self, limit: usize) -> Result<Vec<String>, FolderError> {
        let mut days: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.store().list(layout::BY_DATE).await? {
            // `job_<id>_<date>.json`
            let day = name.rsplit('_').next().unwrap_or_default().to_owned();
            days.entry(day).or_default().push(name);
        }
        let mut newest = Vec::new();
        for names in days.into_values().rev() {
            let mut of_day = Vec::with_capacity(names.len());
            for name in names {
                let stat = self.store().stat(&format!("{}/{name}", layout::BY_DATE)).await?;
                of_day.extend(stat.map(|stat| (stat.modified, name)));
            }
            of_day.sort_by(|a, b| b.cmp(a));
            newest.extend(of_day.into_iter().map(|(_, name)| name));
            if newest.len() >= limit {
                break;
            }
        }
        newest.truncate(limit);
        Ok(newest)
    }

    /// The archive under one of these names.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn recent_archive(&self, name: &str) -> Result<Option<Archive>, FolderError> {
        self.read(&format!("{}/{name}", layout::BY_DATE)).await
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn free_bytes(&self) -> Result<u64, FolderError> {
        Ok(self.store().free_bytes().await?)
    }

    /// Makes a directory and removes it: only a write shows that the folder is writable.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn probe(&self) -> Result<(), FolderError> {
        let probe = format!("{}/check_{}", layout::TRASH, self.store().fresh().simple());
        self.store().make_dir(&probe).await?;
        Ok(self.store().remove_tree(&probe).await?)
    }
}

/// What `job::headless` does to workspaces without a request.
impl Folder {
    /// Moves a workspace aside.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn move_aside(&self, job: &JobId, at: jiff::Timestamp) -> Result<(), FolderError> {
        let aside = Aside { job: job.clone(), at, id: self.store().fresh() };
        self.store().rename(&layout::workspace(job), &aside.path()).await?;
        Ok(())
    }

    /// Whether a workspace that was moved aside has a request.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn has_request(&self, aside: &Aside) -> Result<bool, FolderError> {
        Ok(self.store().stat(&layout::request_in(&aside.path())).await?.is_some())
    }

    /// Moves a workspace back that was moved aside. True if it is back in its place.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn put_back(&self, aside: &Aside) -> Result<bool, FolderError> {
        match self.store().rename(&aside.path(), &layout::workspace(&aside.job)).await? {
            Renamed::Done => Ok(true),
            Renamed::Gone => Ok(false),
            // The message was redelivered meanwhile: its request is stored in the workspace, or is being
            // stored.
            Renamed::Occupied => {
                if self.job(&aside.job).has_request().await? {
                    self.trash_aside(aside).await?;
                }
                Ok(false)
            }
        }
    }

    /// Moves a workspace that was moved aside to the trash.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn trash_aside(&self, aside: &Aside) -> Result<(), FolderError> {
        self.discard(&aside.path(), &format!("headless_{}", aside.job)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_come_first_whatever_their_names() {
        let root = std::env::temp_dir().join(format!("adu-recent-{}", uuid::Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("a folder");
        let names = [
            "job_z_2026-11-20.json",
            "job_m_2026-11-21.json",
            "job_a_2026-11-21.json",
            "job_b_x_2026-11-21.json",
        ];
        for (age, name) in names.iter().enumerate() {
            let file = std::fs::File::create(root.join(layout::BY_DATE).join(name)).expect("created");
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + age as u64);
            file.set_modified(at).expect("a time");
        }
        let found = folder.recent_archives(2).await.expect("listed");
        assert_eq!(found, ["job_b_x_2026-11-21.json", "job_a_2026-11-21.json"]);
        assert_eq!(folder.recent_archives(9).await.expect("listed").len(), 4);
        std::fs::remove_dir_all(root).expect("removed");
    }
}
