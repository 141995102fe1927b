//! The control folder's own root as a destination: tables become directories of it. A part is a file of the workspace;
//! a table is put together in its `ready` directory by links, and moved to a public name by one rename, which decides
//! between publishing and discarding (primitive 2).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use self::consume::{Consumed, Part, Ready, Tried};
use super::{
    Claim, ClaimError, Decision, Destination, FinishedPart, NewPart, PartPlace, PartReference, Publication,
    PublishedFile, Stage, StagedTable, WinningPart, base_name,
};
use crate::folder::store::NewFile;
use crate::folder::{Folder, FolderError, layout};
use crate::message::request::OnConflict;
use crate::message::{BatchId, BatchNo, JobId, SourceName, TableNo};

pub mod consume;
mod latest;
mod places;

/// The root of the control folder.
#[derive(Clone)]
pub struct FolderDestination {
    folder: Folder,
}

impl FolderDestination {
    /// Tables below the root of this folder.
    #[must_use]
    pub fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// Links the winning parts into the table's `ready` directory.
    async fn gather(&self, table: &StagedTable, parts: &[WinningPart]) -> Result<(), FolderError> {
        let dir = layout::ready_table(&table.job, table.of.epoch, table.stage, table.table);
        let from = layout::parts(&table.job, table.of);
        let mut links: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::from([("", Vec::new())]);
        for part in parts {
            let (below, name) = part.path.rsplit_once('/').unwrap_or(("", &part.path));
            let file = FolderPart::of(&part.reference)?.file;
            links.entry(below).or_default().push((format!("{from}/{file}"), name.to_owned()));
        }
        let store = self.folder.store();
        for (below, links) in links {
            let mut path = dir.clone();
            let linked = async {
                for name in below.split('/').filter(|name| !name.is_empty()) {
                    store.make_dirs(&path, vec![name.to_owned()]).await?;
                    path = layout::public(&path, name);
                }
                store.link(&path, links).await
            };
            match linked.await.map_err(FolderError::from) {
                // Another coordinator moved it: the rename finds out where to.
                Err(e) if e.is_gone() => {
                    return if store.stat(&dir).await?.is_some() { Err(e) } else { Ok(()) };
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// The next name that nothing stands under; none where conflicts fail.
    async fn free_name(
        &self,
        table: &StagedTable,
        on_conflict: OnConflict,
        nth: &mut u32,
        now: Timestamp,
    ) -> Result<Option<String>, FolderError> {
        while let Some(name) = base_name::directory(&table.base, on_conflict, *nth, now) {
            *nth += 1;
            let path = layout::public(&table.directory, &name);
            // Also where conflicts fail: a rename replaces an empty directory, which may be
            // another job's output directory.
            if self.folder.store().stat(&path).await?.is_none() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn ready<'a>(&self, table: &'a StagedTable) -> Result<Ready<'a>, FolderError> {
        let part = match &table.certain {
            Some(WinningPart { reference, path }) => {
                Some(Part { file: path.clone(), inode: FolderPart::of(reference)?.inode })
            }
            None => None,
        };
        let StagedTable { job, of, stage, table, .. } = table;
        Ok(Ready { job, epoch: of.epoch, id: *stage, table: *table, part })
    }
}

#[async_trait]
impl Destination for FolderDestination {
    fn id(&self) -> Option<Uuid> {
        None
    }

    /// The folder is looked at anyway, by all roles.
    async fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn free(&self) -> Result<u64, FolderError> {
        Ok(self.folder.store().free_bytes().await?)
    }

    /// The directory is found at the end only: nobody else can take a name of the table meanwhile.
    async fn claim(&self, claim: &Claim<'_>) -> Result<String, ClaimError> {
        let base = places::claim_base(&self.folder, claim.source, claim.schema, claim.name).await?;
        places::check_conflict(&self.folder, claim.directory, &base, claim.on_conflict).await?;
        Ok(base)
    }

    async fn prepare(
        &self,
        stage: &Stage<'_>,
        outputs: &[&str],
        batches: &[BatchNo],
        tables: &[TableNo],
    ) -> Result<(), ClaimError> {
        for output in outputs {
            places::make_output(&self.folder, output).await?;
        }
        let (store, job, epoch) = (self.folder.store(), stage.job, stage.epoch);
        let workspace = layout::workspace(job);
        store.make_dirs(&format!("{workspace}/parts"), vec![format!("e{epoch}")]).await?;
        let batches = batches.iter().map(ToString::to_string).collect();
        store.make_dirs(&layout::epoch_dir(job, "parts", epoch), batches).await?;
        let ready = layout::ready(job, epoch, stage.id);
        let name = ready.rsplit('/').next().unwrap_or_default().to_owned();
        store.make_dirs(&format!("{workspace}/ready"), vec![name]).await?;
        Ok(store.make_dirs(&ready, tables.iter().map(ToString::to_string).collect()).await?)
    }

    async fn withdraw(&self, stage: &Stage<'_>) -> Result<(), FolderError> {
        let ready = layout::ready(stage.job, stage.epoch, stage.id);
        self.folder.discard(&ready, &format!("ready_{}_e{}", stage.job, stage.epoch)).await.map(drop)
    }

    fn begin(&self, place: &PartPlace) -> io::Result<Box<dyn NewPart>> {
        let own = (place.table != place.of.batch.first()).then_some(place.table);
        let name = layout::part_file(place.chunk, place.id, own);
        let path = format!("{}/{name}", layout::parts(&place.job, place.of));
        let shown = self.folder.root().join(&path).display().to_string();
        Ok(Box::new(FolderFile { file: self.folder.store().begin(&path)?, name, shown }))
    }

    async fn secure(&self, job: &JobId, of: BatchId) -> Result<(), FolderError> {
        match self.folder.store().sync(&layout::parts(job, of)).await {
            // Where the workspace is gone, the record has no place either.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    async fn drop_part(
        &self,
        job: &JobId,
        of: BatchId,
        reference: &PartReference,
    ) -> Result<(), FolderError> {
        let path = format!("{}/{}", layout::parts(job, of), FolderPart::of(reference)?.file);
        Ok(self.folder.store().remove(&path).await?)
    }

    async fn publish(
        &self,
        table: &StagedTable,
        parts: &[WinningPart],
        on_conflict: OnConflict,
        now: Timestamp,
    ) -> Result<Publication, FolderError> {
        self.gather(table, parts).await?;
        if !table.directory.is_empty() && self.folder.store().stat(&table.directory).await?.is_none() {
            // Somebody removed the output directory while it was empty.
            let mut parent = String::new();
            for part in table.directory.split('/') {
                self.folder.store().make_dirs(&parent, vec![part.to_owned()]).await?;
                parent = layout::public(&parent, part);
            }
        }
        let ready = self.ready(table)?;
        let (mut nth, mut attempt) = (0, 0);
        while let Some(candidate) = self.free_name(table, on_conflict, &mut nth, now).await? {
            attempt += 1;
            if let Tried::Consumed(consumed) = self.folder.publish(&ready, attempt, &candidate).await? {
                return Ok(Publication::Decided(consumed.into()));
            }
        }
        Ok(Publication::Taken(layout::public(&table.directory, &table.base)))
    }

    async fn discard(&self, table: &StagedTable) -> Result<Decision, FolderError> {
        Ok(self.folder.abandon(&self.ready(table)?).await?.into())
    }

    async fn is_begun(&self, job: &JobId, of: BatchId, table: TableNo) -> Result<bool, FolderError> {
        let first = layout::target(job, of.epoch, table, 1);
        Ok(self.folder.stat_anew(&first).await?.is_some())
    }

    /// The rename moved all of it.
    async fn confirm(&self, _: &str, _: &[WinningPart]) -> Result<(), FolderError> {
        Ok(())
    }

    async fn latest(
        &self,
        source: &SourceName,
        schema: &str,
        table: &str,
        directory: &str,
    ) -> Result<Option<String>, FolderError> {
        latest::find(&self.folder, (source, schema, table), directory).await
    }

    async fn point(&self, directory: &str, base: &str, newest: &str) -> Result<bool, FolderError> {
        latest::point(&self.folder, directory, base, newest).await
    }

    fn open(&self, directory: &str, path: &str) -> io::Result<Box<dyn PublishedFile>> {
        Ok(Box::new(File::open(self.folder.root().join(directory).join(path))?))
    }

    async fn list(&self, directory: &str) -> Result<Option<Vec<String>>, FolderError> {
        if self.folder.store().stat(directory).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.folder.store().list(directory).await?))
    }

    async fn remove(&self, directory: &str, why: &str) -> Result<(), FolderError> {
        self.folder.discard(directory, why).await.map(drop)
    }
}

impl From<Consumed> for Decision {
    fn from(consumed: Consumed) -> Self {
        match consumed {
            Consumed::Published(directory) => Self::Published(directory),
            Consumed::Trashed => Self::Discarded,
        }
    }
}

/// What a [`PartReference`] says here: a file in the directory of its batch's parts, and its inode, which all of its
/// links share.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FolderPart {
    inode: u64,
    file: String,
}

impl FolderPart {
    fn of(reference: &PartReference) -> Result<Self, FolderError> {
        let parts = reference.as_str().split_once(':');
        let read = parts.and_then(|(inode, file)| Some((u64::from_str(inode).ok()?, file)));
        match read {
            // No reference leads out of its directory.
            Some((inode, file)) if !file.contains('/') => Ok(Self { inode, file: file.to_owned() }),
            _ => Err(FolderError::Unreadable {
                path: reference.as_str().to_owned(),
                why: "it names no part of an export folder".into(),
            }),
        }
    }

    fn reference(&self) -> PartReference {
        PartReference::of_file(self.inode, &self.file)
    }
}

/// A part that is being written.
struct FolderFile {
    file: Box<dyn NewFile>,
    name: String,
    shown: String,
}

impl Write for FolderFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[async_trait]
impl NewPart for FolderFile {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    async fn finish(self: Box<Self>) -> io::Result<FinishedPart> {
        let Self { file, name, .. } = *self;
        let committed = file.commit().await?;
        let part = FolderPart { inode: committed.inode, file: name };
        Ok(FinishedPart { reference: part.reference(), synced: committed.fsync })
    }
}

impl PublishedFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, position)
    }
}
