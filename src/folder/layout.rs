//! The paths of all files and directories, relative to the root.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::message::request::OutputDirectory;
use crate::message::{BatchId, ChunkNo, Epoch, JobId, TableNo};

/// Identity of the root.
pub const ROOT_ID: &str = ".adu-root";
/// The trash: its content is about to be removed.
pub const TRASH: &str = ".temp/trash";
/// Workspaces and the trash.
pub const TEMP: &str = ".temp";
/// Archives by job id: the commit points.
pub const BY_ID: &str = ".archive/by-id";
/// Archives under the names that people look for.
pub const BY_DATE: &str = ".archive/jobs";
/// Claims of base names.
pub const NAMES: &str = ".archive/names";

const WORKSPACE: &str = "job_";
const ASIDE: &str = "aside_";

/// `.temp/job_<id>`
#[must_use]
pub fn workspace(job: &JobId) -> String {
    format!("{TEMP}/{WORKSPACE}{job}")
}

/// The job of a workspace's directory name.
#[must_use]
pub fn job_of_workspace(name: &str) -> Option<JobId> {
    JobId::parse(name.strip_prefix(WORKSPACE)?).ok()
}

/// Sub-directories that intake makes in a workspace.
pub const WORKSPACE_DIRS: [&str; 5] = ["plans", "ready", "parts", "records", "tables"];

/// `request.json`
#[must_use]
pub fn request(job: &JobId) -> String {
    request_in(&workspace(job))
}

/// `request.json` of a workspace, wherever that is.
#[must_use]
pub fn request_in(workspace: &str) -> String {
    format!("{workspace}/request.json")
}

/// `cancel.json`
#[must_use]
pub fn cancel(job: &JobId) -> String {
    format!("{}/cancel.json", workspace(job))
}

/// `plans`
#[must_use]
pub fn plans(job: &JobId) -> String {
    format!("{}/plans", workspace(job))
}

/// `plans/eN.json`
#[must_use]
pub fn plan(job: &JobId, epoch: Epoch) -> String {
    format!("{}/e{epoch}.json", plans(job))
}

/// `plans/eN.fail-<uuid>.json`
#[must_use]
pub fn plan_failure(job: &JobId, epoch: Epoch, id: Uuid) -> String {
    format!("{}/e{epoch}.fail-{id}.json", plans(job))
}

/// The epoch of a plan failure's file name.
#[must_use]
pub fn epoch_of_plan_failure(name: &str) -> Option<Epoch> {
    let (epoch, rest) = name.strip_prefix('e')?.split_once(".fail-")?;
    rest.strip_suffix(".json")?;
    epoch.parse().ok().map(Epoch)
}

/// `ready/eN-<uuid>`
#[must_use]
pub fn ready(job: &JobId, epoch: Epoch, id: Uuid) -> String {
    format!("{}/ready/e{epoch}-{id}", workspace(job))
}

/// `ready/eN-<uuid>/<t>`
#[must_use]
pub fn ready_table(job: &JobId, epoch: Epoch, id: Uuid, table: TableNo) -> String {
    format!("{}/{table}", ready(job, epoch, id))
}

/// `parts/eN` or `records/eN`
#[must_use]
pub fn epoch_dir(job: &JobId, what: &str, epoch: Epoch) -> String {
    format!("{}/{what}/e{epoch}", workspace(job))
}

/// `parts/eN/<t>`
#[must_use]
pub fn parts(job: &JobId, of: BatchId) -> String {
    format!("{}/{}", epoch_dir(job, "parts", of.epoch), of.batch)
}

/// `000017.<uuid>.parquet`. If the part belongs to another table than the first one of the batch, the table's
/// number follows the uuid. The parts of a chunk after the first one have their number as well.
#[must_use]
pub fn part_file(chunk: ChunkNo, id: Uuid, table: Option<TableNo>, nth: u32) -> String {
    let table = table.map_or(String::new(), |table| format!("-{table}"));
    let nth = if nth == 0 { String::new() } else { format!(".{nth}") };
    format!("{chunk:06}.{id}{table}{nth}.parquet")
}

/// `records/eN/<t>`
#[must_use]
pub fn records(job: &JobId, of: BatchId) -> String {
    format!("{}/{}", epoch_dir(job, "records", of.epoch), of.batch)
}

/// `records/eN/<t>/000017.json`
#[must_use]
pub fn record(job: &JobId, of: BatchId, chunk: ChunkNo) -> String {
    format!("{}/{chunk:06}.json", records(job, of))
}

/// `records/eN/<t>/000017.fail-<uuid>.json`
#[must_use]
pub fn failure(job: &JobId, of: BatchId, chunk: ChunkNo, id: Uuid) -> String {
    format!("{}/{chunk:06}.fail-{id}.json", records(job, of))
}

/// `records/eN/<t>/000017.start-<uuid>.json`; after its third renewal `000017.start-<uuid>.3.json`.
#[must_use]
pub fn start_marker(job: &JobId, of: BatchId, chunk: ChunkNo, start: StartName) -> String {
    let StartName { id, beat } = start;
    let beat = if beat == 0 { String::new() } else { format!(".{beat}") };
    format!("{}/{chunk:06}.start-{id}{beat}.json", records(job, of))
}

/// The start that a marker belongs to, and how often the marker was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StartName {
    /// Identifies the start. Renewals keep it.
    pub id: Uuid,
    /// Renewals.
    pub beat: u32,
}

/// What a file in a records directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFile {
    /// The record of a chunk.
    Record(ChunkNo),
    /// A failure of a chunk.
    Failure(ChunkNo, Uuid),
    /// A start marker of a chunk.
    Start(ChunkNo, StartName),
}

impl RecordFile {
    /// Reads a file name. `None` for temporary files.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".json")?;
        let (chunk, rest) = stem.split_once('.').unwrap_or((stem, ""));
        let chunk = ChunkNo(chunk.parse().ok()?);
        if rest.is_empty() {
            return Some(Self::Record(chunk));
        }
        match rest.strip_prefix("fail-") {
            Some(id) => Some(Self::Failure(chunk, id.parse().ok()?)),
            None => {
                let start = rest.strip_prefix("start-")?;
                let (id, beat) = start.split_once('.').unwrap_or((start, "0"));
                Some(Self::Start(chunk, StartName { id: id.parse().ok()?, beat: beat.parse().ok()? }))
            }
        }
    }
}

/// `tables/<t>.e<N>.target-<K>.json`
#[must_use]
pub fn target(job: &JobId, epoch: Epoch, table: TableNo, attempt: u32) -> String {
    format!("{}/tables/{table}.e{epoch}.target-{attempt}.json", workspace(job))
}

/// `tables/<t>.e<N>.outcome.json`: a batch has one per epoch that planned it.
#[must_use]
pub fn outcome(job: &JobId, of: BatchId) -> String {
    format!("{}/tables/{}.e{}.outcome.json", workspace(job), of.batch, of.epoch)
}

/// `.archive/by-id/<id>.json`
#[must_use]
pub fn archive_by_id(job: &JobId) -> String {
    format!("{BY_ID}/{job}.json")
}

/// `.archive/jobs/job_<id>_<YYYY-MM-DD>.json`
#[must_use]
pub fn archive_by_date(job: &JobId, committed: Timestamp) -> String {
    let date = committed.to_zoned(TimeZone::UTC).date();
    format!("{BY_DATE}/{WORKSPACE}{job}_{date}.json")
}

/// `.archive/names/<base>.json`
#[must_use]
pub fn name_claim(base: &str) -> String {
    format!("{NAMES}/{base}.json")
}

/// A workspace without a request that was moved aside. It may stay empty, or a request may have been stored
/// in it at the last moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The job whose workspace it was.
    pub job: JobId,
    /// When it was moved.
    pub at: Timestamp,
    /// Unique, so that a decision about this directory never hits another one.
    pub id: Uuid,
}

impl Aside {
    /// `.temp/aside_<job>.<seconds>.<uuid>`
    #[must_use]
    pub fn path(&self) -> String {
        format!("{TEMP}/{ASIDE}{}.{}.{}", self.job, self.at.as_second(), self.id.simple())
    }

    /// Reads a directory name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        // Job ids of retries contain a dot too.
        let mut words = name.strip_prefix(ASIDE)?.rsplitn(3, '.');
        let id = words.next()?.parse().ok()?;
        let at = Timestamp::from_second(words.next()?.parse().ok()?).ok()?;
        Some(Self { job: JobId::parse(words.next()?).ok()?, at, id })
    }
}

/// A place in the trash.
#[must_use]
pub fn trash(what: &str, id: Uuid) -> String {
    format!("{TRASH}/{what}-{id}")
}

/// The path of the directory that a path is in. The path of the root is empty.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last name of a path.
#[must_use]
pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The path of a name in an output directory, or in the root.
#[must_use]
pub fn public(output: Option<&OutputDirectory>, name: &str) -> String {
    match output {
        Some(output) => format!("{output}/{name}"),
        None => name.to_owned(),
    }
}

/// `.latest` of an output directory, or of the root.
#[must_use]
pub fn latest(output: Option<&OutputDirectory>) -> String {
    public(output, ".latest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::BatchNo;

    #[test]
    fn record_files_are_told_apart_and_temporaries_are_none() {
        assert_eq!(RecordFile::parse("000017.json"), Some(RecordFile::Record(ChunkNo(17))));
        assert_eq!(RecordFile::parse("1000017.json"), Some(RecordFile::Record(ChunkNo(1_000_017))));
        assert_eq!(RecordFile::parse("000003.fail-6f.json"), None);
        let job = JobId::parse("a").expect("valid");
        let (of, chunk) = (BatchId { epoch: Epoch(2), batch: BatchNo(0) }, ChunkNo(3));
        let id = Uuid::from_u128(5);
        let path = failure(&job, of, chunk, id);
        let name = path.strip_prefix(".temp/job_a/records/e2/0/").expect("in its directory");
        assert_eq!(RecordFile::parse(name), Some(RecordFile::Failure(chunk, id)));
        for beat in [0, 1, 12] {
            let start = StartName { id: Uuid::from_u128(7), beat };
            let path = start_marker(&job, of, chunk, start);
            let name = path.strip_prefix(".temp/job_a/records/e2/0/").expect("in its directory");
            assert_eq!(RecordFile::parse(name), Some(RecordFile::Start(chunk, start)), "{name}");
        }
        assert_eq!(RecordFile::parse("000003.start-6f.json"), None);
        assert_eq!(RecordFile::parse(".000003.json.tmp"), None);
        assert_eq!(epoch_of_plan_failure("e12.fail-77.json"), Some(Epoch(12)));
        assert_eq!(epoch_of_plan_failure("e12.json"), None);
    }

    #[test]
    fn what_was_moved_aside_is_told_from_workspaces_and_read_back() {
        let at = Timestamp::from_second(1_764_000_000).expect("in range");
        let job = JobId::parse("nightly_2025.r2").expect("valid");
        let aside = Aside { job, at, id: Uuid::from_u128(7) };
        let path = aside.path();
        let name = path.strip_prefix(".temp/").expect("in .temp");
        assert_eq!(Aside::parse(name), Some(aside));
        assert_eq!(job_of_workspace(name), None);
        assert_eq!(Aside::parse("job_a"), None);
    }
}
