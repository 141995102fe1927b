//! How the parts of a table are spread over directories and files, over all chunks that have ended. Each worker sees
//! only those of its own chunk.

use std::collections::BTreeSet;

use crate::job::record::RecordedPart;
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::plan::export_plan::{PlannedTable, WriterSettings};
use crate::relation::hive;

/// How many files a table may have. Its archive names them all.
const MOST_FILES: usize = 1_000_000;

/// The parts of a table. A chunk without rows has a part that is not published and does not count.
#[derive(Debug, Default)]
pub struct Spread {
    files: usize,
    /// The directories of partitions.
    directories: BTreeSet<String>,
}

impl Spread {
    /// Adds the parts of a chunk.
    pub(super) fn add(&mut self, parts: &[RecordedPart]) {
        for part in parts.iter().filter(|part| part.rows > 0) {
            self.files += 1;
            let directory = part.path.rsplit_once('/').map(|(directory, _)| directory);
            if let Some(directory) = directory.filter(|directory| !self.directories.contains(*directory)) {
                self.directories.insert(directory.to_owned());
            }
        }
    }

    /// Why the table cannot be published, if it has too many partitions or files already. It may have as many files
    /// as chunks.
    pub(super) fn too_many(
        &self,
        table: &PlannedTable,
        writer: &WriterSettings,
        chunks: usize,
    ) -> Option<ErrorReport> {
        let partitions = usize::try_from(writer.partitions_max).unwrap_or(usize::MAX);
        let most = MOST_FILES.max(chunks);
        if self.directories.len() <= partitions && self.files <= most {
            return None;
        }
        let name = qualified(&table.schema, &table.name);
        if self.directories.len() > partitions {
            let columns: Vec<&str> = table.partition_by.iter().map(String::as_str).collect();
            let message = hive::too_many(&name, &columns, partitions);
            return Some(ErrorReport::permanent("too_many_partitions", message, hive::FEWER));
        }
        let remedy = match table.partition_by.is_empty() {
            true => "raise output.file_bytes",
            false => {
                "partition by a column with fewer values, split the table by it (chunk_column), or raise chunk_rows"
            }
        };
        let message = format!("{name}: its chunks would give more than {most} files");
        Some(ErrorReport::permanent("too_many_files", message, remedy))
    }
}
