//! Where tables will be published: base names, each of which belongs to one table for ever, and output
//! directories.

use serde::{Deserialize, Serialize};

use crate::destination::{ClaimError, base_name};
use crate::folder::{Folder, FolderError, Store, VERSION, layout};
use crate::message::SourceName;
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::{OnConflict, OutputDirectory};

/// `.archive/names/<base>.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NameClaim {
    v: u32,
    source: String,
    schema: String,
    table: String,
}

/// Two claims are equal if their owners are, whatever the version of the file.
impl PartialEq for NameClaim {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, &self.schema, &self.table) == (&other.source, &other.schema, &other.table)
    }
}

fn refused(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> ClaimError {
    ClaimError::Refused(ErrorReport::permanent(code, message, remedy))
}

fn claim_of(source: &SourceName, schema: &str, table: &str) -> NameClaim {
    NameClaim { v: VERSION, source: source.to_string(), schema: schema.into(), table: table.into() }
}

/// The base name that belongs to the table, claimed for ever.
pub(super) async fn claim_base(
    folder: &Folder,
    source: &SourceName,
    schema: &str,
    table: &str,
) -> Result<String, ClaimError> {
    let claim = claim_of(source, schema, table);
    for base in base_name::candidates(source, schema, table) {
        if folder.claim(&layout::name_claim(&base), &claim).await? {
            return Ok(base);
        }
    }
    Err(refused(
        "name_taken",
        format!("every directory name of {} belongs to another table", qualified(schema, table)),
        "look at .archive/names; a claim there was made by hand",
    ))
}

/// Whether a base name belongs to a table.
pub(super) async fn owns(
    folder: &Folder,
    source: &SourceName,
    schema: &str,
    table: &str,
    base: &str,
) -> Result<bool, FolderError> {
    let found = folder.read::<NameClaim>(&layout::name_claim(base)).await?;
    Ok(found == Some(claim_of(source, schema, table)))
}

/// With `on_conflict: fail`, checks for a conflict before any work is done.
pub(super) async fn check_conflict(
    folder: &Folder,
    output: Option<&OutputDirectory>,
    base: &str,
    on_conflict: OnConflict,
) -> Result<(), ClaimError> {
    if on_conflict != OnConflict::Fail {
        return Ok(());
    }
    let path = layout::public(output, base);
    if folder.store().stat(&path).await?.is_none() {
        return Ok(());
    }
    Err(refused(
        "directory_exists",
        format!("the directory {path} exists and on_conflict is `fail`"),
        "move the directory away, or use on_conflict version or timestamp",
    ))
}

/// Makes an output directory, level by level, on the root's own file system.
pub(super) async fn make_output(folder: &Folder, output: &OutputDirectory) -> Result<(), ClaimError> {
    let store = folder.store();
    for level in output.levels() {
        check_output(folder, output, level).await?;
        store.make_dir(level).await?;
    }
    if store.same_file_system(output.as_str()).await? {
        return Ok(());
    }
    Err(refused(
        "other_file_system",
        format!("output.directory `{output}` is on another file system than the export folder"),
        "tables are moved into place by rename: use a directory on the same file system",
    ))
}

/// Refuses a directory that belongs to a table or may become one (invariant I4: nothing writes in a published
/// directory).
async fn check_output(folder: &Folder, output: &OutputDirectory, path: &str) -> Result<(), ClaimError> {
    let store = folder.store();
    let claimed = store.stat(&layout::name_claim(layout::name(path))).await?.is_some();
    if !claimed && !has_files(store, path).await? {
        return Ok(());
    }
    Err(refused(
        "directory_of_a_table",
        format!("output.directory `{output}`: {path} is the directory of an exported table"),
        "use another output.directory",
    ))
}

/// Whether a directory has the files of a table, perhaps in the directories of partitions. An output directory
/// may be called `date=2026-12-01` too, but it has directories of tables.
async fn has_files(store: &dyn Store, path: &str) -> Result<bool, ClaimError> {
    let mut path = path.to_owned();
    loop {
        let names = store.list(&path).await?;
        if names.iter().any(|name| name.ends_with(".parquet")) {
            return Ok(true);
        }
        let Some(partition) = names.into_iter().find(|name| name.contains('=')) else { return Ok(false) };
        path = format!("{path}/{partition}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tables_in_partitions_are_no_output_directories() {
        let root = std::env::temp_dir().join(format!("adu-places-{}", uuid::Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        for directory in ["s_t_v2/region=EU/year=2026", "daily/date=2026-12-01/s_t"] {
            let directory = root.join(directory);
            std::fs::create_dir_all(&directory).expect("made");
            std::fs::write(directory.join("part-000000-0000.parquet"), "rows").expect("written");
        }
        for (output, is_free) in [
            ("daily", true),
            ("daily/date=2026-12-01", true),
            ("s_t_v2", false),
            ("s_t_v2/region=EU", false),
            ("s_t_v2/x", false),
        ] {
            let output = OutputDirectory::parse(output).expect("valid");
            assert_eq!(make_output(&folder, &output).await.is_ok(), is_free, "{output}");
        }
        drop(std::fs::remove_dir_all(root));
    }

    #[tokio::test]
    async fn a_name_stays_its_owners_whichever_release_wrote_it_down() {
        let root = std::env::temp_dir().join(format!("adu-places-{}", uuid::Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("initializes");
        let path = layout::name_claim("s_t");
        let claim =
            |v, table: &str| NameClaim { v, source: "w".into(), schema: "s".into(), table: table.into() };
        folder.create(&path, &claim(1, "t")).await.expect("created");
        assert!(folder.claim(&path, &claim(VERSION, "t")).await.expect("readable"));
        assert!(!folder.claim(&path, &claim(VERSION, "other")).await.expect("readable"));
        let newer = serde_json::json!({"owner": ["w", "s", "t"], "v": 3});
        let path = layout::name_claim("s_u");
        folder.create(&path, &newer).await.expect("created");
        let claimed = folder.claim(&path, &claim(VERSION, "t")).await;
        assert!(matches!(claimed, Err(FolderError::Newer { .. })), "{claimed:?}");
        std::fs::remove_dir_all(root).expect("removed");
    }
}
