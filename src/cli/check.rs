//! `adu-export check`

use clap::Args;

use super::input::ConfigArgs;

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Make the export folder one, with an identity of its own
    #[arg(long)]
    pub init: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
