//! The folder as seen by one process: every call is an effect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use adu_export::folder::{Committed, Created, NewFile, Renamed, Stat, Store, layout};
use async_trait::async_trait;
use uuid::Uuid;

use crate::disk::{Eyes, HOSTS, Hand};
use crate::faults::{Fate, Kind};
use crate::held::Held;
use crate::process::{Process, Refused};

#[derive(Clone)]
pub(crate) struct SimStore(pub(crate) Arc<Process>);

impl From<Refused> for io::Error {
    fn from(_: Refused) -> Self {
        io::Error::other("the storage failed")
    }
}

impl SimStore {
    fn eyes(&self) -> Eyes {
        Eyes::Of(self.0.host, self.0.world.millis())
    }

    /// When each host begins to see a name that this host makes now.
    fn hand(&self) -> Hand {
        let world = &self.0.world;
        let mut from = [0; HOSTS];
        let faults = &world.faults;
        if faults.hide > 0 && world.is_stormy() {
            let now = world.millis();
            for (host, from) in from.iter_mut().take(world.hosts).enumerate() {
                if host != self.0.host && world.dice(|d| d.chance(faults.hide * 100)) {
                    *from = now + world.dice(|d| d.below(faults.hide_longest + 1));
                }
            }
        }
        Hand { from, now: world.now() }
    }

    /// Leaves the temporary file of a writer that died before it linked the file.
    fn leave_temporary(&self, path: &str) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let temporary = format!("{dir}/.{name}.{}.tmp", self.0.life);
        let _ = self.0.world.disk().create(&temporary, b"half", self.hand(), self.0.host);
    }

    fn write(&self, path: &str, content: &[u8], fate: Fate) -> io::Result<Created> {
        if fate.is_half() {
            self.leave_temporary(path);
            return Ok(Created::New);
        }
        let hand = self.hand();
        self.0.world.disk().create(path, content, hand, self.0.host)
    }

    /// Changes the tree. The change may land after the process died.
    async fn change<T: Send + 'static>(
        &self,
        what: &str,
        on: &str,
        change: impl FnOnce(&Self, Fate) -> T + Send + 'static,
    ) -> io::Result<T> {
        let store = self.clone();
        Ok(self.0.send(what, on, move |fate| change(&store, fate)).await?)
    }
}

/// The name that a file will get.
struct Name {
    store: SimStore,
    path: String,
}

#[async_trait]
impl NewFile for Held<Name> {
    async fn commit(self: Box<Self>) -> io::Result<Committed> {
        let Self { to: Name { store, path }, content } = *self;
        let to = path.clone();
        let write = move |store: &SimStore, fate| store.write(&to, &content, fate);
        match store.change("writes", &path, write).await?? {
            Created::New => {}
            Created::Exists => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        let inode = store.0.world.disk().stat(&path, Eyes::Truth).map_or(0, |s| s.inode);
        Ok(Committed { inode, fsync: Duration::ZERO })
    }
}

#[async_trait]
impl Store for SimStore {
    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let read = |_| self.0.world.disk().read(path, self.eyes()).map(|c| c.to_vec());
        Ok(self.0.act(Kind::Look, "reads", path, read).await?)
    }

    async fn create(&self, path: &str, content: Vec<u8>) -> io::Result<Created> {
        let to = path.to_owned();
        self.change("creates", path, move |store, fate| store.write(&to, &content, fate)).await?
    }

    fn begin(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Ok(Held::new(Name { store: self.clone(), path: path.to_owned() }))
    }

    fn scratch(&self, _: &str) -> io::Result<std::fs::File> {
        unreachable!("rows of the simulation do not wait")
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        Ok(self.0.act(Kind::Look, "lists", dir, |_| self.0.world.disk().list(dir, self.eyes())).await?)
    }

    async fn make_dirs(&self, parent: &str, mut names: Vec<String>) -> io::Result<()> {
        let within = parent.to_owned();
        let make = move |store: &Self, fate: Fate| {
            if fate.is_half() {
                names.truncate(names.len() / 2);
            }
            store.0.world.disk().make_dirs(&within, &names, store.hand(), store.0.host)
        };
        self.change("makes directories in", parent, make).await?
    }

    async fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        Ok(self.0.act(Kind::Look, "stats", path, |_| self.0.world.disk().stat(path, self.eyes())).await?)
    }

    async fn link(&self, dir: &str, mut links: Vec<(String, String)>) -> io::Result<()> {
        let within = dir.to_owned();
        let link = move |store: &Self, fate: Fate| {
            if fate.is_half() {
                links.truncate(links.len() / 2);
            }
            store.0.world.disk().link(&within, &links, store.hand(), store.0.host)
        };
        self.change("links into", dir, link).await?
    }

    /// All changes are durable at once, so nothing is left to do.
    async fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<Renamed> {
        let (before, after) = (from.to_owned(), to.to_owned());
        let rename = move |store: &Self, fate: Fate| {
            if fate.is_half() {
                return Ok(Renamed::Gone);
            }
            let world = &store.0.world;
            let hand = store.hand();
            let (renamed, replaced) = world.disk().rename(&before, &after, hand, store.0.host)?;
            if replaced {
                world.broken("I4", format_args!("a rename of {before} replaced {after}"));
            }
            Ok(renamed)
        };
        self.change("renames", &format!("{from} to {to}"), rename).await?
    }

    async fn remove(&self, path: &str) -> io::Result<()> {
        let gone = path.to_owned();
        let remove = move |store: &Self, fate: Fate| {
            if !fate.is_half() {
                store.0.world.disk().remove(&gone);
            }
        };
        self.change("removes", path, remove).await
    }

    async fn remove_tree(&self, path: &str) -> io::Result<()> {
        if !path.starts_with(layout::TRASH) {
            self.0.world.broken("I4", format_args!("{path} is removed, and not in the trash"));
        }
        let gone = path.to_owned();
        let remove = move |store: &Self, fate: Fate| {
            let mut disk = store.0.world.disk();
            if fate.is_half() {
                disk.remove_half(&gone);
            } else {
                disk.remove(&gone);
            }
        };
        self.change("removes all of", path, remove).await
    }

    async fn point(&self, link: &str, target: &str) -> io::Result<()> {
        let (from, to) = (link.to_owned(), target.to_owned());
        let point = move |store: &Self, fate: Fate| {
            if fate.is_half() { Ok(()) } else { store.0.world.disk().point(&from, &to, store.hand()) }
        };
        self.change("points", link, point).await?
    }

    async fn pointed(&self, link: &str) -> io::Result<Option<String>> {
        let pointed = |_| self.0.world.disk().pointed(link, self.eyes());
        Ok(self.0.act(Kind::Look, "looks at", link, pointed).await?)
    }

    async fn same_file_system(&self, _: &str) -> io::Result<bool> {
        Ok(true)
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    async fn revalidate(&self, dir: &str) -> io::Result<()> {
        let look = |_| self.0.world.disk().look_anew(dir, self.0.host);
        Ok(self.0.act(Kind::Look, "asks anew for", dir, look).await?)
    }

    fn fresh(&self) -> Uuid {
        self.0.world.fresh()
    }
}
