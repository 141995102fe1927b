//! Shows the progress of a job on standard error. On a terminal there is a bar for each running table and one
//! for the whole job; elsewhere there are plain lines. Both are drawn from [`TableProgress`], which the
//! caller fills a few times per second.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::grid::printable;
use crate::status::picture::TableState;
use crate::text::{Rows, bytes_text, count};

/// Largest number of bars for tables. The other tables only count in the bar for the whole job.
const MAX_BARS: usize = 12;
/// How often a plain line is printed.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Seconds over which rates are smoothed.
const SMOOTHING_SECONDS: f64 = 5.0;
/// Steps of a bar.
const STEPS: u64 = 1_000;

/// One table of a job in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProgress {
    /// `schema.table`
    pub table: String,
    /// The state of the table.
    pub state: TableState,
    /// Rows read so far, with those of running chunks.
    pub rows: u64,
    /// Rows expected.
    pub estimated_rows: u64,
    /// Bytes read so far.
    pub bytes: u64,
    /// Finished chunks.
    pub chunks_done: u32,
    /// All chunks.
    pub chunks: u32,
}

impl TableProgress {
    fn ended(&self) -> bool {
        matches!(self.state, TableState::Done | TableState::Failed | TableState::Cancelled)
    }

    /// The expected number of rows in the end.
    fn expected(&self) -> u64 {
        if self.ended() { self.rows } else { self.estimated_rows.max(self.rows) }
    }
}

/// Shows the progress of one job.
pub struct ProgressDisplay {
    output: Output,
    paces: HashMap<String, Pace>,
    all: Pace,
    told: HashMap<String, TableState>,
    last_line: Option<Duration>,
}

enum Output {
    Bars(Bars),
    Lines(Box<dyn Write + Send>),
    Silent,
}

impl ProgressDisplay {
    /// A display on standard error: bars on a terminal, else lines. With `quiet` there is nothing.
    #[must_use]
    pub fn on_stderr(quiet: bool) -> Self {
        Self::new(match quiet {
            true => Output::Silent,
            false if std::io::stderr().is_terminal() => Output::Bars(Bars::new()),
            false => Output::Lines(Box::new(std::io::stderr())),
        })
    }

    /// Prints plain lines to a writer.
    #[must_use]
    pub fn lines(out: Box<dyn Write + Send>) -> Self {
        Self::new(Output::Lines(out))
    }

    fn new(output: Output) -> Self {
        Self { output, paces: HashMap::new(), all: Pace::default(), told: HashMap::new(), last_line: None }
    }

    /// Shows the state of the tables `elapsed` after the start.
    pub fn update(&mut self, tables: &[TableProgress], elapsed: Duration) {
        self.all.update(elapsed, tables.iter().map(|t| t.rows).sum());
        for table in tables.iter().filter(|t| t.state == TableState::Running) {
            self.paces.entry(table.table.clone()).or_default().update(elapsed, table.rows);
        }
        for table in tables.iter().filter(|t| t.ended()) {
            if self.told.insert(table.table.clone(), table.state).is_none() {
                self.paces.remove(&table.table);
                self.print(&end_line(table));
            }
        }
        let total = total_line(tables, &self.all);
        match &mut self.output {
            Output::Bars(bars) => bars.draw(tables, &self.paces, &total),
            Output::Lines(_) => {
                if self.last_line.is_none_or(|last| elapsed >= last + LINE_INTERVAL) {
                    self.last_line = Some(elapsed);
                    self.print(&total);
                }
            }
            Output::Silent => {}
        }
    }

    /// Prints a line above the bars.
    pub fn print(&mut self, line: &str) {
        let line = printable(line);
        // An export must not fail because its progress cannot be shown.
        match &mut self.output {
            Output::Bars(bars) => drop(bars.multi.println(line)),
            Output::Lines(out) => drop(writeln!(out, "{line}")),
            Output::Silent => {}
        }
    }

    /// Removes the bars, because the summary follows.
    pub fn finish(self) {
        if let Output::Bars(bars) = self.output {
            drop(bars.multi.clear());
        }
    }
}

struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
    tables: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        let all = multi.add(bar());
        all.set_prefix("all");
        Self { multi, all, tables: HashMap::new() }
    }

    fn draw(&mut self, tables: &[TableProgress], paces: &HashMap<String, Pace>, total: &str) {
        let running: Vec<&TableProgress> =
            tables.iter().filter(|t| t.state == TableState::Running).take(MAX_BARS).collect();
        self.tables.retain(|name, bar| {
            let keep = running.iter().any(|t| t.table == *name);
            if !keep {
                bar.finish_and_clear();
                self.multi.remove(bar);
            }
            keep
        });
        for table in running {
            let shown = self.tables.entry(table.table.clone()).or_insert_with(|| {
                let shown = self.multi.insert_before(&self.all, bar());
                shown.set_prefix(printable(&table.table));
                shown
            });
            shown.set_position(share(table.rows, table.expected()));
            shown.set_message(table_line(table, paces.get(&table.table)));
        }
        let (rows, expected) = sums(tables);
        self.all.set_position(share(rows, expected));
        self.all.set_message(total.to_owned());
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:28!} {bar:24} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(STEPS).with_style(style.progress_chars("=> "))
}

/// The position of a bar.
fn share(rows: u64, expected: u64) -> u64 {
    let steps = u128::from(rows) * u128::from(STEPS) / u128::from(expected.max(1));
    u64::try_from(steps).unwrap_or(STEPS).min(STEPS)
}

fn sums(tables: &[TableProgress]) -> (u64, u64) {
    tables.iter().fold((0, 0), |(rows, expected), t| {
        (rows.saturating_add(t.rows), expected.saturating_add(t.expected()))
    })
}

fn table_line(table: &TableProgress, pace: Option<&Pace>) -> String {
    let chunks = match table.chunks {
        0 | 1 => String::new(),
        n => format!(", chunk {} of {n}", table.chunks_done.saturating_add(1).min(n)),
    };
    format!(
        "{} of ~{} rows, {}{chunks}{}",
        Rows(table.rows),
        Rows(table.expected()),
        bytes_text(table.bytes),
        pace_text(pace, table.expected().saturating_sub(table.rows))
    )
}

fn total_line(tables: &[TableProgress], pace: &Pace) -> String {
    let done = tables.iter().filter(|t| t.state == TableState::Done).count();
    let failed = tables.iter().filter(|t| t.state == TableState::Failed).count();
    let failures = if failed == 0 { String::new() } else { format!(" ({failed} failed)") };
    let (rows, expected) = sums(tables);
    format!(
        "{done} of {} tables{failures}, {} of ~{} rows, {}{}",
        tables.len(),
        Rows(rows),
        Rows(expected),
        bytes_text(tables.iter().map(|t| t.bytes).fold(0, u64::saturating_add)),
        pace_text(Some(pace), expected.saturating_sub(rows))
    )
}

fn end_line(table: &TableProgress) -> String {
    let what = match table.state {
        TableState::Done => "done",
        TableState::Failed => "failed",
        TableState::Cancelled => "cancelled",
        TableState::Waiting | TableState::Running => "running",
    };
    let chunks = if table.chunks > 1 { format!(" in {} chunks", table.chunks) } else { String::new() };
    match table.state {
        TableState::Done if table.rows < 1000 => {
            format!("{} {what}: {}{chunks}", table.table, count(table.rows, "row"))
        }
        TableState::Done => format!("{} {what}: {} rows{chunks}", table.table, Rows(table.rows)),
        _ => format!("{} {what}", table.table),
    }
}

fn pace_text(pace: Option<&Pace>, rows_left: u64) -> String {
    let Some(rate) = pace.and_then(Pace::rate) else { return String::new() };
    let left = match Duration::try_from_secs_f64(rows_left as f64 / rate) {
        Ok(left) if rows_left > 0 => format!(", {} left", clock(left)),
        _ => String::new(),
    };
    format!(", {} rows/s{left}", Rows(rate as u64))
}

/// Rows per second, smoothed.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    last: Option<(Duration, u64)>,
    rate: Option<f64>,
}

impl Pace {
    fn update(&mut self, at: Duration, rows: u64) {
        let Some((before, had)) = self.last else {
            self.last = Some((at, rows));
            return;
        };
        let seconds = at.saturating_sub(before).as_secs_f64();
        if seconds < 0.05 {
            return;
        }
        self.last = Some((at, rows));
        // A chunk that starts again lowers the number of rows, which is not a negative rate.
        let now = rows.saturating_sub(had) as f64 / seconds;
        let weight = 1.0 - (-seconds / SMOOTHING_SECONDS).exp();
        self.rate = Some(self.rate.map_or(now, |rate| rate + weight * (now - rate)));
    }

    /// The rate, once it is large enough to show.
    fn rate(&self) -> Option<f64> {
        self.rate.filter(|rate| *rate >= 0.5)
    }
}

/// `12s`, `4m10s`, `1h03m`, `3d04h`.
#[must_use]
pub fn clock(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn table(name: &str, state: TableState, rows: u64) -> TableProgress {
        TableProgress {
            table: name.into(),
            state,
            rows,
            estimated_rows: 1_000_000,
            bytes: rows * 100,
            chunks_done: 1,
            chunks: 4,
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn without_a_terminal_progress_is_a_line_now_and_then() {
        let out = Shared::default();
        let mut display = ProgressDisplay::lines(Box::new(out.clone()));
        for second in 0..=25_u64 {
            let a = table("s.a", TableState::Running, second * 20_000);
            let state = if second < 5 { TableState::Waiting } else { TableState::Failed };
            display.update(&[a, table("s.b", state, 0)], Duration::from_secs(second));
        }
        display.update(&[table("s.a", TableState::Done, 900_000)], Duration::from_secs(26));
        display.finish();
        let text = String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("UTF-8");
        assert_eq!(
            text,
            "0 of 2 tables, 0 of ~2.0 M rows, 0 B\n\
             s.b failed\n\
             0 of 2 tables (1 failed), 200 k of ~1.0 M rows, 19.1 MiB, 20.0 k rows/s, 40s left\n\
             0 of 2 tables (1 failed), 400 k of ~1.0 M rows, 38.1 MiB, 20.0 k rows/s, 30s left\n\
             s.a done: 900 k rows in 4 chunks\n"
        );
    }

    #[test]
    fn a_table_larger_than_estimated_never_shows_more_than_all() {
        let big = table("s.a", TableState::Running, 3_000_000);
        assert_eq!(share(big.rows, big.expected()), STEPS);
        assert_eq!(share(1, 3), 333);
        assert_eq!(share(0, 0), 0);
        assert_eq!(table_line(&big, None), "3.0 M of ~3.0 M rows, 286 MiB, chunk 2 of 4");
    }

    #[test]
    fn bars_are_those_of_tables_that_run_and_one_for_all() {
        let (mut bars, paces) = (Bars::new(), HashMap::new());
        let many: Vec<_> = (0..40).map(|n| table(&format!("s.t{n}"), TableState::Running, 5)).collect();
        bars.draw(&many, &paces, "40 tables");
        assert_eq!(bars.tables.len(), MAX_BARS, "the rest counts in the bar for all");
        let shown = bars.tables["s.t1"].clone();
        assert_eq!(shown.prefix(), "s.t1");
        assert_eq!((bars.all.message(), shown.is_finished()), ("40 tables".to_owned(), false));
        bars.draw(&[table("s.t1", TableState::Done, 5), many[2].clone()], &paces, "2 tables");
        assert_eq!(bars.tables.keys().collect::<Vec<_>>(), ["s.t2"]);
        assert!(shown.is_finished(), "the bar of a table that is done is removed");
        assert!(bars.all.position() < STEPS, "not all is done");
    }

    #[test]
    fn spans_are_short() {
        let clocks = [0, 59, 61, 3_700, 100_000].map(|s| clock(Duration::from_secs(s)));
        assert_eq!(clocks, ["0s", "59s", "1m01s", "1h01m", "1d03h"]);
    }
}
