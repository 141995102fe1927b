//! Workspaces without a request. Their intake died before it stored the request, or is about to store it.
//! Until the last moment a request may be stored in such a directory and be acknowledged (invariant I2); on
//! NFS even through a handle that outlives the directory's name. And a coordinator that slept may move a
//! directory that it saw empty long ago, although another job uses that name by now (invariant I10).
//!
//! So the directory is not trashed at once but moved aside, to a name that nobody else ever has. The
//! directory is looked at again under that name: with a request it is moved back; without one it is trashed
//! after the same time has passed again. The new name holds everything that is needed, so that another
//! coordinator can continue if this one dies.

use std::time::Duration;

use jiff::Timestamp;

use crate::folder::{Aside, Folder, FolderError};
use crate::message::JobId;

/// How old a workspace without a request may become, and the time now.
#[derive(Clone, Copy, Debug)]
pub struct AgeLimit {
    /// The time now.
    pub now: Timestamp,
    /// The largest age.
    pub longest: Duration,
}

impl AgeLimit {
    fn is_over(&self, since: Timestamp) -> bool {
        Duration::try_from(self.now.duration_since(since)).unwrap_or_default() > self.longest
    }
}

/// Moves an old workspace without request aside.
///
/// # Errors
/// When the folder refuses.
pub async fn move_aside(folder: &Folder, job: &JobId, limit: AgeLimit) -> Result<(), FolderError> {
    match folder.job(job).modified().await? {
        Some(since) if limit.is_over(since) => folder.move_aside(job, limit.now).await,
        _ => Ok(()),
    }
}

/// Moves a directory back if it has a request by now; else trashes it once it is old enough. True if the job
/// is back in its place.
///
/// # Errors
/// When the folder refuses.
pub async fn put_back_or_trash(folder: &Folder, aside: &Aside, limit: AgeLimit) -> Result<bool, FolderError> {
    if folder.has_request(aside).await? {
        return folder.put_back(aside).await;
    }
    if limit.is_over(aside.at) {
        folder.trash_aside(aside).await?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use uuid::Uuid;

    use super::*;
    use crate::folder::layout;

    const LONGEST: Duration = Duration::from_secs(3600);

    struct Root(PathBuf);

    impl Root {
        /// The entries of `.temp`, apart from the trash.
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.join(layout::TEMP)).expect("there");
            let names = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
            names.filter(|n| n != "trash").collect()
        }

        fn aside(&self) -> Option<Aside> {
            self.names().iter().find_map(|n| Aside::parse(n))
        }

        fn content(&self) -> Option<String> {
            fs::read_to_string(self.0.join(".temp/job_a/request.json")).ok()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn job() -> JobId {
        JobId::parse("a").expect("valid")
    }

    /// The age limit as it is this many seconds from now.
    fn after(seconds: i64) -> AgeLimit {
        let now = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).expect("in range");
        AgeLimit { now, longest: LONGEST }
    }

    /// A folder with a workspace of job `a`.
    async fn folder() -> (Folder, Root) {
        let root = std::env::temp_dir().join(format!("adu-headless-{}", Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        folder.store().make_dir(".temp/job_a").await.expect("made");
        folder.store().make_dir(".temp/job_a/plans").await.expect("made");
        (folder, Root(root))
    }

    async fn store(folder: &Folder, workspace: &str, content: &str) {
        let path = layout::request_in(workspace);
        folder.store().create(&path, content.into()).await.expect("stored");
    }

    #[tokio::test]
    async fn an_empty_workspace_goes_after_it_was_old_twice() {
        let (folder, root) = folder().await;
        move_aside(&folder, &job(), after(3500)).await.expect("looks");
        assert_eq!(root.names(), ["job_a"], "its intake may be at work");
        move_aside(&folder, &job(), after(3700)).await.expect("moves");
        let aside = root.aside().expect("it is moved aside");
        assert!(!put_back_or_trash(&folder, &aside, after(3800)).await.expect("looks"));
        assert_eq!(root.aside(), Some(aside.clone()), "a request may still come into it");
        assert!(!put_back_or_trash(&folder, &aside, after(7400)).await.expect("discards"));
        assert!(root.names().is_empty(), "{:?}", root.names());
        // A coordinator that makes the same decision later finds nothing.
        assert!(!put_back_or_trash(&folder, &aside, after(7400)).await.expect("looks"));
    }

    #[tokio::test]
    async fn a_request_that_was_stored_before_its_workspace_was_moved_is_put_back() {
        let (folder, root) = folder().await;
        // The coordinator had seen no request when an intake stored one.
        store(&folder, ".temp/job_a", "stored").await;
        move_aside(&folder, &job(), after(3700)).await.expect("moves");
        let aside = root.aside().expect("it is moved aside");
        assert!(put_back_or_trash(&folder, &aside, after(100_000)).await.expect("puts back"));
        assert_eq!((root.names(), root.content().as_deref()), (vec!["job_a".to_owned()], Some("stored")));
    }

    #[tokio::test]
    async fn a_request_that_came_again_elsewhere_replaces_the_one_that_was_moved() {
        let (folder, root) = folder().await;
        store(&folder, ".temp/job_a", "first").await;
        move_aside(&folder, &job(), after(3700)).await.expect("moves");
        let aside = root.aside().expect("it is moved aside");
        // An intake has made the directories and not yet stored anything.
        folder.store().make_dir(".temp/job_a").await.expect("made");
        folder.store().make_dir(".temp/job_a/plans").await.expect("made");
        assert!(!put_back_or_trash(&folder, &aside, after(100_000)).await.expect("waits"));
        assert_eq!(root.aside(), Some(aside.clone()), "nothing is lost if that intake dies");
        store(&folder, ".temp/job_a", "again").await;
        assert!(!put_back_or_trash(&folder, &aside, after(3700)).await.expect("discards"));
        assert_eq!((root.names(), root.content().as_deref()), (vec!["job_a".to_owned()], Some("again")));
    }
}
