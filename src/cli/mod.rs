//! The command line. Each subcommand has a file, which only connects other modules. Results go to standard
//! output, progress and errors to standard error.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::LogConfig;
use crate::traces::{self, TraceLayer};

pub mod cancel;
pub mod check;
pub mod completions;
pub mod daemon;
mod damage;
#[cfg(test)]
mod documentation;
mod ended;
pub mod exit;
pub mod export;
pub mod follow;
pub mod grid;
pub mod healthcheck;
pub mod input;
pub mod man;
pub mod one_shot;
pub mod plan;
pub mod progress;
pub mod prune;
pub mod retry;
pub mod status;
pub mod submit;
pub mod summary;
pub mod verify;
pub mod view;

pub use exit::ExitCode;

/// Exports database tables to clean directories of Parquet files.
#[derive(Debug, Parser)]
#[command(name = "adu-export", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 partial, 4 rejected, \
5 cancelled, 6 unreachable or timed out.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take requests from RabbitMQ and export what they ask for
    #[command(
        after_help = "Examples:\n  adu-export daemon\n  adu-export daemon --config /etc/adu-export/warehouse.toml"
    )]
    Daemon(daemon::DaemonArgs),
    /// Export tables here and now, without broker and daemon
    #[command(
        after_help = "Examples:\n  adu-export export --dsn postgres://me@db.example/shop --table public.orders --out exports\n  adu-export export --dsn service=shop --table public.orders --where 'id >= 7' --out exports"
    )]
    Export(export::ExportArgs),
    /// Send a request to the daemons
    #[command(
        after_help = "Examples:\n  adu-export submit --table public.orders --table 'sales.*' --wait\n  adu-export submit --request nightly.json --job-id nightly-2026-12-01"
    )]
    Submit(submit::SubmitArgs),
    /// Show jobs, or where the newest export of a table is
    #[command(
        after_help = "Examples:\n  adu-export status nightly-2026-12-01 --watch\n  adu-export status --latest public.orders"
    )]
    Status(status::StatusArgs),
    /// Cancel a job
    #[command(
        after_help = "Examples:\n  adu-export cancel nightly-2026-12-01\n  adu-export cancel nightly-2026-12-01 --wait"
    )]
    Cancel(follow::JobArgs),
    /// Export the failed tables of a finished job JOB again, as job JOB.rN
    #[command(
        after_help = "Examples:\n  adu-export retry nightly-2026-12-01\n  adu-export retry nightly-2026-12-01 --wait"
    )]
    Retry(follow::JobArgs),
    /// Show how tables would be split, without exporting them
    #[command(
        after_help = "Examples:\n  adu-export plan --dsn postgres://me@db.example/shop --table 'public.*'\n  adu-export plan --config adu-export.toml --request nightly.json --chunks"
    )]
    Plan(plan::PlanArgs),
    /// Read files again and compare them with the archive
    #[command(
        after_help = "Examples:\n  adu-export verify nightly-2026-12-01\n  adu-export verify nightly-2026-12-01 --root /data/exports"
    )]
    Verify(verify::VerifyArgs),
    /// Check configuration, broker, sources and export folder
    #[command(after_help = "Examples:\n  adu-export check\n  adu-export check --init")]
    Check(check::CheckArgs),
    /// Ask the daemon of this host whether it is ready: exit code 0 or 1
    #[command(
        after_help = "Examples:\n  adu-export healthcheck\n  adu-export healthcheck --config /etc/adu-export/warehouse.toml"
    )]
    Healthcheck(healthcheck::HealthcheckArgs),
    /// List old versions of tables, or remove them
    #[command(
        after_help = "Examples:\n  adu-export prune --keep 7\n  adu-export prune --keep 7 --older-than 30d --yes"
    )]
    Prune(prune::PruneArgs),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  adu-export completions bash > ~/.local/share/bash-completion/completions/adu-export\n  adu-export completions fish > ~/.config/fish/completions/adu-export.fish"
    )]
    Completions(completions::CompletionsArgs),
    /// Print the manual page, as in `adu-export man | man -l -`
    #[command(after_help = "Examples:\n  adu-export man | man -l -\n  adu-export man > adu-export.1")]
    Man,
}

/// Parses and runs the command line, and prints an error once.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    allow_open_files();
    let code = cli.command.run().unwrap_or_else(|error| {
        if !exit::is_closed_pipe(&error) {
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
        }
        ExitCode::of_error(&error)
    });
    code.into()
}

/// Lets the process open as many files as it may. A chunk that is partitioned has many open at once, and shells
/// usually allow 1024.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // A process that may not open more still runs.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

impl Command {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Daemon(args) => daemon::run(args),
            Self::Completions(args) => Ok(completions::run(args, &mut std::io::stdout().lock())?),
            Self::Healthcheck(args) => healthcheck::run(args),
            Self::Man => Ok(man::run(&mut std::io::stdout().lock())?),
            Self::Export(args) => quietly_with(traces::prepare(), export::run(args)),
            Self::Submit(args) => quietly(submit::run(args)),
            Self::Status(args) => quietly(status::run(args)),
            Self::Cancel(args) => quietly(cancel::run(args)),
            Self::Retry(args) => quietly(retry::run(args)),
            Self::Plan(args) => quietly(plan::run(args)),
            Self::Verify(args) => quietly(verify::run(args)),
            Self::Check(args) => quietly(check::run(args)),
            Self::Prune(args) => quietly(prune::run(args)),
        }
    }
}

/// Runs a command that logs only errors, unless `ADU_EXPORT__LOG__LEVEL` asks for more.
fn quietly(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    quietly_with(None, command)
}

/// Like [`quietly`], for a command that may send traces.
fn quietly_with(
    traces: Option<TraceLayer>,
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let level = std::env::var("ADU_EXPORT__LOG__LEVEL").unwrap_or_else(|_| "error".into());
    crate::logging::init(&LogConfig { level, ..LogConfig::default() }, traces)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(command);
    traces::end();
    // A name that is still looked up, and spans that nobody takes, are not waited for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start threads")
}

/// Prints a result.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints a result as JSON.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("adu-export").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definitions_contradict_nothing() {
        Cli::command().debug_assert();
    }

    #[test]
    fn documented_command_lines_are_understood() {
        for line in [
            "daemon --config /etc/adu-export/adu-export.toml",
            "export --dsn postgres://u@h/d --table public.orders --table sales.* --out /tmp/out",
            "export --config c.toml --source warehouse --request r.json --out out --compression zstd:3 --workers 4 --json",
            "submit --table public.orders --wait",
            "submit --request - --wait --timeout 2h --json",
            "status",
            "status --watch nightly-1",
            "status --latest public.orders --json",
            "cancel nightly-1 --wait --json",
            "retry nightly-1.r2 --wait",
            "plan --dsn postgres://u@h/d --table public.* --chunks",
            "plan --config c.toml --request r.json --json",
            "verify nightly-1 --against-source",
            "verify nightly-1 --root /data/exports --json",
            "check --init --config c.toml",
            "healthcheck --config c.toml",
            "completions bash",
            "man",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err(line));
        }
    }

    #[test]
    fn the_help_of_each_subcommand_ends_with_two_examples_that_are_understood() {
        let mut cli = Cli::command();
        cli.build();
        let commands = cli.get_subcommands_mut().filter(|command| command.get_name() != "help");
        let mut subcommands = 0;
        for command in commands {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help().to_string());
            let (_, examples) = help.rsplit_once("Examples:\n").unwrap_or_else(|| panic!("{name}: {help}"));
            let lines: Vec<&str> = examples.trim_end().lines().map(str::trim).collect();
            assert_eq!(lines.len(), 2, "{name}: {help}");
            for line in lines {
                // Up to what the shell does with the output.
                let line =
                    line.split(" > ").next().and_then(|rest| rest.split(" | ").next()).expect("a line");
                let words = line.split('\'').enumerate().flat_map(|(i, part)| match i % 2 {
                    0 => part.split_whitespace().map(str::to_owned).collect(),
                    _ => vec![part.to_owned()],
                });
                let parsed = Cli::try_parse_from(words);
                assert!(line.starts_with(&format!("adu-export {name}")), "{name}: {line}");
                assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err(line));
            }
            subcommands += 1;
        }
        assert_eq!(subcommands, 13);
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "",
            "export --out x",
            "export --table a.b --out x",
            "export --dsn d --config c --table a.b --out x",
            "export --dsn d --source s --table a.b --out x",
            "export --dsn d --table a.b --request r --out x",
            "export --dsn d --table ab --out x",
            "export --dsn d --table a.b --out x --compression rar",
            "export --dsn d --table a.b --out x --workers 0",
            "export --dsn d --request r --columns a --out x",
            "export --dsn d --request r --where a=1 --out x",
            "submit --wait",
            "submit --table a.b --timeout 1h",
            "status j --latest a.b",
            "cancel",
            "cancel a/b",
            "verify",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), i32::from(ExitCode::Usage as u8), "{line}");
        }
    }
}
