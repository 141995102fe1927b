//! From parsed arguments to an exit code.

use tokio::runtime::{Builder, Runtime};

use super::{Cli, Command, ExitCode};
use crate::config::ConfigError;
use crate::config::LogConfig;
use crate::daemon::StartError;
use crate::folder::FolderError;
use crate::logging;
use crate::one_shot::OneShotError;
use crate::source::{ErrorKind, SourceError};

/// Runs a subcommand.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("adu-export: {error:#}");
            if let Some(remedy) = remedy(&error) {
                eprintln!("    {remedy}");
            }
            code_of(&error)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Daemon(args) => {
            let config = args.config.load()?;
            let log = logging::init(&config.log)?;
            let runtime = runtime()?;
            runtime.block_on(crate::daemon::run(&args.config.path(), config, log))?;
            Ok(ExitCode::Done)
        }
        Command::Completions(args) => Ok(super::completions::run(&args, &mut std::io::stdout().lock())?),
        command => {
            quiet_log(matches!(&command, Command::Export(args) if args.quiet))?;
            runtime()?.block_on(async {
                match command {
                    Command::Export(args) => super::export::run(args).await,
                    Command::Submit(args) => super::submit::run(args).await,
                    Command::Cancel(args) => super::cancel::run(args).await,
                    Command::Retry(args) => super::retry::run(args).await,
                    Command::Status(args) => super::status::run(args).await,
                    Command::Plan(args) => super::plan::run(args).await,
                    Command::Verify(args) => super::verify::run(args).await,
                    Command::Check(args) => super::check::run(args).await,
                    Command::Daemon(_) | Command::Completions(_) => Ok(ExitCode::Done),
                }
            })
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// Commands for people log what went wrong; `ADU_EXPORT__LOG__LEVEL` asks for more.
fn quiet_log(quiet: bool) -> anyhow::Result<()> {
    let level = std::env::var("ADU_EXPORT__LOG__LEVEL").ok();
    let level = level.unwrap_or_else(|| if quiet { "error".into() } else { "warn".into() });
    logging::init(&LogConfig { level, ..LogConfig::default() })?;
    Ok(())
}

fn source_error(error: &anyhow::Error) -> Option<&SourceError> {
    error.chain().find_map(|cause| match cause.downcast_ref::<OneShotError>() {
        Some(OneShotError::Source(e)) => Some(e),
        _ => cause.downcast_ref::<SourceError>(),
    })
}

fn remedy(error: &anyhow::Error) -> Option<String> {
    source_error(error)?.remedy.clone()
}

/// What an error of a command means for its caller.
fn code_of(error: &anyhow::Error) -> ExitCode {
    if let Some(source) = source_error(error) {
        return match source.kind {
            ErrorKind::Unreachable
            | ErrorKind::Transient
            | ErrorKind::Exhausted
            | ErrorKind::Authentication => ExitCode::Unreachable,
            _ => ExitCode::Failed,
        };
    }
    let any = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if any(|e| e.is::<crate::bus::BusError>() || matches!(e.downcast_ref(), Some(StartError::Bus(_)))) {
        return ExitCode::Unreachable;
    }
    let usage = any(|e| {
        e.is::<ConfigError>()
            || e.is::<logging::LoggingError>()
            || e.is::<FolderError>()
            || matches!(
                e.downcast_ref(),
                Some(
                    StartError::Config(_)
                        | StartError::Folder(_)
                        | StartError::Http(_)
                        | StartError::Source { .. }
                )
            )
            || matches!(
                e.downcast_ref(),
                Some(OneShotError::Start(_) | OneShotError::Running(_) | OneShotError::Folder(_))
            )
            || matches!(e.downcast_ref(), Some(super::Usage(_)))
    });
    if usage { ExitCode::Usage } else { ExitCode::Failed }
}
