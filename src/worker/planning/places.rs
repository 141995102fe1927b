//! Where tables will stand: base names that belong to one table for ever, and
//! output directories.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{PlanError, Planner};
use crate::folder::{VERSION, layout};
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::request::{ExportRequest, OnConflict};
use crate::plan::base_name;
use crate::plan::export_plan::PlannedTable;

/// `.archive/names/<base>.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NameClaim {
    v: u32,
    source: String,
    schema: String,
    table: String,
}

/// A name is its owner's, whichever release wrote that down.
impl PartialEq for NameClaim {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, &self.schema, &self.table) == (&other.source, &other.schema, &other.table)
    }
}

/// Base names that are claimed at once: each claim waits for two fsyncs, and a request may mean 20,000 tables.
const CLAIMS_AT_ONCE: usize = 16;

impl Planner<'_> {
    /// The first tables, of which no two want the same name: of those that do, the earlier one gets it.
    pub(super) fn uncontended<'t, T>(&self, drafts: &'t [(PlannedTable, T)]) -> &'t [(PlannedTable, T)] {
        let mut wanted = HashSet::new();
        let is_free = |(table, _): &&(PlannedTable, T)| {
            let names = base_name::candidates(&self.stored().source, &table.schema, &table.name);
            let free = !names.iter().any(|name| wanted.contains(name));
            wanted.extend(names);
            free
        };
        let count = drafts.iter().take(CLAIMS_AT_ONCE).take_while(is_free).count();
        &drafts[..count]
    }

    /// The base name that a planned table gets.
    pub(super) async fn place(
        &self,
        table: &PlannedTable,
        request: &ExportRequest,
    ) -> Result<String, PlanError> {
        let base = self.base_name(&table.schema, &table.name).await?;
        self.check_conflict(&table.directory, &base, request).await?;
        Ok(base)
    }

    /// The base name that belongs to the table, claimed for ever.
    async fn base_name(&self, schema: &str, table: &str) -> Result<String, PlanError> {
        let source = &self.stored().source;
        let claim =
            NameClaim { v: VERSION, source: source.to_string(), schema: schema.into(), table: table.into() };
        for base in base_name::candidates(source, schema, table) {
            if self.shared.context.folder.claim(&layout::name_claim(&base), &claim).await? {
                return Ok(base);
            }
        }
        Err(PlanError::Failed(ErrorReport::permanent(
            "name_taken",
            format!("every directory name of {} belongs to another table", qualified(schema, table)),
            "look at .archive/names; a claim there was made by hand",
        )))
    }

    /// Where conflicts fail, look before the work.
    async fn check_conflict(
        &self,
        directory: &str,
        base: &str,
        request: &ExportRequest,
    ) -> Result<(), PlanError> {
        if request.output.on_conflict != OnConflict::Fail {
            return Ok(());
        }
        let path = layout::public(directory, base);
        if self.shared.context.folder.store().stat(&path).await?.is_none() {
            return Ok(());
        }
        Err(PlanError::Failed(ErrorReport::permanent(
            "directory_exists",
            format!("the directory {path} exists and on_conflict is `fail`"),
            "move the directory away, or use on_conflict version or timestamp",
        )))
    }

    /// Makes an output directory, part by part, on the root's own file system.
    pub(super) async fn make_output(&self, output: &str) -> Result<(), PlanError> {
        let store = self.shared.context.folder.store();
        let mut parent = String::new();
        for part in output.split('/') {
            let next = layout::public(&parent, part);
            self.check_output(output, &next, part).await?;
            store.make_dirs(&parent, vec![part.to_owned()]).await?;
            parent = next;
        }
        if store.same_file_system(output).await? {
            return Ok(());
        }
        Err(PlanError::Failed(ErrorReport::permanent(
            "other_file_system",
            format!("output.directory `{output}` is on another file system than the export folder"),
            "tables are moved into place by rename: use a directory on the same file system",
        )))
    }

    /// A directory that is a table's, or may become one, takes no others
    /// (invariant I4: nothing writes in a published directory).
    async fn check_output(&self, output: &str, path: &str, part: &str) -> Result<(), PlanError> {
        let store = self.shared.context.folder.store();
        let claimed = store.stat(&layout::name_claim(part)).await?.is_some();
        if !claimed && !store.list(path).await?.iter().any(|name| name.ends_with(".parquet")) {
            return Ok(());
        }
        Err(PlanError::Failed(ErrorReport::permanent(
            "directory_of_a_table",
            format!("output.directory `{output}`: {path} is the directory of an exported table"),
            "use another output.directory",
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::{Folder, FolderError};

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
        let newer = serde_json::json!({"owner": ["w", "s", "t"], "v": VERSION + 1});
        let path = layout::name_claim("s_u");
        folder.create(&path, &newer).await.expect("created");
        let claimed = folder.claim(&path, &claim(VERSION, "t")).await;
        assert!(matches!(claimed, Err(FolderError::Newer { .. })), "{claimed:?}");
        std::fs::remove_dir_all(root).expect("removed");
    }
}
