//! Puts a table together: links its parts into its `ready` directory, and into directories below it.

use std::collections::BTreeMap;
use std::io;

use super::FolderPart;
use crate::destination::{StagedTable, WinningPart};
use crate::folder::{Folder, FolderError, Store, layout};
use crate::message::event::ErrorReport;

/// Links by the directory below the table's in which they stand.
type Links<'a> = BTreeMap<Option<&'a str>, Vec<(String, String)>>;

/// Links the parts of a table. The answer says why the table cannot stand here, if it cannot.
pub(super) async fn gather(
    folder: &Folder,
    table: &StagedTable,
    parts: &[WinningPart],
) -> Result<Option<ErrorReport>, FolderError> {
    let dir = layout::ready_table(&table.job, table.of.epoch, table.stage, table.table);
    let from = layout::parts(&table.job, table.of);
    let mut links: Links<'_> = BTreeMap::from([(None, Vec::new())]);
    for part in parts {
        let (below, name) = match checked(&part.path)?.rsplit_once('/') {
            Some((below, name)) => (Some(below), name),
            None => (None, part.path.as_str()),
        };
        let file = FolderPart::of(&part.reference)?.file;
        links.entry(below).or_default().push((format!("{from}/{file}"), name.to_owned()));
    }
    let store = folder.store();
    match link(store, &dir, links).await {
        // Another coordinator moved the directory. The rename that follows finds out where to.
        Err(e) if e.is_gone() => {
            if store.stat(&dir).await?.is_some() {
                Err(e)
            } else {
                Ok(None)
            }
        }
        other => other.map(|refused| refused.map(|refused| refusal(table, &refused))),
    }
}

/// A path of a record must not lead out of the table's directory.
fn checked(path: &str) -> Result<&str, FolderError> {
    let strange = path.split('/').any(|name| matches!(name, "" | "." | "..") || name.contains('\0'));
    if strange {
        let why = "it leads out of its table's directory".into();
        return Err(FolderError::Unreadable { path: path.to_owned(), why });
    }
    Ok(path)
}

/// Why the directories of partitions cannot stand in this file system.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// Two directories are one.
    Clash(String, String),
    /// A directory cannot have its name.
    Name(String),
}

/// Makes the directories, then the links.
async fn link(store: &dyn Store, dir: &str, links: Links<'_>) -> Result<Option<Refused>, FolderError> {
    let mut levels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for below in links.keys().copied().flatten() {
        let mut path = dir.to_owned();
        for name in below.split('/') {
            let names = levels.entry(path.clone()).or_default();
            if names.last().is_none_or(|last| last != name) {
                names.push(name.to_owned());
            }
            path = format!("{path}/{name}");
        }
    }
    // Where upper and lower case are the same, `a=EU` and `a=eu` are one directory, and readers would get one
    // value for the rows of both.
    let mut inodes: BTreeMap<u64, String> = BTreeMap::new();
    // A directory comes before those in it.
    for (parent, names) in levels {
        match store.make_dirs(&parent, names.clone()).await {
            Err(e) if e.kind() == io::ErrorKind::InvalidFilename => {
                return Ok(Some(Refused::Name(e.to_string())));
            }
            other => other?,
        }
        for name in names {
            let path = format!("{parent}/{name}");
            let stat = store.stat(&path).await?;
            let below = path[dir.len() + 1..].to_owned();
            if let Some(other) = stat.and_then(|stat| inodes.insert(stat.inode, below.clone())) {
                return Ok(Some(Refused::Clash(other, below)));
            }
        }
    }
    for (below, links) in links {
        let path = below.map_or_else(|| dir.to_owned(), |below| format!("{dir}/{below}"));
        store.link(&path, links).await?;
    }
    Ok(None)
}

fn refusal(table: &StagedTable, refused: &Refused) -> ErrorReport {
    let base = &table.base;
    match refused {
        Refused::Clash(one, other) => ErrorReport::permanent(
            "partitions_clash",
            format!(
                "{base}: the export folder cannot tell the directories {one} and {other} apart, because its file system \
                 ignores upper and lower case, or other differences of letters"
            ),
            "partition by another column, bring its values to one spelling in a view, or use a file system that tells \
             names apart",
        ),
        Refused::Name(why) => ErrorReport::permanent(
            "partition_name",
            format!(
                "{base}: the file system of the export folder refuses the name of a partition's directory: {why}"
            ),
            "partition by another column, replace such values in a view, or use a file system that takes such names",
        ),
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
