//! The export folder as a type. The folder is the truth (invariant I3): messages only wake somebody up. Only
//! three primitives change it: the exclusive durable file ([`exclusive`]), the consuming rename
//! (`destination::folder`) and the commit of a job ([`Workspace::commit`]).

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use uuid::Uuid;

pub mod disk;
pub mod exclusive;
pub mod files;
pub mod layout;
mod listing;
mod lock;
pub mod store;
mod syncs;
pub mod workspace;

use crate::plan::ExportPlan;
use files::plan::{ClosedPlan, EpochPlan};

pub use disk::DiskStore;
pub use layout::{Aside, RecordFile, StartName};
pub use listing::Standing;
pub use lock::Lock;
pub use store::{Committed, Created, NewFile, Renamed, Stat, Store};
pub use workspace::{ChunkFiles, StartPlace, Workspace};

/// Version of all files that this build writes, and the newest that it reads.
pub const VERSION: u32 = 2;
/// The oldest version that this build reads.
pub const OLDEST: u32 = 1;

/// What can be wrong with the export folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file is not what it should be.
    #[error("{path} is not readable as what it should be: {why}; it was changed by hand or is damaged")]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with the file.
        why: String,
    },
    /// A file of a newer release.
    #[error(
        "{path} has version {found}, this release reads up to {VERSION}; upgrade adu-export on this host"
    )]
    Newer {
        /// The file.
        path: String,
        /// The file's version.
        found: u64,
    },
    /// A state that the protocol rules out. The step is tried again after reading the folder anew.
    #[error("{0}; if this repeats, report it with the log")]
    Inconsistent(&'static str),
    /// The directory is no export folder, or another one than before, or is read-only.
    #[error("{0}")]
    WrongRoot(String),
}

/// Whether the storage is full. This is no fault of the work, and it ends as soon as somebody makes room.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl FolderError {
    /// Whether an expected directory is gone because its workspace was trashed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Io(e) if e.kind() == io::ErrorKind::NotFound)
    }

    /// Whether this daemon cannot work on the folder in its present state. Other daemons may be able to.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        match self {
            Self::WrongRoot(_) | Self::Newer { .. } => true,
            Self::Io(e) => e.kind() == io::ErrorKind::ReadOnlyFilesystem,
            Self::Unreadable { .. } | Self::Inconsistent(_) => false,
        }
    }

    /// Whether the error concerns the whole folder as this host sees it, and not one job.
    #[must_use]
    pub fn concerns_all(&self) -> bool {
        self.is_unfit() || matches!(self, Self::Io(_)) && !self.is_gone()
    }

    /// Whether the error hides the whole folder from somebody who only looks. A file of a newer release hides only
    /// itself.
    #[must_use]
    pub fn hides_all(&self) -> bool {
        self.concerns_all() && !matches!(self, Self::Newer { .. })
    }
}

/// The export folder.
#[derive(Clone)]
pub struct Folder {
    store: Arc<dyn Store>,
    id: Uuid,
    root: PathBuf,
    /// The last file of a newer release that any role of this process met.
    newer: Arc<Mutex<Option<String>>>,
}

impl Folder {
    /// Opens an initialized folder on disk.
    ///
    /// # Errors
    /// When the folder has no `.adu-root`: if a mount is missing, nothing may be written in its place.
    pub async fn open(root: PathBuf, group: Option<u32>) -> Result<Self, FolderError> {
        let store: Arc<dyn Store> = Arc::new(DiskStore::new(root.clone(), group));
        Self::open_store(store, root).await
    }

    /// Opens an initialized store.
    ///
    /// # Errors
    /// When the store has no `.adu-root`.
    pub async fn open_store(store: Arc<dyn Store>, root: PathBuf) -> Result<Self, FolderError> {
        let id = read_id(&*store).await?.ok_or_else(|| {
            FolderError::WrongRoot(format!(
                "{} has no {}: the export folder is not mounted or not initialized; \
                 run `adu-export check --init` once",
                root.display(),
                layout::ROOT_ID
            ))
        })?;
        Ok(Self { store, id, root, newer: Arc::default() })
    }

    /// Opens a folder, initializing it if it is new.
    ///
    /// # Errors
    /// When the folder cannot be created or written.
    pub async fn init(root: PathBuf, group: Option<u32>) -> Result<Self, FolderError> {
        let made = root.clone();
        tokio::task::spawn_blocking(move || std::fs::create_dir_all(made))
            .await
            .map_err(io::Error::other)?
            .map_err(|e| io::Error::new(e.kind(), format!("create {}: {e}", root.display())))?;
        let store: Arc<dyn Store> = Arc::new(DiskStore::new(root.clone(), group));
        Self::init_store(store, root, Uuid::new_v4()).await
    }

    /// Initializes a store. The identity is written last, as the proof that everything else exists.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn init_store(store: Arc<dyn Store>, root: PathBuf, id: Uuid) -> Result<Self, FolderError> {
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        store.make_dirs("", names(&[layout::TEMP, ".archive"])).await?;
        store.make_dirs(layout::TEMP, names(&["trash"])).await?;
        store.make_dirs(".archive", names(&["by-id", "jobs", "names"])).await?;
        store.create(layout::ROOT_ID, format!("{id}\n").into_bytes()).await?;
        let id = read_id(&*store).await?.ok_or_else(|| FolderError::WrongRoot("the root vanished".into()))?;
        Ok(Self { store, id, root, newer: Arc::default() })
    }

    /// Checks that this is still the folder that was opened, that it is writable, and that it has no file of
    /// a newer release which a role of this process has met. While such a file exists, the whole process is
    /// too old, not only that role.
    ///
    /// # Errors
    /// When one of these does not hold.
    pub async fn guard(&self) -> Result<(), FolderError> {
        self.identify().await?;
        let Some(path) = self.met().clone() else { return Ok(()) };
        if let Err(newer @ FolderError::Newer { .. }) = self.read::<IgnoredAny>(&path).await {
            return Err(newer);
        }
        self.met().take_if(|met| *met == path);
        Ok(())
    }

    /// The same folder for those who only look: a file of a newer release that they meet does not keep this
    /// process from working, because no role needs it.
    #[must_use]
    pub fn for_viewers(&self) -> Self {
        Self { newer: Arc::default(), ..self.clone() }
    }

    fn met(&self) -> MutexGuard<'_, Option<String>> {
        self.newer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that this is still the folder that was opened, and that it is writable.
    ///
    /// # Errors
    /// When its identity is missing or another one, or it is read-only.
    pub async fn identify(&self) -> Result<(), FolderError> {
        match read_id(&*self.store).await? {
            Some(id) if id == self.id => {
                if self.store.writable().await? {
                    return Ok(());
                }
                Err(FolderError::WrongRoot(format!(
                    "{} is mounted read-only: see the kernel's log for errors of its disk, or mount it again",
                    self.root.display()
                )))
            }
            Some(id) => Err(FolderError::WrongRoot(format!(
                "{} is export folder {id} now, it was {}: another file system is mounted there",
                self.root.display(),
                self.id
            ))),
            None => Err(FolderError::WrongRoot(format!(
                "{} has lost its {}: the export folder is not mounted",
                self.root.display(),
                layout::ROOT_ID
            ))),
        }
    }

    /// Like [`guard`](Self::guard), for callers that must not wait for a storage that does not answer.
    ///
    /// # Errors
    /// The reason why nobody can work on the folder.
    pub async fn fit(&self, within: Duration) -> Result<(), String> {
        match tokio::time::timeout(within, self.guard()).await {
            Ok(guarded) => guarded.map_err(|e| e.to_string()),
            Err(_) => Err(format!("{} does not answer", self.root.display())),
        }
    }

    /// Identity of the root.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The root's path on this host.
    #[must_use]
    pub fn root(&self) -> &PathBuf {
        &self.root
    }

    /// The file system operations behind this folder.
    #[must_use]
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Reads a JSON file; `None` if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is of a newer release.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, FolderError> {
        self.read_as(path, |bytes| parse(path, bytes)).await
    }

    /// Reads the plan of an epoch. `None` if nobody has planned or closed the epoch.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    async fn read_plan(&self, path: &str) -> Result<Option<EpochPlan>, FolderError> {
        /// Plans are large: the kind is found without keeping anything of the file in memory.
        #[derive(serde::Deserialize)]
        struct Kind {
            closed_at: Option<IgnoredAny>,
        }
        let read = |bytes: &[u8]| match parse::<Kind>(path, bytes)?.closed_at {
            Some(_) => Ok(parse::<ClosedPlan>(path, bytes)?.into()),
            None => Ok(parse::<ExportPlan>(path, bytes)?.into()),
        };
        self.read_as(path, read).await
    }

    async fn read_as<T>(
        &self,
        path: &str,
        read: impl FnOnce(&[u8]) -> Result<T, FolderError>,
    ) -> Result<Option<T>, FolderError> {
        let Some(bytes) = self.store.read(path).await? else { return Ok(None) };
        let parsed = read(&bytes);
        if let Err(FolderError::Newer { .. }) = &parsed {
            *self.met() = Some(path.to_owned());
        }
        parsed.map(Some)
    }

    /// Like [`read`](Self::read), but `None` comes from the server and not from a cache.
    ///
    /// # Errors
    /// As `read`.
    pub async fn read_anew<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, FolderError> {
        if let Some(found) = self.read(path).await? {
            return Ok(Some(found));
        }
        self.store.revalidate(layout::parent(path)).await?;
        self.read(path).await
    }

    /// Facts of an entry. `None` comes from the server and not from a cache.
    ///
    /// # Errors
    /// When the folder refuses.
    pub async fn stat_anew(&self, path: &str) -> Result<Option<Stat>, FolderError> {
        if let Some(found) = self.store.stat(path).await? {
            return Ok(Some(found));
        }
        self.store.revalidate(layout::parent(path)).await?;
        Ok(self.store.stat(path).await?)
    }

    /// Creates a JSON file exclusively.
    ///
    /// # Errors
    /// When the file cannot be written; `is_gone` if its directory does not exist.
    pub async fn create<T: Serialize>(&self, path: &str, value: &T) -> Result<Created, FolderError> {
        let mut bytes = serde_json::to_vec(value)
            .map_err(|e| FolderError::Unreadable { path: path.to_owned(), why: e.to_string() })?;
        bytes.push(b'\n');
        Ok(self.store.create(path, bytes).await?)
    }

    /// Creates a JSON file. If the file exists, reads and returns it instead.
    ///
    /// # Errors
    /// As `create` and `read`.
    pub async fn create_or_read<T: Serialize + DeserializeOwned>(
        &self,
        path: &str,
        value: T,
    ) -> Result<T, FolderError> {
        match self.create(path, &value).await? {
            Created::New => Ok(value),
            Created::Exists => self.read(path).await?.ok_or_else(|| FolderError::Unreadable {
                path: path.to_owned(),
                why: "it exists and cannot be opened".into(),
            }),
        }
    }

    /// Moves a file or directory to the trash and removes it there. If it cannot be removed now, the next
    /// process that empties the trash removes it.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn discard(&self, path: &str, what: &str) -> Result<Renamed, FolderError> {
        let trash = layout::trash(what, self.store.fresh());
        let renamed = self.store.rename(path, &trash).await?;
        if renamed == Renamed::Done {
            let _ = self.store.remove_tree(&trash).await;
        }
        Ok(renamed)
    }

    /// Removes everything in the trash.
    ///
    /// # Errors
    /// When the trash cannot be listed.
    pub async fn empty_trash(&self) -> Result<(), FolderError> {
        for name in self.store.list(layout::TRASH).await? {
            // Somebody else may be removing it at the same time.
            let _ = self.store.remove_tree(&format!("{}/{name}", layout::TRASH)).await;
        }
        Ok(())
    }
}

/// Reads a file's version before anything else: the rest of a newer release's file may have any shape, and
/// must not be reported as damaged.
fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, FolderError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u64,
    }
    let unreadable = |why: String| FolderError::Unreadable { path: path.to_owned(), why };
    // A derived `Deserialize` would accept an array too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(unreadable("it is no JSON object".into()));
    }
    let Versioned { v } = serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))?;
    if v > u64::from(VERSION) {
        return Err(FolderError::Newer { path: path.to_owned(), found: v });
    }
    if v < u64::from(OLDEST) {
        return Err(unreadable(format!("version {v} never was")));
    }
    serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))
}

async fn read_id(store: &dyn Store) -> Result<Option<Uuid>, FolderError> {
    let Some(bytes) = store.read(layout::ROOT_ID).await? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map(Some).map_err(|_| FolderError::Unreadable {
        path: layout::ROOT_ID.into(),
        why: "it does not hold a UUID".into(),
    })
}
