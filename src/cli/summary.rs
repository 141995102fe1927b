//! The summary of a finished job, for people. It is made from the archive or from the final event.

use std::time::Duration;

use super::grid::{Align, Grid, printable};
use super::progress::clock;
use crate::message::event::{ErrorReport, EventData, TableReport};
use crate::text::{Rows, bytes_text, count};

/// The summary of a finished job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The job.
    pub job: String,
    /// `completed`, `partial`, `failed`, `cancelled` or `rejected`.
    pub status: String,
    /// Time from the storing of the request to the end of the job, if known.
    pub duration: Option<Duration>,
    /// The tables.
    pub tables: Vec<TableReport>,
    /// Relations that patterns matched and that were left out, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Why the job as a whole failed.
    pub error: Option<ErrorReport>,
    /// Whether the event left tables out.
    pub truncated: bool,
}

impl Summary {
    /// The summary of a final event.
    #[must_use]
    pub fn of_event(status: &str, data: &EventData) -> Self {
        Self {
            job: data.job_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            status: status.to_owned(),
            duration: data.duration_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()),
            // Tables that a cancel left undone have neither directory nor error, and are not shown.
            tables: data
                .tables
                .iter()
                .filter(|t| t.directory.is_some() || t.error.is_some())
                .cloned()
                .collect(),
            error: data.error.clone(),
            truncated: data.truncated,
            ..Self::default()
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (done, failed): (Vec<_>, Vec<_>) = self.tables.iter().partition(|t| t.error.is_none());
        if !done.is_empty() {
            let mut grid = Grid::new(&[
                ("TABLE", Align::Left),
                ("DIRECTORY", Align::Left),
                ("ROWS", Align::Right),
                ("FILES", Align::Right),
                ("SIZE", Align::Right),
                ("TIME", Align::Right),
                ("ROWS/S", Align::Right),
            ]);
            for table in &done {
                let seconds = table.seconds.filter(|s| *s > 0.0);
                grid.row([
                    table.table.clone(),
                    table.directory.clone().unwrap_or_default(),
                    table.rows.to_string(),
                    table.files.to_string(),
                    bytes_text(table.bytes),
                    seconds.map_or(String::new(), |s| format!("{s:.1}s")),
                    seconds.map_or(String::new(), |s| Rows((table.rows as f64 / s) as u64).to_string()),
                ]);
            }
            writeln!(f, "{grid}")?;
            for table in done {
                if let Some(note) = &table.note {
                    writeln!(f, "{}: {}", printable(&table.table), printable(note))?;
                }
            }
        }
        for table in &failed {
            if let Some(error) = &table.error {
                write_error(f, &format!("failed {}", table.table), error)?;
            }
        }
        for (table, reason) in &self.skipped {
            writeln!(f, "skipped {}: {}", printable(table), printable(reason))?;
        }
        if self.truncated {
            writeln!(f, "more tables are in the archive: `adu-export status {}`", self.job)?;
        }
        if let Some(error) = &self.error {
            write_error(f, "error", error)?;
        }
        if self.tables.is_empty() {
            return writeln!(f, "{} {}", self.job, self.status);
        }
        let done = self.tables.len() - failed.len();
        let rows: u64 = self.tables.iter().map(|t| t.rows).fold(0, u64::saturating_add);
        let bytes: u64 = self.tables.iter().map(|t| t.bytes).fold(0, u64::saturating_add);
        write!(
            f,
            "{} {}: {}, {}, {}",
            self.job,
            self.status,
            count(done as u64, "table"),
            count(rows, "row"),
            bytes_text(bytes)
        )?;
        if !failed.is_empty() {
            write!(f, ", {} failed", failed.len())?;
        }
        match self.duration {
            Some(duration) if duration.as_secs() > 0 => {
                let rate = Rows((rows as f64 / duration.as_secs_f64()) as u64);
                writeln!(f, " in {} ({rate} rows/s)", clock(duration))
            }
            Some(duration) => writeln!(f, " in {} ms", duration.as_millis()),
            None => writeln!(f),
        }
    }
}

fn write_error(f: &mut std::fmt::Formatter<'_>, what: &str, error: &ErrorReport) -> std::fmt::Result {
    writeln!(f, "{}: {} [{}]", printable(what), printable(&error.message), printable(&error.code))?;
    match &error.remedy {
        Some(remedy) => writeln!(f, "    {}", printable(remedy)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, rows: u64, error: Option<ErrorReport>) -> TableReport {
        TableReport {
            table: name.into(),
            directory: error.is_none().then(|| name.replace('.', "_")),
            rows,
            bytes: rows * 10,
            files: 2,
            seconds: (rows > 0).then_some(10.0),
            error,
            ..TableReport::default()
        }
    }

    #[test]
    fn a_summary_tells_what_is_there_and_what_is_not() {
        let gone =
            ErrorReport::permanent("unknown_table", "table s.gone does not exist", "check the spelling");
        let summary = Summary {
            job: "j1".into(),
            status: "partial".into(),
            duration: Some(Duration::from_secs(20)),
            tables: vec![
                table("s.a", 2_000_000, None),
                table("s.gone", 0, Some(gone)),
                table("s.empty", 0, None),
            ],
            skipped: vec![("s.x".into(), "no SELECT right".into())],
            ..Summary::default()
        };
        let expected = "\
TABLE    DIRECTORY     ROWS  FILES      SIZE   TIME  ROWS/S
s.a      s_a        2000000      2  19.1 MiB  10.0s   200 k
s.empty  s_empty          0      2       0 B

failed s.gone: table s.gone does not exist [unknown_table]
    check the spelling
skipped s.x: no SELECT right
j1 partial: 2 tables, 2000000 rows, 19.1 MiB, 1 failed in 20s (100 k rows/s)
";
        assert_eq!(summary.to_string(), expected);
    }

    #[test]
    fn a_rejection_is_its_error() {
        let error = Some(ErrorReport::permanent("not_json", "the request is not JSON", "send JSON"));
        let job_id = crate::message::JobId::parse("j").ok();
        let data = EventData { error, job_id, ..EventData::default() };
        let text = Summary::of_event("rejected", &data).to_string();
        assert_eq!(text, "error: the request is not JSON [not_json]\n    send JSON\nj rejected\n");
    }
}
