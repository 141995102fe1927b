//! How many partitions and files a table may have.

use super::*;
use crate::job::spread::Spread;

#[test]
fn a_table_with_too_many_partitions_fails_as_soon_as_it_is_seen() {
    // The third chunk never ends.
    let by_region = PlannedTable { partition_by: vec!["region".into()], ..planned(0, 0, 3) };
    let recorded = |regions: [&str; 2]| {
        let mut record = record(&[0]);
        let part = record.tables[0].parts[0].clone();
        record.tables[0].parts = regions
            .iter()
            .map(|region| RecordedPart {
                path: format!("region={region}/part-000000-0000.parquet"),
                ..part.clone()
            })
            .collect();
        record
    };
    for (second, fails) in [("US", false), ("APAC", true)] {
        let (mut job, id) = running(vec![by_region.clone()]);
        let mut plan = ExportPlan::clone(job.plan(id.epoch).expect("planned"));
        plan.writer.partitions_max = 2;
        job.plans[0] = plan.into();
        let batch = job.batches.get_mut(&id).expect("planned");
        batch.record(ChunkNo(0), recorded(["EU", "US"]));
        batch.record(ChunkNo(1), recorded(["EU", second]));
        if !fails {
            assert_eq!(decide(&job, &at()), vec![], "two regions are allowed");
            continue;
        }
        match &dispositions(&job, &at())[..] {
            [Disposition::Fail(error)] => {
                assert_eq!(error.code, "too_many_partitions");
                assert!(error.message.contains("s.t0: column region"), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_table_with_too_many_files_fails_as_soon_as_it_is_seen() {
    let table = planned(0, 0, 101);
    let (job, id) = running(vec![table.clone()]);
    let writer = &job.plan(id.epoch).expect("planned").writer;
    let part = record(&[0]).tables[0].parts[0].clone();
    let many = vec![part; 10_000];
    let mut spread = Spread::default();
    for chunk in 0..100 {
        spread.add(&many);
        assert!(spread.too_many(&table, writer, 101).is_none(), "{chunk} chunks have ended");
    }
    spread.add(&many[..1]);
    assert!(spread.too_many(&table, writer, 1_000_001).is_none(), "as many files as chunks");
    let error = spread.too_many(&table, writer, 101).expect("too many");
    assert_eq!(error.code, "too_many_files");
    assert!(error.message.contains("s.t0: its chunks would give more than 1000000 files"), "{error:?}");
    assert_eq!(error.remedy.as_deref(), Some("raise output.file_bytes"));
}
