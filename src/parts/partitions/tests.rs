use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::destination::{FolderDestination, PartPlace};
use crate::folder::{Folder, layout};
use crate::message::{BatchId, BatchNo, ChunkNo, Epoch, JobId, TableNo};
use crate::parts::PartOrder;
use crate::plan::ExportPlan;
use crate::relation::column;
use crate::write::metadata::Provenance;

struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn plan(by: &[&str], row_group_bytes: u64, partitions_max: u32) -> ExportPlan {
    let column =
        |name: &str, ty: &str| json!({"name": name, "source_type": ty, "type": ty, "nullable": true});
    let table = json!({
        "number": 0, "batch": 0, "schema": "s", "name": "t", "base": "s_t", "full": true, "partition_by": by,
        "columns": [column("region", "text"), column("id", "int64"), column("note", "text")],
        "strategy": {"kind": "single"}, "reason": "", "estimated_rows": 1,
    });
    serde_json::from_value(json!({
        "v": 2, "job": "j", "epoch": 1, "source": "w", "planned_at": "2026-01-01T00:00:00Z", "ready": Uuid::nil(),
        "snapshot": Value::Null, "session": [], "on_conflict": "version", "on_unfit": "text", "verify": "none",
        "writer": {"compression": "none", "row_group_bytes": row_group_bytes, "partitions_max": partitions_max},
        "tables": [table],
    }))
    .expect("a plan")
}

/// Partitions that write to a folder, and what ended.
struct Bench {
    root: Root,
    cancel: CancellationToken,
    partitions: Partitions,
    written: std::thread::JoinHandle<Vec<(String, String)>>,
}

fn place() -> PartPlace {
    let of = BatchId { epoch: Epoch(1), batch: BatchNo(0) };
    let job = JobId::parse("j").expect("valid");
    PartPlace { job, of, table: TableNo(0), chunk: ChunkNo(0), id: Uuid::nil(), nth: 0 }
}

impl Bench {
    fn new(plan: ExportPlan) -> Self {
        let root = std::env::temp_dir().join(format!("adu-partitions-{}", Uuid::new_v4()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = runtime.block_on(Folder::init(root.clone(), None)).expect("initializes");
        let place = place();
        std::fs::create_dir_all(root.join(layout::parts(&place.job, place.of))).expect("made");
        let provenance = Provenance {
            job: place.job.clone(),
            source: plan.source.clone(),
            table: "s.t".into(),
            epoch: Epoch(1),
            chunk: place.chunk,
            predicate: "all".into(),
            snapshot: None,
        };
        let cancel = CancellationToken::new();
        let order = PartOrder {
            place,
            plan: Arc::new(plan),
            even_empty: true,
            provenance,
            cancel: cancel.clone(),
            trace: tracing::Span::none(),
        };
        let (ended, mut parts) = mpsc::channel(1);
        let series = Series::new(Arc::new(FolderDestination::new(folder)), order, ended);
        let written = std::thread::spawn(move || {
            let mut all = Vec::new();
            while let Some(part) = parts.blocking_recv() {
                let finished = runtime.block_on(part.written.sink.finish()).expect("finished");
                let file = finished.reference.as_str().split_once(':').expect("inode and file").1.to_owned();
                all.push((part.path, file));
            }
            all
        });
        Self { root: Root(root), cancel, partitions: Partitions::new(series).expect("partitions"), written }
    }

    fn write(&mut self, regions: &[Option<String>], from: i64, note: &str) -> Result<(), ExportError> {
        let ids = from..from + regions.len() as i64;
        let schema = column::schema(&self.partitions.series.table().columns);
        let batch = RecordBatch::try_new(
            schema,
            vec![
                Arc::new(StringArray::from(regions.to_vec())),
                Arc::new(Int64Array::from_iter_values(ids.clone())),
                Arc::new(StringArray::from_iter_values(ids.map(|id| format!("{id}{note}")))),
            ],
        );
        self.partitions.write(batch.expect("a batch"))
    }

    /// Ends all parts. The ids of each directory, and the number of its files.
    fn read(self) -> BTreeMap<String, (BTreeSet<i64>, usize)> {
        self.partitions.close().expect("closed");
        let files = self.written.join().expect("written");
        let names: BTreeSet<&str> =
            files.iter().map(|(path, _)| path.rsplit_once('/').expect("below").1).collect();
        assert_eq!(names.len(), files.len(), "no two parts have one name");
        let place = place();
        let dir = self.root.0.join(layout::parts(&place.job, place.of));
        let mut read: BTreeMap<String, (BTreeSet<i64>, usize)> = BTreeMap::new();
        for (path, file) in files {
            let (ids, count) = read.entry(path.rsplit_once('/').expect("below").0.to_owned()).or_default();
            *count += 1;
            let file = std::fs::File::open(dir.join(file)).expect("opens");
            for batch in
                ParquetRecordBatchReaderBuilder::try_new(file).expect("a footer").build().expect("reads")
            {
                let batch = batch.expect("a batch");
                assert_eq!(batch.num_columns(), 2, "the column is left out");
                for row in 0..batch.num_rows() {
                    let id = batch["id"].as_primitive::<Int64Type>().value(row);
                    let note = batch["note"].as_string::<i32>();
                    assert!(
                        note.is_valid(row) && note.value(row).starts_with(&id.to_string()),
                        "a row stays whole"
                    );
                    assert!(ids.insert(id), "{id} is there twice");
                }
            }
        }
        read
    }
}

fn region(n: i64) -> Option<String> {
    (n != 0).then(|| format!("r{n}"))
}

fn directory(n: i64) -> String {
    region(n).map_or_else(|| "region=__HIVE_DEFAULT_PARTITION__".into(), |region| format!("region={region}"))
}

/// Scatters numbers, always in the same way.
fn scattered(n: i64) -> i64 {
    (n.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F) >> 33).abs()
}

#[test]
fn each_row_is_in_the_directory_of_its_value_and_memory_is_bounded() {
    const LIMIT: usize = 200_000;
    for many in [3, 500] {
        let mut bench = Bench::new(plan(&["region"], LIMIT as u64, 1_000));
        let mut expected: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for batch in 0..100 {
            let (from, rows) = (batch * 300, 300);
            // A tenth of the rows has the first value.
            let of = |id: i64| if id % 10 == 0 { 1 } else { scattered(id) % many };
            let regions: Vec<_> = (from..from + rows).map(|id| region(of(id))).collect();
            for id in from..from + rows {
                expected.entry(directory(of(id))).or_default().insert(id);
            }
            bench.write(&regions, from, &"x".repeat(50)).expect("written");
            let partitions = &bench.partitions;
            assert!(partitions.bytes < LIMIT / 2 + 60_000, "{} bytes wait", partitions.bytes);
            assert!(partitions.open.len() <= MOST_OPEN, "{} parts are open", partitions.open.len());
            let footers = partitions.footers();
            assert!(footers <= LIMIT / 4, "{footers} bytes of footers");
        }
        let read = bench.read();
        let ids: BTreeMap<_, _> = read.iter().map(|(dir, (ids, _))| (dir.clone(), ids.clone())).collect();
        assert_eq!(ids, expected);
        let files: usize = read.values().map(|(_, count)| count).sum();
        let most = if many == 3 { 3 } else { 510 };
        assert!(files <= most, "{files} files of {many} partitions");
    }
}

/// A table of a year, stored in no order of its days, in a chunk as large as 120 of its row groups.
#[test]
fn many_values_in_no_order_give_about_one_file_for_each_value() {
    const LIMIT: usize = 100_000;
    const DAYS: i64 = 365;
    // The last run has batches of a single value each, as if rows were inserted in bulk.
    for bulk in [false, true] {
        let mut bench = Bench::new(plan(&["region"], LIMIT as u64, 1_000));
        for batch in 0..2_000 {
            let (from, rows) = (batch * 100, 100);
            let day = |id: i64| scattered(if bulk { batch } else { id }) % DAYS;
            let regions: Vec<_> = (from..from + rows).map(|id| region(day(id))).collect();
            bench.write(&regions, from, &"x".repeat(50)).expect("written");
            let partitions = &bench.partitions;
            assert!(partitions.bytes < LIMIT / 2 + 40_000, "{} bytes wait", partitions.bytes);
            assert!(partitions.open.len() <= MOST_OPEN, "{} parts are open", partitions.open.len());
        }
        let read = bench.read();
        assert_eq!(read.len(), DAYS as usize);
        let ids: BTreeSet<i64> = read.values().flat_map(|(ids, _)| ids).copied().collect();
        assert_eq!(ids.len(), 200_000, "each row is there");
        let most = read.values().map(|(_, files)| *files).max();
        assert!(most <= Some(2), "{most:?} files of a day");
    }
}

#[test]
fn rows_in_the_order_of_their_partitions_do_not_wait() {
    let mut bench = Bench::new(plan(&["region"], 1 << 20, 1_000));
    for batch in 0..200 {
        // A partition ends in the middle of every fourth batch.
        let regions: Vec<_> = (0..100).map(|row| region((batch * 100 + row + 50) / 400)).collect();
        bench.write(&regions, batch * 100, "").expect("written");
        let waiting: usize = bench.partitions.waiting.iter().map(Vec::len).sum();
        assert!(waiting < 100, "{waiting} rows wait");
    }
    let read = bench.read();
    assert_eq!(read.values().map(|(ids, _)| ids.len()).sum::<usize>(), 20_000);
    assert!(read.values().all(|(_, files)| *files == 1), "{read:?}");
}

#[test]
fn a_chunk_without_rows_still_says_which_columns_there_are() {
    let read = Bench::new(plan(&["region"], 1 << 20, 1_000)).read();
    assert_eq!(read, BTreeMap::from([(directory(0), (BTreeSet::new(), 1))]));
}

#[test]
fn what_readers_would_not_get_back_is_refused_without_its_value() {
    let refused = |most, regions: &[Option<&str>]| {
        let mut bench = Bench::new(plan(&["region"], 1 << 20, most));
        let regions: Vec<_> = regions.iter().map(|region| region.map(str::to_owned)).collect();
        match bench.write(&regions, 0, "") {
            Err(ExportError::Source(error)) => (error.code.clone(), error.to_string()),
            other => panic!("{other:?}"),
        }
    };
    for value in ["", "__HIVE_DEFAULT_PARTITION__", &"secret ".repeat(40)] {
        let (code, message) = refused(1_000, &[Some("EU"), None, Some(value)]);
        assert_eq!(code, "partition_value");
        assert!(
            message.contains("s.t") && message.contains("\"region\"") && !message.contains("secret"),
            "{message}"
        );
    }
    let (code, message) = refused(2, &[Some("a"), Some("b"), Some("a"), None]);
    assert_eq!(code, "too_many_partitions");
    assert!(message.contains("s.t: column region") && message.contains("more than 2 values"), "{message}");
}

#[test]
fn several_columns_are_several_levels() {
    let mut bench = Bench::new(plan(&["region", "note"], 1 << 20, 1_000));
    let schema = column::schema(&bench.partitions.series.table().columns);
    let batch = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(StringArray::from(vec![Some("a/b"), None])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec![Some("x"), Some("y=z")])),
        ],
    );
    bench.partitions.write(batch.expect("a batch")).expect("written");
    bench.partitions.close().expect("closed");
    let mut paths: Vec<String> =
        bench.written.join().expect("written").into_iter().map(|(path, _)| path).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "region=__HIVE_DEFAULT_PARTITION__/note=y%3Dz/part-000000-0001.parquet",
            "region=a%2Fb/note=x/part-000000-0000.parquet"
        ]
    );
}

#[test]
fn a_cancelled_chunk_does_not_write_the_rows_that_wait() {
    let mut bench = Bench::new(plan(&["region"], 1 << 20, 1_000));
    let regions: Vec<Option<String>> = (0..2_000).map(|row| Some(format!("r{}", row % 500))).collect();
    for batch in 0..40 {
        bench.write(&regions, batch * 2_000, &"x".repeat(100)).expect("takes rows");
    }
    bench.cancel.cancel();
    assert!(matches!(bench.write(&regions, 0, ""), Err(ExportError::Gone)));
    assert!(matches!(bench.partitions.close(), Err(ExportError::Gone)));
    assert_eq!(bench.written.join().expect("ended").len(), 0);
}
