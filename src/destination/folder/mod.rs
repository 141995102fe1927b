//! The root of the control folder as a destination: each table becomes a directory below the root. A part is
//! a file of the workspace. A table is put together in its `ready` directory by links, and moved to a public
//! name by one rename. That rename decides between publishing and discarding (primitive 2).

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
use crate::message::request::{OnConflict, OutputDirectory};
use crate::message::{BatchId, BatchNo, JobId, SourceName, TableNo};

pub mod consume;
mod gather;
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

    /// The next free name. `None` if `on_conflict` allows no further name.
    async fn free_name(
        &self,
        table: &StagedTable,
        on_conflict: OnConflict,
        nth: &mut u32,
        now: Timestamp,
    ) -> Result<Option<String>, FolderError> {
        while let Some(name) = base_name::directory(&table.base, on_conflict, *nth, now) {
            *nth += 1;
            let path = layout::public(table.directory.as_ref(), &name);
            // This check is needed also for `on_conflict: fail`: a rename replaces an empty directory, and
            // that may be another job's output directory.
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

    /// Nothing to check here: all roles check the folder anyway.
    async fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn free(&self) -> Result<u64, FolderError> {
        Ok(self.folder.store().free_bytes().await?)
    }

    /// Claims only the base name. The directory's name is chosen at publishing: no other table can take names
    /// of this one meanwhile.
    async fn claim(&self, claim: &Claim<'_>) -> Result<String, ClaimError> {
        let base = places::claim_base(&self.folder, claim.source, claim.schema, claim.name).await?;
        places::check_conflict(&self.folder, claim.directory, &base, claim.on_conflict).await?;
        Ok(base)
    }

    async fn prepare(
        &self,
        stage: &Stage<'_>,
        outputs: &[&OutputDirectory],
        batches: &[BatchNo],
        tables: &[TableNo],
    ) -> Result<(), ClaimError> {
        for output in outputs {
            places::make_output(&self.folder, output).await?;
        }
        let (store, job, epoch) = (self.folder.store(), stage.job, stage.epoch);
        let parts = layout::epoch_dir(job, "parts", epoch);
        store.make_dir(&parts).await?;
        store.make_dirs(&parts, batches.iter().map(ToString::to_string).collect()).await?;
        let ready = layout::ready(job, epoch, stage.id);
        store.make_dir(&ready).await?;
        Ok(store.make_dirs(&ready, tables.iter().map(ToString::to_string).collect()).await?)
    }

    async fn withdraw(&self, stage: &Stage<'_>) -> Result<(), FolderError> {
        let ready = layout::ready(stage.job, stage.epoch, stage.id);
        self.folder.discard(&ready, &format!("ready_{}_e{}", stage.job, stage.epoch)).await.map(drop)
    }

    fn begin(&self, place: &PartPlace) -> io::Result<Box<dyn NewPart>> {
        let own = (place.table != place.of.batch.first()).then_some(place.table);
        let name = layout::part_file(place.chunk, place.id, own, place.nth);
        let path = format!("{}/{name}", layout::parts(&place.job, place.of));
        let shown = self.folder.root().join(&path).display().to_string();
        let file = self.folder.store().begin(&path);
        let file = file.map_err(|e| io::Error::new(e.kind(), format!("{shown}: {e}")))?;
        Ok(Box::new(FolderFile { file, name, shown }))
    }

    fn scratch(&self, place: &PartPlace) -> io::Result<File> {
        let dir = layout::parts(&place.job, place.of);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("a file in {dir}: {e}"));
        self.folder.store().scratch(&dir).map_err(named)
    }

    async fn secure(&self, job: &JobId, of: BatchId) -> Result<(), FolderError> {
        match self.folder.store().sync(&layout::parts(job, of)).await {
            // If the workspace is gone, the record cannot be written either.
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
        if let Some(error) = gather::gather(&self.folder, table, parts).await? {
            return Ok(Publication::Refused(error));
        }
        if let Some(output) = &table.directory
            && self.folder.store().stat(output.as_str()).await?.is_none()
        {
            // Somebody removed the output directory while it was empty: make it again.
            for level in output.levels() {
                self.folder.store().make_dir(level).await?;
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
        Ok(Publication::Taken(layout::public(table.directory.as_ref(), &table.base)))
    }

    async fn discard(&self, table: &StagedTable) -> Result<Decision, FolderError> {
        Ok(self.folder.abandon(&self.ready(table)?).await?.into())
    }

    async fn is_begun(&self, job: &JobId, of: BatchId, table: TableNo) -> Result<bool, FolderError> {
        let first = layout::target(job, of.epoch, table, 1);
        Ok(self.folder.stat_anew(&first).await?.is_some())
    }

    /// Nothing to check: the rename moved the whole directory.
    async fn confirm(&self, _: &str, _: &[WinningPart]) -> Result<(), FolderError> {
        Ok(())
    }

    async fn latest(
        &self,
        source: &SourceName,
        schema: &str,
        table: &str,
        output: Option<&OutputDirectory>,
    ) -> Result<Option<String>, FolderError> {
        latest::find(&self.folder, (source, schema, table), output).await
    }

    async fn point(
        &self,
        output: Option<&OutputDirectory>,
        base: &str,
        newest: &str,
    ) -> Result<bool, FolderError> {
        latest::point(&self.folder, output, base, newest).await
    }

    fn open(&self, directory: &str, path: &str) -> io::Result<Box<dyn PublishedFile>> {
        Ok(Box::new(File::open(self.folder.root().join(directory).join(path))?))
    }

    async fn list(&self, directory: &str) -> Result<Option<Vec<String>>, FolderError> {
        if self.folder.store().stat(directory).await?.is_none() {
            return Ok(None);
        }
        let store = self.folder.store();
        let (mut files, mut directories) = (Vec::new(), vec![String::new()]);
        while let Some(within) = directories.pop() {
            for name in store.list(&format!("{directory}/{within}")).await? {
                let path = format!("{within}{name}");
                // Names of parts are not looked at one by one: there are many. A directory of a partition, which has a
                // value in its name, may end like one.
                let is_part = name.ends_with(".parquet") && !name.contains('=');
                match !is_part
                    && store.stat(&format!("{directory}/{path}")).await?.is_some_and(|s| s.directory)
                {
                    true => directories.push(format!("{path}/")),
                    false => files.push(path),
                }
            }
        }
        Ok(Some(files))
    }

    async fn has(&self, directory: &str) -> Result<bool, FolderError> {
        Ok(self.folder.store().stat(directory).await?.is_some())
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

/// The content of a [`PartReference`] of this destination: a file in its batch's directory of parts, and its
/// inode, which all links to the file share.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FolderPart {
    inode: u64,
    file: String,
}

impl FolderPart {
    fn of(reference: &PartReference) -> Result<Self, FolderError> {
        let fields = reference.as_str().split_once(':');
        let read = fields.and_then(|(inode, file)| Some((u64::from_str(inode).ok()?, file)));
        match read {
            // A reference must not point outside its directory.
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
