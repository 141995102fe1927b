//! What the folder says of a job, for intake and for commands.

use crate::folder::{Folder, FolderError};
use crate::job::archive::Archive;
use crate::job::outcome::{Owner, StoredRequest};
use crate::message::JobId;

/// What the folder says of the job that a message names.
#[derive(Clone, Debug, Default)]
pub enum Known {
    /// It has no request and no archive.
    #[default]
    Nothing,
    /// It has a workspace.
    Stored {
        /// Its request.
        request: Box<StoredRequest>,
        /// Whether the workspace belongs to another owner: a one-shot export, or daemons with another broker
        /// or prefix.
        foreign: bool,
    },
    /// It has ended.
    Ended(Box<Archive>),
    /// Its request or its archive cannot be read.
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Known {
    /// Looks at the folder. `is_ours` says of an owner whether this process works on its jobs, or may have it
    /// done.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn look(
        folder: &Folder,
        job: &JobId,
        is_ours: impl Fn(&Owner) -> bool,
    ) -> Result<Self, FolderError> {
        // Read the archive last: a job that is just being finished then has at least one of the two.
        let workspace = folder.job(job);
        let request = workspace.request().await;
        match (workspace.archive().await, request) {
            (Ok(Some(archive)), _) => Ok(Self::Ended(Box::new(archive))),
            (Err(FolderError::Unreadable { path, why }), _)
            | (Ok(None), Err(FolderError::Unreadable { path, why })) => Ok(Self::Damaged { path, why }),
            (Err(error), _) | (Ok(None), Err(error)) => Err(error),
            (Ok(None), Ok(Some(request))) => {
                let foreign = !is_ours(&request.owner);
                Ok(Self::Stored { request: Box::new(request), foreign })
            }
            (Ok(None), Ok(None)) => Ok(Self::Nothing),
        }
    }
}
