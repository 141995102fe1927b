//! Plans of the in-memory source, without a folder.

use std::convert::Infallible;
use std::path::Path;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::*;
use crate::config::{Config, Secret};
use crate::message::RequestMessage;
use crate::relation::{Frozen, Strategy};
use crate::source::memory::{MemoryDatabase, MemorySource};

/// Names each directory after its table. One name is taken.
struct Plain;

#[async_trait]
impl Names for Plain {
    type Error = Infallible;

    async fn names(&self, tables: &[Draft<'_>]) -> Vec<Result<String, PlanError<Infallible>>> {
        let name = |table: &Draft<'_>| match table.name() {
            "taken" => Err(PlanError::Failed(ErrorReport::permanent("name_taken", "taken", "rename it"))),
            name => Ok(name.to_owned()),
        };
        tables.iter().map(name).collect()
    }
}

fn database() -> MemoryDatabase {
    let database = MemoryDatabase::default();
    let ids: ArrayRef = Arc::new((0..40).map(Some).collect::<Int64Array>());
    let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, false)]).expect("one column");
    for table in ["kept", "taken"] {
        database.create("s", table, &rows);
    }
    database
}

async fn planned(request: &str) -> Result<ExportPlan, PlanError<Infallible>> {
    let RequestMessage::Export(request) = RequestMessage::parse(request.as_bytes()).expect(request) else {
        panic!("no export: {request}");
    };
    let dsn = Secret::new("postgres://nobody@nowhere/memory");
    let (config, name) = Config::for_dsn(&dsn, Path::new("/")).expect("a configuration");
    let source = MemorySource::new(name.clone(), database(), 1);
    let under = match snapshots(&source, &request).map_err(PlanError::Failed)? {
        Some(snapshots) => {
            let keeper = snapshots.open(Uuid::from_u128(7)).await?;
            Some(Under { snapshot: keeper.snapshot(), keeper })
        }
        None => None,
    };
    let ground = Ground {
        source: &source,
        config: &config.sources[&name],
        export: &config.export,
        types: FileTypes::default(),
        under: under.as_ref(),
        now: &|| Timestamp::UNIX_EPOCH,
    };
    let title = Title {
        v: 2,
        job: JobId::parse("j").expect("valid"),
        epoch: Epoch::FIRST,
        source: name.clone(),
        ready: Uuid::nil(),
        destination: None,
        traceparent: None,
    };
    plan(&ground, &Scope::first(*request), &Plain, title, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_plan_follows_from_source_request_settings_and_snapshot() {
    let request = r#"{"tables": [{"table": "s.kept", "strategy": "range", "chunk_rows": 10,
        "after": {"column": "id", "value": "3"}}, "s.taken", "s.gone"]}"#;
    let plan = planned(request).await.expect("planned");
    assert_eq!(plan.snapshot.as_ref().map(|s| s.lineage), Some(Uuid::from_u128(7)));
    let [table] = plan.tables.as_slice() else { panic!("{:?}", plan.tables) };
    assert_eq!((table.base.as_str(), table.high_water_mark.as_deref()), ("kept", Some("39")));
    assert!(table.filter.is_some(), "only what is newer");
    let Strategy::Range { order, bounds, .. } = &table.strategy else { panic!("{:?}", table.strategy) };
    assert_eq!((order, bounds.first().map(String::as_str)), (&Frozen::of(&"bigint"), Some("13")));
    let failed: Vec<(u32, &str, &str)> =
        plan.failed.iter().map(|f| (f.number.0, f.table.as_str(), f.error.code.as_str())).collect();
    assert_eq!(failed, [(1, "s.taken", "name_taken"), (2, "s.gone", "unknown_table")]);
}

#[tokio::test]
async fn who_asks_for_no_consistency_gets_no_snapshot() {
    let plan = planned(r#"{"tables": ["s.kept"], "consistency": "none"}"#).await.expect("planned");
    assert_eq!(plan.snapshot, None);
}

#[test]
fn a_snapshot_that_is_of_no_use_is_replaced() {
    let changed = SourceError::changed("changed", "s.t was rewritten");
    assert_eq!(next(&changed), Next::Anew(Pace::Soon));
    assert_eq!(next(&SourceError::lineage_lost("nobody holds it")), Next::Anew(Pace::Soon));
    assert_eq!(next(&SourceError::transient("08006", "gone")), Next::Again(Pace::Soon));
    assert_eq!(next(&SourceError::permanent("42501", "no right")), Next::GiveUp);
    assert_eq!(next(&SourceError::cancelled("by us")), Next::Stop);
}
