use std::sync::Arc;

use super::*;
use crate::message::pattern::TablePattern;
use crate::message::request::OnUnfit;
use crate::relation::{Slice, Strategy};
use arrow::array::{ArrayRef, Int64Array};

const T: Selection<'static> = Selection { schema: "s", name: "t", only: false, filter: None };

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(values.into_iter().map(Some).collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).expect("one column")
}

fn process(database: &MemoryDatabase, number: u64) -> MemorySource {
    MemorySource::new(SourceName::parse("m").expect("valid"), database.clone(), number)
}

async fn read(
    source: &MemorySource,
    slice: Slice<'_>,
    under: Option<&Arc<dyn Keeper>>,
) -> Result<usize, SourceError> {
    let columns = vec![Column::plain("id", "bigint", ColumnType::Int64, true)];
    let read = ChunkRead {
        way: crate::message::setting::ReadWay::Auto,
        pages: std::sync::Arc::default(),
        selection: T,
        columns: &columns,
        key: &[],
        slice,
        under: under.cloned(),
        session: &[],
        on_unfit: OnUnfit::Text,
        cancel: CancellationToken::new(),
        progress: Arc::default(),
    };
    let mut stream = source.read_chunk(read).await?;
    let mut rows = 0;
    while let Some(batch) = stream.next_batch()? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

#[tokio::test]
async fn chunks_are_disjoint_and_together_everything() {
    let database = MemoryDatabase::default();
    database.create("s", "t", &numbers((0..1000).rev()));
    let source = process(&database, 1);
    let method = BoundaryMethod::OrderedPass;
    let bounds = source
        .boundaries(
            &T,
            SplitKey { column: "id", order: &Frozen::of(&"bigint") },
            method,
            Division { ranges: 4, rows: 1 },
            None,
        )
        .await
        .expect("found")
        .values;
    assert_eq!(bounds, ["250", "500", "750"]);
    let strategies = [
        Strategy::Range { column: "id".into(), order: Frozen::of(&"bigint"), bounds, nulls: true },
        Strategy::Ctid { bounds: vec![33, 60] },
    ];
    for strategy in strategies {
        let mut sum = 0;
        for slice in (0..strategy.chunks()).filter_map(|i| strategy.slice(i)) {
            sum += read(&source, slice, None).await.expect("read");
        }
        assert_eq!(sum, 1000);
    }
}

#[tokio::test]
async fn a_snapshot_lives_as_long_as_one_process_keeps_it() {
    let database = MemoryDatabase::default();
    database.create("s", "t", &numbers(0..5));
    let (one, two) = (process(&database, 1), process(&database, 2));
    let lineage = Uuid::new_v4();
    let first = one.open(lineage).await.expect("opened");
    database.update("s", "t", &numbers(0..9));
    let second = two.join(lineage, None).await.expect("asked").expect("a keeper lives");
    assert_eq!(first.snapshot(), second.snapshot());
    drop(first);
    assert_eq!(read(&two, Slice::All, Some(&second)).await.expect("kept"), 5);
    database.kill_keepers(Some(2));
    assert!(second.lost().is_cancelled());
    let lost = read(&two, Slice::All, Some(&second)).await.expect_err("its session is gone");
    assert_eq!(lost.kind, ErrorKind::LineageLost);
    assert!(one.join(lineage, None).await.expect("asked").is_none());
}

#[tokio::test]
async fn what_was_rewritten_cannot_be_read_under_an_older_snapshot() {
    let database = MemoryDatabase::default();
    database.create("s", "t", &numbers(0..5));
    let source = process(&database, 1);
    let lineage = Uuid::new_v4();
    let keeper = source.open(lineage).await.expect("opened");
    database.rewrite("s", "t", &numbers([]));
    let changed = read(&source, Slice::All, Some(&keeper)).await.expect_err("rewritten");
    assert_eq!(changed.kind, ErrorKind::Changed);
    assert_eq!(read(&source, Slice::All, None).await.expect("now"), 0);
}

#[tokio::test]
async fn what_grew_since_the_last_time_can_be_asked_for() {
    let database = MemoryDatabase::default();
    database.create("s", "t", &numbers(0..5));
    let source = process(&database, 1);
    let survey = SurveyRequest { tables: vec![TablePattern::exact("s", "t")], ..SurveyRequest::default() };
    let relations = source.survey(&survey, None).await.expect("surveyed");
    let newer = Filter::Newer { column: "id".into(), value: "2".into(), overlap: None };
    let filter = source.print(&newer, &relations[0].columns).expect("a filter");
    let grown = Selection { filter: Some(&filter), ..T };
    assert_eq!(source.count(&grown, None).await.expect("counted"), 2);
    assert_eq!(source.maximum(&grown, "id", None).await.expect("found").as_deref(), Some("4"));
}
