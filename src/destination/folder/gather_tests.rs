use std::fs;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::folder::{Created, DiskStore, NewFile, Renamed, Stat};
use crate::message::{BatchId, BatchNo, Epoch, JobId, TableNo};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("adu-gather-{}", Uuid::new_v4()));
        fs::create_dir_all(path.join("ready")).expect("made");
        fs::create_dir_all(path.join("parts")).expect("made");
        for name in ["one", "two"] {
            fs::write(path.join("parts").join(name), name).expect("written");
        }
        Self(path)
    }

    fn store(&self) -> DiskStore {
        DiskStore::new(self.0.clone(), None)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A file system in which upper and lower case are the same.
struct Folding(DiskStore);

fn folded(path: &str) -> String {
    path.to_lowercase()
}

#[async_trait]
impl Store for Folding {
    async fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.read(&folded(path)).await
    }
    async fn create(&self, path: &str, content: Vec<u8>) -> io::Result<Created> {
        self.0.create(&folded(path), content).await
    }
    fn begin(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        self.0.begin(&folded(path))
    }
    fn scratch(&self, dir: &str) -> io::Result<std::fs::File> {
        self.0.scratch(&folded(dir))
    }
    async fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(&folded(dir)).await
    }
    async fn make_dirs(&self, parent: &str, names: Vec<String>) -> io::Result<()> {
        self.0.make_dirs(&folded(parent), names.iter().map(|name| folded(name)).collect()).await
    }
    async fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        self.0.stat(&folded(path)).await
    }
    async fn link(&self, dir: &str, links: Vec<(String, String)>) -> io::Result<()> {
        let links = links.iter().map(|(from, to)| (folded(from), folded(to))).collect();
        self.0.link(&folded(dir), links).await
    }
    async fn sync(&self, dir: &str) -> io::Result<()> {
        self.0.sync(&folded(dir)).await
    }
    async fn rename(&self, from: &str, to: &str) -> io::Result<Renamed> {
        self.0.rename(&folded(from), &folded(to)).await
    }
    async fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(&folded(path)).await
    }
    async fn remove_tree(&self, path: &str) -> io::Result<()> {
        self.0.remove_tree(&folded(path)).await
    }
    async fn point(&self, link: &str, target: &str) -> io::Result<()> {
        self.0.point(&folded(link), target).await
    }
    async fn pointed(&self, link: &str) -> io::Result<Option<String>> {
        self.0.pointed(&folded(link)).await
    }
    async fn same_file_system(&self, dir: &str) -> io::Result<bool> {
        self.0.same_file_system(&folded(dir)).await
    }
    async fn revalidate(&self, dir: &str) -> io::Result<()> {
        self.0.revalidate(&folded(dir)).await
    }
    async fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes().await
    }
}

fn links<'a>(one: &'a str, other: &'a str) -> Links<'a> {
    let link = |from: &str| vec![(format!("parts/{from}"), format!("{from}.parquet"))];
    BTreeMap::from([(None, Vec::new()), (Some(one), link("one")), (Some(other), link("two"))])
}

#[tokio::test]
async fn directories_that_the_file_system_takes_for_one_are_a_clash_at_every_level() {
    for (one, other, clash) in [
        ("a=EU", "a=eu", ("a=EU", "a=eu")),
        ("a=EU/b=1", "a=eu/b=2", ("a=EU", "a=eu")),
        ("a=EU/b=x", "a=EU/b=X", ("a=EU/b=X", "a=EU/b=x")),
    ] {
        let scratch = Scratch::new();
        let found = link(&Folding(scratch.store()), "ready", links(one, other)).await.expect("looks");
        let clash = Refused::Clash(clash.0.to_owned(), clash.1.to_owned());
        assert_eq!(found, Some(clash), "{one} and {other}");
        let apart = Scratch::new();
        // Twice, because another coordinator may have begun.
        for _ in 0..2 {
            assert_eq!(link(&apart.store(), "ready", links(one, other)).await.expect("links"), None);
        }
        for (below, name) in [(one, "one"), (other, "two")] {
            let path = apart.0.join("ready").join(below).join(format!("{name}.parquet"));
            assert_eq!(fs::read_to_string(path).expect("linked"), name);
        }
    }
}

#[tokio::test]
async fn a_name_that_the_file_system_does_not_take_is_refused_and_not_tried_again() {
    let (scratch, long) = (Scratch::new(), format!("a={}", "x".repeat(300)));
    let below = format!("b=1/{long}");
    let found = link(&scratch.store(), "ready", links("b=1", &below)).await.expect("looks");
    let Some(Refused::Name(why)) = &found else { panic!("{found:?}") };
    assert!(why.contains(&long) && why.contains("File name too long"), "{why}");
    let table = StagedTable {
        job: JobId::parse("j").expect("valid"),
        of: BatchId { epoch: Epoch(1), batch: BatchNo(0) },
        table: TableNo(0),
        stage: Uuid::nil(),
        directory: None,
        base: "s_t".into(),
        certain: None,
    };
    let error = refusal(&table, found.as_ref().expect("refused"));
    assert_eq!((error.code.as_str(), error.retryable), ("partition_name", false));
    assert!(error.message.starts_with("s_t: ") && error.remedy.is_some(), "{error:?}");
}

#[test]
fn a_path_does_not_lead_out_of_the_table() {
    for path in ["part-000000.parquet", "a=../part-000000-0000.parquet", "a=1/b=2/part-000000-0000.parquet"] {
        assert_eq!(checked(path).expect("below"), path);
    }
    for path in ["../x", "a=1/../../x", "/etc/x", "a//x", "./x", "", "a\0b"] {
        assert!(matches!(checked(path), Err(FolderError::Unreadable { .. })), "{path:?}");
    }
}
