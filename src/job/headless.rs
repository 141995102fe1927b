//! Workspaces without a request: their intake died before it stored one, or is
//! just about to. A request may come into such a directory until the last
//! moment, and be acknowledged (invariant I2): on NFS even through a handle that
//! outlives its name; and a coordinator that slept may move a directory that it
//! has seen empty long ago, and that is another job's by now (invariant I10).
//!
//! So it is moved aside first, not to the trash. Under its new name, which
//! nobody else ever has, it is looked at again: with a request it goes back,
//! without one it is trashed, when the same time has passed again. Everything is
//! in a name, so that whoever looks next goes on where a coordinator died.

use std::time::Duration;

use jiff::Timestamp;

use crate::folder::{Aside, Folder, FolderError, Renamed};
use crate::message::JobId;

/// How long a workspace may be without request before it is given up, and the
/// wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Now.
    pub now: Timestamp,
    /// How long it may be.
    pub longest: Duration,
}

impl Patience {
    fn is_over(&self, since: Timestamp) -> bool {
        Duration::try_from(self.now.duration_since(since)).unwrap_or_default() > self.longest
    }
}

/// Moves an old workspace without request aside.
///
/// # Errors
/// When the folder refuses.
pub async fn move_aside(folder: &Folder, job: &JobId, patience: Patience) -> Result<(), FolderError> {
    match folder.job(job).modified().await? {
        Some(since) if patience.is_over(since) => folder.move_aside(job, patience.now).await,
        _ => Ok(()),
    }
}

/// Decides on what was moved aside. True: its job is back in its place.
///
/// # Errors
/// When the folder refuses.
pub async fn judge(folder: &Folder, aside: &Aside, patience: Patience) -> Result<bool, FolderError> {
    if folder.has_request(aside).await? {
        match folder.put_back(aside).await? {
            Renamed::Done => return Ok(true),
            Renamed::Gone => return Ok(false),
            // The message came again meanwhile, or is just being stored again.
            Renamed::Occupied => {
                if !folder.job(&aside.job).has_request().await? {
                    return Ok(false);
                }
            }
        }
    } else if !patience.is_over(aside.at) {
        return Ok(false);
    }
    folder.trash_aside(aside).await?;
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
        /// What stands in `.temp`, the trash aside.
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

    /// After so many seconds from now.
    fn after(seconds: i64) -> Patience {
        let now = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).expect("in range");
        Patience { now, longest: LONGEST }
    }

    /// A folder with a workspace of job `a`.
    async fn folder() -> (Folder, Root) {
        let root = std::env::temp_dir().join(format!("adu-headless-{}", Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        folder.store().make_dirs(layout::TEMP, vec!["job_a".into()]).await.expect("made");
        folder.store().make_dirs(".temp/job_a", vec!["plans".into()]).await.expect("made");
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
        assert!(!judge(&folder, &aside, after(3800)).await.expect("looks"));
        assert_eq!(root.aside(), Some(aside.clone()), "a request may still come into it");
        assert!(!judge(&folder, &aside, after(7400)).await.expect("discards"));
        assert!(root.names().is_empty(), "{:?}", root.names());
        // Whoever comes late to the same decision finds nothing.
        assert!(!judge(&folder, &aside, after(7400)).await.expect("looks"));
    }

    #[tokio::test]
    async fn a_request_that_was_stored_before_its_workspace_was_moved_is_put_back() {
        let (folder, root) = folder().await;
        // The coordinator had seen no request when an intake stored one.
        store(&folder, ".temp/job_a", "stored").await;
        move_aside(&folder, &job(), after(3700)).await.expect("moves");
        let aside = root.aside().expect("it is moved aside");
        assert!(judge(&folder, &aside, after(100_000)).await.expect("puts back"));
        assert_eq!((root.names(), root.content().as_deref()), (vec!["job_a".to_owned()], Some("stored")));
    }

    #[tokio::test]
    async fn a_request_that_came_again_elsewhere_replaces_the_one_that_was_moved() {
        let (folder, root) = folder().await;
        store(&folder, ".temp/job_a", "first").await;
        move_aside(&folder, &job(), after(3700)).await.expect("moves");
        let aside = root.aside().expect("it is moved aside");
        // An intake that has made the directories and not yet stored anything.
        folder.store().make_dirs(layout::TEMP, vec!["job_a".into()]).await.expect("made");
        folder.store().make_dirs(".temp/job_a", vec!["plans".into()]).await.expect("made");
        assert!(!judge(&folder, &aside, after(100_000)).await.expect("waits"));
        assert_eq!(root.aside(), Some(aside.clone()), "nothing is lost if that intake dies");
        store(&folder, ".temp/job_a", "again").await;
        assert!(!judge(&folder, &aside, after(3700)).await.expect("discards"));
        assert_eq!((root.names(), root.content().as_deref()), (vec!["job_a".to_owned()], Some("again")));
    }
}
