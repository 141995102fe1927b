//! `adu-export daemon`

use std::time::Duration;

use clap::Args;

use super::ExitCode;
use super::input::ConfigArgs;
use crate::failpoint;

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
/// If the daemon cannot start.
pub fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let log = crate::logging::init(&config.log, crate::traces::prepare())?;
    let _armed = failpoint::arm();
    let runtime = super::runtime()?;
    let ended = runtime.block_on(crate::daemon::run(&args.config.path(), config, log));
    crate::traces::end();
    // Threads may still encode a chunk that nobody needs any more. Do not wait for them.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended?;
    Ok(ExitCode::Done)
}
