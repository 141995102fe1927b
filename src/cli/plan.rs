//! `adu-export plan`: shows how tables would be split, and runs nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::grid::{Align, Grid, printable};
use super::input::{Overrides, SourceArgs, TableArgs};
use super::{ExitCode, one_shot, print, print_json};
use crate::bus::Properties;
use crate::config::Config;
use crate::context::SourceEntry;
use crate::daemon::sources;
use crate::destination::base_name;
use crate::folder::VERSION;
use crate::intake::{self, Desk, RequestedAction};
use crate::job::outcome::NewJob;
use crate::machine::ThisMachine;
use crate::message::event::ErrorReport;
use crate::message::pattern::qualified;
use crate::message::setting::{FileTypes, ReadWay};
use crate::message::{Epoch, JobId, SourceName};
use crate::plan::ExportPlan;
use crate::plan::export_plan::PlannedTable;
use crate::planning::{self, Draft, Ground, Names, Next, PlanError, Scope, Title, Under};
use crate::relation::{Column, ColumnType};
use crate::retry::Pauses;
use crate::source::{ErrorKind, SourceError};
use crate::text::{Rows, count};

/// How long the source may take to give a snapshot.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(30);

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// What is read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The tables.
    #[command(flatten)]
    pub tables: TableArgs,
    /// Bytes at which a file is followed by the next one, at least 1048576
    #[arg(long, value_name = "N")]
    pub file_bytes: Option<NonZeroU64>,
    /// Column that files leave out, with a directory for each value (region=EU); may be repeated
    #[arg(long, value_name = "COLUMN")]
    pub partition_by: Vec<String>,
    /// exact, or portable: types and encodings that every reader takes
    #[arg(long, value_name = "T")]
    pub types: Option<FileTypes>,
    /// How tables are read: auto, copy, pages (PostgreSQL), retrieve or query (Greenplum)
    #[arg(long, value_name = "WAY")]
    pub read: Option<ReadWay>,
    /// Show the boundaries of every chunk
    #[arg(long)]
    pub chunks: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

/// Plans as a daemon would, and writes nothing.
///
/// # Errors
/// When the source cannot be reached or the request is not usable.
pub async fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    // Any folder will do, because nothing is exported.
    let (config, name) = args.source.load(Path::new("/"))?;
    let mut request = args.tables.request(&Overrides {
        source: name,
        file_bytes: args.file_bytes,
        partition_by: args.partition_by.clone(),
        types: args.types,
        read: args.read,
        ..Overrides::default()
    })?;
    request.job_id = Some(JobId::parse("plan")?);
    let sources = sources(&config)?;
    one_shot::reach(&sources, request.source.as_ref()).await?;
    let desk = Desk { sources: config.sources.keys().cloned().collect(), fresh: Uuid::new_v4() };
    let body = serde_json::to_vec(&request)?;
    let job = match intake::read(&body, &Properties::default(), &desk) {
        Ok(RequestedAction::Export(job)) => job,
        Ok(RequestedAction::Cancel(_) | RequestedAction::Retry(_)) => {
            anyhow::bail!("the request is no export")
        }
        Err(error) => {
            eprintln!("rejected: {}", error_text(&error));
            return Ok(ExitCode::Rejected);
        }
    };
    let entry = sources.get(&job.source).context("a request that is taken names a source of ours")?;
    let plan = match patiently(&config, entry, &job).await {
        Ok(plan) => plan,
        Err(failure) => {
            eprintln!("failed: {failure}");
            return Ok(ExitCode::Failed);
        }
    };
    if args.json {
        print_json(&shown(&plan)?)?;
    } else {
        print(&render(&plan, args.chunks))?;
    }
    Ok(match (plan.tables.is_empty(), plan.failed.is_empty()) {
        (_, true) => ExitCode::Done,
        (false, false) => ExitCode::Partial,
        (true, false) => ExitCode::Failed,
    })
}

/// Plans, and tries again where that helps. The error says why there is no plan.
async fn patiently(config: &Config, entry: &SourceEntry, job: &NewJob) -> Result<ExportPlan, String> {
    let mut pauses = Pauses::new(&config.timing, Arc::new(ThisMachine));
    loop {
        let error = match once(config, entry, job).await {
            Ok(plan) => return Ok(plan),
            Err(PlanError::Failed(error)) => return Err(error_text(&error)),
            Err(PlanError::Source(error)) => error,
            Err(PlanError::Names(never)) => match never {},
        };
        let failure = || error_text(&error.report(entry.config.origin));
        let pace = match planning::next(&error) {
            Next::Again(pace) | Next::Anew(pace) => pace,
            Next::GiveUp | Next::Stop => return Err(failure()),
        };
        warn!(code = error.code, %error, "planning is tried again");
        match pauses.next(pace) {
            Some(pause) => tokio::time::sleep(pause).await,
            None if error.kind == ErrorKind::Authentication => return Err(failure()),
            None => {
                return Err("the source could not be asked for so long that planning was given up".into());
            }
        }
    }
}

async fn once(
    config: &Config,
    entry: &SourceEntry,
    job: &NewJob,
) -> Result<ExportPlan, PlanError<Infallible>> {
    let request = &job.request;
    let under = match planning::snapshots(&*entry.source, request).map_err(PlanError::Failed)? {
        Some(snapshots) => {
            let open = tokio::time::timeout(SNAPSHOT_LIMIT, snapshots.open(Uuid::new_v4()));
            let keeper = open.await.map_err(|_| {
                let seconds = SNAPSHOT_LIMIT.as_secs();
                SourceError::transient(
                    "slow",
                    format!("source {} did not answer within {seconds} s", entry.source.name()),
                )
            })??;
            Some(Under { snapshot: keeper.snapshot(), keeper })
        }
        None => None,
    };
    let ground = Ground {
        source: &*entry.source,
        config: &entry.config,
        export: &config.export,
        types: request.output.types.unwrap_or(config.export.types),
        under: under.as_ref(),
        now: &Timestamp::now,
    };
    let title = Title {
        v: VERSION,
        job: job.job.clone(),
        epoch: Epoch::FIRST,
        source: job.source.clone(),
        ready: Uuid::new_v4(),
        destination: None,
        traceparent: None,
    };
    let names = FreeNames { source: &job.source, owners: Mutex::default() };
    let cancel = CancellationToken::new();
    planning::plan(&ground, &Scope::first(request.clone()), &names, title, &cancel).await
}

/// Gives tables the names that they get in an empty folder.
struct FreeNames<'a> {
    source: &'a SourceName,
    owners: Mutex<HashMap<String, (String, String)>>,
}

#[async_trait]
impl Names for FreeNames<'_> {
    type Error = Infallible;

    async fn names(&self, tables: &[Draft<'_>]) -> Vec<Result<String, PlanError<Infallible>>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |table: &Draft<'_>| {
            let owner = (table.schema().to_owned(), table.name().to_owned());
            let candidates = base_name::candidates(self.source, table.schema(), table.name());
            let free = |name: &String| owners.get(name).is_none_or(|other| *other == owner);
            let name = candidates.into_iter().find(free).expect("the last one is of this table alone");
            owners.insert(name.clone(), owner);
            Ok(name)
        };
        tables.iter().map(name).collect()
    }
}

fn error_text(error: &ErrorReport) -> String {
    let remedy = error.remedy.as_deref().map_or(String::new(), |r| format!(" ({r})"));
    format!("{}{remedy}", error.message)
}

/// The plan as JSON. What the source notes about how it fetches a column is put among the column's own
/// fields.
fn shown(plan: &ExportPlan) -> serde_json::Result<Value> {
    let mut plan = serde_json::to_value(plan)?;
    let tables = plan["tables"].as_array_mut().into_iter().flatten();
    for column in tables.filter_map(|table| table["columns"].as_array_mut()).flatten() {
        let Some(column) = column.as_object_mut() else { continue };
        if let Some(Value::Object(noted)) = column.remove("reading") {
            column.extend(noted);
        }
    }
    Ok(plan)
}

/// The plan as text, with every chunk if asked for.
#[must_use]
pub fn render(plan: &ExportPlan, chunks: bool) -> String {
    let mut grid = Grid::new(&[
        ("TABLE", Align::Left),
        ("DIRECTORY", Align::Left),
        ("STRATEGY", Align::Left),
        ("CHUNKS", Align::Right),
        ("ROWS", Align::Right),
        ("COLUMNS", Align::Right),
    ]);
    for table in &plan.tables {
        grid.row([
            qualified(&table.schema, &table.name),
            directory(table),
            table.strategy.name().to_owned(),
            table.strategy.chunks().to_string(),
            format!("~{}", Rows(table.estimated_rows)),
            table.columns.len().to_string(),
        ]);
    }
    let mut text = if plan.tables.is_empty() { String::new() } else { grid.to_string() };
    let mut line = |words: String| {
        text.push_str(&printable(&words));
        text.push('\n');
    };
    line(String::new());
    for table in &plan.tables {
        line(format!("{}: {}", qualified(&table.schema, &table.name), table.reason));
        if let Some(note) = &table.note {
            line(format!("    {note}"));
        }
        if !table.partition_by.is_empty() {
            line(format!("    in a directory for each {}", table.partition_by.join(", ")));
        }
        for column in &table.columns {
            let Some(note) = column.note.as_deref().or_else(|| warning(column)) else { continue };
            line(format!("    column {} ({}): {note}", column.name, column.source_type));
        }
        if chunks {
            for chunk in 0..table.strategy.chunks() {
                let slice = table.strategy.slice(chunk).map_or(String::new(), |s| s.to_string());
                line(format!("    {chunk:06}  {slice}"));
            }
        }
    }
    for failed in &plan.failed {
        line(format!("failed {}: {}", failed.table, error_text(&failed.error)));
    }
    for skipped in &plan.skipped {
        line(format!("skipped {}: {}", skipped.table, skipped.reason));
    }
    line(totals(plan));
    text
}

fn totals(plan: &ExportPlan) -> String {
    let chunks: u64 = plan.tables.iter().map(|t| u64::from(t.strategy.chunks())).sum();
    let rows: u64 = plan.tables.iter().map(|t| t.estimated_rows).fold(0, u64::saturating_add);
    let batches = plan.batches().len();
    let mut text = format!(
        "{} in {}, {} of about {} rows",
        count(plan.tables.len() as u64, "table"),
        count(batches as u64, "batch"),
        count(chunks, "chunk"),
        Rows(rows)
    );
    match &plan.snapshot {
        Some(snapshot) => text.push_str(&format!(", snapshot of {}", snapshot.time)),
        None => text.push_str(", without a snapshot: tables and chunks show different moments"),
    }
    text
}

fn directory(table: &PlannedTable) -> String {
    match &table.directory {
        Some(output) => format!("{output}/{}", table.base),
        None => table.base.clone(),
    }
}

/// A warning where a column gets a type that its owner may not expect, with the option that changes it.
fn warning(column: &Column) -> Option<&'static str> {
    let numbers = matches!(column.source_type.as_str(), "numeric" | "numeric[]");
    let texts = match &column.ty {
        ColumnType::Text => true,
        ColumnType::List(element) => **element == ColumnType::Text,
        _ => false,
    };
    (numbers && texts).then_some(
        "text, exact, because its type has no precision; `numeric` of the request or the source makes it decimal(p,s) or double",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::output::PARTITIONS_MAX;
    use crate::message::request::{OnConflict, OnUnfit, Verify};
    use crate::message::setting::Compression;
    use crate::message::{BatchNo, TableNo};
    use crate::plan::export_plan::{FailedTable, SkippedRelation, WriterSettings};
    use crate::relation::{Frozen, Snapshot, Strategy};

    fn table(number: u32, name: &str, strategy: Strategy, reason: &str) -> PlannedTable {
        PlannedTable {
            number: TableNo(number),
            batch: BatchNo(number),
            schema: "public".into(),
            name: name.into(),
            base: format!("public_{name}"),
            directory: None,
            full: true,
            only: false,
            contains: vec![],
            columns: vec![Column {
                note: (number == 0).then(|| "kept as text".into()),
                ..Column::plain("id", "numeric", ColumnType::Text, false)
            }],
            partition_by: vec![],
            key: vec![],
            filter: None,
            range_filter: None,
            high_water_mark: None,
            strategy,
            read: crate::message::setting::ReadWay::Auto,
            reason: reason.into(),
            note: (number == 1).then(|| "policies hide rows".into()),
            estimated_rows: 3_000_000,
            counted_rows: None,
            snapshot_rows: None,
        }
    }

    fn plan() -> ExportPlan {
        let range = Strategy::Range {
            column: "id".into(),
            order: Frozen::of(&"bigint"),
            bounds: vec!["10".into(), "20".into()],
            nulls: true,
        };
        ExportPlan {
            v: 1,
            job: JobId::parse("j").expect("valid"),
            epoch: Epoch::FIRST,
            source: SourceName::parse("w").expect("valid"),
            planned_at: Timestamp::UNIX_EPOCH,
            ready: Uuid::nil(),
            destination: None,
            traceparent: None,
            snapshot: Some(Snapshot {
                lineage: Uuid::nil(),
                time: Timestamp::UNIX_EPOCH,
                recall: Frozen::default(),
            }),
            session: vec![],
            writer: WriterSettings {
                compression: Compression::Snappy,
                row_group_bytes: 1,
                file_bytes: None,
                partitions_max: PARTITIONS_MAX,
                types: Default::default(),
            },
            on_conflict: OnConflict::Version,
            on_unfit: OnUnfit::Text,
            verify: Verify::None,
            most_chunks: None,
            tables: vec![
                table(0, "orders", range, "range on id: why"),
                table(1, "x", Strategy::Ctid { bounds: vec![5] }, "ctid: why"),
            ],
            error: None,
            failed: vec![FailedTable {
                number: TableNo(2),
                table: "public.gone".into(),
                error: ErrorReport::permanent(
                    "unknown_table",
                    "table public.gone does not exist",
                    "check it",
                ),
            }],
            skipped: vec![SkippedRelation {
                table: "public.s".into(),
                reason: "no SELECT right".into(),
                within: vec![],
            }],
        }
    }

    #[test]
    fn a_plan_reads_as_a_table_with_reasons() {
        let expected = "\
TABLE          DIRECTORY      STRATEGY  CHUNKS    ROWS  COLUMNS
public.orders  public_orders  range          4  ~3.0 M        1
public.x       public_x       ctid           2  ~3.0 M        1

public.orders: range on id: why
    column id (numeric): kept as text
public.x: ctid: why
    policies hide rows
    column id (numeric): text, exact, because its type has no precision; `numeric` of the request or the source makes it decimal(p,s) or double
failed public.gone: table public.gone does not exist (check it)
skipped public.s: no SELECT right
2 tables in 2 batches, 6 chunks of about 6.0 M rows, snapshot of 1970-01-01T00:00:00Z
";
        assert_eq!(render(&plan(), false), expected);
    }

    #[test]
    fn a_plan_without_a_snapshot_says_what_is_not_promised() {
        let text = render(&ExportPlan { snapshot: None, ..plan() }, false);
        assert!(
            text.ends_with("rows, without a snapshot: tables and chunks show different moments\n"),
            "{text}"
        );
    }

    #[test]
    fn what_the_source_notes_of_a_column_is_shown_among_its_fields() {
        let mut plan = plan();
        plan.tables[0].columns[0].reading = Frozen::of(&json!({"fetch": "as_text", "type": "uuid_text"}));
        let shown = shown(&plan).expect("JSON");
        let column = json!({
            "name": "id", "source_type": "numeric", "fetch": "as_text", "type": "uuid_text", "nullable": false,
            "note": "kept as text",
        });
        assert_eq!(shown["tables"][0]["columns"], json!([column]));
        assert_eq!(shown["tables"][1]["columns"][0]["type"], "text", "of a source that notes nothing");
    }

    #[test]
    fn every_chunk_is_shown_when_asked_for() {
        let text = render(&plan(), true);
        for line in [
            "    000000  id < 10\n",
            "    000001  10 <= id < 20\n",
            "    000002  20 <= id\n",
            "    000003  id is NULL\n",
            "    000000  page < 5\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
