//! `adu-export daemon`

use clap::Args;

use super::ExitCode;
use super::input::ConfigArgs;

/// Arguments of `daemon`.
#[derive(Clone, Debug, Args)]
pub struct DaemonArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs a daemon until a signal ends it.
///
/// # Errors
/// Only while starting.
pub fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let log = crate::logging::init(&config.log)?;
    super::runtime()?.block_on(crate::daemon::run(&args.config.path(), config, log))?;
    Ok(ExitCode::Done)
}
