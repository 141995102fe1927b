//! `adu-export completions`

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, ExitCode};

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(args: &CompletionsArgs, out: &mut dyn io::Write) -> io::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "adu-export", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_knows_every_subcommand() {
        let mut out = Vec::new();
        run(&CompletionsArgs { shell: Shell::Bash }, &mut out).expect("writes");
        let script = String::from_utf8(out).expect("UTF-8");
        for command in Cli::command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{}", command.get_name());
        }
    }
}
