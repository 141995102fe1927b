//! A second destination. It proves that the protocol knows nothing of directories and renames. As in an
//! object store, a name is claimed before the first byte, parts are uploaded where no reader sees them, and a
//! table appears part by part. An exclusive file of the control folder decides between publishing and
//! discarding; this file is written before the first effect. Effects may land after their process died.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use adu_export::destination::{
    Claim, ClaimError, Decision, Destination, FinishedPart, NewPart, PartPlace, PartReference, Publication,
    PublishedFile, Stage, StagedTable, WinningPart, base_name,
};
use adu_export::folder::{Created, FolderError, Store, layout};
use adu_export::message::event::ErrorReport;
use adu_export::message::request::{OnConflict, OutputDirectory};
use adu_export::message::{BatchId, BatchNo, Epoch, JobId, SourceName, TableNo};
use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::disk::Eyes;
use crate::faults::{Fate, Kind};
use crate::folder::SimStore;
use crate::held::Held;
use crate::process::{Process, Refused};
use crate::world::World;

/// The owner of a name: one table of one epoch of a job.
type Owner = (String, Epoch, TableNo);

/// The content of the depot. All hosts see the same.
#[derive(Default)]
pub(crate) struct Depot {
    /// Which table owns a base name.
    bases: BTreeMap<String, (String, String, String)>,
    claims: BTreeMap<String, Owner>,
    /// Finished parts that no reader sees.
    uploads: BTreeMap<String, Arc<[u8]>>,
    /// What readers see, by directory and path.
    tables: BTreeMap<String, BTreeMap<String, Arc<[u8]>>>,
    latest: BTreeMap<(Option<OutputDirectory>, String), String>,
}

impl Depot {
    pub(crate) fn list(&self, directory: &str) -> Vec<String> {
        self.tables.get(directory).into_iter().flat_map(|files| files.keys().cloned()).collect()
    }

    pub(crate) fn read(&self, directory: &str, path: &str) -> Option<Arc<[u8]>> {
        self.tables.get(directory)?.get(path).cloned()
    }

    pub(crate) fn directories(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    pub(crate) fn latest(&self, output: Option<&OutputDirectory>, base: &str) -> Option<String> {
        self.latest.get(&(output.cloned(), base.to_owned())).cloned()
    }

    /// Claims the first name that is free or belongs to the owner already. `None` if there is no such name.
    fn claim(
        &mut self,
        names: impl Iterator<Item = String>,
        owner: &Owner,
        has_ended: impl Fn(&str) -> bool,
    ) -> Option<String> {
        for name in names.take(1_000) {
            let is_free = match self.claims.get(&name) {
                None => true,
                // An earlier epoch of the same job has given up the table, and with it this claim.
                Some((job, epoch, table)) if (job, *table) == (&owner.0, owner.2) => *epoch <= owner.1,
                Some((job, ..)) => has_ended(job),
            };
            if is_free && !self.tables.contains_key(&name) {
                self.claims.insert(name.clone(), owner.clone());
                return Some(name);
            }
        }
        None
    }

    fn claimed(&self, owner: &Owner) -> Option<String> {
        self.claims.iter().find(|(_, of)| *of == owner).map(|(name, _)| name.clone())
    }

    /// Makes one part visible. False if the part is lost.
    fn complete(&mut self, directory: &str, path: &str, reference: &str) -> bool {
        if self.read(directory, path).is_some() {
            return true;
        }
        let Some(content) = self.uploads.get(reference).cloned() else { return false };
        self.tables.entry(directory.to_owned()).or_default().insert(path.to_owned(), content);
        true
    }
}

/// The depot as seen by one process: every call is an effect.
pub(crate) struct SimDepot {
    process: Arc<Process>,
    store: SimStore,
}

impl SimDepot {
    pub(crate) const ID: Uuid = Uuid::from_u128(2);

    pub(crate) fn new(process: &Arc<Process>) -> Self {
        Self { process: Arc::clone(process), store: SimStore(Arc::clone(process)) }
    }

    async fn look<T: Send>(
        &self,
        what: &str,
        on: &str,
        look: impl FnOnce(&Depot) -> T + Send,
    ) -> io::Result<T> {
        let world = &self.process.world;
        Ok(self.process.act(Kind::Look, what, on, |_| look(&world.depot())).await?)
    }

    async fn change<T: Send + 'static>(
        &self,
        what: &str,
        on: &str,
        change: impl FnOnce(&World) -> T + Send + 'static,
    ) -> io::Result<T> {
        let world = Arc::clone(&self.process.world);
        // A request to the depot is done as a whole or not at all.
        let change = move |fate: Fate| if fate.is_half() { None } else { Some(change(&world)) };
        let changed = self.process.send(what, on, change).await?;
        changed.ok_or_else(|| Refused.into())
    }

    fn decision_path(table: &StagedTable) -> String {
        let (tables, epoch) = (format!("{}/tables", layout::workspace(&table.job)), table.of.epoch);
        format!("{tables}/{}.e{epoch}.decision", table.table)
    }

    /// Decides once: of several decisions the first one counts.
    async fn decide(&self, table: &StagedTable, decision: Decision) -> io::Result<Decision> {
        let path = Self::decision_path(table);
        let words = match &decision {
            Decision::Published(directory) => directory.clone(),
            Decision::Discarded => String::new(),
        };
        if self.store.create(&path, words.into_bytes()).await? == Created::New {
            return Ok(decision);
        }
        let words = self.store.read(&path).await?.ok_or(io::ErrorKind::NotFound)?;
        Ok(match String::from_utf8(words).expect("a name") {
            none if none.is_empty() => Decision::Discarded,
            directory => Decision::Published(directory),
        })
    }
}

fn owner(job: &JobId, epoch: Epoch, table: TableNo) -> Owner {
    (job.to_string(), epoch, table)
}

#[async_trait]
impl Destination for SimDepot {
    fn id(&self) -> Option<Uuid> {
        Some(Self::ID)
    }

    async fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn free(&self) -> Result<u64, FolderError> {
        Ok(u64::MAX)
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<String, ClaimError> {
        let of = (claim.source.to_string(), claim.schema.to_owned(), claim.name.to_owned());
        let owner = owner(claim.job, claim.epoch, claim.table);
        let candidates = base_name::candidates(claim.source, claim.schema, claim.name);
        let (directory, on_conflict, at) = (claim.directory.cloned(), claim.on_conflict, claim.at);
        let claimed = self.change("claims a name for", claim.name, move |world| {
            let has_ended = |job: &str| {
                let job = JobId::parse(job).expect("a job");
                world.disk().stat(&layout::archive_by_id(&job), Eyes::Truth).is_some()
            };
            let mut depot = world.depot();
            let base = candidates
                .into_iter()
                .find(|base| *depot.bases.entry(base.clone()).or_insert_with(|| of.clone()) == of)?;
            let names = (0..).map_while(|n| base_name::directory(&base, on_conflict, n, at));
            let names = names.map(|name| layout::public(directory.as_ref(), &name));
            depot.claim(names, &owner, has_ended).map(|_| base)
        });
        claimed.await?.ok_or_else(|| {
            ClaimError::Refused(ErrorReport::permanent(
                "directory_exists",
                "the name is taken",
                "take another",
            ))
        })
    }

    async fn prepare(
        &self,
        _: &Stage<'_>,
        _: &[&OutputDirectory],
        _: &[BatchNo],
        _: &[TableNo],
    ) -> Result<(), ClaimError> {
        Ok(())
    }

    /// Keeps the claims: they belong to the plan that was written, too.
    async fn withdraw(&self, _: &Stage<'_>) -> Result<(), FolderError> {
        Ok(())
    }

    fn begin(&self, place: &PartPlace) -> io::Result<Box<dyn NewPart>> {
        let depot = Self::new(&self.process);
        Ok(Held::new(Upload { depot, reference: format!("upload {} {}", place.id, place.nth) }))
    }

    fn scratch(&self, _: &PartPlace) -> io::Result<std::fs::File> {
        unreachable!("rows of the simulation do not wait")
    }

    /// A part is durable when it is finished, so nothing is left to do.
    async fn secure(&self, _: &JobId, _: BatchId) -> Result<(), FolderError> {
        Ok(())
    }

    async fn drop_part(&self, _: &JobId, _: BatchId, part: &PartReference) -> Result<(), FolderError> {
        let reference = part.as_str().to_owned();
        let drop = move |world: &World| world.depot().uploads.remove(&reference).map(drop);
        self.change("gives up", part.as_str(), drop).await?;
        Ok(())
    }

    async fn publish(
        &self,
        table: &StagedTable,
        parts: &[WinningPart],
        _: OnConflict,
        _: Timestamp,
    ) -> Result<Publication, FolderError> {
        let owner = owner(&table.job, table.of.epoch, table.table);
        let name = self.look("looks for the claim of", &table.base, |depot| depot.claimed(&owner)).await?;
        let Some(name) = name else { return Ok(Publication::Taken(table.base.clone())) };
        let decision = self.decide(table, Decision::Published(name)).await?;
        let Decision::Published(directory) = &decision else { return Ok(Publication::Decided(decision)) };
        for WinningPart { reference, path } in parts {
            let on = format!("{directory}/{path}");
            let (directory, path, reference) =
                (directory.clone(), path.clone(), reference.as_str().to_owned());
            let complete = move |world: &World| world.depot().complete(&directory, &path, &reference);
            if !self.change("completes", &on, complete).await? {
                self.process.world.broken("part", format_args!("{on} is lost"));
            }
        }
        Ok(Publication::Decided(decision))
    }

    async fn discard(&self, table: &StagedTable) -> Result<Decision, FolderError> {
        Ok(self.decide(table, Decision::Discarded).await?)
    }

    async fn is_begun(&self, job: &JobId, of: BatchId, table: TableNo) -> Result<bool, FolderError> {
        let path = format!("{}/tables/{table}.e{}.decision", layout::workspace(job), of.epoch);
        self.store.revalidate(path.rsplit_once('/').expect("a file of a directory").0).await?;
        Ok(self.store.stat(&path).await?.is_some())
    }

    async fn confirm(&self, directory: &str, parts: &[WinningPart]) -> Result<(), FolderError> {
        let mut expected: Vec<String> = parts.iter().map(|part| part.path.clone()).collect();
        expected.sort_unstable();
        if self.look("confirms", directory, |depot| depot.list(directory)).await? == expected {
            return Ok(());
        }
        Err(FolderError::Inconsistent("a published table is not what its parts say"))
    }

    async fn latest(
        &self,
        source: &SourceName,
        schema: &str,
        table: &str,
        output: Option<&OutputDirectory>,
    ) -> Result<Option<String>, FolderError> {
        let of = (source.to_string(), schema.to_owned(), table.to_owned());
        let find = |depot: &Depot| {
            let base = depot.bases.iter().find(|(_, owner)| **owner == of)?.0;
            depot.latest(output, base)
        };
        Ok(self.look("asks for the newest of", table, find).await?)
    }

    async fn point(
        &self,
        output: Option<&OutputDirectory>,
        base: &str,
        newest: &str,
    ) -> Result<bool, FolderError> {
        let found = self.look("asks for the newest of", base, |depot| depot.latest(output, base)).await?;
        if found.as_deref() == Some(newest) {
            return Ok(false);
        }
        let (key, newest) = ((output.cloned(), base.to_owned()), newest.to_owned());
        let point = move |world: &World| world.depot().latest.insert(key, newest).map(drop);
        self.change("points", base, point).await?;
        Ok(true)
    }

    fn open(&self, directory: &str, path: &str) -> io::Result<Box<dyn PublishedFile>> {
        let content = self.process.world.depot().read(directory, path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Opened(content)))
    }

    async fn list(&self, directory: &str) -> Result<Option<Vec<String>>, FolderError> {
        let list = |depot: &Depot| depot.tables.contains_key(directory).then(|| depot.list(directory));
        Ok(self.look("lists", directory, list).await?)
    }

    async fn remove(&self, directory: &str, why: &str) -> Result<(), FolderError> {
        let of = directory.to_owned();
        self.change(why, directory, move |world| world.depot().tables.remove(&of).map(drop)).await?;
        Ok(())
    }
}

struct Opened(Arc<[u8]>);

impl PublishedFile for Opened {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(usize::try_from(position).unwrap_or(usize::MAX)..).unwrap_or_default();
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

/// A part that is on its way into the depot.
struct Upload {
    depot: SimDepot,
    reference: String,
}

#[async_trait]
impl NewPart for Held<Upload> {
    fn shown(&self) -> String {
        self.to.reference.clone()
    }

    async fn finish(self: Box<Self>) -> io::Result<FinishedPart> {
        let Self { to: Upload { depot, reference }, content } = *self;
        let key = reference.clone();
        let upload = move |world: &World| world.depot().uploads.insert(key, content.into()).map(drop);
        depot.change("finishes", &reference, upload).await?;
        Ok(FinishedPart { reference: PartReference::new(reference), synced: Duration::ZERO })
    }
}
