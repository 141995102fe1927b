//! The spans of a job and its tables, made from plans, records and archive when the job is committed.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::archive::{Archive, Status};
use super::outcome::{Outcome, Owner, TableResult};
use super::record::Record;
use super::state::{BatchState, JobState};
use crate::message::BatchId;
use crate::message::pattern::qualified;
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::traces::{Ended, JobTrace, Known, Value};

impl JobState {
    /// Sends the spans of this job, which was committed with this archive.
    pub(super) fn trace(&self, root: Uuid, archive: &Archive) {
        let traceparent = self.stored.caller.traceparent.as_deref();
        let job = JobTrace { root, job: self.id(), traceparent };
        job.send(|| self.spans(archive));
    }

    fn spans(&self, archive: &Archive) -> Vec<Ended> {
        let mut spans = vec![self.span(archive)];
        for (id, batch) in &self.batches {
            let (Some(plan), Some(outcome)) = (self.plan(id.epoch), &batch.outcome) else { continue };
            let (start, end) = time_of(plan, batch, outcome);
            for ended in &outcome.tables {
                let Some(planned) = plan.table(ended.table) else { continue };
                spans.push(table(*id, planned, batch, &ended.result, (start, end)));
            }
        }
        spans
    }

    fn span(&self, archive: &Archive) -> Ended {
        let text = |text: &str| Value::Text(text.to_owned());
        let figures = &archive.performance;
        let mut attributes = vec![
            ("job", text(archive.job_id.as_str())),
            ("source", text(archive.source.as_str())),
            ("status", text(archive.status.as_str())),
            ("epochs", Value::Number(archive.epochs.into())),
            ("tables", Value::Number(archive.tables.len() as u64)),
            ("rows", Value::Number(figures.total_rows_exported)),
            ("bytes", Value::Number(figures.total_bytes)),
        ];
        let owner = &self.stored.owner;
        if let Owner::Daemons { prefix, .. } = owner {
            attributes.push(("messaging.system", text("rabbitmq")));
            attributes.push(("messaging.operation.name", text("process")));
            attributes.push(("messaging.operation.type", text("process")));
            attributes.push(("messaging.destination.name", Value::Text(format!("{prefix}.requests"))));
            let caller = &archive.caller;
            let ids = [
                ("messaging.message.id", &caller.message_id),
                ("messaging.message.conversation_id", &caller.correlation_id),
            ];
            attributes.extend(ids.into_iter().filter_map(|(name, id)| Some((name, text(id.as_ref()?)))));
        }
        // A cancel is what somebody asked for.
        let failed = matches!(archive.status, Status::Failed | Status::Partial);
        let code = archive.error.as_ref().map_or(archive.status.as_str(), |error| &error.code);
        Ended {
            of: Known::Job,
            start: archive.received_at,
            end: archive.committed_at,
            error: failed.then(|| code.to_owned()),
            attributes,
            consumes: matches!(owner, Owner::Daemons { .. }),
        }
    }
}

/// From the first chunk of a batch, or from its plan if there is none, to its outcome.
fn time_of(plan: &ExportPlan, batch: &BatchState, outcome: &Outcome) -> (Timestamp, Timestamp) {
    let records = || batch.records.iter().flatten();
    let start = records().map(|record| record.started_at).min().unwrap_or(plan.planned_at);
    let end_of = |record: &Record| {
        let lasted = SignedDuration::try_from_secs_f64(record.seconds).unwrap_or_default();
        record.started_at.checked_add(lasted).unwrap_or(record.started_at)
    };
    let end = records().map(|record| end_of(record)).chain([outcome.at]).max().unwrap_or(start);
    (start, end)
}

fn table(
    id: BatchId,
    planned: &PlannedTable,
    batch: &BatchState,
    result: &TableResult,
    (start, end): (Timestamp, Timestamp),
) -> Ended {
    let (mut rows, mut bytes, mut files) = (0, 0, 0);
    let (status, error) = match result {
        TableResult::Published { files: published, .. } => {
            rows = published.iter().map(|file| file.rows).sum();
            bytes = published.iter().map(|file| file.bytes).sum();
            files = published.len() as u64;
            ("completed", None)
        }
        TableResult::Failed { error } => ("failed", Some(error.code.clone())),
        TableResult::Abandoned { .. } => ("planned_again", None),
        TableResult::Cancelled => ("cancelled", None),
    };
    let name = qualified(&planned.schema, &planned.name);
    Ended {
        of: Known::Table(id.epoch, planned.number),
        start,
        end,
        error,
        attributes: vec![
            ("epoch", Value::Number(id.epoch.0.into())),
            ("table", Value::Text(name.clone())),
            ("db.collection.name", Value::Text(name)),
            ("strategy", Value::Text(planned.strategy.name().into())),
            ("status", Value::Text(status.into())),
            ("chunks", Value::Number(batch.records.len() as u64)),
            ("rows", Value::Number(rows)),
            ("bytes", Value::Number(bytes)),
            ("files", Value::Number(files)),
        ],
        consumes: false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job::outcome::TableOutcome;
    use crate::job::record::Cause;
    use crate::job::tests::{planned, record, running};
    use crate::message::event::ErrorReport;
    use crate::message::{BatchNo, ChunkNo, Epoch, TableNo};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn each_table_of_each_plan_has_a_span_within_that_of_its_job() {
        let (mut job, _) = running(vec![planned(0, 0, 2), planned(1, 1, 1), planned(2, 2, 1)]);
        let secret = ErrorReport::permanent("22003", "the value 4711 is out of range", "mend it");
        let results = [
            TableResult::Published { directory: "s_t0".into(), files: vec![], pages: None },
            TableResult::Failed { error: secret },
            TableResult::Abandoned { cause: Cause::LineageLost },
        ];
        for (number, result) in (0..).zip(results) {
            let id = BatchId { epoch: Epoch(1), batch: BatchNo(number) };
            let batch = job.batches.get_mut(&id).expect("planned");
            let tables = vec![TableOutcome { table: TableNo(number), result }];
            batch.outcome = Some(Arc::new(Outcome { v: 1, at: at(20), tables }));
        }
        let first = job.batches.get_mut(&BatchId { epoch: Epoch(1), batch: BatchNo(0) }).expect("planned");
        for (chunk, started, seconds) in [(0, 7, 30.5), (1, 5, 1.0)] {
            let record = Record { started_at: at(started), seconds, ..record(&[0]) };
            first.record(ChunkNo(chunk), record);
        }

        let spans = job.spans(&Archive::of(&job, at(60)));
        let time = |span: &Ended| (span.start.as_millisecond(), span.end.as_millisecond());
        let shown: Vec<_> = spans.iter().map(|s| (s.of, time(s), s.error.as_deref())).collect();
        let table = |number| Known::Table(Epoch(1), TableNo(number));
        assert_eq!(
            shown,
            [
                (Known::Job, (0, 60_000), Some("partial")),
                (table(0), (5_000, 37_500), None),
                (table(1), (0, 20_000), Some("22003")),
                (table(2), (0, 20_000), None),
            ]
        );
        let status = |span: &Ended| span.attributes.iter().find(|(key, _)| *key == "status").cloned();
        let text = |text: &str| Some(("status", Value::Text(text.into())));
        assert_eq!(
            spans[1..].iter().map(status).collect::<Vec<_>>(),
            [text("completed"), text("failed"), text("planned_again")]
        );
        assert!(!format!("{spans:?}").contains("4711"), "messages may have values in them");
    }
}
