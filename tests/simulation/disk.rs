//! The export folder of all simulated hosts: a tree of inodes on a server, and what each host sees of it. As
//! on NFS, a new name may be hidden from other hosts for a while. Changes act on the real tree.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use adu_export::folder::{Created, Renamed, Stat};
use jiff::Timestamp;

/// The most hosts that a schedule may have.
pub(crate) const HOSTS: usize = 7;

/// Through whose eyes the tree is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eyes {
    /// A host, at a time in milliseconds.
    Of(usize, u64),
    /// The server, and the checker.
    Truth,
}

enum Kind {
    Directory(BTreeMap<String, Entry>),
    File(Arc<[u8]>),
    Link(String),
}

struct Node {
    kind: Kind,
    modified: Timestamp,
}

#[derive(Clone, Copy)]
struct Entry {
    node: usize,
    /// When each host begins to see the entry.
    from: [u64; HOSTS],
}

impl Entry {
    fn is_seen(&self, eyes: Eyes) -> bool {
        match eyes {
            Eyes::Truth => true,
            Eyes::Of(host, at) => at >= self.from[host],
        }
    }
}

/// The time at which a name is made, and when each host begins to see it.
#[derive(Clone, Copy)]
pub(crate) struct Hand {
    pub(crate) from: [u64; HOSTS],
    pub(crate) now: Timestamp,
}

pub(crate) struct Disk {
    nodes: Vec<Node>,
}

impl Default for Disk {
    fn default() -> Self {
        let root = Node { kind: Kind::Directory(BTreeMap::new()), modified: Timestamp::UNIX_EPOCH };
        Self { nodes: vec![root] }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn gone(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path}: not there"))
}

impl Disk {
    fn find(&self, path: &str, eyes: Eyes) -> Option<usize> {
        let mut at = 0;
        for level in path.split('/').filter(|p| !p.is_empty()) {
            let Kind::Directory(entries) = &self.nodes[at].kind else { return None };
            at = entries.get(level).filter(|e| e.is_seen(eyes))?.node;
        }
        Some(at)
    }

    fn entries(&mut self, dir: &str) -> io::Result<&mut BTreeMap<String, Entry>> {
        let node = self.find(dir, Eyes::Truth).ok_or_else(|| gone(dir))?;
        match &mut self.nodes[node].kind {
            Kind::Directory(entries) => Ok(entries),
            Kind::File(_) | Kind::Link(_) => Err(gone(dir)),
        }
    }

    fn touch(&mut self, dir: &str, now: Timestamp) {
        if let Some(node) = self.find(dir, Eyes::Truth) {
            self.nodes[node].modified = now;
        }
    }

    fn add(&mut self, path: &str, kind: Kind, hand: Hand) -> io::Result<()> {
        let (dir, name) = split(path);
        let node = self.nodes.len();
        self.entries(dir)?.insert(name.to_owned(), Entry { node, from: hand.from });
        self.nodes.push(Node { kind, modified: hand.now });
        self.touch(dir, hand.now);
        Ok(())
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.find(path, Eyes::Truth).is_some()
    }

    pub(crate) fn read(&self, path: &str, eyes: Eyes) -> Option<Arc<[u8]>> {
        match &self.nodes[self.find(path, eyes)?].kind {
            Kind::File(content) => Some(Arc::clone(content)),
            Kind::Directory(_) | Kind::Link(_) => None,
        }
    }

    pub(crate) fn stat(&self, path: &str, eyes: Eyes) -> Option<Stat> {
        let node = self.find(path, eyes)?;
        let Node { kind, modified } = &self.nodes[node];
        let directory = matches!(kind, Kind::Directory(_));
        Some(Stat { inode: node as u64, directory, modified: *modified })
    }

    pub(crate) fn list(&self, dir: &str, eyes: Eyes) -> Vec<String> {
        let Some(node) = self.find(dir, eyes) else { return Vec::new() };
        let Kind::Directory(entries) = &self.nodes[node].kind else { return Vec::new() };
        entries.iter().filter(|(_, e)| e.is_seen(eyes)).map(|(name, _)| name.clone()).collect()
    }

    /// The host asks the server: it now sees the directory and all names in it.
    pub(crate) fn look_anew(&mut self, dir: &str, host: usize) {
        let mut path = String::new();
        self.reveal_in("", host);
        for level in dir.split('/').filter(|p| !p.is_empty()) {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(level);
            self.reveal_in(&path, host);
        }
    }

    fn reveal_in(&mut self, dir: &str, host: usize) {
        if let Ok(entries) = self.entries(dir) {
            entries.values_mut().for_each(|e| e.from[host] = 0);
        }
    }

    /// A host that met a name on the server sees it from now on.
    fn reveal(&mut self, path: &str, host: usize) {
        let mut at = 0;
        for level in path.split('/').filter(|p| !p.is_empty()) {
            let Kind::Directory(entries) = &mut self.nodes[at].kind else { return };
            let Some(entry) = entries.get_mut(level) else { return };
            entry.from[host] = 0;
            at = entry.node;
        }
    }

    pub(crate) fn create(
        &mut self,
        path: &str,
        content: &[u8],
        hand: Hand,
        host: usize,
    ) -> io::Result<Created> {
        let (dir, name) = split(path);
        if self.entries(dir)?.contains_key(name) {
            self.reveal(path, host);
            return Ok(Created::Exists);
        }
        self.add(path, Kind::File(content.into()), hand)?;
        self.reveal(path, host);
        Ok(Created::New)
    }

    pub(crate) fn make_dirs(
        &mut self,
        parent: &str,
        names: &[String],
        hand: Hand,
        host: usize,
    ) -> io::Result<()> {
        self.entries(parent)?;
        for name in names {
            let path = if parent.is_empty() { name.clone() } else { format!("{parent}/{name}") };
            if self.entries(parent)?.contains_key(name) {
                self.reveal(&path, host);
            } else {
                self.add(&path, Kind::Directory(BTreeMap::new()), hand)?;
                self.reveal(&path, host);
            }
        }
        Ok(())
    }

    pub(crate) fn link(
        &mut self,
        dir: &str,
        links: &[(String, String)],
        hand: Hand,
        host: usize,
    ) -> io::Result<()> {
        self.entries(dir)?;
        for (from, name) in links {
            let node = self.find(from, Eyes::Truth).ok_or_else(|| gone(from))?;
            let entries = self.entries(dir)?;
            match entries.get(name) {
                Some(there) if there.node == node => {}
                Some(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{dir}/{name}"))),
                None => {
                    entries.insert(name.clone(), Entry { node, from: hand.from });
                }
            }
            self.reveal(&format!("{dir}/{name}"), host);
            self.touch(dir, hand.now);
        }
        Ok(())
    }

    /// Also says whether an empty directory was replaced.
    pub(crate) fn rename(
        &mut self,
        from: &str,
        to: &str,
        hand: Hand,
        host: usize,
    ) -> io::Result<(Renamed, bool)> {
        let Some(node) = self.find(from, Eyes::Truth) else { return Ok((Renamed::Gone, false)) };
        let (to_dir, to_name) = split(to);
        let mut replaced = false;
        if let Some(there) = self.entries(to_dir)?.get(to_name).copied() {
            let empty = matches!(&self.nodes[there.node].kind, Kind::Directory(e) if e.is_empty());
            if !empty {
                self.reveal(to, host);
                return Ok((Renamed::Occupied, false));
            }
            replaced = true;
        }
        let (from_dir, from_name) = split(from);
        self.entries(from_dir)?.remove(from_name);
        self.touch(from_dir, hand.now);
        self.entries(to_dir)?.insert(to_name.to_owned(), Entry { node, from: hand.from });
        self.touch(to_dir, hand.now);
        self.reveal(to, host);
        Ok((Renamed::Done, replaced))
    }

    /// True if the file existed.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        let (dir, name) = split(path);
        self.entries(dir).is_ok_and(|entries| entries.remove(name).is_some())
    }

    /// Removes one entry of a directory, like a removal that is interrupted.
    pub(crate) fn remove_half(&mut self, path: &str) {
        if let Ok(entries) = self.entries(path) {
            entries.pop_first();
        }
    }

    pub(crate) fn point(&mut self, link: &str, target: &str, hand: Hand) -> io::Result<()> {
        self.add(link, Kind::Link(target.to_owned()), hand)
    }

    pub(crate) fn pointed(&self, link: &str, eyes: Eyes) -> Option<String> {
        match &self.nodes[self.find(link, eyes)?].kind {
            Kind::Link(target) => Some(target.clone()),
            Kind::Directory(_) | Kind::File(_) => None,
        }
    }
}
