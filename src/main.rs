//! The executable `adu-export`: parses, runs, prints the error chain once.

use std::process::ExitCode;

use adu_export::cli::{self, Cli};
use clap::Parser;

fn main() -> ExitCode {
    cli::run(Cli::parse()).into()
}
