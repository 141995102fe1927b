//! How many partitions and files a table may have.

use super::*;

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
    let (mut job, id) = running(vec![planned(0, 0, 30)]);
    let mut many = record(&[0]);
    many.tables[0].parts = vec![many.tables[0].parts[0].clone(); 10_000];
    for chunk in 0..21 {
        assert_eq!(decide(&job, &at()), vec![], "{chunk} chunks have ended");
        job.batches.get_mut(&id).expect("planned").record(ChunkNo(chunk), many.clone());
    }
    match &dispositions(&job, &at())[..] {
        [Disposition::Fail(error)] => {
            assert_eq!(error.code, "too_many_files");
            assert!(
                error.message.contains("s.t0: its chunks would give more than 200000 files"),
                "{error:?}"
            );
            assert_eq!(error.remedy.as_deref(), Some("raise output.file_bytes"));
        }
        other => panic!("{other:?}"),
    }
}
