//! `adu-export daemon`

use clap::Args;

use super::input::ConfigArgs;

/// Arguments of `daemon`.
#[derive(Clone, Debug, Args)]
pub struct DaemonArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}
