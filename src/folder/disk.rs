//! The store on a real file system. Blocking calls run on blocking threads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::fs::StatVfsMountFlags;

use super::exclusive::{ExclusiveFile, Linked};
use super::layout;
use super::store::{Committed, Created, NewFile, Renamed, Stat, Store};
use super::syncs::DirectorySyncs;
use crate::failpoint;

/// Mode of directories. The setgid bit gives new files and directories the group of their directory.
const DIRECTORY_MODE: u32 = 0o2750;

/// A directory of this machine, local or NFS.
#[derive(Clone, Debug)]
pub struct DiskStore {
    root: PathBuf,
    group: Option<u32>,
    syncs: Arc<DirectorySyncs>,
}

impl DiskStore {
    /// A store below `root`. Everything that the store creates belongs to `group`.
    #[must_use]
    pub fn new(root: PathBuf, group: Option<u32>) -> Self {
        Self { root, group, syncs: Arc::default() }
    }

    /// The absolute path of a relative one.
    #[must_use]
    pub fn absolute(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        path: &str,
        work: impl FnOnce(Self, PathBuf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (this, absolute) = (self.clone(), self.absolute(path));
        let shown = absolute.display().to_string();
        failpoint::file("before", what, path)?;
        let done = tokio::task::spawn_blocking(move || work(this, absolute))
            .await
            .map_err(|e| io::Error::other(format!("{what} {shown}: {e}")))?
            .map_err(|e| io::Error::new(e.kind(), format!("{what} {shown}: {e}")))?;
        failpoint::file("after", what, path)?;
        Ok(done)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.is_half_made(path)? => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(e) => return Err(unnameable(path, e)),
        }
        if let Some(group) = self.group {
            chown(path, None, Some(group))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE))
    }

    /// Whether a directory lacks mode or group, because whoever made it died before that. People may choose
    /// modes elsewhere, but not in workspaces. Only the owner can change them.
    fn is_half_made(&self, path: &Path) -> io::Result<bool> {
        let below = path.strip_prefix(self.root.join(layout::TEMP)).ok().and_then(|path| path.iter().next());
        if below.and_then(|name| layout::job_of_workspace(name.to_str()?)).is_none() {
            return Ok(false);
        }
        let Some(meta) = present(fs::symlink_metadata(path))? else { return Ok(false) };
        let me = rustix::process::geteuid();
        let is_ours = meta.is_dir() && (me.is_root() || meta.uid() == me.as_raw());
        let lacks = meta.mode() & 0o7777 != DIRECTORY_MODE || self.group.is_some_and(|g| meta.gid() != g);
        Ok(is_ours && lacks)
    }
}

/// Sets the times of a directory and of all directories above it, up to the root. This makes an NFS client
/// drop stale caches: the server's answer carries the attributes of the directory. If other hosts have
/// changed the directory, the client forgets everything that it had cached of it.
fn touch_down_to(root: &Path, dir: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let mut above: Vec<&Path> = dir.ancestors().take_while(|p| p.starts_with(root)).collect();
    above.reverse();
    for path in above {
        match present(utimensat(CWD, path, &times, AtFlags::empty()).map_err(io::Error::from))? {
            Some(()) => {}
            None => break,
        }
    }
    Ok(())
}

/// Gives the errors by which file systems refuse names one kind: too long, or with characters that they do not
/// take.
fn unnameable(path: &Path, error: io::Error) -> io::Error {
    use rustix::io::Errno;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match Errno::from_io_error(&error) {
        Some(Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ) => {
            io::Error::new(io::ErrorKind::InvalidFilename, format!("{name}: {error}"))
        }
        _ => error,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Turns the error for something that does not exist into `None`.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

#[async_trait]
impl NewFile for ExclusiveFile {
    async fn commit(self: Box<Self>) -> io::Result<Committed> {
        let link =
            tokio::task::spawn_blocking(move || self.commit_unsynced()).await.map_err(io::Error::other)??;
        match link.linked {
            Linked::New { inode } => Ok(Committed { inode, fsync: link.fsync }),
            Linked::Exists => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the part exists already")),
        }
    }
}

#[async_trait]
impl Store for DiskStore {
    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.blocking("read", path, |_, path| present(fs::read(path))).await
    }

    async fn create(&self, path: &str, content: Vec<u8>) -> io::Result<Created> {
        self.blocking("create", path, move |this, path| {
            let mut file = ExclusiveFile::create(&path)?.owned_by(this.group)?;
            file.write_all(&content)?;
            let linked = file.commit_unsynced()?.linked;
            this.syncs.sync(parent(&path))?;
            Ok(match linked {
                Linked::New { .. } => Created::New,
                Linked::Exists => Created::Exists,
            })
        })
        .await
    }

    fn begin(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(ExclusiveFile::create(&self.absolute(path))?))
    }

    fn scratch(&self, dir: &str) -> io::Result<File> {
        // A process that dies between the two steps leaves an empty file, which goes with the directory.
        let path = self.absolute(dir).join(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        // `NotFound` is the answer to a request that was repeated, because the first answer was lost.
        present(fs::remove_file(&path))?;
        Ok(file)
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.blocking("list", dir, |_, dir| {
            let Some(entries) = present(fs::read_dir(dir))? else { return Ok(Vec::new()) };
            entries
                .map(|entry| match entry {
                    Ok(entry) => Ok(entry.file_name().to_string_lossy().into_owned()),
                    Err(e) => Err(e),
                })
                .collect()
        })
        .await
    }

    async fn make_dirs(&self, parent: &str, names: Vec<String>) -> io::Result<()> {
        self.blocking("make directories in", parent, move |this, parent| {
            for name in &names {
                this.make_dir(&parent.join(name))?;
            }
            this.syncs.sync(&parent)
        })
        .await
    }

    async fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        self.blocking("stat", path, |_, path| {
            let Some(meta) = present(fs::symlink_metadata(path))? else { return Ok(None) };
            let modified = Timestamp::from_second(meta.mtime()).unwrap_or(Timestamp::UNIX_EPOCH);
            Ok(Some(Stat { inode: meta.ino(), directory: meta.is_dir(), modified }))
        })
        .await
    }

    async fn exist(&self, paths: &[String]) -> io::Result<Vec<bool>> {
        // One blocking thread looks at all paths: switching threads costs more than looking.
        let absolute: Vec<PathBuf> = paths.iter().map(|path| self.absolute(path)).collect();
        self.blocking("stat", paths.first().map_or("", String::as_str), move |_, _| {
            absolute.iter().map(|path| Ok(present(fs::symlink_metadata(path))?.is_some())).collect()
        })
        .await
    }

    async fn link(&self, dir: &str, links: Vec<(String, String)>) -> io::Result<()> {
        self.blocking("link into", dir, move |this, dir| {
            for (from, name) in &links {
                let (from, to) = (this.absolute(from), dir.join(name));
                failpoint::step("mid", "link", "ready");
                if let Err(e) = fs::hard_link(&from, &to) {
                    // The link may exist from an earlier try, or this call may have made it despite the
                    // error.
                    let same = matches!((fs::metadata(&from), fs::metadata(&to)),
                        (Ok(a), Ok(b)) if a.ino() == b.ino());
                    if !same {
                        return Err(e);
                    }
                }
            }
            this.syncs.sync(&dir)
        })
        .await
    }

    async fn sync(&self, dir: &str) -> io::Result<()> {
        self.blocking("sync", dir, |this, dir| this.syncs.sync(&dir)).await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<Renamed> {
        let to = self.absolute(to);
        self.blocking("rename", from, move |this, from| {
            let mut before = present(fs::symlink_metadata(&from))?;
            if before.is_none() {
                touch_down_to(&this.root, parent(&from))?;
                before = present(fs::symlink_metadata(&from))?;
            }
            let Some(before) = before else { return Ok(Renamed::Gone) };
            if let Err(e) = fs::rename(&from, &to) {
                // A rename may succeed and still report an error: look at what stands at the target.
                let there = present(fs::symlink_metadata(&to))?.map(|m| m.ino());
                match there {
                    Some(inode) if inode == before.ino() => {}
                    _ if present(fs::symlink_metadata(&from))?.is_none() => return Ok(Renamed::Gone),
                    Some(_) => return Ok(Renamed::Occupied),
                    None => return Err(e),
                }
            }
            this.syncs.sync(parent(&to))?;
            // The workspace may be gone already. Then nobody reads the old name, and it needs no fsync.
            match this.syncs.sync(parent(&from)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(Renamed::Done),
            }
        })
        .await
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        self.blocking("remove", path, |_, path| present(fs::remove_file(path)).map(|_| ())).await
    }

    async fn remove_tree(&self, path: &str) -> io::Result<()> {
        self.blocking("remove", path, |_, path| present(fs::remove_dir_all(path)).map(|_| ())).await
    }

    async fn point(&self, link: &str, target: &str) -> io::Result<()> {
        let target = target.to_owned();
        self.blocking("point", link, move |this, link| {
            let dir = parent(&link);
            let temporary = dir.join(format!(".{}.tmp", uuid::Uuid::new_v4()));
            std::os::unix::fs::symlink(&target, &temporary)?;
            if let Err(e) = fs::rename(&temporary, &link) {
                let _ = fs::remove_file(&temporary);
                // The rename may have succeeded despite the error: an NFS server's answer can be lost.
                if !fs::read_link(&link).is_ok_and(|there| there == Path::new(&target)) {
                    return Err(e);
                }
            }
            this.syncs.sync(dir)
        })
        .await
    }

    async fn pointed(&self, link: &str) -> io::Result<Option<String>> {
        self.blocking("read link", link, |_, link| {
            Ok(present(fs::read_link(link))?.and_then(|t| t.into_os_string().into_string().ok()))
        })
        .await
    }

    async fn same_file_system(&self, dir: &str) -> io::Result<bool> {
        self.blocking(
            "stat",
            dir,
            |this, dir| Ok(fs::metadata(dir)?.dev() == fs::metadata(&this.root)?.dev()),
        )
        .await
    }

    async fn writable(&self) -> io::Result<bool> {
        self.blocking("ask for the state of", "", |_, root| {
            Ok(!rustix::fs::statvfs(&root)?.f_flag.contains(StatVfsMountFlags::RDONLY))
        })
        .await
    }

    async fn revalidate(&self, dir: &str) -> io::Result<()> {
        self.blocking("ask anew for", dir, |this, dir| touch_down_to(&this.root, &dir)).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.blocking("ask for free space of", "", |_, root| {
            let stat = rustix::fs::statvfs(&root)?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_file_systems_refuse_are_one_kind_of_error() {
        for code in [libc::ENAMETOOLONG, libc::EINVAL, libc::EILSEQ] {
            let error = unnameable(Path::new("b/a=\u{1F600}"), io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), io::ErrorKind::InvalidFilename);
            assert!(error.to_string().starts_with("a=\u{1F600}: "), "{error}");
        }
        let other = unnameable(Path::new("a"), io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(other.raw_os_error(), Some(libc::EIO));
    }

    #[tokio::test]
    async fn a_directory_whose_maker_died_gets_mode_and_group_from_the_next_one() {
        let root = std::env::temp_dir().join(format!("adu-disk-{}", uuid::Uuid::new_v4()));
        for directory in [".temp/job_j/ready", "crm"] {
            fs::create_dir_all(root.join(directory).join("a=1")).expect("made");
        }
        // Root may give directories to any group. Other users may give them only to their own groups.
        let own = fs::metadata(&root).expect("metadata").gid();
        let group = if rustix::process::geteuid().is_root() { own + 4321 } else { own };
        let store = DiskStore::new(root.clone(), Some(group));
        let state = |path: &str| {
            let meta = fs::metadata(root.join(path)).expect("metadata");
            (meta.mode() & 0o7777, meta.gid())
        };
        let chosen = fs::Permissions::from_mode(0o700);
        for path in [".temp/job_j/ready/a=1", "crm/a=1"] {
            fs::set_permissions(root.join(path), chosen.clone()).expect("set");
        }
        for parent in [".temp/job_j/ready", "crm"] {
            store.make_dirs(parent, vec!["a=1".into(), "a=2".into()]).await.expect("made");
        }
        assert_eq!(state(".temp/job_j/ready/a=1"), (DIRECTORY_MODE, group));
        assert_eq!(state(".temp/job_j/ready/a=2"), (DIRECTORY_MODE, group));
        assert_eq!(state("crm/a=1"), (0o700, own), "people chose this");
        fs::remove_dir_all(root).expect("removed");
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_an_error_and_the_file_stays() {
        let root = std::env::temp_dir().join(format!("adu-disk-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&root).expect("made");
        let store = DiskStore::new(root.clone(), None);
        fs::write(root.join("part"), b"somebody else's").expect("written");
        let mut file = store.begin("part").expect("begun");
        file.write_all(b"ours").expect("written");
        let error = file.commit().await.expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(root.join("part")).expect("there"), b"somebody else's");
        assert_eq!(fs::read_dir(&root).expect("there").count(), 1, "no temporary stays");
        fs::remove_dir_all(root).expect("removed");
    }
}
